"""Do all pixels have the same distribution, as SSAE's proposition 2 assumes? Measured as in the paper's figure 8.

Mean and standard deviation of the grey value of each pixel over good images: for textures over all windows of all
images, for objects along the horizontal line through the middle. Grey is the mean of the channels.
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
from blemish.synthesis.modified_patches import QUANTILES, allowed_share

Kind = Literal["texture", "object"]
KINDS: tuple[Kind, ...] = get_args(Kind)
N_CHANNELS = 3
WHITE = 255 * N_CHANNELS
"""Largest sum of the channels of a pixel. All sums are integers up to the last division, so they are exact."""


@dataclass
class PixelSums:
    """Sums of each pixel's grey values and of their squares, over any number of images of one size."""

    sums: NDArray[np.int64]
    """(S, S), in units of 1 / ``WHITE``."""
    squares: NDArray[np.int64]
    """(S, S), in units of 1 / ``WHITE``^2."""
    n_images: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(WHITE + 1, np.int64))
    """(WHITE + 1,): how often each grey value occurs in all images."""

    @property
    def spread(self) -> int:
        """From the 1 % to the 99 % quantile of all grey values, in units of 1 / ``WHITE``."""
        shares = self.counts.cumsum() / self.counts.sum()
        low, high = (int(np.count_nonzero(shares < quantile)) for quantile in QUANTILES)
        return high - low

    @classmethod
    def of(cls, batches: Iterable[Tensor], size_px: int) -> PixelSums:
        """Sums over batches (B, 3, S, S) uint8, which are read once."""
        shape = (size_px, size_px)
        total = cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64))
        for batch in batches:
            grey = batch.numpy().sum(1, dtype=np.int64)  # (B, S, S)
            total.sums += grey.sum(0)
            total.squares += np.square(grey).sum(0)
            total.n_images += len(grey)
            total.counts += np.bincount(grey.ravel(), minlength=WHITE + 1)
        return total


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each pixel's grey value, in [0, 1]."""

    kind: Kind
    mean: NDArray[np.float64]
    """(H, W): the pixels of a window, or of the single row of a line (H = 1)."""
    std: NDArray[np.float64]
    """(H, W)"""
    n_values: int
    """Number of values of each pixel."""
    spread: float
    """r: the range of the grey values of the images, without the lowest and the highest hundredth."""
    variance: float = field(init=False)
    """sigma^2: the mean of the pixels' variances; it determines the expected distance of two images (eq. 9)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "variance", float(np.square(self.std).mean()))

    def figures(self) -> dict[str, float | int | None]:
        """How much the pixels' distributions differ, and the largest patch that theorem 2 allows for their variance.

        Returns
        -------
        ``n_pixels``, ``n_values_of_each``, ``mean``, ``std`` : over all pixels.
        ``spread_of_means`` : standard deviation of the pixels' means, divided by their mean standard deviation; 0 if
        all means are equal, None if the images do not differ.
        ``spread_of_stds`` : the same for the pixels' standard deviations.
        ``sigma2``, ``range`` : ``variance`` and ``spread``.
        ``largest_share`` : |S| / N below which 2 sigma^2 |S_rest| exceeds |S|, for values in an interval of length
        ``range``.
        ``largest_share_of_unit_range`` : the same for an interval of length 1, as the theorem is printed.
        """
        mean_std = float(self.std.mean())
        variance = torch.tensor(self.variance, dtype=torch.float64)
        return {
            "n_pixels": self.mean.size,
            "n_values_of_each": self.n_values,
            "mean": float(self.mean.mean()),
            "std": mean_std,
            "spread_of_means": float(self.mean.std()) / mean_std if mean_std else None,
            "spread_of_stds": float(self.std.std()) / mean_std if mean_std else None,
            "sigma2": self.variance,
            "range": self.spread,
            "largest_share": float(allowed_share(variance, torch.tensor(self.spread, dtype=torch.float64))),
            "largest_share_of_unit_range": float(allowed_share(variance, torch.ones_like(variance))),
        }


def window_moments(pixels: PixelSums, window_px: int) -> Moments:
    """Moments of each pixel of a window that slides over the images in steps of 1 px.

    Over all positions of the window, its pixel (y, x) covers a square of image pixels with the upper left corner
    (y, x), so its moments are box sums over the images' sums.

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
    """Raise a `BlemishError` if the window is empty or larger than the images."""
    if not 1 <= window_px <= size_px:
        raise BlemishError(
            f"--window {window_px}: should be from 1 to the size of the resized images, --size {size_px}"
        )


def _moments(
    kind: Kind, sums: NDArray[np.int64], squares: NDArray[np.int64], n_values: int, pixels: PixelSums
) -> Moments:
    mean = sums / n_values
    variance = np.maximum(squares / n_values - np.square(mean), 0.0)
    return Moments(kind, mean / WHITE, np.sqrt(variance) / WHITE, n_values, pixels.spread / WHITE)


def _box_sums(values: NDArray[np.int64], side_px: int) -> NDArray[np.int64]:
    """Sums over all squares of side ``side_px`` inside (S, S), by upper left corner: (R, R), R = S - side_px + 1."""
    integral = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    far, near = slice(side_px, None), slice(None, -side_px)
    return np.asarray(integral[far, far] - integral[near, far] - integral[far, near] + integral[near, near])
