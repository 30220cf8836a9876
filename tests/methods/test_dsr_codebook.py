"""DSR's VQ autoencoder and its training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract import INGREDIENTS, good_images

import blemish
from blemish.errors import BlemishError
from blemish.learning.training import Trainer
from blemish.methods.dsr.codebook import (
    PAPER_BATCH_SIZE,
    PAPER_ITERATIONS,
    against_paper,
    load_codebook,
    read_card,
    save_codebook,
)
from blemish.methods.dsr.vq import BLOCK, CHUNK, VQAutoencoder, nearest_codes
from blemish.methods.dsr.vq_training import CodebookAverage, VQSettings, VQTraining

TINY = VQSettings(
    image_size_px=32, crop_px=16, batch_size=4, n_codes=16, n_features=8, n_hidden=4,
    iterations=40, learning_rate=1e-2, continuous_steps=5,
)  # fmt: skip


def tiny() -> VQAutoencoder:
    return TINY.network()


def test_the_network_has_the_authors_number_of_parameters() -> None:
    network = VQAutoencoder()
    assert sum(tensor.numel() for tensor in network.state_dict().values()) == 2_972_803  # 2.97 M, with both codebooks
    assert network.codebook_low.codes.shape == network.codebook_high.codes.shape == (4096, 128)


@pytest.mark.parametrize("n_codes", [40, BLOCK, 3 * BLOCK])
@pytest.mark.parametrize("n_vectors", [1, 7, CHUNK, CHUNK + 3])
def test_nearest_codes_are_those_of_a_naive_search(n_vectors: int, n_codes: int) -> None:
    generator = torch.Generator().manual_seed(n_vectors)
    vectors, codes = torch.randn(n_vectors, 5, generator=generator), torch.randn(n_codes, 5, generator=generator)
    assert torch.equal(nearest_codes(vectors, codes), torch.cdist(vectors, codes).argmin(1))


def test_nearest_codes_are_exact_under_autocast() -> None:
    codes = torch.tensor([[1.0, 0.0], [1.001, 0.0]])  # the same in bf16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nearest_codes(torch.tensor([[1.0, 0.0], [1.002, 0.0]]), codes).tolist() == [0, 1]


def test_the_nearest_of_equals_is_the_first() -> None:
    assert nearest_codes(torch.zeros(3, 2), torch.ones(5, 2)).tolist() == [0, 0, 0]
    assert nearest_codes(torch.zeros(3, 2), torch.ones(2 * BLOCK, 2)).tolist() == [0, 0, 0]


# --- the autoencoder -----------------------------------------------------------------------------------------


def test_levels_are_an_eighth_and_a_quarter_of_the_image() -> None:
    low, high = tiny().encode(torch.rand(2, 3, 32, 48))
    assert low.shape == (2, 8, 4, 6)
    assert high.shape == (2, 8, 8, 12)
    assert tiny()(torch.rand(2, 3, 32, 48)).shape == (2, 3, 32, 48)


def test_quantized_features_are_codes_and_gradients_go_straight_through() -> None:
    codebook = tiny().codebook_low
    features = torch.randn(1, 8, 2, 2, requires_grad=True)
    quantized = codebook.quantized(features)
    rows = quantized.detach().permute(0, 2, 3, 1).reshape(-1, 8)
    torch.testing.assert_close(rows, codebook.codes[codebook(features).flatten()], atol=1e-6, rtol=0)
    (quantized * 3.0).sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad, torch.full_like(features, 3.0))


def test_normalized_codes_have_unit_variance_and_images_stay_the_same() -> None:
    network, images = tiny(), torch.rand(2, 3, 32, 32)
    network.codebook_low.codes.mul_(0.01)
    network.codebook_high.codes.mul_(7.0)
    expected = network(images)
    network.normalize()
    torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=1e-4)
    for codebook in (network.codebook_low, network.codebook_high):
        assert codebook.codes.std().item() == pytest.approx(1.0, abs=1e-5)


# --- training ------------------------------------------------------------------------------------------------


def test_codes_move_to_the_mean_of_what_they_stand_for() -> None:
    codebook = VQAutoencoder(2, 8).codebook_low
    codebook.codes.copy_(torch.tensor([[0.0] * 8, [10.0] * 8]))
    average = CodebookAverage(codebook, decay=0.5, revive_below=0.0)
    average.follow(codebook)
    vectors = torch.stack([torch.full((8,), 1.0), torch.full((8,), 3.0), torch.full((8,), 9.0)])
    for _ in range(40):
        average.update(codebook, vectors, nearest_codes(vectors, codebook.codes), torch.Generator())
    torch.testing.assert_close(codebook.codes, torch.tensor([[2.0] * 8, [9.0] * 8]), atol=1e-4, rtol=0)
    share = torch.tensor([2 / 3, 1 / 3])
    assert average.perplexity().item() == pytest.approx((-(share * share.log()).sum()).exp().item(), rel=1e-4)


def test_a_code_that_stands_for_nothing_becomes_a_feature_of_the_batch() -> None:
    codebook = VQAutoencoder(3, 8).codebook_low
    codebook.codes.copy_(torch.tensor([[0.0] * 8, [1.0] * 8, [1000.0] * 8]))
    average = CodebookAverage(codebook, decay=0.9, revive_below=0.1)
    average.follow(codebook)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.tensor([[0.0] * 8, [1.0] * 8, [2.0] * 8])
    steps = 0
    while codebook.codes[2, 0] > 900.0:
        average.update(codebook, vectors, nearest_codes(vectors, codebook.codes), generator)
        steps += 1
        assert steps < 40
    assert steps > 5, "a code is given time"
    assert codebook.codes[2, 0].item() == pytest.approx(
        vectors[:, 0].tolist()[int(codebook.codes[2, 0].round())], abs=0.01
    )


def test_without_revival_codes_keep_a_place_of_their_own() -> None:
    learner = VQTraining(TINY.replaced({"revive_below": 0.0, "continuous_steps": 0}))
    codes = learner.autoencoder.codebook_high.codes
    before = codes.clone()
    learner.loss(learner.stages()[0], torch.rand(4, 3, 16, 16), INGREDIENTS, torch.Generator().manual_seed(0))
    unused = (learner.average_high.counts < 1.0).nonzero()[:, 0]
    assert len(unused), "no unused code for this test"
    torch.testing.assert_close(codes[unused], before[unused], atol=1e-3, rtol=1e-3)


def test_training_learns_to_give_images_back_and_uses_many_codes() -> None:
    images = good_images(24)
    learner = VQTraining(TINY.replaced({"iterations": 300}))
    before = (learner.autoencoder(images.float() / 255.0) - images.float() / 255.0).square().mean()
    Trainer(learner, images, device="cpu", precision="float32").run()
    after = (learner.autoencoder(images.float() / 255.0) - images.float() / 255.0).square().mean()
    assert after < 0.1 * before
    observed = learner.observe()
    assert observed["perplexity_high"] > 4
    assert 4 < observed["n_used_high"] <= TINY.n_codes


def test_gradients_reach_all_of_the_network_and_the_same_seed_gives_the_same() -> None:
    learner, images = VQTraining(TINY.replaced({"continuous_steps": 0})), torch.rand(4, 3, 16, 16)
    losses = learner.loss(learner.stages()[0], images, INGREDIENTS, torch.Generator().manual_seed(0))
    assert set(losses) == {"l2", "commit_low", "commit_high"}
    torch.stack(list(losses.values())).sum().backward()
    gradients = [parameter.grad for parameter in learner.autoencoder.parameters()]
    assert all(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)
    again = VQTraining(TINY.replaced({"continuous_steps": 0}))
    repeated = again.loss(again.stages()[0], images, INGREDIENTS, torch.Generator().manual_seed(0))
    assert losses.keys() == repeated.keys()
    assert all(loss.item() == repeated[name].item() for name, loss in losses.items())


def test_the_first_steps_are_continuous() -> None:
    learner, images = VQTraining(TINY.replaced({"continuous_steps": 1})), torch.rand(4, 3, 16, 16)
    stage, generator = learner.stages()[0], torch.Generator().manual_seed(0)
    assert learner.loss(stage, images, INGREDIENTS, generator)["commit_low"] == 0
    assert learner.loss(stage, images, INGREDIENTS, generator)["commit_low"] > 0


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    def trained(seed: int = 3, **options: object) -> dict[str, torch.Tensor]:
        learner = VQTraining(TINY)
        Trainer(learner, good_images(), device="cpu", seed=seed, **options).run()  # type: ignore[arg-type]
        return learner.state_dict()

    class Enough(Exception):
        pass

    class Stops:
        def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
            if (tmp_path / "checkpoint.pt").exists():
                raise Enough

    whole = trained()
    with pytest.raises(Enough):
        trained(folder=tmp_path, reporter=Stops(), checkpoint_every_s=0.0)
    resumed = trained(seed=99, folder=tmp_path, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# --- the file ------------------------------------------------------------------------------------------------


def test_saved_and_loaded_is_the_same_to_half_precision(tmp_path: Path) -> None:
    network, images = tiny(), torch.rand(1, 3, 16, 16)
    save_codebook(network, tmp_path / "x.safetensors", {"steps": 3})
    again = load_codebook(tmp_path / "x.safetensors")
    assert read_card(tmp_path / "x.safetensors") == {"steps": 3}
    torch.testing.assert_close(again.codebook_high.codes, network.codebook_high.codes, atol=1e-2, rtol=1e-2)
    assert again(images).shape == images.shape
    save_codebook(again, tmp_path / "y.safetensors", {})
    twice = load_codebook(tmp_path / "y.safetensors").state_dict()
    assert all(torch.equal(twice[name], tensor) for name, tensor in again.state_dict().items())


def test_a_card_says_how_far_its_training_is_from_the_papers() -> None:
    assert VQTraining.recipes["paper"].iterations == PAPER_ITERATIONS
    assert VQTraining.recipes["paper"].batch_size == PAPER_BATCH_SIZE
    card = {"iterations": 2000, "settings": {"batch_size": 16}, "start": None}
    assert against_paper(card) == {
        "paper": {"iterations": 200_000, "batch_size": 32, "photographs": "ImageNet"},
        "presentations": 32_000,
        "share_of_paper": 0.005,
        "in_words": "32,000 image presentations, 0.5 % of the paper's 6,400,000 (200,000 iterations of 32 images of "
        "ImageNet)",
    }
    started = card | {"start": "a.safetensors"}
    assert against_paper(started | {"presentations_of_start": 96_000})["share_of_paper"] == 0.02
    assert against_paper(started | {"presentations_of_start": 96_000})["in_words"].endswith(
        "of a.safetensors included"
    )
    assert against_paper(started)["presentations"] == 32_000
    assert against_paper(started)["in_words"].endswith(", besides the unknown ones of a.safetensors")
    assert against_paper({"converted_from": "vq.pckl"}) == {}


def test_the_shipped_codebook_says_it_too() -> None:
    card = read_card()
    assert (card["iterations"], card["presentations"], card["share_of_paper"]) == (8000, 64_000, 0.01)
    text = (Path(blemish.__file__).parent / "weights" / "README.md").read_text(encoding="utf-8")
    assert card["in_words"] in " ".join(text.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "cannot be read"), (b"hello, I am no codebook", "cannot be read")],
)
def test_a_file_that_is_not_a_codebook_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BlemishError, match=message):
        load_codebook(path)


def test_a_folder_and_nan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="is a folder"):
        load_codebook(tmp_path)
    network = tiny()
    network.codebook_low.codes[0, 0] = float("nan")
    save_codebook(network, tmp_path / "x.safetensors", {})
    with pytest.raises(BlemishError, match=r"x\.safetensors: damaged"):
        load_codebook(tmp_path / "x.safetensors")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_codebook(tiny(), path, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BlemishError, match="cannot be read"):
        load_codebook(path)


def test_settings_are_checked() -> None:
    with pytest.raises(BlemishError, match="multiples of 8"):
        VQSettings(crop_px=100)
    with pytest.raises(BlemishError, match="decay"):
        VQSettings(decay=1.5)


def test_a_start_has_the_same_images_and_weights_of_the_size_that_training_begins_with() -> None:
    network, images = VQAutoencoder(n_codes=50, n_features=16), torch.rand(2, 3, 32, 32)
    before = network.upsample_low.weight.std(), network.decoder[0].weight.std()
    for codebook in (network.codebook_low, network.codebook_high):
        codebook.codes.mul_(0.01)
    network.normalize()
    expected = network(images)
    assert network.upsample_low.weight.std() < 0.1 * before[0]
    settings = VQSettings(image_size_px=32, crop_px=16, n_codes=50, n_features=16)
    started = VQTraining(settings, network).autoencoder
    torch.testing.assert_close(started(images), expected, atol=1e-4, rtol=1e-3)
    for now, then in zip((started.upsample_low.weight, started.decoder[0].weight), before, strict=True):
        assert now.std().item() == pytest.approx(then.item(), rel=0.1)
