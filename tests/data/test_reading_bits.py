"""Values of 16 bits become 8 bits by the number of bits that are used, and are never clipped."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from blemish.data import reading
from blemish.data.reading import as_rgb, read_image
from blemish.errors import BlemishError

SIZE_HW = (9, 12)
GREY = np.arange(108, dtype=np.uint8).reshape(SIZE_HW) * 2
RGB = np.stack([GREY, 255 - GREY, GREY // 3], axis=2)
GREY16 = np.linspace(0, 65535, 108).astype(np.uint16).reshape(SIZE_HW)
RGB16 = np.stack([GREY16, 65535 - GREY16, GREY16 // 3], axis=2)


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (10, 2), (12, 4), (14, 6), (16, 8)])
def test_the_bits_that_are_used_of_16(tmp_path: Path, suffix: str, bits: int, shift: int) -> None:
    for name, values, expected in (
        ("grey", GREY16 >> (16 - bits), np.stack([GREY16 >> 8] * 3, axis=2)),
        ("rgb", RGB16 >> (16 - bits), RGB16 >> 8),
    ):
        path = tmp_path / f"{name}{suffix}"
        assert cv2.imwrite(str(path), values if values.ndim == 2 else np.ascontiguousarray(values[..., ::-1]))
        np.testing.assert_array_equal(read_image(path, bits), expected)
        np.testing.assert_array_equal(as_rgb(values, bits=bits), values >> shift if name == "rgb" else expected)
        np.testing.assert_array_equal(reading.read_values(path), values)
        assert reading.has_16_bits(path)
        np.testing.assert_array_equal(read_image(save(tmp_path / f"8{suffix}", RGB), bits), RGB)
        assert not reading.has_16_bits(tmp_path / f"8{suffix}")


def test_values_beyond_the_bits_are_refused_not_clipped(tmp_path: Path) -> None:
    path = save(tmp_path / "bright.png", np.full(SIZE_HW, 1024, np.uint16))
    with pytest.raises(
        BlemishError, match=r"bright\.png: has values up to 1024, .* 10 bits, up to 1023; .* --bits 12"
    ):
        read_image(path, bits=10)
    with pytest.raises(BlemishError, match=r"camera 2: has values up to 65535, .* --bits 16"):
        as_rgb(RGB16, "camera 2", bits=14)
    alpha_is_no_value = np.dstack([RGB16 >> 6, np.full(SIZE_HW, 65535, np.uint16)])
    np.testing.assert_array_equal(as_rgb(alpha_is_no_value, bits=10), RGB16 >> 8)


def test_a_pil_image_of_16_bit_colour_has_lost_its_low_bits(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "deep.png"), RGB16 >> 4)
    np.testing.assert_array_equal(as_rgb(Image.open(tmp_path / "deep.png"))[..., ::-1], RGB16 >> 12)
    with pytest.raises(BlemishError, match=r"camera: Pillow keeps 8 of the 16 bits .* give the path"):
        as_rgb(Image.open(tmp_path / "deep.png"), "camera", bits=12)
    np.testing.assert_array_equal(as_rgb(Image.fromarray(GREY16 >> 4), bits=12)[..., 0], GREY16 >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_orientation_is_that_of_pillow(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"turned{suffix}", GREY16, exif=exif)
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        expected = np.array(ImageOps.exif_transpose(image)) >> 8
    np.testing.assert_array_equal(read_image(path)[..., 0], expected)


def test_where_no_bits_are_known_only_surely_16_bit_values_are_read(tmp_path: Path) -> None:
    save(tmp_path / "12.png", GREY16 >> 4)
    with pytest.raises(BlemishError, match=r"12\.png: has 16-bit values up to 4095, .* save it with 8 bits"):
        read_image(tmp_path / "12.png", bits=None)
    with pytest.raises(BlemishError, match="camera: has 16-bit values up to 1023"):
        as_rgb(GREY16 >> 6, "camera", bits=None)
    np.testing.assert_array_equal(as_rgb(GREY16, bits=None)[..., 0], GREY16 >> 8)
    np.testing.assert_array_equal(as_rgb(RGB, bits=None), RGB)
