"""Framing: cuts photographs of any size into the network's input tiles and joins the maps. No network uses it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.loading import resize
from blemish.errors import BlemishError
from blemish.settings import Resizing


class Framing(ABC):
    """Cuts photographs into tiles and joins the maps of the tiles. Subclasses are frozen dataclasses."""

    @property
    @abstractmethod
    def tile_hw(self) -> tuple[int, int]:
        """Height and width of every tile, px."""

    @abstractmethod
    def cut(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut a photograph (H, W, 3) uint8 into tiles (N, h, w, 3) uint8, N >= 1."""

    @abstractmethod
    def join(
        self, maps: NDArray[np.float32], scores: NDArray[np.float32], photograph_hw: tuple[int, int]
    ) -> tuple[NDArray[np.float32], float]:
        """Join the maps (N, h, w) and scores (N,) of the tiles into one map, of any resolution, and one score."""


@dataclass(frozen=True)
class Whole(Framing):
    """One tile: the whole photograph, resized as ``data.loading.resize`` explains."""

    size_hw: tuple[int, int]
    resizing: Resizing = "area"

    @property
    def tile_hw(self) -> tuple[int, int]:
        return self.size_hw

    def cut(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(resize(photograph, self.tile_hw, self.resizing)[None])

    def join(
        self, maps: NDArray[np.float32], scores: NDArray[np.float32], photograph_hw: tuple[int, int]
    ) -> tuple[NDArray[np.float32], float]:
        """Return the map at the network's resolution; the caller resizes it if necessary."""
        return maps[0], float(scores[0])


KINDS: dict[str, type[Framing]] = {"whole": Whole}


def describe(framing: Framing) -> dict[str, Any]:
    """Return a description of the framing for JSON."""
    name = next(name for name, framing_type in KINDS.items() if framing_type is type(framing))
    return {"kind": name, **asdict(framing)}  # type: ignore[call-overload]


def from_description(description: Mapping[str, Any]) -> Framing:
    """Return the framing that ``describe`` described.

    Raises
    ------
    BlemishError
        If the kind of framing is unknown to this version.
    """
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in description.items()}
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise BlemishError(f"framing {kind!r} is unknown; there are: {', '.join(KINDS)}")
    if "size_px" in values:  # files of before: squares only
        values["size_hw"] = (values.pop("size_px"),) * 2
    return KINDS[kind](**values)
