"""Smooth random fields on patches: elastic deformations (Simard et al., ICDAR 2003) and soft shapes (SSAE, figure 5).

A field is drawn once in the patch's own coordinates, on a coarse grid, and read at the image's pixels through one
``grid_sample``: patches of any sizes and places are one batch, and a sharp pixel grid costs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.synthesis.draw import drawn, uniform

GRID = 32  # points along each side of a field
EDGE = 0.15  # share of the half side over which a shape fades out at its patch's border


class Patches(NamedTuple):
    """Rectangles in a batch, one for each image, in pixels."""

    centre_yx: Tensor
    """(B, 2) float."""
    side_yx: Tensor
    """(B, 2) float, height and width."""


def random_patches(n: int, size_hw: tuple[int, int], sides: tuple[float, float], generator: Generator) -> Patches:
    """Patches of random size and place, within the image; on the host.

    Parameters
    ----------
    sides : smallest and largest side, shares of the image's shorter side.
    """
    side_yx = uniform(*sides, (n, 2), generator) * min(size_hw)
    room = torch.tensor(size_hw) - side_yx
    return Patches(uniform(0.0, 1.0, (n, 2), generator) * room + side_yx / 2, side_yx)


def patch_grid(patches: Patches, size_hw: tuple[int, int]) -> Tensor:
    """Where each pixel lies in its image's patch: (B, H, W, 2) as (x, y), -1 to 1 inside, more outside."""
    device = patches.centre_yx.device
    half = patches.side_yx / 2
    y = (torch.arange(size_hw[0], device=device) + 0.5 - patches.centre_yx[:, :1]) / half[:, :1]  # (B, H)
    x = (torch.arange(size_hw[1], device=device) + 0.5 - patches.centre_yx[:, 1:]) / half[:, 1:]  # (B, W)
    return torch.stack([x[:, None, :].expand(-1, size_hw[0], -1), y[:, :, None].expand(-1, -1, size_hw[1])], -1)


def smooth_noise(sigmas: Tensor, n_channels: int, generator: Generator, device: torch.device) -> Tensor:
    """White noise under a Gaussian: (B, C, 32, 32) on ``device``, zero mean and unit variance in each channel.

    Parameters
    ----------
    sigmas : (B,) float on ``device``, of the Gaussian, as a share of the field's side.
    """
    n = len(sigmas)
    noise = drawn(lambda g: torch.randn(n, n_channels, GRID, GRID, generator=g), generator, device)
    distance = torch.arange(GRID, device=device)[:, None] - torch.arange(GRID, device=device)
    blur = torch.exp(-0.5 * (distance / (sigmas.view(-1, 1, 1) * GRID)) ** 2)[:, None]  # (B, 1, G, G)
    field = blur @ noise @ blur
    field = field - field.mean((2, 3), keepdim=True)
    return field / field.std((2, 3), keepdim=True).clamp_min(1e-6)


def soft_shapes(grid: Tensor, roughness: float, generator: Generator) -> Tensor:
    """Smooth blobs that fill most of their patch and fade to nothing at its border (figure 5, X2).

    Parameters
    ----------
    grid : (B, H, W, 2) from ``patch_grid``.
    roughness : how far the outline strays from an ellipse.

    Returns
    -------
    (B, 1, H, W) float in [0, 1], 0 outside of the patch.
    """
    n, device = len(grid), grid.device
    sigmas = drawn(lambda g: uniform(0.06, 0.2, (n,), g), generator, device)
    noise = smooth_noise(sigmas, 1, generator, device)
    wave = F.grid_sample(noise, grid, padding_mode="border", align_corners=False)[:, 0]  # (B, H, W)
    softness = drawn(lambda g: uniform(0.1, 0.6, (n, 1, 1), g), generator, device)
    height = 0.8 - grid.square().sum(-1) + roughness * wave
    inside = ((1.0 - grid.abs().amax(-1)) / EDGE).clamp(0.0, 1.0)
    return (_smoothstep((height / softness).clamp(0.0, 1.0)) * _smoothstep(inside))[:, None]


def _smoothstep(t: Tensor) -> Tensor:
    """From 0 to 1 with level ends, for t in [0, 1]."""
    return t * t * (3.0 - 2.0 * t)


def displacement_px(
    patches: Patches,
    grid: Tensor,
    strength: tuple[float, float],
    smoothing: tuple[float, float],
    generator: Generator,
) -> Tensor:
    """A Gaussian-smoothed random displacement of each pixel: (B, H, W, 2) as (x, y), px.

    Parameters
    ----------
    strength : range of the root mean square of each component, as a share of the patch's side.
    smoothing : range of the Gaussian's sigma, as a share of the patch's side.
    """
    n, device = len(grid), grid.device
    sigmas = drawn(lambda g: uniform(*smoothing, (n,), g), generator, device)
    field = smooth_noise(sigmas, 2, generator, device)
    field = F.grid_sample(field, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
    scale = drawn(lambda g: uniform(*strength, (n, 1), g), generator, device) * patches.side_yx.flip(
        1
    )  # (B, 2) as (x, y)
    return field * scale[:, None, None, :]


def sample_px(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Read images at pixel coordinates, bilinear, mirrored beyond the border.

    Parameters
    ----------
    images : (B, C, H, W) float.
    x, y : (B, H', W') float; (0.5, 0.5) is the middle of the first pixel.
    """
    height, width = images.shape[-2:]
    grid = torch.stack([x * (2.0 / width) - 1.0, y * (2.0 / height) - 1.0], -1)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
