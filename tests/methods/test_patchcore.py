"""PatchCore: the memory, its coreset, the scores of the paper, and the contract of inspection."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract import INGREDIENTS, InspectionContract, good_images

from blemish.backbones import Backbone
from blemish.errors import BlemishError
from blemish.learning.calibration import calibrated
from blemish.learning.fit import fit
from blemish.learning.training import Trainer
from blemish.methods.base import Settings
from blemish.methods.patchcore import PatchCore, PatchCoreSettings, coreset, nearest_distances

TINY = PatchCoreSettings(
    image_size_px=32, stages=(1, 2), n_vectors=20, n_candidates=60, projection=4, blur_sigma_px=1.0
)


def tiny_backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(4, (4, 6, 8), (1, 1, 2)).eval().requires_grad_(False)


class TestContract(InspectionContract):
    tiny = TINY

    def make(self, settings: Settings) -> PatchCore:
        assert isinstance(settings, PatchCoreSettings)
        return PatchCore(settings, tiny_backbone(), torch.rand(7, 14, generator=torch.Generator().manual_seed(0)))


class TestContractOfEquationSeven(TestContract):
    tiny = PatchCoreSettings(**{**TINY.__dict__, "image_score": "patch", "n_neighbours": 3})


def test_it_remembers_good_patches_and_repeats_by_seed() -> None:
    images = good_images()
    first, second = (PatchCore(TINY, tiny_backbone()) for _ in range(2))
    for method in (first, second):
        method.finish(images, images[:0])
    assert first.memory.shape == (20, 14)
    assert torch.equal(first.memory, second.memory)
    vectors = first._features(images.float() / 255.0).flatten(2).mT.reshape(-1, 14)
    gaps = torch.cdist(first.memory, vectors, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    assert gaps.max() < 1e-5, "each vector of the memory is a patch of an image"


def test_what_is_far_from_good_images_scores_higher_where_it_is() -> None:
    images = good_images(12, 64)
    method = PatchCore(PatchCoreSettings(image_size_px=64, n_vectors=200, n_candidates=800))
    method.finish(images, images[:0])
    good = images[:1].float() / 255.0
    spoiled = good.clone()
    spoiled[..., 40:56, 8:24] = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    (good_map, good_score), (anomaly_map, score) = method(good), method(spoiled)
    assert score > 2 * good_score
    row, column = divmod(int((anomaly_map - good_map).argmax()), 64)
    assert 36 <= row < 60
    assert 4 <= column < 28


def test_nothing_is_trained_and_the_trainer_has_nothing_to_do() -> None:
    method = PatchCore(TINY, tiny_backbone())
    record = Trainer(method, good_images(), INGREDIENTS, device="cpu").run()
    assert method.stages() == ()
    assert record.iterations == 0


def test_fills_its_memory_and_inspects_on_a_card(card: torch.device) -> None:
    method = PatchCore(TINY, tiny_backbone()).to(card)
    method.finish(good_images(), good_images(0))
    assert method.memory.device.type == "meta"
    detector = calibrated(method, good_images(3), 0.1)
    photographs = [image.permute(1, 2, 0).numpy() for image in good_images(3)]
    assert [finding.map.shape for finding in detector.inspect(photographs)] == [(32, 32)] * 3


def test_distances_are_those_of_cdist_for_more_vectors_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.methods.patchcore.CHUNK", 8)
    generator = torch.Generator().manual_seed(0)
    vectors, memory = torch.rand(11, 5, generator=generator), torch.rand(19, 5, generator=generator)
    expected = torch.cdist(vectors, memory).amin(1)
    torch.testing.assert_close(nearest_distances(vectors, memory), expected, atol=1e-5, rtol=1e-4)


def test_coreset_is_that_of_a_naive_greedy_choice() -> None:
    vectors = torch.rand(30, 3, generator=torch.Generator().manual_seed(0))
    chosen = coreset(vectors, 6, 3, torch.Generator().manual_seed(1)).tolist()
    expected = chosen[:1]
    while len(expected) < 6:
        gaps = [min(float((vector - vectors[index]).norm()) for index in expected) for vector in vectors]
        expected.append(gaps.index(max(gaps)))
    assert chosen == expected


def test_coreset_of_few_vectors_is_all_of_them_and_of_equal_ones_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    assert coreset(torch.rand(4, 3), 6, 3, generator).tolist() == [0, 1, 2, 3]
    assert len(coreset(torch.ones(9, 3), 4, 2, generator)) == 4


def test_equation_seven_against_a_naive_loop() -> None:
    settings = PatchCoreSettings(**{**TINY.__dict__, "image_score": "patch", "n_neighbours": 3})
    generator = torch.Generator().manual_seed(3)
    method = PatchCore(settings, tiny_backbone(), torch.rand(9, 14, generator=generator))
    vectors = torch.rand(2, 5, 14, generator=generator)
    distances = torch.stack([nearest_distances(image, method.memory) for image in vectors])
    for image, score in zip(vectors, method._image_score(vectors, distances), strict=True):
        gaps = torch.cdist(image, method.memory)
        patch = image[gaps.amin(1).argmax()]
        nearest = method.memory[(patch - method.memory).norm(dim=1).argmin()]
        neighbours = (nearest - method.memory).norm(dim=1).argsort()[:3]
        exponentials = (patch - method.memory[neighbours]).norm(dim=1).exp()
        expected = (1 - exponentials[0] / exponentials.sum()) * (patch - nearest).norm()
        torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stages", [(), (2, 1), (1, 1), (-1,)])
def test_stages_that_make_no_sense_are_refused(stages: tuple[int, ...]) -> None:
    with pytest.raises(BlemishError, match="setting stages"):
        PatchCoreSettings(stages=stages)


def test_a_stage_that_the_backbone_lacks_is_refused() -> None:
    with pytest.raises(BlemishError, match="the backbone has 3"):
        PatchCore(PatchCoreSettings(stages=(3,)), tiny_backbone())


def test_fit_writes_a_detector_that_needs_no_file_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    (tmp_path / "good").mkdir()
    for number, image in enumerate(good_images(12, 64)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "good" / f"{number}.png")
    settings = {"image_size_px": 64, "n_vectors": 50, "n_candidates": 200}
    detector = fit(tmp_path / "good", method="patchcore", settings=settings, out=tmp_path / "run", device="cpu")
    monkeypatch.setattr("blemish.methods.patchcore.load_backbone", None)
    loaded = type(detector).load(tmp_path / "run")
    images = good_images(2, 64)
    assert torch.equal(loaded.maps_and_scores(images)[0], detector.maps_and_scores(images)[0])
