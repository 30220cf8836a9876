"""Cells that train in a moment, for the tests of grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blemish.fleet.cells import Cell, Evaluation

SETTINGS: dict[str, Any] = {
    "image_size_px": 16,
    "batch_size": 2,
    "reconstructive_widths": [4, 4],
    "discriminative_widths": [4, 4, 4],
    "score_window_px": 5,
    "epochs": None,
    "iterations": 20,
}
ENDLESS = 200_000
"""Steps of a training that no test waits for."""


def photograph(number: int, *, spot: bool = False) -> Image.Image:
    pixels = np.random.default_rng(number).normal(120, 5, (20, 20, 1)).clip(0, 255).astype(np.uint8).repeat(3, 2)
    if spot:
        pixels[5:12, 5:12] = 250
    return Image.fromarray(pixels)


def save_product(folder: Path, n_good: int = 12) -> Path:
    """A dataset in MVTec's layout, with two good and two defective test images and their masks."""
    for name in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (folder / name).mkdir(parents=True)
    for number in range(n_good):
        photograph(number).save(folder / "train" / "good" / f"{number}.png")
    mask = np.zeros((20, 20), np.uint8)
    mask[5:12, 5:12] = 255
    for number in range(2):
        photograph(100 + number).save(folder / "test" / "good" / f"{number}.png")
        photograph(200 + number, spot=True).save(folder / "test" / "spot" / f"{number}.png")
        Image.fromarray(mask).save(folder / "ground_truth" / "spot" / f"{number}_mask.png")
    return folder


def cell(name: str, data: Path, *, evaluated: bool = False, seed: int = 0, **settings: Any) -> Cell:
    options = {"data": data, "device": "cpu", "seed": seed, "settings": {**SETTINGS, **settings}}
    return Cell(name, options, (Evaluation("evaluation", data, "network/1"),) if evaluated else ())
