"""The resizing of photographs as part of an exported graph: the same grey levels as ``data.loading.resize``.

Another program that uses an exported detector would have to resize as blemish does, rounding included: thin defects
vanish from a photograph that is only sampled, and scores change with each grey level. So the graph does it, for any
size. It repeats OpenCV's arithmetic: ``INTER_AREA`` where an axis shrinks, then ``INTER_LINEAR`` where it grows, each
rounded to grey levels. Operators for this exist in ONNX and OpenVINO (``Resize`` with ``antialias``), but they weigh
pixels by a triangle, not by the area.

Everything is made of operations that any runtime has, and the lengths of the axes are tensors, not Python numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blemish.settings import Resizing

STEPS = 2048
"""OpenCV's weights of ``INTER_LINEAR`` are multiples of 1/2048."""


class Resized(nn.Module):
    """Photographs to what the network sees.

    Takes (B, H, W, 3) uint8 RGB photographs and returns (B, 3, h, w) float32 in [0, 1].

    Parameters
    ----------
    size_hw : h and w, height and width of the network's input, px.
    resizing : see ``data.loading.resize``.
    """

    def __init__(self, size_hw: tuple[int, int], resizing: Resizing = "area") -> None:
        super().__init__()
        self.size_hw = size_hw
        self.resizing = resizing

    def forward(self, photographs: Tensor) -> Tensor:
        resized = self._averaged if self.resizing == "area" else self._interpolated
        grey_levels = resized(photographs)  # (B, h, w, 3)
        return grey_levels.permute(0, 3, 1, 2) / 255.0  # (B, 3, h, w)

    def _interpolated(self, photographs: Tensor) -> Tensor:
        """``INTER_LINEAR`` along both axes: (B, h, w, 3) float32 grey levels.

        OpenCV takes ``INTER_AREA`` instead if both axes shrink to half, where the two are equal but for the rounding.
        """
        _, height, width, _ = photographs.shape
        rows, columns = (
            _neighbours(torch.scalar_tensor(length, dtype=torch.int64), side)
            for length, side in zip((height, width), self.size_hw, strict=True)
        )
        half_hw = [2 * side for side in self.size_hw]
        is_half_size = (torch.scalar_tensor(height) == half_hw[0]) & (torch.scalar_tensor(width) == half_hw[1])
        pixels = photographs.float()
        pairs = pixels[:, rows[0]] + pixels[:, rows[1]]  # (B, h, W, 3)
        means = torch.floor((pairs[:, :, columns[0]] + pairs[:, :, columns[1]] + 2) / 4)  # (B, h, w, 3)
        return torch.where(is_half_size, means, _grown(pixels, rows, columns))

    def _averaged(self, photographs: Tensor) -> Tensor:
        """``INTER_AREA`` along an axis that shrinks, ``INTER_LINEAR`` along one that grows: (B, h, w, 3) float32."""
        n_images, height, width, _ = photographs.shape
        rows_px, columns_px = self.size_hw
        # Of a side shorter than h or w, the shrunk picture has its own length; what is beyond it is never looked at.
        rows, row_parts, row_ratio = _areas(height, rows_px)
        columns, column_parts, column_ratio = _areas(width, columns_px)
        # OpenCV adds up pixels and divides the sum if both ratios are whole numbers, else its weights add up to 1. So
        # does this, because sums are rounded to grey levels: in another order, exact halves are rounded otherwise.
        is_whole = (row_ratio == torch.floor(row_ratio)) & (column_ratio == torch.floor(column_ratio))
        row_weights = row_parts / torch.where(is_whole, row_parts.amax((0, 1)), row_parts[0].sum())  # (h, K)
        column_weights = column_parts / torch.where(
            is_whole, column_parts.amax((0, 1)), column_parts[0].sum()
        )  # (w, K)
        strips = photographs[:, rows.flatten()].reshape(n_images, rows_px, rows.shape[1], width * 3)
        sums = torch.matmul(row_weights[:, None, :], strips.float())  # (B, h, 1, W * 3)
        sums = sums.reshape(n_images, rows_px, width, 3)[:, :, columns.flatten()]
        sums = sums.reshape(n_images, rows_px, columns_px, columns.shape[1], 3)
        sums = torch.matmul(column_weights[:, None, :], sums)
        divided = sums * (1.0 / (row_ratio * column_ratio))
        means = torch.where(is_whole, divided, sums).reshape(n_images, rows_px, columns_px, 3)
        # OpenCV has a way of its own for the half size, which rounds halves up, not to even numbers.
        is_half_size = (row_ratio == 2.0) & (column_ratio == 2.0)
        shrunk = torch.where(is_half_size, torch.floor(means + 0.5), torch.round(means))  # (B, h, w, 3)
        row_neighbours, column_neighbours = (
            _neighbours(torch.scalar_tensor(length, dtype=torch.int64).clamp(max=side), side)
            for length, side in zip((height, width), self.size_hw, strict=True)
        )
        return _grown(shrunk, row_neighbours, column_neighbours)


def _areas(length: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return which pixels each pixel of the shrunk axis covers: (S, K) int64, and how much of each: (S, K) float.

    How much is in units of which a pixel has as many as the shrunk axis has pixels, so these are whole numbers. A
    pixel of which nothing is covered may be any pixel of the axis. The third result is how many pixels are covered.
    """
    pixels = torch.scalar_tensor(length, dtype=torch.int64)
    shrunk = pixels.clamp(max=side)
    # All positions are in units of 1/shrunk pixels, so that they are whole numbers.
    start = torch.arange(side)[:, None] * pixels  # (S, 1)
    n_covered = (length + side - 1) // side + 1
    covered = torch.div(start, shrunk, rounding_mode="floor") + torch.arange(n_covered)[None]  # (S, K)
    end = torch.minimum(start + pixels, (covered + 1) * shrunk)
    overlap = (end - torch.maximum(start, covered * shrunk)).clamp(min=0)  # (S, K)
    return torch.minimum(covered, pixels - 1), overlap.float(), pixels.float() / shrunk.float()


def _neighbours(length: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels of an axis that each of S pixels lies between, and 2048 times the second's weight.

    An axis of S pixels has weights of 0.
    """
    # The centre in units of 1/(2 S) pixels, one pixel further on so that it is positive: runtimes differ in how they
    # divide negative numbers.
    centre = (2 * torch.arange(side) + 1) * length + side  # (S,)
    second = torch.div(centre, 2 * side, rounding_mode="floor")
    weight = torch.round((centre - second * (2 * side)).float() * (STEPS / (2 * side)))
    return (second - 1).clamp(min=0), torch.minimum(second, length - 1), weight


def _grown(pixels: Tensor, rows: tuple[Tensor, Tensor, Tensor], columns: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Interpolate (B, h, w, 3) grey levels between ``_neighbours``, in OpenCV's fixed-point numbers."""
    left, right, weight = columns[0], columns[1], columns[2][:, None]
    mixed = pixels[:, :, left] * (STEPS - weight) + pixels[:, :, right] * weight
    mixed = torch.floor(mixed / 16)
    top, bottom, weight = rows[0], rows[1], rows[2][:, None, None]
    quarters = torch.floor(mixed[:, top] * ((STEPS - weight) / 2**16)) + torch.floor(
        mixed[:, bottom] * (weight / 2**16)
    )
    return torch.floor((quarters + 2) / 4)
