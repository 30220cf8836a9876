"""Rectangles as shapes of simulated damage: DRÆM's ablation of Perlin masks (section 4.2)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import drawn, uniform


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
    count : range of the number of rectangles in a mask, upper bound excluded.
    side : range of a rectangle's side, as a share of the image's.

    Returns
    -------
    (n, H, W) bool on ``device``; never empty.
    """
    max_count, size = count[1] - 1, torch.tensor(size_hw)

    def make(generator: Generator) -> tuple[Tensor, ...]:
        """Which rows and columns each rectangle covers: (n, max_count, H) and (n, max_count, W) bool."""
        lengths = uniform(*side, (n, max_count, 2), generator)
        starts = uniform(0.0, 1.0, (n, max_count, 2), generator) * (1.0 - lengths)
        is_used = torch.arange(max_count) < torch.randint(*count, (n, 1), generator=generator)  # (n, max_count)
        first = (starts * size).long()  # (n, max_count, 2)
        end = torch.maximum(((starts + lengths) * size).long(), first + 1)  # at least one pixel
        rows, columns = (
            (torch.arange(length) >= first[..., axis, None]) & (torch.arange(length) < end[..., axis, None])
            for axis, length in enumerate(size_hw)
        )
        return rows & is_used[..., None], columns

    rows, columns = drawn(make, generator, device)
    return (rows.transpose(1, 2).float() @ columns.float()) > 0  # (n, H, max_count) @ (n, max_count, W)
