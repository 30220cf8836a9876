"""Rotations and reflections of image batches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.synthesis.draw import coin, drawn, indices_to_process, uniform


def rotate(images: Tensor, angles_rad: Tensor, *, padding_mode: str = "zeros") -> Tensor:
    """Rotate each image about its centre, with bilinear interpolation: (B, C, H, W).

    Parameters
    ----------
    images : (B, C, H, W) float.
    angles_rad : (B,) float on the same device.
    padding_mode : values from outside of the image: black (``zeros``) or the nearest pixel (``border``).
    """
    height, width = images.shape[-2:]
    cos, sin, zero = angles_rad.cos(), angles_rad.sin(), torch.zeros_like(angles_rad)
    x_row = torch.stack([cos, -sin * (height / width), zero], 1)  # (B, 3)
    y_row = torch.stack([sin * (width / height), cos, zero], 1)  # (B, 3)
    grid = F.affine_grid(torch.stack([x_row, y_row], 1), list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding_mode, align_corners=False)


def rotate_nearest(images: Tensor, angles_rad: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Rotate each image about its centre, with nearest-pixel sampling, and crop ``size_hw`` from its middle.

    It costs a fifth of ``rotate``, and suits masks and textures, which do not need smooth interpolation.

    Parameters
    ----------
    images : (B, C, H, W), any dtype; values from outside of the image are zero.
    angles_rad : (B,) float on the same device.
    size_hw : height and width of the result, px.

    Returns
    -------
    (B, C, *size_hw) of the same dtype.
    """
    batch, channels, source_height, source_width = images.shape
    height, width = size_hw
    cos, sin = angles_rad.cos().view(-1, 1, 1), angles_rad.sin().view(-1, 1, 1)
    y = (torch.arange(height, device=images.device) - (height - 1) / 2).view(1, -1, 1)
    x = (torch.arange(width, device=images.device) - (width - 1) / 2).view(1, 1, -1)
    column = (x * cos + (source_width / 2 - y * sin)).floor_()  # (B, H, W); the centre of pixel 0 is at 0.5
    row = (x * sin + (source_height / 2 + y * cos)).floor_()  # (B, H, W)
    inside = None
    if min(source_height, source_width) < math.hypot(height, width):  # else the source covers any rotated crop
        inside = (row >= 0) & (row < source_height) & (column >= 0) & (column < source_width)
        row, column = row.clamp_(0, source_height - 1), column.clamp_(0, source_width - 1)
    index = column.add_(row, alpha=source_width).long()  # (B, H, W)
    rotated = images.flatten(2).gather(2, index.view(batch, 1, -1).expand(-1, channels, -1))  # (B, C, H W)
    rotated = rotated.view(batch, channels, height, width)  # (B, C, H, W)
    return rotated if inside is None else rotated * inside[:, None]


def randomly_rotate(images: Tensor, probability: float, max_deg: float, generator: Generator) -> Tensor:
    """Rotate each image with ``probability`` by an angle from U[-max_deg, max_deg].

    The authors' code of DRÆM rotates good images by up to 90 degrees with probability 0.3, that of DSR
    with probability 0.4.

    Parameters
    ----------
    images : (B, C, H, W) float.
    generator : a CPU generator; the only source of randomness.
    """
    n = len(images)
    is_rotated, angles_rad = drawn(  # (B,) bool, (B,) float
        lambda g: (coin(probability, n, g), torch.deg2rad(uniform(-max_deg, max_deg, (n,), g))),
        generator, images.device,
    )  # fmt: skip
    index = indices_to_process(is_rotated)  # (K,)
    if probability == 0 or len(index) == 0:
        return images
    with torch.autocast(images.device.type, enabled=False):  # bf16 is too coarse for coordinates
        rotated = rotate(images[index], angles_rad[index])  # (K, C, H, W)
    return images.index_copy(0, index, torch.where(is_rotated[index].view(-1, 1, 1, 1), rotated, images[index]))


def randomly_mirror_and_turn(
    images: Tensor, generator: Generator, *, horizontally: bool, vertically: bool, quarter_turns: bool
) -> Tensor:
    """Mirror each image with probability 1/2, and rotate it by a random multiple of 90 degrees, as far as allowed.

    Parameters
    ----------
    images : (B, C, H, W) of any dtype; not changed. Images that are not square are rotated by 180 degrees only.
    generator : a CPU generator; the only source of randomness.
    horizontally, vertically : allow to swap left and right, or top and bottom.
    quarter_turns : allow rotations.

    Returns
    -------
    (B, C, H, W) of the same dtype.
    """
    n, height, width = len(images), images.shape[-2], images.shape[-1]
    step = 1 if height == width else 2
    is_left_right, is_upside_down, turns = drawn(
        lambda g: (
            coin(0.5 * horizontally, n, g)[:, None, None],
            coin(0.5 * vertically, n, g)[:, None, None],
            (torch.randint(4 // step, (n,), generator=g) * step * quarter_turns)[:, None, None],
        ),
        generator, images.device,
    )  # fmt: skip
    if not (horizontally or vertically or quarter_turns):
        return images.clone()
    row = torch.arange(height, device=images.device).view(1, -1, 1)
    column = torch.arange(width, device=images.device).view(1, 1, -1)
    is_quarter = turns % 2 == 1  # rows become columns; this only happens to square images
    from_row, from_column = torch.where(is_quarter, column, row), torch.where(is_quarter, row, column)
    is_row_flipped, is_column_flipped = (turns >= 2) ^ is_upside_down, ((turns + 1) // 2 == 1) ^ is_left_right
    from_row = torch.where(is_row_flipped, height - 1 - from_row, from_row)  # (B, H, W)
    from_column = torch.where(is_column_flipped, width - 1 - from_column, from_column)  # (B, H, W)
    image = torch.arange(n, device=images.device).view(-1, 1, 1)
    return images[image, :, from_row, from_column].permute(0, 3, 1, 2)  # (B, C, H, W)
