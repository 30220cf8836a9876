"""Copies of training photographs are recognized by signs of their looks, without the photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.duplicates import Fingerprint
from blemish.data.listing import list_images
from blemish.data.looks import Looks


def drawn(n: int, first: int = 0) -> list[np.ndarray]:
    """Parts (64, 64, 3) with the same stripes and other noise."""
    stripes = 120 + 50 * np.sin(np.arange(64) / 4)
    noise = [np.random.default_rng(number).normal(0, 6, (64, 64)) for number in range(first, first + n)]
    return [np.repeat((stripes + each).clip(0, 255).astype(np.uint8)[..., None], 3, 2) for each in noise]


def prints(images: list[np.ndarray]) -> list[Fingerprint]:
    return [Fingerprint.of(image) for image in images]


def test_the_same_photographs_are_copies_and_others_are_not() -> None:
    looks = Looks.of(prints(drawn(20)))
    assert looks.are_copies(prints([*drawn(20)[::5], *drawn(30, first=100)])).tolist() == [True] * 4 + [False] * 30


def test_looks_are_described_and_made_again() -> None:
    looks = Looks.of(prints(drawn(5)))
    again = Looks.from_description(json.loads(json.dumps(looks.description())))
    np.testing.assert_array_equal(again.mean, looks.mean)
    np.testing.assert_array_equal(again.signs, looks.signs)


def test_looks_do_not_show_the_photographs() -> None:
    """All that is kept of one photograph are 391 signs; their mean tells of all together."""
    looks = Looks.of(prints(drawn(50)))
    assert looks.signs.shape == (50, 391)
    assert len(looks.description()["signs"][0]) < 70


@pytest.mark.parametrize(("name", "least"), [("mvtec/bottle", 30), ("mvtec/pill", 30), ("magnetic-tile/MT_Free", 24)])
def test_real_photographs_that_were_saved_anew_are_recognized(
    name: str, least: int, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / name / ("train/good" if "mvtec" in name else "")
    paths = list_images(folder, recursive=True)[:90]
    images = [Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BOX) for path in paths]
    looks = Looks.of(prints([np.asarray(image) for image in images[:60]]))
    for number, path in enumerate(paths[:30]):
        Image.open(path).convert("RGB").save(tmp_path / f"{number:02}.jpg", quality=80)
    saved = [Image.open(path).resize((256, 256), Image.Resampling.BOX) for path in sorted(tmp_path.iterdir())]
    assert looks.are_copies(prints([np.asarray(image) for image in saved])).sum() >= least
    assert looks.are_copies(prints([np.asarray(image) for image in images[60:]])).sum() <= 1
