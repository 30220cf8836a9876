"""Tiles as part of an exported graph: photographs of any size in, the maps and scores of ``framing.Tiles`` out.

A photograph of 20 megapixels is several hundred tiles, which do not fit through a network at once. So the graph has a
loop, whose body is the network for one tile: ONNX's ``Scan``, OpenVINO's ``TensorIterator``. Before the loop,
``Places`` says which lines and columns of the photographs each tile has; after it, ``Joined`` mixes the maps. Within
the loop, all sizes are fixed, for which runtimes prepare a network best.

Lengths of axes are tensors, not Python numbers, so that one graph serves any photograph (as in ``photographs.py``).
Every pixel of the joined map is looked up in the tiles that have it, since tiles are a grid: adding tile after tile
into a map would copy the map as often.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

MOST_OVER_A_PIXEL = 3
"""Tiles along an axis that have the same pixel, at most, as long as the overlap is at most half of a tile.

Then any three steps from tile to tile are longer than a tile: steps are equal, and above 2/3 of tile - overlap if
there are three of them or more.
"""


class Grid(Protocol):
    """What a graph takes of ``inspection.framing.Tiles``."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of a tile, px."""

    @property
    def overlap_px(self) -> int:
        """How much neighbouring tiles overlap at least, px."""

    @property
    def weights(self) -> tuple[Any, Any]:
        """Weights (h,) of the rows and (w,) of the columns of a tile, float32 arrays, in the mixture of the maps."""


class Layout(NamedTuple):
    """Where the N tiles of each of B photographs are. They are counted along the rows, photograph by photograph."""

    lines: Tensor
    """The lines of the photographs, (B * H, W, 3) uint8."""
    tile_lines: Tensor
    """Numbers of the lines that each tile has, (B * N, h) int64."""
    tile_columns: Tensor
    """Numbers of the columns that each tile has, (B * N, w) int64."""
    row_starts: Tensor
    """First rows of the tiles, (n_rows,) int64."""
    column_starts: Tensor
    """First columns of the tiles, (n_columns,) int64; N = n_rows * n_columns."""


class Places(nn.Module):
    """The layout of the tiles of photographs (B, H, W, 3) uint8."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, photographs: Tensor) -> Layout:
        n_images, height, width, _ = photographs.shape
        row_starts, column_starts = (
            _starts(length, side, self.grid.overlap_px)
            for length, side in zip((height, width), self.grid.size_hw, strict=True)
        )
        rows, columns = (
            _mirrored(starts[:, None] + torch.arange(side), length)
            for starts, side, length in zip(
                (row_starts, column_starts), self.grid.size_hw, (height, width), strict=True
            )
        )  # (n_rows, h), (n_columns, w)
        first_lines = torch.arange(n_images)[:, None, None] * torch.scalar_tensor(height, dtype=torch.int64)
        sizes = n_images, rows.shape[0], columns.shape[0], -1
        lines = (first_lines + rows)[:, :, None].expand(*sizes).flatten(0, 2)
        return Layout(
            photographs.flatten(0, 1),
            lines,
            columns[None, None].expand(*sizes).flatten(0, 2),
            row_starts,
            column_starts,
        )


class Cut(nn.Module):
    """One tile: (1, 3, h, w) float32 in [0, 1], of lines (L, W, 3) uint8 by the numbers of its lines and columns."""

    def forward(self, lines: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        tile = lines.index_select(0, rows.flatten()).index_select(1, columns.flatten())  # (h, w, 3)
        return tile.permute(2, 0, 1)[None] / 255.0


class JudgedTile(nn.Module):
    """A tile's map (1, h, w) and score (), float32: what a loop stacks to (N, 1, h, w) and (N,)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.cut, self.network = Cut(), network

    def forward(self, lines: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        maps, scores = self.network(self.cut(lines, rows, columns))  # (1, 1, h, w), (1,)
        return maps[0], scores[0]


class Joined(nn.Module):
    """Mixes maps (B * N, 1, h, w) of the tiles of photographs (B, H, W, 3), of which only the size is taken.

    Returns maps (B, 1, H, W) and the scores (B,) of the worst tiles, of scores (B * N,). A score that is not a number
    is worse than any other.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.row_weights, self.column_weights = (torch.as_tensor(weights) for weights in grid.weights)

    def forward(
        self, photographs: Tensor, row_starts: Tensor, column_starts: Tensor, maps: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_images, height, width, _ = photographs.shape
        n_rows, n_columns, (side_y, side_x) = row_starts.shape[0], column_starts.shape[0], maps.shape[2:]
        rows, row_weights = _tiles_over(height, row_starts, self.row_weights)  # (H, 3) each
        columns, column_weights = _tiles_over(width, column_starts, self.column_weights)  # (W, 3) each
        numbers = torch.arange(n_images * n_rows * n_columns).reshape(n_images, n_rows, n_columns)
        lines = maps.flatten(0, 2)  # (B * N * h, w)
        bands = torch.zeros(())
        for row, weight in zip(rows.unbind(1), row_weights.unbind(1), strict=True):
            tile_row = torch.floor_divide(row, side_y)  # (H,)
            line = (
                numbers.index_select(1, tile_row) * side_y + (row - tile_row * side_y)[:, None]
            )  # (B, H, n_columns)
            band = lines.index_select(0, line.flatten()).reshape(n_images, height, n_columns * side_x)
            bands = bands + band * weight[:, None]  # (B, H, n_columns * w)
        joined = torch.zeros(())
        for column, weight in zip(columns.unbind(1), column_weights.unbind(1), strict=True):
            joined = joined + bands.index_select(2, column) * weight  # (B, H, W)
        tile_scores = scores.index_select(0, numbers.flatten()).reshape(n_images, -1)  # (B, N)
        worst = torch.where(tile_scores.isnan().any(1), torch.nan, tile_scores.amax(1))
        return joined[:, None], worst


def _count(length: int, side: int, overlap: int) -> int:
    """How many tiles an axis has: at least one. Neither runtime has ``max`` for lengths of axes."""
    n = (length - overlap + side - overlap - 1) // (side - overlap)  # 0 if the axis is not longer than the overlap
    return n + 1 // (n + 1)


def _starts(length: int, side: int, overlap: int) -> Tensor:
    """First pixels of the tiles along an axis, (n,) int64, as ``framing.Tiles.starts`` has them."""
    n = _count(length, side, overlap)
    room = (torch.scalar_tensor(length, dtype=torch.int64) - side).clamp(min=0)
    steps = (torch.scalar_tensor(n, dtype=torch.int64) - 1).clamp(min=1)
    return torch.floor_divide(torch.arange(n) * room, steps)


def _mirrored(positions: Tensor, length: int) -> Tensor:
    """Pixels of an axis at any positions >= 0: beyond its end, the axis is mirrored, again and again."""
    pixels = torch.scalar_tensor(length, dtype=torch.int64)
    position = torch.remainder(positions, 2 * pixels)
    return torch.minimum(position, 2 * pixels - 1 - position)


def _tiles_over(length: int, starts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each pixel of an axis is in tiles laid end to end, (L, 3) int64, and the weights (L, 3) of these.

    Weights add up to 1. Where fewer tiles than ``MOST_OVER_A_PIXEL`` have the pixel, the other weights are 0.

    Parameters
    ----------
    starts : first pixels of the tiles, (n,) int64.
    weights : of the pixels of a tile, (S,).
    """
    side = weights.shape[0]
    pixels = torch.arange(length)[:, None]  # (L, 1)
    first = (starts + side <= pixels).sum(1, keepdim=True)  # (L, 1): tiles that end before the pixel
    tiles = first + torch.arange(MOST_OVER_A_PIXEL)  # (L, 3)
    last = torch.scalar_tensor(starts.shape[0], dtype=torch.int64) - 1
    existing = torch.minimum(tiles, last)
    offsets = pixels - starts.index_select(0, existing.flatten()).reshape(-1, MOST_OVER_A_PIXEL)
    inside = offsets.clamp(min=0)
    has_pixel = (tiles <= last) & (offsets >= 0)
    chosen = weights.index_select(0, inside.flatten()).reshape(-1, MOST_OVER_A_PIXEL) * has_pixel
    return existing * side + inside, chosen / chosen.sum(1, keepdim=True)
