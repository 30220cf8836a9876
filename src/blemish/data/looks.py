"""What a detector keeps of its training photographs, so that copies of them are recognized later.

Files are recognized by their digest, but a photograph that was saved again is another file. Its thumbnail would tell,
but it would show the part to whoever gets the detector, and take much space. So only signs are kept: whether each
of some hundred spatial frequencies, of what differs from the mean photograph, is positive. Photographs of different
parts agree in half of them by chance, and parts that lie almost alike in more.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.duplicates import SIDE_PX, Fingerprint

LOWEST, HIGHEST = 3, 20
"""Frequencies below the first along both axes are light and shade; from the second on, they are the noise of
compression."""
SAME = 0.93
"""Share of equal signs from which photographs are the same. Of bottles, pills and magnetic tiles that were saved anew
as JPEG of quality 75 the median is 0.96 to 0.99; of quality 50 and half the size, 0.91 to 0.97. Of different ones 999
in 1,000 pairs agree in less than 0.84; others, which lie alike to a pixel, in up to 0.957."""


@dataclass(frozen=True)
class Looks:
    """Signs of photographs, (N, K) bool, and the mean thumbnail (64, 64) uint8 that they are relative to."""

    mean: NDArray[np.uint8]
    signs: NDArray[np.bool_]

    @classmethod
    def of(cls, photographs: Sequence[Fingerprint]) -> Self:
        """Of one photograph or more."""
        mean = np.mean([photograph.thumbnail for photograph in photographs], axis=0).round().astype(np.uint8)
        return cls(mean, _signs(photographs, mean))

    def are_copies(self, photographs: Sequence[Fingerprint]) -> NDArray[np.bool_]:
        """Whether each of the photographs looks like one of these, (n,)."""
        own = self.signs.astype(np.float32) * 2 - 1  # (N, K) of -1 and 1
        theirs = _signs(photographs, self.mean).astype(np.float32) * 2 - 1
        equal = 0.5 + theirs @ own.T / (2 * own.shape[1])  # (n, N) share of equal signs
        return np.asarray(equal.max(1, initial=0.0) >= SAME)

    def description(self) -> dict[str, Any]:
        """For JSON."""
        packed = np.packbits(self.signs, axis=1)
        return {"mean": _text(self.mean), "signs": [_text(row) for row in packed]}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """The inverse of ``description``."""
        mean = np.frombuffer(base64.b64decode(description["mean"]), np.uint8).reshape(SIDE_PX, SIDE_PX)
        rows = [np.frombuffer(base64.b64decode(row), np.uint8) for row in description["signs"]]
        n_signs = HIGHEST**2 - LOWEST**2
        return cls(mean, np.unpackbits(np.stack(rows), axis=1, count=n_signs).astype(np.bool_))


def _signs(photographs: Sequence[Fingerprint], mean: NDArray[np.uint8]) -> NDArray[np.bool_]:
    kept = np.ones((HIGHEST, HIGHEST), np.bool_)
    kept[:LOWEST, :LOWEST] = False
    differences = (photograph.thumbnail.astype(np.float32) - mean for photograph in photographs)
    return np.stack([cv2.dct(difference)[:HIGHEST, :HIGHEST][kept] > 0 for difference in differences])


def _text(array: NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
