"""Pixel formats, with bytes made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from blemish.errors import BlemishError
from blemish.inspection.cameras.pixels import NAMES, check_format, decoded


def test_grey_of_8_bits() -> None:
    image = decoded(bytes(range(6)) + b"chunk", 0x01080001, 2, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("code", [0x01100003, 0x01100005, 0x01100007])
def test_grey_of_more_bits_keeps_its_values(code: int) -> None:
    image = decoded(np.array([0, 1, 1023, 513], "<u2").tobytes(), code, 2, 2)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, [[0, 1], [1023, 513]])


def test_packed_grey() -> None:
    """0xABC and 0x123, each standard with its own order of the same 12 bits."""
    np.testing.assert_array_equal(decoded(b"\xab\x3c\x12", 0x010C0006, 1, 2), [[0xABC, 0x123]])
    np.testing.assert_array_equal(decoded(b"\xbc\x3a\x12", 0x010C0047, 1, 2), [[0xABC, 0x123]])
    np.testing.assert_array_equal(decoded(b"\xab\x21\x12", 0x010C0004, 1, 2), [[0xAB << 2 | 1, 0x12 << 2 | 2]])
    np.testing.assert_array_equal(decoded(b"\xab\x0c\x00", 0x010C0006, 1, 1), [[0xABC]])


@pytest.mark.parametrize(
    ("code", "pattern"),
    [(0x01080008, "GRBG"), (0x01080009, "RGGB"), (0x0108000A, "GBRG"), (0x0108000B, "BGGR")],
)
def test_bayer_patterns_of_one_colour_become_that_colour(code: int, pattern: str) -> None:
    colour = {"R": 200, "G": 100, "B": 50}
    cell = np.array([colour[letter] for letter in pattern], np.uint8).reshape(2, 2)
    image = decoded(np.tile(cell, (4, 4)).tobytes(), code, 8, 8)
    np.testing.assert_array_equal(image, np.broadcast_to(np.uint8([200, 100, 50]), (8, 8, 3)))


def test_colours() -> None:
    np.testing.assert_array_equal(decoded(bytes([1, 2, 3]), 0x02180014, 1, 1), [[[1, 2, 3]]])
    np.testing.assert_array_equal(decoded(bytes([3, 2, 1]), 0x02180015, 1, 1), [[[1, 2, 3]]])
    assert decoded(bytes([1, 2, 3]), 0x02180014, 1, 1).flags.writeable


def test_missing_bytes_and_other_formats_are_errors() -> None:
    with pytest.raises(ValueError, match="has 5 bytes, and 3x2 pixels need 6"):
        decoded(bytes(5), 0x01080001, 2, 3)
    with pytest.raises(ValueError, match="0x02100032"):
        decoded(bytes(99), 0x02100032, 2, 3)
    with pytest.raises(BlemishError, match="cam: sends YUV422Packed; set the camera's PixelFormat to one of Mono8, "):
        check_format("cam", 0x0210001F, "YUV422Packed")
    assert len(NAMES) == len(set(NAMES)) == 14
