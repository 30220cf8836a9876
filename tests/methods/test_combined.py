"""Several methods in one: how maps are joined, parts of other sizes, explanations, and the contract of inspection."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from contract import MethodContract, drawn, good_images
from torch import Tensor

import blemish
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.methods import METHODS, method_type
from blemish.methods.base import Ingredients, Method, Settings
from blemish.methods.combined import Combined, CombinedSettings, restored_type, scaled
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.methods.dsr import DSR, DSRSettings
from blemish.methods.ssae import SSAE, SSAESettings

PATCHES = DRAEMSettings(
    image_size_px=32, reconstructive_widths=(4, 8), discriminative_widths=(4, 8), score_window_px=5
)
SMALLER = SSAESettings(
    image_size_px=16, widths=(4,), filters_per_dilation=2, dilations=(1,), n_stacks=1, mean_px=3, patch_px=1
)


def settings_of(**parts: Settings) -> dict[str, Any]:
    """The setting ``parts``; the method of a part is its name up to the first hyphen."""
    return {
        name.replace("_", "-"): {"method": name.partition("_")[0], "settings": asdict(settings)}
        for name, settings in parts.items()
    }


TINY = CombinedSettings(image_size_px=32, parts=settings_of(draem=PATCHES, ssae=SMALLER))


class TestContract(MethodContract):
    """Inspection of parts of different sizes. What concerns training does not apply."""

    tiny: Settings = TINY
    test_loss_leaves_the_good_images_alone_and_repeats_by_seed: ClassVar[None] = None
    test_training_changes_the_weights_and_the_same_seed_gives_the_same: ClassVar[None] = None
    test_resumed_equals_uninterrupted: ClassVar[None] = None
    test_trains_and_inspects_on_a_card: ClassVar[None] = None
    test_steps_repeated_as_a_graph_learn_the_same: ClassVar[None] = None
    test_a_graph_is_the_same_whatever_is_drawn: ClassVar[None] = None
    test_where_there_are_no_graphs_training_goes_on_without: ClassVar[None] = None
    test_every_recipe_is_of_the_methods_own_settings: ClassVar[None] = None
    test_rectangles_are_trained_on_and_inspected: ClassVar[None] = None

    @property
    def rectangle(self) -> Settings:
        assert isinstance(self.tiny, CombinedSettings)
        parts = {
            name: {
                **part,
                "settings": {**part["settings"], "image_width_px": part["settings"]["image_size_px"] * 3 // 2},
            }
            for name, part in self.tiny.parts.items()
        }
        return replace(self.tiny, image_width_px=48, parts=parts)

    def make(self, settings: Settings) -> Combined:
        assert isinstance(settings, CombinedSettings)
        return Combined(settings)

    @pytest.fixture
    def method(self) -> Method:
        method, generator = self.make(self.tiny), torch.Generator().manual_seed(7)
        for tensor in method.parts.state_dict().values():
            if tensor.ndim > 1:
                torch.nn.init.kaiming_normal_(tensor, generator=generator)
        for name, buffer in method.named_buffers(recurse=False):
            buffer.copy_(0.1 + torch.rand(buffer.shape, generator=generator) * (0.1 if "centre" in name else 1.0))
        return method


class TestContractByPlace(TestContract):
    """Three parts, two of them of the same method, and a scale for each place."""

    tiny = CombinedSettings(
        image_size_px=32, parts=settings_of(draem=replace(PATCHES, image_size_px=24), ssae=SMALLER, draem_2=PATCHES),
        scale="place",
    )  # fmt: skip


def answer(method: Combined, monkeypatch: pytest.MonkeyPatch, maps: Tensor) -> None:
    """Let the parts' maps be these, whatever the image."""
    monkeypatch.setattr(method, "measured", lambda images: maps)


@pytest.mark.parametrize(("weight", "expected"), [([0.5, 0.5], 2.0), ([0.75, 0.25], 9.0**0.75 - 1.0)])
def test_what_is_above_the_good_images_is_joined_by_weights(
    weight: list[float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Combined(TINY)
    method.centre.copy_(torch.tensor([1.0, 5.0]).view(2, 1, 1))
    method.spread.copy_(torch.tensor([0.5, 2.0]).view(2, 1, 1))
    method.weight.copy_(torch.tensor(weight))
    maps = torch.tensor([5.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 32, 32)  # z = 8 and, below the centre, 0
    answer(method, monkeypatch, maps)
    anomaly_map, score = method(torch.zeros(1, 3, 32, 32))
    np.testing.assert_allclose(anomaly_map.numpy(), np.full((1, 1, 32, 32), expected), rtol=1e-5)
    np.testing.assert_allclose(score.numpy(), [expected], rtol=1e-5)


def test_the_score_is_the_smoothed_maximum_of_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Combined(TINY)  # 32 px: a window of 3 px, 21 at 256
    maps = torch.zeros(1, 2, 32, 32)
    maps[0, 0, 4, 9] = 8.0
    answer(method, monkeypatch, maps)
    assert method(torch.zeros(1, 3, 32, 32))[1].item() == pytest.approx(2.0 / 9.0)


def test_a_scale_by_place_is_interpolated_over_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Combined(replace(TINY, scale="place"))
    assert method.spread.shape == (2, 32, 32)
    method.spread[:, 3, 7] = 4.0
    answer(method, monkeypatch, torch.full((1, 2, 32, 32), 2.0))
    anomaly_map = method(torch.zeros(1, 3, 32, 32))[0]
    assert anomaly_map[0, 0, 3, 7] == pytest.approx(0.5)
    assert anomaly_map.sum().item() == pytest.approx(32 * 32 * 2 - 1.5)


@pytest.mark.parametrize("own_px", [16, 20, 24])
def test_a_smaller_part_sees_means_over_areas(own_px: int) -> None:
    method = Combined(TINY)
    part = SSAE(replace(SMALLER, image_size_px=own_px))
    image = drawn(1, 3, 32, 32)
    seen = method._seen_by(part, image)[0].permute(1, 2, 0).numpy()
    expected = cv2.resize(image[0].permute(1, 2, 0).numpy(), (own_px, own_px), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_parts_of_the_same_size_answer_as_they_do_alone() -> None:
    parts: dict[str, Method] = {"draem": DRAEM(PATCHES).eval(), "draem-2": DRAEM(replace(PATCHES, seed=1)).eval()}
    method = Combined(CombinedSettings(image_size_px=32, parts=settings_of(draem=PATCHES, draem_2=PATCHES)), parts)
    images = drawn(2, 3, 32, 32)
    maps = method.eval().measured(images)
    for number, part in enumerate(parts.values()):
        assert torch.equal(maps[:, number : number + 1], part(images)[0])


def test_explanations_are_each_parts_map_and_its_own_pictures() -> None:
    method = Combined(TINY).eval()
    pictures = method.explain(drawn(2, 3, 32, 32))
    assert [*pictures] == ["draem map", "draem reconstruction", "ssae map", "ssae reconstruction"]
    for picture in pictures.values():
        assert picture.shape == (2, 3, 32, 32)
        assert 0 <= picture.min() <= picture.max() <= 1
    z = scaled(method.measured(drawn(2, 3, 32, 32)), method.centre, method.spread)
    torch.testing.assert_close(pictures["ssae map"][:, 0], z[:, 1] / (1 + z[:, 1]))


def test_what_a_part_computes_exactly_stays_exact() -> None:
    dsr = DSRSettings(
        image_size_px=32, restriction_widths=(8, 8), decoder_widths=(8, 8, 8), detection_widths=(4, 8),
        upsampling="none",
    )  # fmt: skip
    method = Combined(CombinedSettings(image_size_px=32, parts=settings_of(draem=PATCHES, dsr=dsr)))
    assert "parts.dsr.vq.encoder_low" in method.exact
    assert "parts.dsr.restriction_low" in method.exact_on_cpu
    assert len(method.exact) == len(DSR.exact)
    modules = dict(method.named_modules())
    assert {*method.exact, *method.exact_on_cpu} <= modules.keys()


def test_a_detector_of_several_methods_is_one_file(tmp_path: Path) -> None:
    method = Combined(replace(TINY, scale="place"))
    method.centre.uniform_(), method.spread.fill_(3.0)
    Detector.uncalibrated(method, 0.5, 0.1).save(tmp_path / "x.blemish")
    again = blemish.load(tmp_path / "x.blemish")
    assert isinstance(again.method, Combined)
    assert again.settings == method.settings
    assert [type(part) for part in again.method.methods.values()] == [DRAEM, SSAE]
    photographs = [image.permute(1, 2, 0).numpy() for image in good_images(2)]
    finding = again.inspect(photographs, explain=True)[0]
    assert {"draem map", "ssae map"} <= finding.explanation.keys()


def test_seeds_do_not_make_other_settings() -> None:
    """``compare`` takes the mean over seeds of runs with equal settings."""
    other = replace(TINY, seed=3, parts=settings_of(draem=replace(PATCHES, seed=3), ssae=replace(SMALLER, seed=3)))
    assert other.result_settings() | {"seed": 0} == TINY.result_settings() | {"seed": 0}
    wider = replace(TINY, parts=settings_of(draem=replace(PATCHES, patch_px=2), ssae=SMALLER))
    assert wider.result_settings() != TINY.result_settings()


def test_it_is_not_a_method_to_train(tmp_path: Path) -> None:
    assert "combined" not in METHODS
    assert restored_type("combined") is Combined
    assert restored_type("draem") is DRAEM
    with pytest.raises(BlemishError, match="is not trained; train its parts, and join them: blemish combine"):
        method_type("combined")
    for method in ("combined", Combined(TINY)):
        with pytest.raises(BlemishError, match="is not trained; train its parts"):
            blemish.fit(tmp_path, method=method)
    with pytest.raises(BlemishError, match="is not trained"):
        Combined(TINY).loss(None, torch.zeros(1, 3, 32, 32), Ingredients(), torch.Generator())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": {}}, "setting parts: none; two trained methods or more are needed"),
        ({"parts": settings_of(draem=PATCHES)}, "setting parts: draem; two trained methods"),
        ({"image_size_px": 64}, r"image_width_px: \(64, 64\) should be those of the largest"),
        ({"scale": "pixel"}, "setting scale: 'pixel' should be one of image, place"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BlemishError, match=message):
        Combined(replace(TINY, **changes))
