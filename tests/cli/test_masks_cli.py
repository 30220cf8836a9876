"""Masks from the command line: `fit`, `evaluate` and `data` read them in one way, and report what they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.cli import main

TINY = ("--device", "cpu", "--set", "iterations=1", "--set", "image_size_px=64", "--set", "batch_size=2")
SIZE_HW = (32, 40)
CLASSES = np.zeros(SIZE_HW, np.uint8)
CLASSES[8:20, 8:14], CLASSES[8:20, 14:20] = 1, 2


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset as MVTec AD's, and a detector of it. One of three defects has no mask."""
    root, rng = tmp_path_factory.mktemp("masks"), np.random.default_rng(0)
    for folder, n_images in (("train/good", 10), ("test/OK", 2), ("test/dent", 3)):
        for number in range(n_images):
            save(root / folder / f"{number}.png", rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8))
    for number in range(2):
        save(root / f"ground_truth/dent/{number}_GT.bmp", CLASSES)
    assert run("fit", root, *TINY, "--out", root / "run") == 0
    return root


def test_fit_does_not_read_what_it_does_not_need(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", root, *TINY, "--out", root / "run 2") == 0
    assert "blemish: " not in capsys.readouterr().err


def test_evaluate_and_fit_refuse_and_read_the_same_masks(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = ("evaluate", root / "run/detector.blemish", root, "--out", root / "evaluation")
    images, masks = root / "bad", root / "ground_truth/dent"
    for number in range(2):
        save(images / f"{number}.png", np.zeros((*SIZE_HW, 3), np.uint8))
    fit = ("fit", root, *TINY, "--defects", images, "--defect-masks", masks, "--out", root / "run 3", "--overwrite")
    for command in (evaluate, fit, ("data", root)):
        assert run(*command) == 2
        printed = capsys.readouterr()
        assert "0_GT.bmp: a mask holds black and one other value" in (printed.out + printed.err)
    for values in ("nonzero", "1,2", "2"):
        assert run(*fit, "--mask-values", values) == 0
    capsys.readouterr()
    assert run(*evaluate, "--mask-values", "nonzero") == 0
    printed = capsys.readouterr()
    assert f"blemish: {root}: 1 of 3 defective test images have no mask" in printed.err
    assert f"blemish: {root / 'test/dent/2.png'}: no mask for it in {masks}" in printed.err
    assert "of the 2 of 3 defective images with masks" in printed.out
    metrics = json.loads((root / "evaluation/metrics.json").read_text())
    assert (metrics["n_masks"], metrics["n_defective"], metrics["n_good"]) == (2, 3, 2)
    assert metrics["pixel_auroc"] is not None
    assert "Of the 2 of 3 defective images that have a mask." in (root / "evaluation/report.html").read_text()
    assert run("data", root, "--mask-values", "nonzero") == 0


def test_without_masks_the_report_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "ground_truth").rename(root / "masks elsewhere")
    try:
        assert run("evaluate", root / "run/detector.blemish", root, "--out", root / "evaluation") == 0
    finally:
        (root / "masks elsewhere").rename(root / "ground_truth")
    assert "no mask for any of the 3 defective test images" in capsys.readouterr().err
    metrics = json.loads((root / "evaluation/metrics.json").read_text())
    assert metrics["image_auroc"] is not None
    assert metrics["pixel_auroc"] is None
    assert "so there are no figures of pixels" in (root / "evaluation/report.html").read_text()


def test_unknown_mask_values_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("data", root), ("fit", root, *TINY), ("evaluate", root / "run/detector.blemish", root)):
        assert run(*command, "--mask-values", "black") == 2
        assert "mask values 'black' are unknown; use auto, white, nonzero" in capsys.readouterr().err
