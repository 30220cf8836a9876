"""Rectangles as shapes of simulated damage: DRÆM's ablation of the Perlin masks (section 4.2)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import send, uniform


def rectangle_masks(
    n: int,
    size_hw: tuple[int, int],
    generator: Generator,
    device: torch.device,
    *,
    count: tuple[int, int] = (1, 6),
    side: tuple[float, float] = (0.05, 0.3),
) -> Tensor:
    """Unions of axis-parallel rectangles.

    Parameters
    ----------
    count : rectangles in one mask, upper bound excluded.
    side : length of a side as a fraction of the image's.

    Returns
    -------
    (n, H, W) bool on ``device``; never empty.
    """
    most = count[1] - 1
    lengths = uniform(*side, (n, most, 2), generator)
    starts = uniform(0.0, 1.0, (n, most, 2), generator) * (1.0 - lengths)
    used = torch.arange(most) < torch.randint(*count, (n, 1), generator=generator)
    size = torch.tensor(size_hw)
    first = (starts * size).long()
    last = torch.maximum(((starts + lengths) * size).long(), first + 1)  # at least one pixel

    def inside(axis: int) -> Tensor:
        position = torch.arange(size_hw[axis])
        return (position >= first[..., axis, None]) & (position < last[..., axis, None])  # (n, most, L)

    rows, columns = send(inside(0) & used[..., None], device), send(inside(1), device)
    return (rows.transpose(1, 2).float() @ columns.float()) > 0
