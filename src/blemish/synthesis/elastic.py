"""Smooth random fields on patches: elastic deformations (Simard et al., ICDAR 2003) and soft shapes (SSAE, figure 5).

A field is drawn in the patch's own coordinates on a coarse grid, and one ``grid_sample`` reads it at the image's
pixels. So patches of any size and position are processed as one batch, at little cost for any image size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.synthesis.draw import drawn, uniform

GRID = 32  # points along each side of a field
EDGE = 0.15  # a shape fades out over this share of half the patch's side, at the patch's border


class Patches(NamedTuple):
    """One rectangle for each image of a batch, in pixels."""

    centre_yx: Tensor
    """(B, 2) float, px."""
    side_yx: Tensor
    """(B, 2) float, height and width in px."""


def random_patches(n: int, size_hw: tuple[int, int], sides: tuple[float, float], generator: Generator) -> Patches:
    """``n`` patches of random size and position inside the image; on the host.

    Parameters
    ----------
    sides : smallest and largest side, as shares of the image's shorter side.
    """
    side_yx = uniform(*sides, (n, 2), generator) * min(size_hw)  # (n, 2)
    room = torch.tensor(size_hw) - side_yx
    return Patches(uniform(0.0, 1.0, (n, 2), generator) * room + side_yx / 2, side_yx)


def patch_grid(patches: Patches, size_hw: tuple[int, int]) -> Tensor:
    """Coordinates of each pixel in its image's patch: (B, H, W, 2) as (x, y), in [-1, 1] inside the patch."""
    device = patches.centre_yx.device
    half = patches.side_yx / 2
    y = (torch.arange(size_hw[0], device=device) + 0.5 - patches.centre_yx[:, :1]) / half[:, :1]  # (B, H)
    x = (torch.arange(size_hw[1], device=device) + 0.5 - patches.centre_yx[:, 1:]) / half[:, 1:]  # (B, W)
    return torch.stack([x[:, None, :].expand(-1, size_hw[0], -1), y[:, :, None].expand(-1, -1, size_hw[1])], -1)


def smooth_noise(sigmas: Tensor, n_channels: int, generator: Generator, device: torch.device) -> Tensor:
    """White noise smoothed by a Gaussian: (B, C, 32, 32) on ``device``, zero mean and unit variance in each channel.

    Parameters
    ----------
    sigmas : (B,) float on ``device``, sigma of the Gaussian as a share of the field's side.
    """
    n = len(sigmas)
    noise = drawn(lambda g: torch.randn(n, n_channels, GRID, GRID, generator=g), generator, device)  # (B, C, G, G)
    distance = torch.arange(GRID, device=device)[:, None] - torch.arange(GRID, device=device)  # (G, G)
    blur = torch.exp(-0.5 * (distance / (sigmas.view(-1, 1, 1) * GRID)) ** 2)[:, None]  # (B, 1, G, G)
    field = blur @ noise @ blur  # (B, C, G, G)
    field = field - field.mean((2, 3), keepdim=True)
    return field / field.std((2, 3), keepdim=True).clamp_min(1e-6)


def soft_shapes(grid: Tensor, roughness: float, generator: Generator) -> Tensor:
    """Smooth blobs that fill most of their patch and fade out at its border (figure 5, X2).

    Parameters
    ----------
    grid : (B, H, W, 2) from ``patch_grid``.
    roughness : how much the outline deviates from an ellipse.

    Returns
    -------
    (B, 1, H, W) float in [0, 1], 0 outside of the patch.
    """
    n, device = len(grid), grid.device
    sigmas = drawn(lambda g: uniform(0.06, 0.2, (n,), g), generator, device)  # (B,)
    noise = smooth_noise(sigmas, 1, generator, device)  # (B, 1, G, G)
    wave = F.grid_sample(noise, grid, padding_mode="border", align_corners=False)[:, 0]  # (B, H, W)
    softness = drawn(lambda g: uniform(0.1, 0.6, (n, 1, 1), g), generator, device)
    height = 0.8 - grid.square().sum(-1) + roughness * wave  # (B, H, W)
    inside = ((1.0 - grid.abs().amax(-1)) / EDGE).clamp(0.0, 1.0)  # (B, H, W)
    return (_smoothstep((height / softness).clamp(0.0, 1.0)) * _smoothstep(inside))[:, None]  # (B, 1, H, W)


def _smoothstep(t: Tensor) -> Tensor:
    """Rises from 0 to 1 for t in [0, 1], with slope 0 at both ends."""
    return t * t * (3.0 - 2.0 * t)


def displacement_px(
    patches: Patches,
    grid: Tensor,
    strength: tuple[float, float],
    smoothing: tuple[float, float],
    generator: Generator,
) -> Tensor:
    """A random displacement of each pixel, smoothed by a Gaussian: (B, H, W, 2) as (x, y), px.

    Parameters
    ----------
    strength : range of the root mean square of each component, as a share of the patch's side.
    smoothing : range of the Gaussian's sigma, as a share of the patch's side.
    """
    n, device = len(grid), grid.device
    sigmas = drawn(lambda g: uniform(*smoothing, (n,), g), generator, device)  # (B,)
    field = smooth_noise(sigmas, 2, generator, device)  # (B, 2, G, G)
    field = F.grid_sample(field, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)  # (B, H, W, 2)
    side_xy = patches.side_yx.flip(1)  # (B, 2)
    scale = drawn(lambda g: uniform(*strength, (n, 1), g), generator, device) * side_xy  # (B, 2)
    return field * scale[:, None, None, :]  # (B, H, W, 2)


def sample_px(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Read images at pixel coordinates, bilinear, mirrored beyond the border.

    Parameters
    ----------
    images : (B, C, H, W) float.
    x, y : (B, H', W') float; (0.5, 0.5) is the centre of the first pixel.

    Returns
    -------
    (B, C, H', W') float.
    """
    height, width = images.shape[-2:]
    grid = torch.stack([x * (2.0 / width) - 1.0, y * (2.0 / height) - 1.0], -1)  # (B, H', W', 2)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
