"""Framing: cuts photographs of any size into the network's input tiles and joins the maps. No network uses it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemish.data.loading import resize
from blemish.errors import BlemishError
from blemish.settings import Resizing

LEAST_WEIGHT = 1e-4
"""Weight of the pixels at the edge of a tile: at the edge of a photograph no other tile has them."""


class Framing(ABC):
    """Cuts photographs into tiles and joins the maps of the tiles. Subclasses are frozen dataclasses."""

    @property
    @abstractmethod
    def tile_hw(self) -> tuple[int, int]:
        """Height and width of every tile, px."""

    @property
    @abstractmethod
    def is_one_tile(self) -> bool:
        """Whether the overview is the only tile."""

    @abstractmethod
    def cut(self, photograph: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Cut a photograph (H, W, 3) uint8 into tiles, (h, w, 3) uint8 each, at least one; may be views of it."""

    @abstractmethod
    def overview(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The whole photograph in the size of a tile, (h, w, 3) uint8."""

    @abstractmethod
    def join(self, maps: Iterable[NDArray[np.float32]], photograph_hw: tuple[int, int]) -> NDArray[np.float32]:
        """Join the maps (h, w) of the tiles, taken one by one, into one map, of any resolution."""

    @abstractmethod
    def join_pictures(
        self, pictures: Iterable[NDArray[np.uint8]], photograph_hw: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Join pictures (h, w, 3) of the tiles into one, of any resolution."""

    def n_tiles(self, photograph_hw: tuple[int, int]) -> int:
        """How many tiles ``cut`` makes of a photograph."""
        return 1

    def shrinking(self, photograph_hw: tuple[int, int]) -> float:
        """How many pixels of a photograph a pixel of the network's input is wide or high, whichever is more."""
        return max(length / side for length, side in zip(photograph_hw, self.tile_hw, strict=True))

    def judged(self, anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values (N,) of a map that ``join`` made, of the pixels that are judged: all of them."""
        return anomaly_map.ravel()

    def score(self, scores: Iterable[float]) -> float:
        """The image score from those of the tiles: that of the worst one, or NaN if any is NaN."""
        return float(np.max(np.fromiter(scores, np.float64)))


@dataclass(frozen=True)
class Whole(Framing):
    """One tile: the whole photograph, resized as ``data.loading.resize`` explains."""

    size_hw: tuple[int, int]
    resizing: Resizing = "area"
    is_one_tile: ClassVar[bool] = True

    @property
    def tile_hw(self) -> tuple[int, int]:
        return self.size_hw

    def cut(self, photograph: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        return [self.overview(photograph)]

    def overview(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(resize(photograph, self.tile_hw, self.resizing))

    def join(self, maps: Iterable[NDArray[np.float32]], photograph_hw: tuple[int, int]) -> NDArray[np.float32]:
        """Return the map at the network's resolution; the caller resizes it if necessary."""
        (anomaly_map,) = maps
        return anomaly_map

    def join_pictures(
        self, pictures: Iterable[NDArray[np.uint8]], photograph_hw: tuple[int, int]
    ) -> NDArray[np.uint8]:
        (picture,) = pictures
        return picture


@dataclass(frozen=True)
class Tiles(Framing):
    """Tiles of the photograph's own pixels, evenly spaced, the next ``overlap_px`` or more over the last.

    Where tiles overlap, their maps are mixed. A tile weighs almost nothing along its edge, where the network sees
    what it continues the tile with instead of the photograph: for a network that sees no farther than a quarter of
    the overlap, the map is that of the photograph in one pass. The score is that of the worst tile. A photograph that
    is smaller than a tile is continued by its mirror image.
    """

    size_hw: tuple[int, int]
    overlap_px: int
    is_one_tile: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_px <= min(self.size_hw) // 2:
            raise BlemishError(
                f"overlap {self.overlap_px} px: should be from 0 to half of the shorter side of a tile, "
                f"{min(self.size_hw) // 2}"
            )

    @property
    def tile_hw(self) -> tuple[int, int]:
        return self.size_hw

    @property
    def weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights (h,) of the rows and (w,) of the columns of a tile; a pixel of its map weighs their product."""
        return _weights(self.size_hw[0], self.overlap_px), _weights(self.size_hw[1], self.overlap_px)

    def cut(self, photograph: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        missing = [max(0, tile - length) for tile, length in zip(self.size_hw, photograph.shape, strict=False)]
        if any(missing):
            photograph = np.pad(photograph, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")
        height, width = self.size_hw
        rows, columns = self.starts((photograph.shape[0], photograph.shape[1]))
        return [photograph[y : y + height, x : x + width] for y in rows for x in columns]

    def overview(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(resize(photograph, self.tile_hw))

    def n_tiles(self, photograph_hw: tuple[int, int]) -> int:
        return math.prod(map(len, self.starts(photograph_hw)))

    def shrinking(self, photograph_hw: tuple[int, int]) -> float:
        return 1.0

    def starts(self, photograph_hw: tuple[int, int]) -> tuple[list[int], list[int]]:
        """First rows and first columns of the tiles of a photograph; each row is combined with each column."""
        rows, columns = (
            _starts(max(length, tile), tile, self.overlap_px)
            for length, tile in zip(photograph_hw, self.size_hw, strict=True)
        )
        return rows, columns

    def join(self, maps: Iterable[NDArray[np.float32]], photograph_hw: tuple[int, int]) -> NDArray[np.float32]:
        """Return the map at the photograph's own resolution."""
        return self._mixed((anomaly_map[..., None] for anomaly_map in maps), photograph_hw)[..., 0]

    def join_pictures(
        self, pictures: Iterable[NDArray[np.uint8]], photograph_hw: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Return the picture at the photograph's own resolution."""
        return self._mixed(pictures, photograph_hw).round().astype(np.uint8)

    def _mixed(self, values: Iterable[NDArray[Any]], photograph_hw: tuple[int, int]) -> NDArray[np.float32]:
        """Mix values (h, w, C) of the tiles: (H, W, C)."""
        (height, width), starts = self.size_hw, self.starts(photograph_hw)
        row_weight, column_weight = self.weights
        tile_weight = (row_weight[:, None] * column_weight)[..., None]  # (h, w, 1)
        corners = [(y, x) for y in starts[0] for x in starts[1]]
        sums = np.zeros((0, 0, 0), np.float32)
        for value, (y, x) in zip(values, corners, strict=True):
            if not sums.size:
                sums = np.zeros((starts[0][-1] + height, starts[1][-1] + width, value.shape[2]), np.float32)
            sums[y : y + height, x : x + width] += value * tile_weight
        row_sums, column_sums = np.zeros(sums.shape[0], np.float32), np.zeros(sums.shape[1], np.float32)
        for y in starts[0]:
            row_sums[y : y + height] += row_weight
        for x in starts[1]:
            column_sums[x : x + width] += column_weight
        sums /= row_sums[:, None, None]
        sums /= column_sums[:, None]
        return sums[: photograph_hw[0], : photograph_hw[1]]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of evenly spaced tiles along an axis, from its first pixel to its last."""
    n = 1 if length <= tile else math.ceil((length - overlap) / (tile - overlap))
    return [number * (length - tile) // max(1, n - 1) for number in range(n)]


def _weights(length: int, overlap: int) -> NDArray[np.float32]:
    """Weight of each pixel of a tile along an axis: 1 inside, almost nothing in the outer quarter of the overlap.

    In between it falls evenly, over half of the overlap, so that the weights of two tiles add up to 1.
    """
    from_edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.clip((from_edge - overlap / 4) / max(overlap / 2, 0.5), LEAST_WEIGHT, 1.0).astype(np.float32)
