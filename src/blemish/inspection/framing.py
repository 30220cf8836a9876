"""How a photograph of any size becomes what a network sees, and how its map comes back. No network knows of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.loading import resize
from blemish.errors import BlemishError


class Framing(ABC):
    """How photographs are cut into tiles, and what the tiles' maps say together: a frozen dataclass."""

    @property
    @abstractmethod
    def tile_hw(self) -> tuple[int, int]:
        """Height and width of every tile, px."""

    @abstractmethod
    def cut(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 to tiles (N, h, w, 3) uint8, N >= 1."""

    @abstractmethod
    def join(
        self, maps: NDArray[np.float32], scores: NDArray[np.float32], photograph_hw: tuple[int, int]
    ) -> tuple[NDArray[np.float32], float]:
        """Maps (N, h, w) and scores (N,) of a photograph's tiles to its map, of any resolution, and its score."""


@dataclass(frozen=True)
class Whole(Framing):
    """The photograph in one piece, resized to a square: an axis that shrinks is averaged, so nothing thin is lost."""

    size_px: int

    @property
    def tile_hw(self) -> tuple[int, int]:
        return self.size_px, self.size_px

    def cut(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(resize(photograph, self.tile_hw)[None])

    def join(
        self, maps: NDArray[np.float32], scores: NDArray[np.float32], photograph_hw: tuple[int, int]
    ) -> tuple[NDArray[np.float32], float]:
        """The map as the network gave it: who needs it larger resizes it once."""
        return maps[0], float(scores[0])


KINDS: dict[str, type[Framing]] = {"whole": Whole}


def describe(framing: Framing) -> dict[str, Any]:
    """A framing for JSON."""
    name = next(name for name, kind in KINDS.items() if kind is type(framing))
    return {"kind": name, **asdict(framing)}  # type: ignore[call-overload]


def described(description: Mapping[str, Any]) -> Framing:
    """What ``describe`` was given.

    Raises
    ------
    BlemishError
        If this version knows no such framing.
    """
    values = dict(description)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise BlemishError(f"framing {kind!r} is unknown; there are: {', '.join(KINDS)}")
    return KINDS[kind](**values)
