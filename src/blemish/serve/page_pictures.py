"""Pictures of a part for the page: small, screen-sized, and by judging its photograph again.

What the service has drawn itself is read here. Photographs come from others: they are decoded in a process apart.
Little is done at a time, so that those who look do not slow the line down: two pictures, and one judgement.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.inspection.findings import finding
from blemish.inspection.sources import photographs
from blemish.inspection.stream import Judgement, judge
from blemish.report.overlay import MIN_LONG_SIDE_PX, as_jpeg, draw_map, draw_outlines
from blemish.report.page import fitted
from blemish.serve.decoding import Decoders

SIZES_PX = {"small": 240, "large": 1400}
"""Longest side of a picture on the page."""
SHOWN_PX = 1100
"""Side of a photograph with its layers: small ones are enlarged, so that the outline is smooth."""
N_PICTURES, N_AGAIN, N_DETECTORS = 400, 4, 2
"""So many are kept in memory."""
_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}

Rgb = NDArray[np.uint8]


class Files(NamedTuple):
    """Where the files of a part are; None if they were not kept."""

    image: Path | None
    overlay: Path | None
    detector: Path | None


@dataclass(frozen=True)
class Again:
    """What a part's detector says of its photograph when it is asked again."""

    score: float
    has_region: bool
    """Whether something as large as the detector asks for is unusual: without it, no threshold makes it defective."""
    photograph: Rgb
    """(h, w, 3), as large as the page shows it."""
    map: NDArray[np.float32]
    """(h, w)"""
    mask: NDArray[np.bool_]
    """(h, w), what is outlined if it is defective."""
    pixel_threshold: float

    def layer(self, has_map: bool, has_outline: bool) -> bytes:
        """The photograph, or the map over it, with or without the outline: JPEG."""
        picture = draw_map(self.photograph, self.map, self.pixel_threshold) if has_map else self.photograph
        return as_jpeg(draw_outlines(picture, self.mask) if has_outline else picture)


class Pictures:
    """Makes pictures of parts, and keeps the last ones.

    Parameters
    ----------
    files : finds the files of a part by its id, and the digest of its detector.
    """

    def __init__(self, files: Callable[[int, str | None], Files]) -> None:
        self._files = files
        self._decoders = Decoders(1)
        self.drawing = ThreadPoolExecutor(2, thread_name_prefix="pictures")
        """Where ``picture`` is to be called."""
        self.judging = ThreadPoolExecutor(1, thread_name_prefix="again")
        """Where ``again`` is to be called."""
        self.picture = lru_cache(N_PICTURES)(self._picture)
        self.photograph = lru_cache(N_AGAIN)(self._photograph)
        self.again = lru_cache(N_AGAIN)(self._again)
        self._detector = lru_cache(N_DETECTORS)(Detector.load)

    def close(self) -> None:
        """End the threads and the process."""
        self.drawing.shutdown(cancel_futures=True)
        self.judging.shutdown(cancel_futures=True)
        self._decoders.close()

    def _picture(self, part_id: int, size: str, size_wh: tuple[int, int] | None, bits: int | None) -> bytes:
        """The part with its outline if that was drawn, else its photograph, as JPEG.

        Parameters
        ----------
        size : a name in ``SIZES_PX``.
        size_wh : of the photograph, px: the caption below an overlay is cut off.
        bits : how many bits of 16-bit values are used.

        Raises
        ------
        BlemishError
            If there is neither, or it cannot be decoded.
        """
        image, overlay, _ = self._files(part_id, None)
        content = _content(overlay)
        pixels = None if content is None or size_wh is None else _own_picture(content, size_wh, SIZES_PX[size])
        if pixels is None:
            pixels = self._decoded(part_id, image, bits)
        return as_jpeg(_shrunk(pixels, SIZES_PX[size]), 80)

    def _photograph(self, part_id: int, bits: int | None) -> bytes:
        """The photograph of a part without any outline, as JPEG; raises as ``picture`` does."""
        image, _, _ = self._files(part_id, None)
        return as_jpeg(_shrunk(self._decoded(part_id, image, bits), SIZES_PX["large"]))

    def _decoded(self, part_id: int, image: Path | None, bits: int | None) -> Rgb:
        content = _content(image)
        if content is None:
            raise BlemishError("its photograph was not kept")
        return self._decoders.decode(content, bits)

    def _again(self, part_id: int, digest: str) -> Again:
        """Judge the photograph of a part again, by the detector that judged it.

        Parameters
        ----------
        digest : of the detector.

        Raises
        ------
        BlemishError
            If the photograph or the detector was not kept, or it cannot be judged.
        """
        image, _, path = self._files(part_id, digest)
        if path is None or not path.is_file():
            raise BlemishError("its detector was not kept")
        detector = self._detector(path)
        pixels = self._decoded(part_id, image, detector.bits)

        def shown(judgement: Judgement) -> Again:
            score, size_hw = judgement.checked().score, judgement.size_hw
            usual, least = detector.pixel_threshold, detector.min_area_px
            found = finding(judgement.map, score, -np.inf, size_hw, None, None, (), usual, least)
            photograph = fitted(pixels, SHOWN_PX)
            size_wh = photograph.shape[1], photograph.shape[0]
            is_larger = photograph.size > pixels.size
            how = cv2.INTER_LINEAR if is_larger else cv2.INTER_AREA
            mask = cv2.resize(found.mask.astype(np.float32), size_wh, interpolation=how)
            is_inside = mask > (0.5 if is_larger else 0.0)  # a hairline does not vanish
            resized = np.asarray(cv2.resize(found.map, size_wh, interpolation=how), np.float32)
            return Again(score, bool(found.regions), photograph, resized, is_inside, usual)

        return next(iter(judge(detector, photographs([pixels]), shown)))


def _content(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError:  # removed in the meantime, to make room
        return None


def _own_picture(content: bytes, size_wh: tuple[int, int], most_px: int) -> Rgb | None:
    """The part of an overlay that shows the photograph; None if it cannot be read."""
    factor = -(-MIN_LONG_SIDE_PX // max(size_wh))
    width, height = size_wh[0] * factor, size_wh[1] * factor
    reduced = next((n for n in (4, 2) if max(width, height) >= n * most_px), 1)
    pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), _REDUCED[reduced])
    if pixels is None:
        return None
    return np.asarray(pixels[: max(1, height // reduced), : max(1, width // reduced), ::-1])


def _shrunk(pixels: Rgb, most_px: int) -> Rgb:
    """A picture that is not larger than ``most_px``, three times as long if it is a strip."""
    height, width = pixels.shape[:2]
    factor = min(1.0, most_px / max(height, width) * (3 if max(height, width) > 3 * min(height, width) else 1))
    size_wh = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(pixels, size_wh, interpolation=cv2.INTER_AREA)) if factor < 1 else pixels
