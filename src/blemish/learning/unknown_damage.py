"""Simulated damage that no method here trains on: to choose between trained methods without preferring one. Ours.

DRÆM trains on pasted textures, SSAE on deformed, moved and covered patches, DSR on replaced codes, others on none. A
choice by damage of these kinds would go to the method that was trained on it. These are others: an area is blurred,
shows another place mirrored, is lighter or darker, or grainy. All but the shade keep the mean colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.synthesis.draw import uniform
from blemish.synthesis.pasted_textures import HALF_LEVEL
from blemish.synthesis.perlin import perlin_masks

THRESHOLDS = (0.6, 0.9)
"""The noise that shapes the area is cut between these: smaller areas than those of DRÆM, which cuts it at 0.5."""


def damaged_copies(good: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Damage each image in each of the ways of ``KINDS``.

    Parameters
    ----------
    good : (N, 3, H, W) uint8.

    Yields
    ------
    For each kind, images (N, 3, H, W) float in [0, 1] and masks (N, 1, H, W) bool, True where a pixel has changed
    visibly. Images without any area are possible.
    """
    images, generator = good.float() / 255.0, Generator().manual_seed(seed)
    size_hw = (good.shape[-2], good.shape[-1])
    for make in KINDS.values():
        area = perlin_masks(len(images), size_hw, generator, images.device, thresholds=THRESHOLDS)[:, None]
        damaged = torch.where(area, make(images, generator).clamp(0.0, 1.0), images)
        yield damaged, (damaged - images).abs().amax(1, keepdim=True) >= HALF_LEVEL


def _blurred(images: Tensor, generator: Generator) -> Tensor:
    """Means over squares of a 24th of the image's side, twice."""
    side_px = max(1, images.shape[-1] // 48) * 2 + 1
    for _ in range(2):
        images = F.avg_pool2d(images, side_px, 1, side_px // 2, count_include_pad=False)
    return images


def _mirrored(images: Tensor, generator: Generator) -> Tensor:
    """The image mirrored at a random line from left to right and at one from top to bottom."""
    height, width = images.shape[-2:]
    rows, columns = (
        torch.randint(length, (len(images),), generator=generator).tolist() for length in (height, width)
    )
    turned = images.flip(2, 3)
    return torch.stack(
        [image.roll((row, column), (1, 2)) for image, row, column in zip(turned, rows, columns, strict=True)]
    )


def _shaded(images: Tensor, generator: Generator) -> Tensor:
    """5 to 30 % of the range lighter or darker."""
    change = uniform(0.05, 0.3, (len(images), 1, 1, 1), generator)
    sign = uniform(-1.0, 1.0, (len(images), 1, 1, 1), generator).sign()
    return images + sign * change


def _grainy(images: Tensor, generator: Generator) -> Tensor:
    """Normally distributed noise in grains of a 64th of the image's side, of 3 to 15 % of the range."""
    n, _, height, width = images.shape
    grain_px = max(1, width // 64)
    noise = torch.randn(n, 1, -(-height // grain_px), -(-width // grain_px), generator=generator)
    grains = noise.repeat_interleave(grain_px, 2).repeat_interleave(grain_px, 3)[..., :height, :width]
    return images + uniform(0.03, 0.15, (n, 1, 1, 1), generator) * grains


KINDS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "blurred": _blurred, "mirrored": _mirrored, "shaded": _shaded, "grainy": _grainy,
}  # fmt: skip
