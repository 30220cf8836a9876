"""`blemish data` on 16-bit images: what files hold, and how many of the bits are used."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from miniatures import SIZE_HW, save

from blemish.data import reading
from blemish.data.survey import survey


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("n_channels", "pixels"), [(1, "grey"), (3, "colour"), (4, "colour with alpha")])
def test_file_kind_of_16_bits(suffix: str, n_channels: int, pixels: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep.{suffix}"
    assert cv2.imwrite(str(path), np.ones((*SIZE_HW, n_channels), np.uint16))
    assert reading.file_kind(path) == f"{'PNG' if suffix == 'png' else 'TIFF'}, {pixels}, 16 bits"


@pytest.mark.parametrize(("bits", "factor"), [(8, 256), (10, 64), (12, 16), (14, 4)])
def test_the_bits_that_16_bit_images_use(bits: int, factor: int, tmp_path: Path) -> None:
    ramp = np.linspace(0, 2**bits - 1, 384).astype(np.uint16).reshape(SIZE_HW)
    for number in range(12):
        save(tmp_path / f"{number}.png", np.roll(ramp, number))
    (problem,) = [problem for problem in survey(tmp_path).problems if problem.about == "bits"]
    assert f"use the lower {bits}," in problem.text
    assert problem.text.endswith(f"multiply the values by {factor} when saving")
    for number in range(12):
        save(tmp_path / f"{number}.png", np.roll(ramp * np.uint16(factor), number))
    result = survey(tmp_path)
    assert not [problem for problem in result.problems if problem.about in ("bits", "duplicate", "flat")]


def test_test_images_that_use_more_bits_than_the_training_images(tmp_path: Path) -> None:
    ramp = np.arange(384, dtype=np.uint16).reshape(SIZE_HW)
    for number in range(12):
        save(tmp_path / f"train/good/{number}.png", np.roll(ramp, number) * np.uint16(2))
    bright = save(tmp_path / "test/good/0.png", ramp * np.uint16(9))
    warning = next(problem for problem in survey(tmp_path).problems if problem.about == "bits")
    assert warning.level == "warning"
    assert warning.text.startswith(f"{bright}: uses more than the 10 bits of the good training images")
    assert warning.text.endswith("--bits 12")


def test_images_that_use_far_fewer_bits_than_the_others(tmp_path: Path) -> None:
    ramp = np.linspace(0, 4095, 384).astype(np.uint16).reshape(SIZE_HW) | np.uint16(1)
    for number in range(12):
        save(tmp_path / f"{number}.png", np.roll(ramp, number) * np.uint16(16 if number > 1 else 1))
    (problem,) = [problem for problem in survey(tmp_path).problems if problem.about == "bits"]
    assert problem.text.startswith(f"{tmp_path / '0.png'} and 1 more: use values up to 4095 only")
