"""SSAE's heatmaps (eq. 2, 3, 13 and 14), and the choice of n, k and t, which the paper leaves open.

n and k set how strongly the heatmap is smoothed. t sets how strongly it is reduced where good images, too, differ
from their repair. They are chosen by a measure that needs no real defects: how well the heatmap finds simulated
damage in good images that training has not seen. Each image is evaluated with the average heatmap of all images
except itself, because an average that includes it would bias the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.backbones import Backbone
from blemish.losses import ssim_map
from blemish.metrics import auroc

Difference = Literal["squared", "ssim", "features", "joined"]
N_MEANS = (1, 2, 3)
MEAN_SHARES = (1 / 48, 1 / 32, 1 / 24, 1 / 16, 1 / 12, 1 / 9)
"""Window sides k to try, as shares of the image's side: 3, 5, 7, 9, 11 and 15 px at 128 px."""
CORRECTIONS: dict[Difference, tuple[int, ...]] = {
    "ssim": (0, 1, 2, 4, 8),
    "squared": (0, 32, 128, 256, 512),
    "features": (0, 1, 2, 4, 8),
    "joined": (0, 32, 128, 256, 512),
}
"""Exponents t to try: larger for squared errors, which are a few hundredths where 1 - SSIM is a few tenths."""
MAX_PIXELS = 1_000_000
"""The pixel AUROC of larger sets of maps is computed on evenly spaced pixels, at most this many."""


def difference_map(image: Tensor, repair: Tensor, difference: Difference) -> Tensor:
    """Diff(X, F(X)) of two (B, 3, H, W) images: (B, 1, H, W) float32 >= 0 (eq. 2; section 4.1 for 1 - SSIM)."""
    if difference == "squared":
        return (image.float() - repair.float()).square().mean(1, keepdim=True)
    return (1.0 - ssim_map(repair, image)).clamp_min(0.0).mean(1, keepdim=True)


def feature_difference_map(encoder: Backbone, image: Tensor, repair: Tensor) -> Tensor:
    """1 - cosine similarity of what the first stage of ``encoder`` sees of two (B, 3, H, W) images in [0, 1]. Ours.

    It does not depend on contrast: a faint change of structure counts as much as a strong one. (B, 1, H, W) float32.
    """
    seen, expected = (encoder(picture, n_stages=1)[0].float() for picture in (image, repair))  # (B, C, H / 2, W / 2)
    difference = 1.0 - F.cosine_similarity(seen, expected, dim=1)[:, None]  # (B, 1, H / 2, W / 2)
    return F.interpolate(difference.clamp_min(0.0), image.shape[-2:], mode="bilinear", align_corners=False)


def joined_map(features: Tensor, squared: Tensor) -> Tensor:
    """Geometric mean of two difference maps (B, 1, H, W) >= 0: high where colours and structure differ both. Ours."""
    return (features * squared).sqrt()


def smooth_map(heatmap: Tensor, n_means: int, mean_px: int) -> Tensor:
    """G_k^n: the mean over k x k pixels inside the image, applied ``n_means`` times (eq. 3) to (B, 1, H, W)."""
    reach_px = mean_px // 2
    for _ in range(n_means):  # the mean over a square is a mean along columns and then along rows
        for window, reach in (((mean_px, 1), (reach_px, 0)), ((1, mean_px), (0, reach_px))):
            heatmap = F.avg_pool2d(heatmap, window, stride=1, padding=reach, count_include_pad=False)
    return heatmap


def corrected_map(heatmap: Tensor, average: Tensor, exponent: int) -> Tensor:
    """Eq. (14): (B, 1, H, W) heatmaps times (1 - avgmap)^t; ``average`` broadcasts to them."""
    return heatmap * (1.0 - average).clamp_min(0.0) ** exponent if exponent else heatmap


def damage_auroc(heatmaps: Tensor, masks: Tensor) -> float:
    """Pixel AUROC of heatmaps against masks, (N, 1, H, W) float and bool; NaN without any damage.

    It is computed on at most a million pixels, evenly spaced.
    """
    stride = max(1, -(-masks.numel() // MAX_PIXELS))
    return auroc(heatmaps.flatten()[::stride], masks.flatten()[::stride])


@dataclass(frozen=True)
class Choice:
    """A combination of n, k and t, and how well its heatmap finds simulated damage."""

    n_means: int
    """n."""
    mean_px: int
    """k."""
    correction: int
    """t."""
    pixel_auroc: float
    """On the damaged images, in [0, 1]."""


def mean_sides_px(short_px: int) -> tuple[int, ...]:
    """The odd window sides k to try for an image whose shorter side is this."""
    return tuple(sorted({max(3, round(share * short_px / 2) * 2 + 1) for share in MEAN_SHARES}))


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
    damaged : for each network, difference maps of the same images with damage, (N * C, 1, H, W): C copies of the
        first image, then C of the second, and so on.
    masks : (N * C, 1, H, W) bool, True where the damage is.
    """
    n, copies = len(good[0]), len(masks) // len(good[0])
    tried = []
    for repeats, side_px in itertools.product(n_means, sides_px):
        smooth_good, smooth_damaged = (
            [smooth_map(heatmaps, repeats, side_px) for heatmaps in per_network] for per_network in (good, damaged)
        )  # (N, 1, H, W) and (N * C, 1, H, W) for each network
        averages = [
            ((heatmaps.sum(0) - heatmaps) / max(n - 1, 1)).repeat_interleave(copies, 0)  # over all images but this
            for heatmaps in smooth_good
        ]  # (N * C, 1, H, W) for each network
        for exponent in exponents:
            corrected = [corrected_map(*pair, exponent) for pair in zip(smooth_damaged, averages, strict=True)]
            pixel_auroc = damage_auroc(torch.stack(corrected).amax(0), masks)
            tried.append(Choice(repeats, side_px, exponent, pixel_auroc))
    return tried
