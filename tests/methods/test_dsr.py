"""DSR: the networks of the paper, its latent anomalies, stages and ablations, and the contract."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from contract import INGREDIENTS, MethodContract, TrainingContract, good_images
from tiny_dsr import TINY, codebook, damaged, dsr

from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.learning.calibration import calibrated
from blemish.learning.training import Trainer
from blemish.losses import focal_loss
from blemish.methods.base import Method, Settings
from blemish.methods.dsr import DSR, DSRSettings
from blemish.methods.dsr.networks import ObjectSpecificDecoder, ResidualRestriction, SubspaceRestriction
from blemish.methods.dsr.vq import VQAutoencoder
from blemish.methods.features import encoders_of
from blemish.synthesis.pasted_textures import Spoiled
from blemish.synthesis.real_defects import DefectBank
from blemish.synthesis.replaced_codes import LatentSettings


class TestContract(MethodContract):
    tiny = TINY

    def make(self, settings: Settings) -> DSR:
        assert isinstance(settings, DSRSettings)
        return dsr(settings)

    def test_bf16_is_within_tolerance(self, method: Method, images: torch.Tensor) -> None:
        """With the codes of float32: of two codes that are almost equally near, bf16 may take the other one."""
        assert isinstance(method, DSR)
        float32_codes: list[torch.Tensor] = []
        levels = method.vq.codebook_low, method.vq.codebook_high
        hooks = [
            level.register_forward_hook(lambda module, inputs, codes: float32_codes.append(codes)) for level in levels
        ]
        expected, _ = method.eval()(images)
        for hook in hooks:
            hook.remove()
        for level in levels:
            level.register_forward_hook(lambda module, inputs, codes: float32_codes.pop(0))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got, _ = method(images)
        assert not float32_codes
        assert (got.float() - expected).abs().mean() < 0.02


class TestContractOfThePapersUpsampling(TestContract):
    tiny = replace(TINY, upsampling="image")


class TestContractWithAPretrainedEncoder(TestContract):
    """Recipe ``small``'s way, and an upsampling module of the same kind."""

    tiny = replace(
        TINY, encoder="imagenet", restriction="residual", detection_widths=(4, 6, 8), image_weight=0.0,
        smudged_share=0.5, keep_grey=True,
    )  # fmt: skip

    def test_the_encoders_are_frozen(self) -> None:
        method = self.make(self.tiny)
        encoders = encoders_of(method)
        frozen = {parameter for part in (method.vq, *encoders) for parameter in part.parameters()}
        stages = [{*stage.parameters} for stage in method.stages()]
        assert len(encoders) == 2
        assert len(stages) == 2
        assert all(stages)
        assert not stages[0] & stages[1]
        assert stages[0] | stages[1] == {*method.parameters()} - frozen
        assert len(method.pretrained) == sum(len(part.state_dict()) for part in (method.vq, *encoders))

    def test_three_widths_are_needed(self) -> None:
        with pytest.raises(BlemishError, match=r"detection_widths: .* should be three"):
            replace(self.tiny, detection_widths=(4, 6))


class TestContractOfRankingByFeatures(TrainingContract):
    """As recipe ``paper`` does."""

    tiny = replace(TINY, latent=LatentSettings(ranking="features"), resizing="bilinear")

    def make(self, settings: Settings) -> DSR:
        assert isinstance(settings, DSRSettings)
        return dsr(settings)


def n_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_paper_networks_have_the_authors_number_of_parameters() -> None:
    s = DSRSettings()
    with torch.device("meta"):
        assert n_parameters(SubspaceRestriction(128, s.restriction_widths)) == 7_818_240  # 7.82 M
        assert n_parameters(ObjectSpecificDecoder(128, s.decoder_widths)) == 9_418_371  # 9.42 M
        method = DSR(s, codebook=VQAutoencoder())
    assert n_parameters(method.detection) == 5_610_690  # 5.61 M
    assert method.upsampling.encoder.blocks[0][0].in_channels == 8


def test_paper_recipe_is_the_authors_code() -> None:
    settings = DSR.recipes["paper"]
    assert isinstance(settings, DSRSettings)
    narrow = {name: getattr(TINY, name) for name in ("restriction_widths", "decoder_widths", "detection_widths")}
    detection, upsampling = DSR(replace(settings, **narrow), codebook=codebook()).stages()
    assert (detection.iterations, upsampling.iterations) == (100_000, 20_000)
    assert (detection.batch_size, detection.learning_rate, detection.ema_decay) == (8, 2e-4, 0.0)
    assert [round(detection.schedule(p), 6) for p in (0.0, 0.79, 0.8, 0.999)] == [1.0, 1.0, 0.1, 0.1]
    assert [upsampling.schedule(p) for p in (0.0, 0.8, 0.9, 0.999)] == [1.0] * 4


def test_a_residual_restriction_begins_with_the_features_and_can_take_away_a_single_cell() -> None:
    torch.manual_seed(0)
    network, good = ResidualRestriction(4, (8, 8)), torch.randn(2, 4, 8, 8)
    damaged = good.clone()
    damaged[:, :, 3, 5] = 4.0
    assert torch.allclose(network(good), good * torch.tensor(2.0).sigmoid())
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (network(damaged) - good).square().mean() + (network(good) - good).square().mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (network(damaged) - good).square()
    assert error.mean() < 0.02  # of features of variance 1
    assert error[:, :, 3, 5].mean() < 0.3 * (damaged - good)[:, :, 3, 5].square().mean()


def test_norms_are_of_single_images() -> None:
    assert not [module for module in dsr().modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [module for module in dsr().modules() if isinstance(module, torch.nn.InstanceNorm2d)]


def test_the_detection_module_sees_the_object_specific_image_first() -> None:
    method, seen = dsr().eval(), []
    method.detection.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, 32, 32)
    method(images)
    assert torch.equal(seen[0][:, 3:], method.vq(images))
    assert torch.equal(seen[0][:, :3].clamp(0, 1), method.explain(images)["object-specific"])


def test_the_score_is_of_the_map_before_upsampling() -> None:
    method = dsr().eval()
    images = torch.rand(2, 3, 32, 32)
    _, score = method(images)
    for tensor in method.upsampling.parameters():
        torch.nn.init.normal_(tensor)
    changed, same = method(images)
    assert torch.equal(score, same)
    plain, without = dsr(replace(TINY, upsampling="none")).eval(), dsr().eval()
    plain.load_state_dict({k: v for k, v in without.state_dict().items() if not k.startswith("upsampling")})
    assert torch.equal(plain(images)[1], without(images)[1])
    assert not torch.equal(plain(images)[0], changed)


# --- the codebook --------------------------------------------------------------------------------------------


def test_the_codebook_is_bit_equal_after_training_and_gets_no_gradient() -> None:
    method = dsr()
    before = {name: tensor.clone() for name, tensor in method.vq.state_dict().items()}
    Trainer(method, good_images(), INGREDIENTS, device="cpu").run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.vq.state_dict().items())
    assert all(parameter.grad is None for parameter in method.vq.parameters())


def test_a_detector_holds_its_codebook_whatever_its_shape(tmp_path: Path) -> None:
    Detector.uncalibrated(dsr(), 0.5, 0.01).save(tmp_path / "x.blemish")
    again = Detector.load(tmp_path / "x.blemish").method
    assert isinstance(again, DSR)
    assert torch.equal(again.vq.codebook_high.codes, codebook().codebook_high.codes)


def test_the_shipped_codebook_reconstructs_and_is_what_dsr_takes() -> None:
    method = DSR(TINY)
    assert method.vq.codebook_low.codes.shape == (4096, 128)
    ramp = torch.linspace(0.1, 0.9, 64)
    image = torch.stack([ramp.expand(64, 64), ramp.expand(64, 64).T, torch.full((64, 64), 0.3)])[None]
    with torch.no_grad():
        assert F.mse_loss(method.vq(image), image) < 10 ** (-24 / 10), "24 dB on a smooth picture"
    for level in (method.vq.codebook_low, method.vq.codebook_high):
        assert level.codes.std().item() == pytest.approx(1.0, abs=1e-2)


# --- training -------------------------------------------------------------------------------------------------


def test_the_detection_loss_moves_no_reconstruction() -> None:
    method = dsr().train()
    losses = method.loss(method.stages()[0], torch.rand(4, 3, 32, 32), INGREDIENTS, torch.Generator().manual_seed(0))
    assert set(losses) == {"features", "image", "focal"}
    losses["focal"].backward()
    reconstruction_parameters = (*method.decoder.parameters(), *method.restriction_low.parameters())
    assert all(parameter.grad is None for parameter in reconstruction_parameters)
    assert any(parameter.grad is not None for parameter in method.detection.parameters())


def test_the_image_loss_reaches_both_restrictions_through_the_codes() -> None:
    method = dsr().train()
    losses = method.loss(method.stages()[0], torch.rand(4, 3, 32, 32), INGREDIENTS, torch.Generator().manual_seed(0))
    losses["image"].backward()
    for restriction in (method.restriction_low, method.restriction_high):
        assert restriction.head.weight.grad.abs().max() > 0


# --- ablations -----------------------------------------------------------------------------------------------

ABLATIONS = {
    "DSR_img": replace(TINY, anomalies="image"),
    "DSR_random": replace(TINY, latent=LatentSettings(sampling="uniform")),
    "DSR_L_img": replace(TINY, feature_weight=0.0),
    "DSR_L_feat": replace(TINY, image_weight=0.0),
    "DSR_U-": replace(TINY, upsampling="none"),
    "ranking": replace(TINY, latent=LatentSettings(ranking="features")),
    "lambda_s": replace(TINY, latent=LatentSettings(similarity_bound=0.2, min_reach=0.2)),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_trains_and_is_saved(name: str, tmp_path: Path) -> None:
    method = dsr(replace(ABLATIONS[name], iterations=3, upsampling_iterations=3))
    start = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    Trainer(method, good_images(), INGREDIENTS, device="cpu").run()
    unchanged = {key for key, tensor in method.state_dict().items() if torch.equal(tensor, start[key])}
    assert unchanged == {key for key in start if key.startswith("vq.")}, "all but the codebook is trained"
    method.finish(good_images(), good_images(0))
    detector = calibrated(method, good_images(), 0.1)
    detector.save(tmp_path / "x.blemish")
    again = Detector.load(tmp_path / "x.blemish")
    loaded_maps, maps = (each.maps_and_scores(good_images(2))[0] for each in (again, detector))
    torch.testing.assert_close(loaded_maps, maps, atol=1e-5, rtol=1e-4)


def test_ablations_are_what_their_names_say() -> None:
    image = torch.rand(4, 3, 32, 32)

    def losses(name: str) -> set[str]:
        method = dsr(ABLATIONS[name])
        return set(method.loss(method.stages()[0], image, INGREDIENTS, torch.Generator().manual_seed(0)))

    assert losses("DSR_L_img") == {"image", "focal"}
    assert losses("DSR_L_feat") == {"features", "focal"}
    assert len(dsr(ABLATIONS["DSR_U-"]).stages()) == 1
    assert dsr(ABLATIONS["DSR_img"]).uses_textures
    assert not dsr().uses_textures
    _, _, pasted = damaged(ABLATIONS["DSR_img"])
    assert set(pasted.masks.unique().tolist()) == {0.0, 1.0}
    cells = F.interpolate(F.max_pool2d(pasted.masks, 4), scale_factor=4.0)
    assert not torch.equal(cells, pasted.masks), "in the image a mask is as fine as its pixels"


# --- real defects --------------------------------------------------------------------------------------------


def bank() -> DefectBank:
    images = torch.full((3, 3, 32, 32), 90, dtype=torch.uint8)
    masks = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    masks[:, :, 4:9, 4:9] = 1
    return DefectBank(images + 100 * masks, masks)


@pytest.mark.parametrize("stage", [0, 1])
def test_real_defects_join_the_focal_loss_and_nothing_else(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    method, images = dsr(replace(TINY, anomaly_probability=0.0)), torch.rand(4, 3, 32, 32)
    without = method.loss(method.stages()[stage], images, INGREDIENTS, torch.Generator().manual_seed(3))
    with_defects = replace(INGREDIENTS, defects=bank())
    drawn: list[Spoiled] = []
    draw = with_defects.defects.draw  # type: ignore[union-attr]
    monkeypatch.setattr(with_defects.defects, "draw", lambda *inputs: drawn.append(draw(*inputs)) or drawn[-1])
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    monkeypatch.setattr("blemish.methods.dsr.focal_loss", lambda *pair: calls.append(pair) or focal_loss(*pair))
    losses = method.loss(method.stages()[stage], images, with_defects, torch.Generator().manual_seed(3))
    ((maps, masks),) = calls
    ((real, real_masks),) = drawn
    assert len(maps) == len(masks) == 6  # four images and two defects
    expected = real_masks if stage else F.interpolate(F.max_pool2d(real_masks, 4), scale_factor=4.0)
    assert torch.equal(masks[4:], expected)
    assert 0 < expected.mean() < 0.5
    pairs = method._reconstruct(real)
    anomaly_map = method._detect(*pairs)
    torch.testing.assert_close(maps[4:], method._upsample(real, *pairs, anomaly_map) if stage else anomaly_map)
    assert without["focal"].item() != losses["focal"].item()
    assert all(without[name].item() == losses[name].item() for name in set(without) - {"focal"})


# --- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size_px": 100}, "multiple of 16"),
        ({"image_size_px": 16}, "from 32 on"),
        ({"feature_weight": 0.0, "image_weight": 0.0}, "both are 0"),
        ({"score_window_px": 4}, "odd"),
        ({"score_window_px": 33}, "at most the shorter side of the image, 32"),
        ({"restriction_widths": ()}, "empty"),
        ({"detection_widths": (0, 4)}, "at least 1"),
        ({"learning_rate": -1.0}, "above 0"),
        ({"ema_decay": 2.0}, r"in \[0, 0.99999\]"),
        ({"rotation_probability": 3.0}, r"in \[0, 1\]"),
        ({"smudges": {"probability": 7.0}}, r"in \[0, 1\]"),
        ({"decoder_widths": (8, 8)}, "3 numbers"),
        ({"iterations": 0}, "at least 1"),
        ({"anomaly_probability": 1.5}, r"in \[0, 1\]"),
    ],
)
def test_settings_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(BlemishError, match=message):
        TINY.replaced(values)
