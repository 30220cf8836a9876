"""Copies of one photograph: none is trained on if another sets the threshold, or nothing is promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.inspection.framing import Whole
from blemish.learning.images import SplitImages, split_images
from blemish.thresholds import conformal_threshold
from learning.test_fit import TINY, save_parts

SIZE_HW = (64, 64)


def save_texture(path: Path, seed: int, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(40, 220, (24, 24), dtype=np.uint8)
    Image.fromarray(coarse).resize((120, 120), Image.Resampling.BICUBIC).save(path, **options)


def save_textures(folder: Path, seeds: range, suffix: str = "png", **options: Any) -> Path:
    for seed in seeds:
        save_texture(folder / f"{seed}.{suffix}", seed, **options)
    return folder


def split(data: Path, calibration: Path | None = None, share: float = 0.0) -> SplitImages:
    return split_images(data, calibration, "auto", Whole(SIZE_HW), 0, share)


def distances(images: SplitImages) -> np.ndarray:
    """Mean difference between each training or validation image and each calibration image, in grey levels."""
    learned = np.concatenate([images.train.numpy(), images.validation.numpy()]).astype(float)
    return np.asarray(np.abs(learned[:, None] - images.calibration.numpy()[None]).mean((2, 3, 4)))


def test_photographs_of_their_own_are_all_used_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, held_out = save_textures(tmp_path / "good", range(12)), save_textures(tmp_path / "new", range(20, 26))
    images = split(good, held_out)
    assert (len(images.train), len(images.calibration), images.copies, images.doubt) == (12, 6, "", "")
    assert (len(split(good).train), len(split(good).calibration)) == (7, 5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_calibration_photographs_are_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    good = save_textures(tmp_path / "good", range(24))
    held_out = save_textures(tmp_path / "held-out", range(18, 24), suffix)
    images = split(good, held_out)
    assert (len(images.train), len(images.calibration), images.doubt) == (18, 6, "")
    assert distances(images).min() > 10
    error = capsys.readouterr().err
    assert f"blemish: {good}: 6 of 6 calibration images are training images" in error
    assert f"held-out/18.{suffix} is the same as 18.png" in error
    assert error.count("\n") == 1


def test_calibration_photographs_that_look_like_copies_withdraw_the_promise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There may be more copies, which cannot be recognized; or these are none: nothing is left out."""
    good = save_textures(tmp_path / "good", range(24))
    save_textures(tmp_path / "held-out", range(18, 21), "jpg", quality=80)
    images = split(good, save_textures(tmp_path / "held-out", range(30, 40)))
    assert (len(images.train), len(images.calibration)) == (24, 13)
    assert "3 of 13 calibration images look like training images" in images.doubt
    assert "no rate of false rejects can be promised; calibrate with different photographs" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("jpg", {"quality": 92}), ("tif", {})])
def test_copies_in_one_folder_stay_on_one_side(
    tmp_path: Path, share: float, suffix: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    good = save_textures(tmp_path / "good", range(16))
    for seed in range(16):
        save_texture(good / f"copy of {seed}.{suffix}", seed, **options)
    images = split(good, share=share)
    assert (len(images.calibration), len(images.validation), images.doubt) == (5, round(share * 16), "")
    assert len(images.train) == 2 * (11 - len(images.validation))
    assert distances(images).min() > 10
    assert f"{good}: 32 good images show only 16 different photographs" in capsys.readouterr().err


def test_without_enough_different_photographs_nothing_is_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save_textures(tmp_path / "good", range(6))
    for seed in range(6):
        save_texture(good / f"copy of {seed}.png", seed)
    detector = blemish.fit(good, settings=TINY, device="cpu", false_rejects=0.5, out=tmp_path / "run")
    words = "12 good images show only 6 different photographs"
    assert not detector.threshold.is_promised
    assert f"cannot be promised: {words}" in detector.threshold.explain()
    assert words in capsys.readouterr().err
    loaded = blemish.load(tmp_path / "run" / "detector.blemish")
    assert loaded.threshold == detector.threshold
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["false_rejects_promised"] is False
    assert words in summary["copies"]


def test_calibrating_with_the_training_folder_itself_promises_nothing(tmp_path: Path) -> None:
    good = save_textures(tmp_path / "good", range(12))
    images = split(good, good)
    assert (len(images.train), len(images.calibration)) == (12, 12)
    assert "12 of 12 calibration images are training images" in images.doubt


def test_a_calibration_photograph_counts_once(tmp_path: Path) -> None:
    good, held_out = save_textures(tmp_path / "good", range(12)), save_textures(tmp_path / "new", range(20, 26))
    for name in "abc":
        save_texture(held_out / f"{name}.png", 20)
    images = split(good, held_out)
    assert (len(images.train), len(images.calibration), images.doubt) == (12, 6, "")
    assert "9 calibration images show only 6 different photographs" in images.copies
    for seed in (21, 22):
        (held_out / f"{seed}.png").unlink()
    assert "7 calibration images show only 4 different photographs" in split(good, held_out).doubt


def test_alike_parts_are_not_copies(tmp_path: Path) -> None:
    assert split(save_parts(tmp_path / "good", 30)).copies == ""


def test_a_doubt_withdraws_the_promise() -> None:
    threshold = conformal_threshold(range(120), 0.01)
    assert threshold.is_promised
    doubtful = type(threshold)(**{**vars(threshold), "doubt": "all were trained on"})
    assert not doubtful.is_promised
    assert doubtful.explain() == (
        "With 120 good images a false-reject rate of 1 % cannot be promised: all were trained on."
    )
