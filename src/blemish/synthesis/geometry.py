"""Rotation of image batches about their centre."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.synthesis.draw import coin, drawn, uniform, worth


def rotate(images: Tensor, angles_rad: Tensor, *, padding_mode: str = "zeros") -> Tensor:
    """Turn each image about its centre, bilinear.

    Parameters
    ----------
    images : (B, C, H, W) float.
    angles_rad : (B,) float on the same device.
    padding_mode : what comes from outside: black (``zeros``) or as the nearest pixel (``border``).
    """
    height, width = images.shape[-2:]
    cos, sin, zero = angles_rad.cos(), angles_rad.sin(), torch.zeros_like(angles_rad)
    x_row = torch.stack([cos, -sin * (height / width), zero], 1)
    y_row = torch.stack([sin * (width / height), cos, zero], 1)
    grid = F.affine_grid(torch.stack([x_row, y_row], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding_mode, align_corners=False)


def rotate_nearest(images: Tensor, angles_rad: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Turn each image about its centre, nearest pixel, and cut ``size_hw`` from its middle.

    A fifth of the cost of ``rotate``: for masks and for textures that are to look foreign anyway.

    Parameters
    ----------
    images : (B, C, H, W), any dtype; what comes from outside is zero.
    angles_rad : (B,) float on the same device.
    size_hw : height and width of the result, px.
    """
    batch, channels, source_height, source_width = images.shape
    height, width = size_hw
    cos, sin = angles_rad.cos().view(-1, 1, 1), angles_rad.sin().view(-1, 1, 1)
    y = (torch.arange(height, device=images.device) - (height - 1) / 2).view(1, -1, 1)
    x = (torch.arange(width, device=images.device) - (width - 1) / 2).view(1, 1, -1)
    column = (x * cos + (source_width / 2 - y * sin)).floor_()  # (B, H, W); the middle of pixel 0 is at 0.5
    row = (x * sin + (source_height / 2 + y * cos)).floor_()
    inside = None
    if min(source_height, source_width) < math.hypot(height, width):  # else the source is large enough for any angle
        inside = (row >= 0) & (row < source_height) & (column >= 0) & (column < source_width)
        row, column = row.clamp_(0, source_height - 1), column.clamp_(0, source_width - 1)
    index = column.add_(row, alpha=source_width).long()
    turned = images.flatten(2).gather(2, index.view(batch, 1, -1).expand(-1, channels, -1))
    turned = turned.view(batch, channels, height, width)
    return turned if inside is None else turned * inside[:, None]


def randomly_rotate(images: Tensor, probability: float, max_deg: float, generator: Generator) -> Tensor:
    """Turn each image with ``probability`` by an angle from U[-max_deg, max_deg].

    The authors' code of DRÆM turns good images by up to 90 degrees with probability 0.3, that of DSR
    with probability 0.4.

    Parameters
    ----------
    images : (B, C, H, W) float.
    generator : a CPU generator; the only source of randomness.
    """
    n = len(images)
    is_turned, angles_rad = drawn(
        lambda g: (coin(probability, n, g), torch.deg2rad(uniform(-max_deg, max_deg, (n,), g))),
        generator, images.device,
    )  # fmt: skip
    index = worth(is_turned)
    if probability == 0 or len(index) == 0:
        return images
    with torch.autocast(images.device.type, enabled=False):  # coordinates do not fit into bf16
        turned = rotate(images[index], angles_rad[index])
    return images.index_copy(0, index, torch.where(is_turned[index].view(-1, 1, 1, 1), turned, images[index]))


def randomly_mirror_and_turn(
    images: Tensor, generator: Generator, *, horizontally: bool, vertically: bool, quarter_turns: bool
) -> Tensor:
    """Mirror each image with probability 1/2, and turn it by a random multiple of 90 degrees, as far as allowed.

    Parameters
    ----------
    images : (B, C, H, W) of any dtype; not changed. Images that are not square are turned by 180 degrees only.
    generator : a CPU generator; the only source of randomness.
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
    is_quarter = turns % 2 == 1  # rows become columns; where the image is square, both have the same length
    from_row, from_column = torch.where(is_quarter, column, row), torch.where(is_quarter, row, column)
    is_row_flipped, is_column_flipped = (turns >= 2) ^ is_upside_down, ((turns + 1) // 2 == 1) ^ is_left_right
    from_row = torch.where(is_row_flipped, height - 1 - from_row, from_row)  # (B, H, W)
    from_column = torch.where(is_column_flipped, width - 1 - from_column, from_column)
    image = torch.arange(n, device=images.device).view(-1, 1, 1)
    return images[image, :, from_row, from_column].permute(0, 3, 1, 2)
