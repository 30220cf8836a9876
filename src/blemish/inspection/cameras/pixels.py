"""Pixel formats of machine vision cameras (GenICam's Pixel Format Naming Convention) to arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError

Decode = Callable[[NDArray[np.uint8], int, int], NDArray[Any]]


def _mono8(values: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
    return values[: height * width].reshape(height, width)


def _mono16(values: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
    return values[: 2 * height * width].view("<u2").astype(np.uint16, copy=False).reshape(height, width)


def _packed_gev(n_bits: int) -> Decode:
    """GigE Vision's packing: two pixels in 3 bytes, high bits in the outer ones, low bits in the middle one."""
    n_low = n_bits - 8

    def decode(values: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
        n_pairs = (height * width + 1) // 2
        triples = values[: 3 * n_pairs].reshape(n_pairs, 3).astype(np.uint16)
        low = np.uint16(2**n_low - 1)
        first = triples[:, 0] << n_low | triples[:, 1] & low
        second = triples[:, 2] << n_low | triples[:, 1] >> 4 & low
        return np.stack((first, second), 1).reshape(-1)[: height * width].reshape(height, width)

    return decode


def _mono12p(values: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
    """USB3 Vision's packing: two pixels in 3 bytes, as one little-endian number of 24 bits."""
    n_pairs = (height * width + 1) // 2
    triples = values[: 3 * n_pairs].reshape(n_pairs, 3).astype(np.uint16)
    first = triples[:, 0] | (triples[:, 1] & np.uint16(15)) << 8
    second = triples[:, 1] >> 4 | triples[:, 2] << 4
    return np.stack((first, second), 1).reshape(-1)[: height * width].reshape(height, width)


def _bayer(code: int) -> Decode:
    def decode(values: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
        return np.asarray(cv2.cvtColor(_mono8(values, height, width), code))

    return decode


def _rgb8(values: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
    return values[: 3 * height * width].reshape(height, width, 3).copy()


def _bgr8(values: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
    return np.ascontiguousarray(_rgb8(values, height, width)[..., ::-1])


# OpenCV names a Bayer pattern by the second and third pixel of its second row, GenICam by the first two of its first:
# GenICam's BayerRG, whose first row is R G R G, is OpenCV's BayerBG.
_FORMATS: dict[int, tuple[str, int, Decode]] = {
    0x01080001: ("Mono8", 8, _mono8),
    0x01100003: ("Mono10", 16, _mono16),
    0x01100005: ("Mono12", 16, _mono16),
    0x01100007: ("Mono16", 16, _mono16),
    0x01100025: ("Mono14", 16, _mono16),
    0x010C0004: ("Mono10Packed", 12, _packed_gev(10)),
    0x010C0006: ("Mono12Packed", 12, _packed_gev(12)),
    0x010C0047: ("Mono12p", 12, _mono12p),
    0x01080008: ("BayerGR8", 8, _bayer(cv2.COLOR_BayerGB2RGB)),
    0x01080009: ("BayerRG8", 8, _bayer(cv2.COLOR_BayerBG2RGB)),
    0x0108000A: ("BayerGB8", 8, _bayer(cv2.COLOR_BayerGR2RGB)),
    0x0108000B: ("BayerBG8", 8, _bayer(cv2.COLOR_BayerRG2RGB)),
    0x02180014: ("RGB8", 24, _rgb8),
    0x02180015: ("BGR8", 24, _bgr8),
}
"""By the number of a pixel format: its name, bits a pixel in memory, and what makes an array of it."""

NAMES = tuple(name for name, _, _ in _FORMATS.values())
"""Pixel formats that can be used."""


def check_format(address: str, code: int, name: str) -> None:
    """Check that a camera's pixel format can be used.

    Raises
    ------
    BlemishError
        If it cannot.
    """
    if code not in _FORMATS:
        raise BlemishError(f"{address}: sends {name}; set the camera's PixelFormat to one of {', '.join(NAMES)}")


def decoded(data: bytes, code: int, height: int, width: int) -> NDArray[Any]:
    """Return the pixels of a frame: (H, W) uint8 or uint16, or (H, W, 3) uint8 RGB.

    Values of 10 to 14 bits stay as they are, so they are read with ``bits``. Bayer patterns are made RGB.

    Raises
    ------
    ValueError
        If the format is another, or bytes are missing.
    """
    if code not in _FORMATS:
        raise ValueError(f"of pixel format 0x{code:08X}, which is not one of {', '.join(NAMES)}")
    _, n_bits, decode = _FORMATS[code]
    n_bytes = (height * width * n_bits + 7) // 8
    if min(height, width) < 1 or len(data) < n_bytes:
        raise ValueError(f"has {len(data)} bytes, and {width}x{height} pixels need {n_bytes}")
    return decode(np.frombuffer(data, np.uint8), height, width)
