"""Faint damage that no pasted texture looks like: soft shades, and thin lines such as scratches and cracks. Ours.

Both are a change of brightness whose shape comes from Perlin noise: a shade is a region where the noise is high, with
sharp or with soft edges; a line is where the noise crosses zero, inside of such a region.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.synthesis.draw import coin, drawn, indices_to_process, uniform
from blemish.synthesis.pasted_textures import Spoiled
from blemish.synthesis.perlin import perlin_noise

VISIBLE = 0.02
"""Least change of brightness, of 1, that is marked as damage."""


def shade(spoiled: Spoiled, probability: float, generator: Generator) -> Spoiled:
    """Put a shade or lines, each in half of the cases, on images that have no damage yet, with ``probability``.

    Parameters
    ----------
    spoiled : images (B, 3, H, W) float in [0, 1], any device, and their masks (B, 1, H, W); not changed.
    probability : in [0, 1], of an image without damage.
    generator : CPU generator, the only source of randomness.

    Returns
    -------
    Spoiled
        The mask is 1 where the brightness changed visibly, by at least ``VISIBLE``.
    """
    images, masks = spoiled
    n, device = len(images), images.device
    is_drawn = drawn(lambda g: coin(probability, n, g), generator, device)  # (B,)
    is_shaded = is_drawn & (masks.amax((1, 2, 3)) == 0)  # (B,)
    chosen = indices_to_process(is_shaded)  # (K,)
    if not len(chosen):
        return spoiled
    with torch.autocast(device.type, enabled=False):  # bf16 is too coarse for positions
        change = _changes(len(chosen), (images.shape[-2], images.shape[-1]), generator, device)  # (K, 3, H, W)
    change = change * is_shaded[chosen].view(-1, 1, 1, 1)
    good = images.index_select(0, chosen)  # (K, 3, H, W)
    shaded = (good + change).clamp_(0.0, 1.0)
    is_changed = (shaded - good).abs().amax(1, keepdim=True) >= VISIBLE  # (K, 1, H, W)
    new_masks = torch.maximum(masks.index_select(0, chosen), is_changed.to(masks.dtype))
    return Spoiled(images.index_copy(0, chosen, shaded), masks.index_copy(0, chosen, new_masks))


def _changes(n: int, size_hw: tuple[int, int], generator: Generator, device: torch.device) -> Tensor:
    """Changes of brightness by a shade or by lines: (n, 3, H, W) float32 in about [-1, 1]."""
    noise, _ = _noise(n, size_hw, (0.0, 4.0), generator, device)  # (n, 1, H, W)
    crossed, slope = _noise(n, size_hw, (1.0, 5.0), generator, device)  # (n, 1, H, W), (n, 1, 1, 1)
    extent, _ = _noise(n, size_hw, (0.0, 3.0), generator, device)  # (n, 1, H, W)

    def make(g: Generator) -> tuple[Tensor, ...]:
        shape = (n, 1, 1, 1)
        sign = torch.where(coin(0.5, n, g), 1.0, -1.0).view(shape)
        return (
            coin(0.5, n, g).view(shape), coin(0.5, n, g).view(shape),
            uniform(0.1, 0.5, shape, g), uniform(0.0, 0.3, shape, g), uniform(0.5, 2.0, shape, g),
            sign * uniform(0.05, 0.4, shape, g), sign * uniform(0.08, 0.6, shape, g), uniform(0.7, 1.3, (n, 3, 1, 1), g),
        )  # fmt: skip

    is_line, is_soft, level, edge, half_width_px, shade_by, line_by, tint = drawn(make, generator, device)
    region = (noise > level).float()  # (n, 1, H, W)
    region = torch.where(is_soft, _softened(region), region)
    distance_px = crossed.abs() / slope  # (n, 1, H, W), about the distance from the line
    line = (half_width_px + 0.5 - distance_px).clamp(0.0, 1.0) * (extent > edge)  # (n, 1, H, W)
    return torch.where(is_line, line * line_by, region * shade_by) * tint  # (n, 3, H, W)


def _noise(
    n: int, size_hw: tuple[int, int], octaves: tuple[float, float], generator: Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Perlin noise (n, 1, H, W) of 2^U[*octaves] cells along each side, and its usual slope (n, 1, 1, 1) per pixel."""
    cycles = drawn(lambda g: 2.0 ** uniform(*octaves, (n, 2), g), generator, device)  # (n, 2)
    noise = perlin_noise(cycles, size_hw, generator, device, 2.0 ** octaves[1])  # (n, H, W)
    return noise[:, None], 1.2 * cycles.mean(1).view(-1, 1, 1, 1) / max(size_hw)


def _softened(region: Tensor) -> Tensor:
    """The mean over a square of an eighth of the image's side: (n, 1, H, W)."""
    reach_px = max(1, max(region.shape[-2:]) // 16)
    side_px = 2 * reach_px + 1
    columns = F.avg_pool2d(region, (side_px, 1), 1, (reach_px, 0), count_include_pad=False)
    return F.avg_pool2d(columns, (1, side_px), 1, (0, reach_px), count_include_pad=False)
