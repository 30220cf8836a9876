"""The size of what the network sees, from ``fit --image-size``."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.data.layouts import open_dataset
from blemish.data.reading import read_image
from blemish.errors import BlemishError
from blemish.learning.options import FitOptions
from blemish.methods import settings_of
from blemish.methods.base import SIZE_SETTINGS

MULTIPLE_PX = 32
"""Sides for ``auto`` are multiples of this, as every recipe takes."""
N_LOOKED_AT = 25
"""Good photographs that ``auto`` looks at, at most; evenly spaced."""
MOST_ASPECT = 8.0
"""A photograph that is longer than so many times its width is squeezed all the same."""


def with_size(options: FitOptions) -> FitOptions:
    """Return the options with ``image_size`` as settings of the method instead.

    Raises
    ------
    BlemishError
        If it is not a size, or the settings give one, too; with ``auto``, if a good photograph cannot be read.
    """
    if options.image_size is None:
        return options
    if given := [name for name in SIZE_SETTINGS if name in options.settings]:
        raise BlemishError(
            f"option image_size: {options.image_size}, and setting {', '.join(given)}; give one of them"
        )
    height, width = _like_photographs(options) if options.image_size == "auto" else _size_hw(options.image_size)
    size = dict(zip(SIZE_SETTINGS, (height, None if width == height else width), strict=True))
    return replace(options, image_size=None, settings={**options.settings, **size})


def _size_hw(text: int | str) -> tuple[int, int]:
    """Height and width from "WIDTHxHEIGHT", or from one side of a square."""
    match = re.fullmatch(r"\s*(\d{1,5})(?:\s*[xX×]\s*(\d{1,5}))?\s*", str(text))
    if match is None:
        raise BlemishError(
            f"option image_size: {text!r} should be WIDTHxHEIGHT such as 512x256, the side of a square, or auto"
        )
    width = int(match[1])
    return int(match[2] or width), width


def _like_photographs(options: FitOptions) -> tuple[int, int]:
    """The recipe's number of pixels, in the shape of the median good photograph."""
    recipe = settings_of(options.method, options.recipe, options.seed, options.settings)
    paths = [sample.path for sample in open_dataset(options.data, options.layout, only="train").train]
    n = min(len(paths), N_LOOKED_AT)
    aspects = [_aspect(paths[number * len(paths) // n]) for number in range(n)]
    if not aspects:
        return recipe.size_hw  # that there are no images, is said where they are read
    stretch = math.sqrt(min(MOST_ASPECT, max(1 / MOST_ASPECT, float(np.median(aspects)))))
    side_px = math.sqrt(math.prod(recipe.size_hw))
    height, width = (
        MULTIPLE_PX * max(1, round(length / MULTIPLE_PX)) for length in (side_px / stretch, side_px * stretch)
    )
    return height, width


def _aspect(path: Path) -> float:
    """Width over height of a photograph."""
    height, width, _ = read_image(path).shape
    return float(width / height)
