"""The demo, and its images: test images share no pixel with training, and defects lie exactly in their masks."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import blemish
from blemish.commands import demo
from blemish.data import demo_images
from blemish.data.demo_images import CALIBRATION, PATCH_PX, TEST, TRAIN, DemoPatch, cut, make_demo_images
from blemish.data.layouts import open_dataset
from blemish.data.masks import read_mask
from blemish.data.reading import read_image
from blemish.detector import Finding
from blemish.errors import BlemishError
from blemish.thresholds import Threshold, n_needed

DEFECTIVE = [patch for patch in TEST if patch.defect]
N_GOOD = 10


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    pytest.importorskip("skimage")
    return demo_images.photograph()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("demo") / "images"
    make_demo_images(folder)
    return folder


def pixels(patches: tuple[DemoPatch, ...]) -> NDArray[np.bool_]:
    """(512, 512) bool: the pixels of the photograph that any of the patches shows."""
    shown = np.zeros((512, 512), np.bool_)
    for patch in patches:
        shown[patch.top_px : patch.top_px + PATCH_PX, patch.left_px : patch.left_px + PATCH_PX] = True
    return shown


def test_training_calibration_and_test_share_no_pixel() -> None:
    train, calibration, test = pixels(TRAIN), pixels(CALIBRATION), pixels(TEST)
    assert not (train & calibration).any()
    assert not ((train | calibration) & test).any()
    for patch in (*TRAIN, *CALIBRATION, *TEST):
        assert 0 <= patch.left_px <= 512 - PATCH_PX
        assert 0 <= patch.top_px <= 512 - PATCH_PX
    assert not (calibration | test)[225:272, 150:162].any(), "a brick of the photograph is chipped there"


def test_patches_for_the_threshold_are_at_all_places_that_are_inspected() -> None:
    calibration, test = ({patch.left_px for patch in patches} for patches in (CALIBRATION, TEST))
    assert min(calibration) <= min(test) < max(test) <= max(calibration)
    assert len(calibration) > 16


def test_there_are_enough_of_each() -> None:
    assert len(TRAIN) >= 100
    assert len(CALIBRATION) >= n_needed(demo.FALSE_REJECTS)
    assert 12 <= len(DEFECTIVE) <= 15
    good = [patch for patch in TEST if not patch.defect]
    assert len({patch.left_px for patch in good}) == len(good) == N_GOOD
    assert len({patch.kind for patch in DEFECTIVE}) == 8
    for patches in (TRAIN, CALIBRATION):
        assert len({patch.stem for patch in patches}) == len(patches)


@pytest.mark.parametrize("patch", DEFECTIVE, ids=lambda patch: f"{patch.kind}-{patch.stem}")
def test_defects_are_exactly_where_their_mask_is(patch: DemoPatch, photograph: NDArray[np.uint8]) -> None:
    damaged, mask = cut(photograph, patch)
    good, empty_mask = cut(photograph, DemoPatch(patch.left_px, patch.top_px))
    assert not empty_mask.any()
    assert damaged.shape == mask.shape == (PATCH_PX, PATCH_PX)
    assert 0.01 < mask.mean() < 0.08
    changed = damaged != good
    assert not (changed & ~mask).any()
    assert changed[mask].mean() > 0.9  # by chance, a pixel may already have the grey value of the defect
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()
    assert np.abs(damaged.astype(int) - good)[mask].mean() > 12  # visible to a person


def test_the_files_are_a_dataset_of_known_layout(images: Path) -> None:
    dataset = open_dataset(images)
    assert dataset.layout == "mvtec"
    assert len(dataset.train) == len(TRAIN)
    assert len(open_dataset(images / "calibration").train) == len(CALIBRATION)
    assert sum(not sample.is_defective for sample in dataset.test) == N_GOOD
    defective = [sample for sample in dataset.test if sample.is_defective]
    assert len(defective) == len(DEFECTIVE)
    for sample in defective:
        assert sample.mask_path is not None
        assert read_mask(sample.mask_path, read_image(sample.path).shape[:2]).any()


def test_files_hold_what_was_cut(images: Path, photograph: NDArray[np.uint8]) -> None:
    patch = DEFECTIVE[-1]
    damaged, mask = cut(photograph, patch)
    written = read_image(images / "test" / patch.kind / f"{patch.stem}.png")
    np.testing.assert_array_equal(written, damaged[..., None].repeat(3, axis=2))
    true_mask = read_mask(images / "ground_truth" / patch.kind / f"{patch.stem}_mask.png", mask.shape)
    np.testing.assert_array_equal(true_mask, mask)
    patch = next(patch for patch in TRAIN if patch.is_mirrored and patch.light != 1)
    mirrored = read_image(images / "train" / "good" / f"{patch.stem}.png")[..., 0]
    y, x = patch.top_px, patch.left_px
    expected = patch.light * photograph[y : y + PATCH_PX, x : x + PATCH_PX][:, ::-1]
    np.testing.assert_allclose(mirrored, expected.clip(0, 255), atol=0.5001)


def test_the_images_are_always_the_same(images: Path, tmp_path: Path) -> None:
    make_demo_images(tmp_path)
    first, second = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.png")} for root in (images, tmp_path)
    )
    assert first == second


def test_the_drawings_share_no_code_with_the_damage_for_training() -> None:
    tree = ast.parse(inspect.getsource(demo_images))
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in imported if "synthesis" in name or "methods" in name]


def test_without_scikit_image_the_message_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BlemishError, match=r'pip install "blemish\[demo\]"'):
        make_demo_images(tmp_path)


class TrueMaskDetector:
    """Stands in for a trained detector: finds every defect except cracks; its outlines lie beside the dents."""

    pixel_threshold = 0.3
    threshold = Threshold(value=0.5, false_reject_rate=0.02, n_calibration=74, n_needed=49)

    def inspect(self, paths: list[Path], *, explain: bool) -> list[Finding]:
        return [self._finding(path, explain) for path in paths]

    def _finding(self, path: Path, explain: bool) -> Finding:
        kind, image = path.parent.name, read_image(path)
        mask_path = path.parents[2] / "ground_truth" / kind / f"{path.stem}_mask.png"
        mask = np.zeros(image.shape[:2], np.bool_)
        if kind not in ("good", "crack"):
            mask = read_mask(mask_path, image.shape[:2])
        if kind == "dent":
            mask = ~mask
        score = 0.9 if mask.any() else 0.1
        explanation = {"reconstruction": image} if explain else {}
        return Finding(str(path), score, 0.5, score > 0.5, mask * np.float32(score), mask, [], explanation)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    pytest.importorskip("skimage")
    """Replaces `blemish.fit`; the value holds the options that it was called with."""
    fit_options: dict[str, Any] = {}

    def fit(data: Path, **options: Any) -> TrueMaskDetector:
        fit_options.update(options, data=data)
        return TrueMaskDetector()

    monkeypatch.setattr(blemish, "fit", fit)
    monkeypatch.setattr(demo_images, "TRAIN", TRAIN[:2])  # nothing is trained here
    monkeypatch.setattr(demo_images, "CALIBRATION", CALIBRATION[:2])
    return fit_options


def test_the_demo_counts_and_shows(
    tmp_path: Path, fitted: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    page = demo.run_demo(tmp_path, seed=3, open_page=False)
    assert page == tmp_path / "index.html"
    assert fitted["data"] == tmp_path / "images" / "train" / "good"
    assert fitted["calibration"] == tmp_path / "images" / "calibration"
    assert (fitted["seed"], fitted["false_rejects"]) == (3, demo.FALSE_REJECTS)
    n_cracks = sum(patch.kind == "crack" for patch in DEFECTIVE)
    n_dents = sum(patch.kind == "dent" for patch in DEFECTIVE)
    printed, html = capsys.readouterr().out, page.read_text(encoding="utf-8")
    n_detected = len(DEFECTIVE) - n_cracks
    assert f"Defects found: {n_detected} of {len(DEFECTIVE)}. In {n_detected - n_dents} of them" in printed
    assert f"Good images rejected: 0 of {N_GOOD}." in printed
    assert str(page) in printed
    assert html.count("<b>Missed.</b>") == n_cracks
    assert html.count("But the outlines lie beside it.") == n_dents
    assert html.count("The outlines enclose 100 % of it.") == n_detected - n_dents
    assert html.count("<section ") == len(TEST)


@pytest.mark.parametrize(
    ("environment", "open_page", "opened"),
    [
        ({"DISPLAY": ":0"}, True, 1),
        ({"DISPLAY": ":0"}, False, 0),
        ({"DISPLAY": ":0", "CI": "1"}, True, 0),
        ({}, True, 0),
    ],
)
def test_a_browser_is_opened_only_on_a_display(
    tmp_path: Path,
    fitted: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    open_page: bool,
    opened: int,
) -> None:
    addresses: list[str] = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    page = demo.run_demo(tmp_path, open_page=open_page)
    assert addresses == [page.resolve().as_uri()] * opened
