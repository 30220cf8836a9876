"""Rectangles as shapes of simulated damage: DRÆM's ablation of the Perlin masks (section 4.2)."""

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
    count : rectangles in one mask, upper bound excluded.
    side : length of a side as a fraction of the image's.

    Returns
    -------
    (n, H, W) bool on ``device``; never empty.
    """
    most, size = count[1] - 1, torch.tensor(size_hw)

    def make(generator: Generator) -> tuple[Tensor, ...]:
        """Which rows and columns each rectangle covers: (n, most, H) and (n, most, W) bool."""
        lengths = uniform(*side, (n, most, 2), generator)
        starts = uniform(0.0, 1.0, (n, most, 2), generator) * (1.0 - lengths)
        used = torch.arange(most) < torch.randint(*count, (n, 1), generator=generator)
        first = (starts * size).long()
        last = torch.maximum(((starts + lengths) * size).long(), first + 1)  # at least one pixel
        rows, columns = (
            (torch.arange(length) >= first[..., axis, None]) & (torch.arange(length) < last[..., axis, None])
            for axis, length in enumerate(size_hw)
        )
        return rows & used[..., None], columns

    rows, columns = drawn(make, generator, device)
    return (rows.transpose(1, 2).float() @ columns.float()) > 0
