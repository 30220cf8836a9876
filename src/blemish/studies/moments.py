"""Do all pixels have the same distribution, as SSAE's proposition 2 asks? Measured as in the paper's figure 8.

Two moments of the grey value of each pixel, over good images: for textures over all windows of all images, for
objects along the horizontal line through the middle. Grey is the mean of the channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.errors import BlemishError
from blemish.synthesis.modified_patches import allowed_share

Kind = Literal["texture", "object"]
KINDS: tuple[Kind, ...] = get_args(Kind)
N_CHANNELS = 3
WHITE = 255 * N_CHANNELS
"""Sums of channels are whole numbers, and so are all sums until the last division: nothing is lost on the way."""


@dataclass
class PixelSums:
    """What is kept of any number of images of one size: the sums of each pixel's grey values and of their squares."""

    sums: NDArray[np.int64]
    """(S, S), in units of 1 / ``WHITE``."""
    squares: NDArray[np.int64]
    n_images: int = 0
    low: int = WHITE
    high: int = 0

    @classmethod
    def of(cls, batches: Iterable[Tensor], size_px: int) -> PixelSums:
        """Of batches (B, 3, S, S) uint8, each of them needed only once."""
        shape = (size_px, size_px)
        total = cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64))
        for batch in batches:
            grey = batch.numpy().sum(1, dtype=np.int64)
            total.sums += grey.sum(0)
            total.squares += np.square(grey).sum(0)
            total.n_images += len(grey)
            total.low, total.high = min(total.low, int(grey.min())), max(total.high, int(grey.max()))
        return total


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each pixel's grey value, in [0, 1]."""

    kind: Kind
    mean: NDArray[np.float64]
    """(H, W): a window, or the one row of the line."""
    std: NDArray[np.float64]
    n_values: int
    """Of each pixel."""
    spread: float
    """r: from the lowest to the highest grey value of the images."""
    variance: float = field(init=False)
    """sigma^2: the mean of the pixels' variances, which is what the distance of two images is made of (eq. 9)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "variance", float(np.square(self.std).mean()))

    def figures(self) -> dict[str, float | int | None]:
        """How equal the pixels are, and what theorem 2 makes of their variance.

        Returns
        -------
        ``spread_of_means``: standard deviation of the pixels' means, divided by their mean standard deviation; 0 if
        all are equal. ``spread_of_stds``: the same of their standard deviations. ``sigma2`` and ``range``.
        ``largest_share``: |S| / N below which 2 sigma^2 |S_rest| exceeds |S|, for values in an interval of length
        ``range``, and ``largest_share_of_unit_range`` as the theorem is printed, for one of length 1. None where
        nothing varies.
        """
        typical = float(self.std.mean())
        variance = torch.tensor(self.variance, dtype=torch.float64)
        return {
            "n_pixels": self.mean.size,
            "n_values_of_each": self.n_values,
            "mean": float(self.mean.mean()),
            "std": typical,
            "spread_of_means": float(self.mean.std()) / typical if typical else None,
            "spread_of_stds": float(self.std.std()) / typical if typical else None,
            "sigma2": self.variance,
            "range": self.spread,
            "largest_share": float(allowed_share(variance, torch.tensor(self.spread, dtype=torch.float64))),
            "largest_share_of_unit_range": float(allowed_share(variance, torch.ones_like(variance))),
        }


def window_moments(pixels: PixelSums, window_px: int) -> Moments:
    """Moments of each pixel of a window that slides over whole images, by one px at a time.

    A window's pixel (y, x) meets all pixels from there on as far as the window moves: a box of the images' sums.

    Raises
    ------
    BlemishError
        If the window is larger than the images.
    """
    size_px = len(pixels.sums)
    check_window(window_px, size_px)
    reach_px = size_px - window_px + 1
    n_values = pixels.n_images * reach_px**2
    return _moments(
        "texture", _box_sums(pixels.sums, reach_px), _box_sums(pixels.squares, reach_px), n_values, pixels
    )


def line_moments(pixels: PixelSums) -> Moments:
    """Moments of each pixel of the horizontal line through the middle of the images."""
    row = slice(len(pixels.sums) // 2, len(pixels.sums) // 2 + 1)
    return _moments("object", pixels.sums[row], pixels.squares[row], pixels.n_images, pixels)


def check_window(window_px: int, size_px: int) -> None:
    """Refuse what is no window of images of this size."""
    if not 1 <= window_px <= size_px:
        raise BlemishError(
            f"--window {window_px}: should be from 1 to the size that images are resized to, --size {size_px}"
        )


def _moments(
    kind: Kind, sums: NDArray[np.int64], squares: NDArray[np.int64], n_values: int, pixels: PixelSums
) -> Moments:
    mean = sums / n_values
    variance = np.maximum(squares / n_values - np.square(mean), 0.0)
    return Moments(kind, mean / WHITE, np.sqrt(variance) / WHITE, n_values, (pixels.high - pixels.low) / WHITE)


def _box_sums(values: NDArray[np.int64], side_px: int) -> NDArray[np.int64]:
    """Sums over all squares of ``side_px`` that lie inside (S, S), by their upper left corners."""
    integral = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    far, near = slice(side_px, None), slice(None, -side_px)
    return np.asarray(integral[far, far] - integral[near, far] - integral[far, near] + integral[near, near])
