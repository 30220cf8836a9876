"""What the network sees of a photograph: ``fit --image-size`` and ``--tile``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts import open_dataset
from blemish.data.reading import read_image
from blemish.errors import BlemishError
from blemish.inspection.framing import Framing, Tiles, Whole
from blemish.inspection.region import RegionOfInterest, box_of, read_region
from blemish.learning.options import FitOptions
from blemish.methods import settings_of
from blemish.methods.base import SIZE_SETTINGS, Settings

MULTIPLE_PX = 32
"""Sides for ``auto`` are multiples of this, and of what the method needs."""
N_LOOKED_AT = 25
"""Good photographs that ``auto`` looks at, at most; evenly spaced."""
MOST_ASPECT = 8.0
"""A photograph that is longer than so many times its width is squeezed all the same."""


def with_size(options: FitOptions) -> FitOptions:
    """Return the options with ``image_size`` or ``tile`` as settings of the method, and without ``image_size``.

    Raises
    ------
    BlemishError
        If one is not a size, or two differ; with ``auto``, if a good photograph cannot be read.
    """
    if options.tile is None and options.overlap is not None:
        raise BlemishError(f"option overlap: {options.overlap}, but there are no tiles; give tile, too")
    if options.image_size is not None and options.tile is not None:
        raise BlemishError(f"options image_size, tile: {options.image_size}, {options.tile}; give one of them")
    name = "image_size" if options.tile is None else "tile"
    text = getattr(options, name)
    if text is None:
        return options
    is_like_photographs = name == "image_size" and text == "auto"
    height, width = _like_photographs(options) if is_like_photographs else _size_hw(name, text)
    size = dict(zip(SIZE_SETTINGS, (height, None if width == height else width), strict=True))
    given = {key: options.settings[key] for key in SIZE_SETTINGS if key in options.settings}
    if any(size[key] != value for key, value in given.items()):
        others = ", ".join(f"{key}: {value}" for key, value in given.items())
        raise BlemishError(f"option {name}: {text}, and setting {others}; give one of them")
    return replace(options, image_size=None, settings={**options.settings, **size})


def framing_of(options: FitOptions, settings: Settings) -> Framing:
    """How a run's photographs become what its network, with these settings, sees.

    Raises
    ------
    BlemishError
        If tiles overlap by more than half, or the region cannot be read.
    """
    framing: Framing = Whole(settings.size_hw, settings.resizing)
    if options.tile is not None:
        framing = Tiles(settings.size_hw, settings.short_px // 4 if options.overlap is None else options.overlap)
    if options.roi is None:
        return framing
    return RegionOfInterest.of(framing, _region(options.roi, _good_photographs(options)))


def _region(path: Path, photographs: Sequence[Path]) -> NDArray[np.bool_]:
    if not photographs:
        raise BlemishError(f"option roi: {path}, but there are no good photographs")
    return read_region(path, photographs[0])


def _good_photographs(options: FitOptions) -> list[Path]:
    return [sample.path for sample in open_dataset(options.data, options.layout, only="train").train]


def _size_hw(name: str, text: int | str) -> tuple[int, int]:
    """Height and width from "WIDTHxHEIGHT", or from one side of a square."""
    match = re.fullmatch(r"\s*(\d{1,5})(?:\s*[xX×]\s*(\d{1,5}))?\s*", str(text))
    if match is None:
        others = ", or auto" if name == "image_size" else ""
        raise BlemishError(
            f"option {name}: {text!r} should be WIDTHxHEIGHT such as 512x256, or the side of a square{others}"
        )
    width = int(match[1])
    return int(match[2] or width), width


def _like_photographs(options: FitOptions) -> tuple[int, int]:
    """The recipe's number of pixels, in the shape of the median good photograph, or of the region of interest."""
    recipe = settings_of(options.method, options.recipe, options.seed, options.settings)
    paths = _good_photographs(options)
    n = min(len(paths), N_LOOKED_AT)
    aspects = [_aspect(paths[number * len(paths) // n]) for number in range(n)]
    if options.roi is not None:
        left, top, right, bottom = box_of(_region(options.roi, paths))
        aspects = [(right - left) / (bottom - top)]
    if not aspects:
        return recipe.size_hw  # that there are no images, is said where they are read
    stretch = math.sqrt(min(MOST_ASPECT, max(1 / MOST_ASPECT, float(np.median(aspects)))))
    side_px = math.sqrt(math.prod(recipe.size_hw))
    multiple_px = math.lcm(MULTIPLE_PX, recipe.multiple_px)
    height, width = (
        multiple_px * max(1, round(length / multiple_px)) for length in (side_px / stretch, side_px * stretch)
    )
    return height, width


def _aspect(path: Path) -> float:
    """Width over height of a photograph."""
    height, width, _ = read_image(path).shape
    return float(width / height)
