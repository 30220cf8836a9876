"""SSAE's heatmaps (eq. 2, 3, 13 and 14), and the choice of n, k and t, which the paper leaves open.

n, k and t decide how far neighbouring pixels speak for each other, and how much a place is doubted at which good
images differ from their repair, too. They are chosen by what can be measured without a defect: how well the heatmap
finds simulated damage in good images that training has not seen. Each of those is judged with an average heatmap
of the others, since its own would flatter it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.losses import ssim_map
from blemish.metrics import auroc

Difference = Literal["squared", "ssim"]
N_MEANS = (1, 2, 3)
MEAN_SHARES = (1 / 48, 1 / 32, 1 / 24, 1 / 16, 1 / 12, 1 / 9)
"""Sides of the means that are tried, shares of the image's side: 3, 5, 7, 9, 11 and 15 px at 128 px."""
CORRECTIONS: dict[Difference, tuple[int, ...]] = {"ssim": (0, 1, 2, 4, 8), "squared": (0, 32, 128, 256, 512)}
"""Exponents that are tried. A squared error is some hundredths where 1 - SSIM is some tenths."""
MAX_PIXELS = 1_000_000
"""Of larger sets of maps every few pixels are judged."""


def difference_map(image: Tensor, repair: Tensor, difference: Difference) -> Tensor:
    """Diff(X, F(X)): (B, 3, H, W) twice to (B, 1, H, W) float32 >= 0 (eq. 2; section 4.1 for 1 - SSIM)."""
    if difference == "squared":
        return (image.float() - repair.float()).square().mean(1, keepdim=True)
    return (1.0 - ssim_map(repair, image)).clamp_min(0.0).mean(1, keepdim=True)


def smooth_map(heatmap: Tensor, n_means: int, mean_px: int) -> Tensor:
    """G_k^n: the mean over k x k pixels, ``n_means`` times (eq. 3), of (B, 1, H, W); inside the image only."""
    reach_px = mean_px // 2
    for _ in range(n_means):  # a square mean is a mean of means along rows and columns
        for window, reach in (((mean_px, 1), (reach_px, 0)), ((1, mean_px), (0, reach_px))):
            heatmap = F.avg_pool2d(heatmap, window, stride=1, padding=reach, count_include_pad=False)
    return heatmap


def corrected_map(heatmap: Tensor, average: Tensor, exponent: int) -> Tensor:
    """Eq. (14): (B, 1, H, W) heatmaps times (1 - avgmap)^t; ``average`` broadcasts to them."""
    return heatmap * (1.0 - average).clamp_min(0.0) ** exponent if exponent else heatmap


def judged(heatmaps: Tensor, masks: Tensor) -> float:
    """Pixel AUROC of heatmaps (N, 1, H, W) against bool masks; of at most a million pixels, evenly spaced."""
    stride = max(1, -(-masks.numel() // MAX_PIXELS))
    return auroc(heatmaps.flatten()[::stride], masks.flatten()[::stride])


@dataclass(frozen=True)
class Choice:
    """One way to make a heatmap, and how well it finds simulated damage."""

    n_means: int
    mean_px: int
    correction: int
    pixel_auroc: float
    """Of the damaged images, in [0, 1]."""


def mean_sides_px(image_size_px: int) -> tuple[int, ...]:
    """The odd k that are tried for an image of this side."""
    return tuple(sorted({max(3, round(share * image_size_px / 2) * 2 + 1) for share in MEAN_SHARES}))


def choices(
    good: Sequence[Tensor],
    damaged: Sequence[Tensor],
    masks: Tensor,
    n_means: Sequence[int],
    sides_px: Sequence[int],
    exponents: Sequence[int],
) -> list[Choice]:
    """Try all combinations of n, k and t.

    Parameters
    ----------
    good : for each network of the method, difference maps (N, 1, H, W) of good images, N >= 2.
    damaged : for each network, those of the same images with damage, (N * C, 1, H, W): C of each in a row.
    masks : (N * C, 1, H, W) bool, where the damage is.
    """
    n, copies = len(good[0]), len(masks) // len(good[0])
    found = []
    for times, side_px in itertools.product(n_means, sides_px):
        smooth_good, smooth = ([smooth_map(one, times, side_px) for one in maps] for maps in (good, damaged))
        averages = [((one.sum(0) - one) / max(n - 1, 1)).repeat_interleave(copies, 0) for one in smooth_good]
        for exponent in exponents:
            parts = [corrected_map(*pair, exponent) for pair in zip(smooth, averages, strict=True)]
            found.append(Choice(times, side_px, exponent, judged(torch.stack(parts).amax(0), masks)))
    return found
