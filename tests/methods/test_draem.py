"""DRÆM: the networks of the paper, its ablations, and the contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from contract import INGREDIENTS, MethodContract, TrainingContract, good_images

from blemish.backbones import load_backbone
from blemish.errors import BlemishError
from blemish.learning.training import Trainer
from blemish.losses import focal_loss
from blemish.methods.base import Ingredients, Settings
from blemish.methods.draem import DRAEM, DiscriminativeNetwork, DRAEMSettings, ReconstructiveNetwork
from blemish.methods.features import encoders_of
from blemish.synthesis.pasted_textures import PAPER_AUGMENTATIONS, AnomalySettings
from blemish.synthesis.real_defects import DefectBank

TINY = DRAEMSettings(
    image_size_px=32,
    batch_size=4,
    reconstructive_widths=(8, 8, 16, 16),
    discriminative_widths=(4, 8, 8, 8),
    epochs=None,
    iterations=24,
    learning_rate=1e-3,
    schedule="cosine",
    ema_decay=0.9,
)


class TestContract(MethodContract):
    tiny = TINY

    def make(self, settings: Settings) -> DRAEM:
        assert isinstance(settings, DRAEMSettings)
        return DRAEM(settings)


class TestContractWithABackbone(MethodContract):
    """Recipe ``small``'s way: frozen features, a repair at half the size."""

    tiny = replace(
        TINY, encoder="imagenet", discriminative_widths=(4, 6, 8), reconstructive_widths=(8, 8), repair_reduction=2
    )

    def make(self, settings: Settings) -> DRAEM:
        assert isinstance(settings, DRAEMSettings)
        return DRAEM(settings)

    def test_the_backbone_is_frozen_and_kept(self) -> None:
        method, shipped = self.make(self.tiny), load_backbone()
        trained = {
            parameter for stage in method.stages() for parameter in (*stage.parameters, *stage.slow_parameters)
        }
        (encoder,) = encoders_of(method)
        for name, tensor in shipped.state_dict().items():
            assert torch.equal(encoder.state_dict()[name], tensor)
        assert trained
        assert not trained & {*encoder.parameters()}
        assert len(method.pretrained) == len(shipped.state_dict())

    def test_the_encoder_is_trained_more_slowly(self) -> None:
        settings = replace(
            self.tiny, encoder_rate=0.1, learning_rate=0.1, schedule="step", ema_decay=0.0, iterations=1
        )
        method = self.make(settings)
        (stage,) = method.stages()
        slow, own = stage.slow_parameters, stage.parameters
        assert {*slow} == {*encoders_of(method)[0].parameters()}
        assert {*slow} | {*own} == {*method.parameters()}
        before = [parameter.detach().clone() for parameter in (*slow, *own)]
        Trainer(method, good_images(8), INGREDIENTS, device="cpu").run()
        steps = [(new.detach() - old).abs().amax() for new, old in zip((*slow, *own), before, strict=True)]
        assert max(steps[: len(slow)]) == pytest.approx(0.01, rel=0.02), "Adam's first step is the rate"
        assert max(steps[len(slow) :]) == pytest.approx(0.1, rel=0.02)
        assert not method.pretrained

    def test_the_repair_has_the_size_of_the_image_and_half_its_detail(self) -> None:
        method = self.make(self.tiny).eval()
        images = torch.rand(2, 3, 32, 32)
        repair = method.explain(images)["reconstruction"]
        reduced = method.reconstructive(F.avg_pool2d(images, 2))
        expected = F.interpolate(reduced, scale_factor=2.0, mode="bilinear").clamp(0, 1)
        torch.testing.assert_close(repair, expected)

    def test_three_widths_are_needed(self) -> None:
        with pytest.raises(BlemishError, match=r"discriminative_widths: .* should be three"):
            replace(self.tiny, discriminative_widths=(4, 6))


class TestContractOfThePapersText(TrainingContract):
    """Thresholds drawn at random, some of the augmentations, some of the textures."""

    tiny = replace(
        TINY,
        anomalies=AnomalySettings(
            augmentations=PAPER_AUGMENTATIONS, min_threshold=0.0, max_threshold=1.0, n_textures=2
        ),
    )

    def make(self, settings: Settings) -> DRAEM:
        assert isinstance(settings, DRAEMSettings)
        return DRAEM(settings)


def n_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_paper_networks_have_the_authors_number_of_parameters() -> None:
    settings = DRAEM.recipes["paper"]
    assert isinstance(settings, DRAEMSettings)
    with torch.device("meta"):
        assert n_parameters(ReconstructiveNetwork(settings.reconstructive_widths)) == 69_048_579  # 69.05 M
        assert n_parameters(DiscriminativeNetwork(6, settings.discriminative_widths)) == 28_374_146  # 28.37 M


def test_paper_recipe_is_the_authors_code() -> None:
    settings = DRAEM.recipes["paper"]
    assert isinstance(settings, DRAEMSettings)
    method = DRAEM(replace(settings, reconstructive_widths=(4, 4), discriminative_widths=(4, 4)))
    (stage,) = method.stages()
    assert stage.n_iterations(209) == 700 * 27
    rates = [round(stage.schedule(progress), 6) for progress in (0.0, 0.79, 0.8, 0.9, 0.999)]
    assert rates == [1.0, 1.0, 0.2, 0.04, 0.04]
    assert (stage.batch_size, stage.learning_rate) == (8, 1e-4)


def test_initial_weights_are_the_authors() -> None:
    method = DRAEM(replace(TINY, reconstructive_widths=(64, 64), discriminative_widths=(64, 64)))
    convolutions = [module for module in method.modules() if isinstance(module, torch.nn.Conv2d)]
    norms = [module for module in method.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert torch.cat([c.weight.flatten() for c in convolutions]).std().item() == pytest.approx(0.02, rel=0.05)
    scale = torch.cat([n.weight for n in norms])
    assert scale.mean().item() == pytest.approx(1.0, abs=0.01)
    assert scale.std().item() == pytest.approx(0.02, rel=0.2)


def test_the_discriminative_network_sees_the_reconstruction_first() -> None:
    method = DRAEM(TINY).eval()
    seen: list[torch.Tensor] = []
    method.discriminative.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 3, 32, 32)
    method(image)
    torch.testing.assert_close(seen[0][:, 3:], image)
    torch.testing.assert_close(seen[0][:, :3], method.reconstructive(image))


@pytest.mark.parametrize(
    ("architecture", "losses", "n_parts"),
    [
        ("full", {"l2", "ssim", "focal"}, 2),
        ("discriminative", {"focal"}, 1),
        ("reconstruction-ssim", {"l2", "ssim"}, 1),
        ("reconstruction-msgms", {"l2", "ssim"}, 1),
    ],
)
def test_ablations_of_the_architecture(architecture, losses, n_parts) -> None:  # type: ignore[no-untyped-def]
    method = DRAEM(replace(TINY, architecture=architecture))
    assert len(list(method.children())) == n_parts
    images = torch.rand(2, 3, 32, 32)
    computed = method.loss(method.stages()[0], images, INGREDIENTS, torch.Generator().manual_seed(0))
    assert set(computed) == losses
    anomaly_map, score = method.eval()(images)
    assert anomaly_map.shape == (2, 1, 32, 32)
    assert score.shape == (2,)
    assert ("reconstruction" in method.explain(images)) == (architecture != "discriminative")


def test_the_image_score_is_the_largest_mean_in_the_window() -> None:
    maps, scores = DRAEM(replace(TINY, score_window_px=5)).eval()(torch.rand(2, 3, 32, 32))
    means = torch.nn.functional.avg_pool2d(maps.detach(), 5, stride=1, padding=2)
    torch.testing.assert_close(scores.detach(), means.amax((1, 2, 3)))
    paper, small = DRAEM.recipes["paper"], DRAEM.recipes["small"]
    assert isinstance(paper, DRAEMSettings)
    assert isinstance(small, DRAEMSettings)
    assert paper.score_window_px == 21  # at 256 px
    assert small.score_window_px / small.image_size_px == pytest.approx(21 / 256, rel=0.05)


def test_patches_keep_their_positions() -> None:
    network = ReconstructiveNetwork((12, 16), patch_px=2).eval()
    network.encoder = torch.nn.Module()  # an identity instead of the network's layers
    network.encoder.forward = lambda patches: [patches]  # type: ignore[method-assign]
    network.ups, network.blocks, network.head = torch.nn.ModuleList(), torch.nn.ModuleList(), torch.nn.Identity()
    image = torch.rand(1, 3, 8, 12)
    assert torch.equal(network(image), image)


def test_patches_make_the_network_work_on_odd_sizes_too() -> None:
    method = DRAEM(replace(TINY, patch_px=2)).eval()
    anomaly_map, _ = method(torch.rand(2, 3, 35, 50))
    assert anomaly_map.shape == (2, 1, 35, 50)


def test_training_without_textures_tells_what_is_missing() -> None:
    method = DRAEM(TINY)
    with pytest.raises(BlemishError, match="needs textures"):
        method.loss(method.stages()[0], torch.rand(2, 3, 32, 32), Ingredients(), torch.Generator())


def test_unknown_and_wrong_settings_are_refused() -> None:
    with pytest.raises(BlemishError, match="unknown setting widht"):
        DRAEMSettings.from_dict({"widht": 3})
    with pytest.raises(BlemishError, match="architecture"):
        DRAEMSettings(architecture="fulll")  # type: ignore[arg-type]
    with pytest.raises(BlemishError, match="iterations"):
        DRAEMSettings.from_dict({"iterations": "many"})
    with pytest.raises(BlemishError, match=r"max_rotation_deg: 270\.0 should be in"):
        DRAEMSettings(max_rotation_deg=270.0)
    with pytest.raises(BlemishError, match=r"learning_rate: 0\.0 should be above 0, at most 1"):
        DRAEMSettings(learning_rate=0.0)
    with pytest.raises(BlemishError, match="score_window_px: 4 should be odd"):
        DRAEM(replace(TINY, score_window_px=4))


def test_real_defects_join_the_focal_loss_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    method, images = DRAEM(TINY), torch.rand(4, 3, 32, 32)
    (stage,) = method.stages()
    without = method.eval().loss(stage, images, INGREDIENTS, torch.Generator().manual_seed(3))
    shapes = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    shapes[:, :, 4:9, 4:9] = 1
    with_defects = replace(INGREDIENTS, defects=DefectBank(shapes.expand(3, 3, 32, 32) * 100 + 90, shapes))
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    monkeypatch.setattr("blemish.methods.draem.focal_loss", lambda *pair: calls.append(pair) or focal_loss(*pair))
    losses = method.loss(stage, images, with_defects, torch.Generator().manual_seed(3))
    ((maps, masks),) = calls
    assert len(maps) == 6  # four images and two defects
    assert masks[4:].sum((1, 2, 3)).tolist() == [25.0, 25.0]
    assert without["focal"].item() != losses["focal"].item()
    assert set(without) == set(losses) == {"l2", "ssim", "focal"}


def test_without_a_focal_loss_there_is_no_use_for_defects() -> None:
    for architecture, uses in (("full", True), ("discriminative", True), ("reconstruction-ssim", False)):
        assert DRAEM(TINY.replaced({"architecture": architecture})).uses_defects == uses
