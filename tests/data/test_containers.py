"""Bytes of PNG, JPEG, WebP and GIF files that Pillow accepts or refuses wrongly."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from blemish.data.containers import png_pixels, png_without_text
from blemish.data.reading import read_image
from blemish.errors import BlemishError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
SMOOTH = np.stack([np.tile(np.arange(56, dtype=np.uint8) * k, (40, 1)) for k in (1, 2, 3)], axis=2)


def encoded(pixels: np.ndarray, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_name, **options)
    return buffer.getvalue()


def with_chunks(png: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with chunks (kind, content) after its header."""
    made = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return png[:33] + b"".join(made) + png[33:]


def refusal(content: bytes, path: Path) -> str:
    path.write_bytes(content)
    with pytest.raises(BlemishError) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


MUCH = zlib.compress(bytes(3_000_000), 9)


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"zTXt", b"log\0\0" + MUCH)],
        [(b"iTXt", b"log\0\1\0\0\0" + MUCH)],
        [(b"tEXt", b"log\0" + b"x" * 3_000_000)],
        [(b"tEXt", b"log\0" + b"x" * 900_000)] * 80,
        [(b"zTXt", b"log\0\0this is no zlib")],
        [(b"iCCP", b"icc\0\0" + MUCH)],
    ],
    ids=["zTXt", "iTXt", "tEXt", "many", "broken", "profile"],
)
def test_no_text_keeps_a_png_from_being_read(chunks: list[tuple[bytes, bytes]], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(with_chunks(encoded(NOISE, "PNG"), *chunks))
    np.testing.assert_array_equal(read_image(path), NOISE)


def test_text_that_holds_the_orientation_is_kept(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    path = tmp_path / "a.png"
    png = encoded(NOISE, "PNG")
    path.write_bytes(with_chunks(png, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), (b"tEXt", b"log\0x")))
    np.testing.assert_array_equal(read_image(path), np.rot90(NOISE, -1))
    too_much = with_chunks(png, (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + MUCH))
    assert "more than 1 MB of XMP" in refusal(too_much, path)


def test_png_without_text_leaves_other_bytes_alone() -> None:
    png = encoded(NOISE, "PNG")
    assert png_without_text(png) is png
    assert png_without_text(with_chunks(png, (b"tEXt", b"log\0x"))) == png
    for content in (b"", png[:20], png[:60], png + b"trailer"):
        assert png_without_text(content) == content


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}])
@pytest.mark.parametrize("tail", [bytes, lambda n: b"\xff" * n, lambda n: b""], ids=["zeros", "ones", "none"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
def test_a_jpeg_that_is_being_copied_is_incomplete(
    options: dict[str, Any], tail: Any, share: float, tmp_path: Path
) -> None:
    whole = encoded(NOISE, "JPEG", **options)
    n_kept = int(share * len(whole))
    assert "incomplete" in refusal(whole[:n_kept] + tail(len(whole) - n_kept), tmp_path / "a.jpg")


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[270] = "\xff\xd9 in a comment is no end"
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"exif": exif}):
        whole = encoded(SMOOTH, "JPEG", quality=95, subsampling=0, **options)
        for trailer in (b"", bytes(5000), b"trailer"):
            (tmp_path / "a.jpg").write_bytes(whole + trailer)
            assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - SMOOTH).max() <= 6


def test_rare_kinds_of_jpeg(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg8_encode(NOISE, lossless=True))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), NOISE)
    deep = NOISE.astype(np.uint16) << 4
    twelve = imagecodecs.jpeg8_encode(deep, bitspersample=12)
    assert "12-bit JPEG pixels are not supported; convert it to PNG" in refusal(twelve, tmp_path / "b.jpg")
    sixteen = imagecodecs.jpeg8_encode(deep << 4, bitspersample=16, lossless=True)
    assert "lossless 16-bit JPEG pixels are not supported" in refusal(sixteen, tmp_path / "c.jpg")
    for code, kind in (
        (0xC3, "lossless"),
        (0xC5, "hierarchical"),
        (0xCF, "hierarchical lossless"),
    ):
        content = bytearray(encoded(SMOOTH, "JPEG"))
        content[content.index(b"\xff\xc0") + 1] = code
        message = refusal(bytes(content), tmp_path / "d.jpg")
        assert kind in message
        assert "damaged" not in message


@pytest.mark.parametrize(
    ("suffix", "options"), [("webp", {}), ("webp", {"lossless": True}), ("gif", {}), ("png", {})]
)
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_zeros_at_the_end_are_no_pixels(suffix: str, options: dict[str, Any], share: float, tmp_path: Path) -> None:
    whole = encoded(NOISE, suffix, **options)
    n_kept = int(share * len(whole))
    assert "damaged or incomplete" in refusal(whole[:n_kept].ljust(len(whole), b"\0"), tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(("suffix", "options"), [("webp", {}), ("webp", {"lossless": True}), ("gif", {})])
def test_black_is_a_picture(suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    for size_hw in ((8, 8), (300, 400), (1000, 1000)):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(encoded(np.zeros((*size_hw, 3), np.uint8), suffix, **options))
        assert read_image(path).shape == (*size_hw, 3)
        assert read_image(path).max() == 0


def test_only_the_pixels_of_a_png_are_kept() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    signature, head, data, end = (
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", bytes(13)),
        chunk(b"IDAT", b"x"),
        chunk(b"IEND", b""),
    )
    odd = chunk(b"sRGB", b"\x09") + chunk(b"tIME", bytes(7)) + chunk(b"bKGD", bytes(9))
    assert png_pixels(signature + head + odd + data + end) == signature + head + data + end
    assert png_pixels(signature + head + data[:-2]) == signature + head + data[:-2]
