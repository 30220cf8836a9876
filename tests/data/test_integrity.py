"""Pictures of which pixels are missing or destroyed, though decoders accept them; and valid ones that look so."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from blemish.data.reading import read_image
from blemish.errors import BlemishError

Y, X = np.mgrid[:160, :200]
PHOTO = np.stack([X + 40 * np.sin(Y / 9), Y + 30 * np.cos(X / 5), X // 2 + Y // 3], axis=2)
PHOTO = np.clip(PHOTO + np.random.default_rng(0).normal(0, 6, PHOTO.shape), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_name, **options)
    return buffer.getvalue()


def read(content: bytes, tmp_path: Path) -> np.ndarray:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    return read_image(path)


def refusal(content: bytes, tmp_path: Path) -> str:
    with pytest.raises(BlemishError) as error:
        read(content, tmp_path)
    return str(error.value)


def with_hole(content: bytes, start: float, n_bytes: int) -> bytes:
    first = int(start * len(content))
    return content[:first] + bytes(n_bytes) + content[first + n_bytes :]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_destroyed_jpegs_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    whole = encoded(PHOTO, "JPEG", quality=90, **options)
    for content in (
        with_hole(whole, 0.4, 4096),
        whole[: len(whole) * 98 // 100] + b"\xff\xd9",
        whole[: len(whole) // 2] + whole[len(whole) * 3 // 4 :],
    ):
        assert "damaged or incomplete" in refusal(content, tmp_path)


def test_a_lost_restart_interval_is_noticed(tmp_path: Path) -> None:
    whole = encoded(PHOTO, "JPEG", restart_marker_rows=1)
    first, second = (whole.index(bytes((0xFF, 0xD0 + number))) for number in (2, 4))
    assert "damaged or incomplete" in refusal(whole[:first] + whole[second:], tmp_path)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"subsampling": 0}])
@pytest.mark.parametrize("quality", [5, 75, 100])
def test_valid_jpegs_have_the_pixels_of_pillow(options: dict[str, Any], quality: int, tmp_path: Path) -> None:
    flat = [np.full((300, 203, 3), level, np.uint8) for level in (0, 128, 255)]
    for pixels in (PHOTO, PHOTO[..., 0], *flat):
        content = encoded(pixels, "JPEG", quality=quality, **options)
        wanted = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        np.testing.assert_array_equal(read(content, tmp_path), wanted)
        np.testing.assert_array_equal(read(content[:-2] + bytes(40) + content[-2:], tmp_path), wanted)  # padded
        np.testing.assert_array_equal(read(content + b"trailer" * 99, tmp_path), wanted)


def test_cmyk_jpegs(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).convert("CMYK").save(buffer, "JPEG")
    whole = buffer.getvalue()
    assert np.abs(read(whole, tmp_path).astype(int) - PHOTO).mean() < 12
    assert "damaged or incomplete" in refusal(with_hole(whole, 0.4, 4096), tmp_path)


@pytest.mark.parametrize("options", [{"format_name": "WEBP", "quality": 90}, {"format_name": "AVIF", "quality": 90}])
def test_zeros_are_no_pixels_of_webp_and_avif(options: dict[str, Any], tmp_path: Path) -> None:
    whole = encoded(PHOTO, **options)
    assert np.abs(read(whole, tmp_path).astype(int) - PHOTO).mean() < 12
    n_lost = len(whole) // 20
    for content in (with_hole(whole, 0.5, 1000), whole[:-n_lost] + bytes(n_lost), with_hole(whole, 0.7, 600)):
        assert "zeros stand for" in refusal(content, tmp_path)


@pytest.mark.parametrize("format_name", ["WEBP", "AVIF"])
@pytest.mark.parametrize("level", [0, 77, 255])
def test_flat_pictures_are_read(format_name: str, level: int, tmp_path: Path) -> None:
    for quality in (30, 90, 100):
        for size_hw in ((8, 8), (64, 64), (300, 700)):
            pixels = np.full((*size_hw, 3), level, np.uint8)
            content = encoded(pixels, format_name, quality=quality)
            assert np.abs(read(content, tmp_path).astype(int) - level).max() <= 8


def png(pixels: np.ndarray, rows: list[bytes], is_interlaced: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    bits = 8 * pixels.dtype.itemsize
    header = struct.pack(">2I5B", pixels.shape[1], pixels.shape[0], bits, 2, 0, 0, is_interlaced)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("is_interlaced", [0, 1])
@pytest.mark.parametrize("dtype", ["u1", ">u2"])
def test_png_without_all_rows(
    is_interlaced: int, dtype: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = (PHOTO.astype(np.uint16) * (257 if dtype == ">u2" else 1)).astype(dtype)
    pixels[-1] = 0  # a black last row is no missing row
    passes = [(0, 0, 1, 1)]
    if is_interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [row.tobytes() for top, left, down, right in passes for row in pixels[top::down, left::right]]
    wanted = PHOTO.copy()
    wanted[-1] = 0
    np.testing.assert_array_equal(read(png(pixels, rows, is_interlaced), tmp_path), wanted)
    for n_rows in (len(rows) // 2, len(rows) - 1):
        assert "damaged or incomplete" in refusal(png(pixels, rows[:n_rows], is_interlaced), tmp_path)
    assert capfd.readouterr().err == ""


def test_jpeg_in_tiff_with_a_hole(tmp_path: Path) -> None:
    for photometric, pixels in (("rgb", PHOTO), ("minisblack", PHOTO[..., 0])):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, pixels, compression="jpeg", photometric=photometric)
        assert read_image(path).shape == PHOTO.shape
        assert "damaged or incomplete" in refusal(with_hole(path.read_bytes(), 0.5, 2048), tmp_path)


def test_short_deflated_tiff_says_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((40, 40, 4), np.uint8) + 9, photometric="separated", compression="zlib")
    content = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        start, n_bytes = tiff.pages.first.dataoffsets[0], tiff.pages.first.databytecounts[0]
    short = zlib.compress(np.random.default_rng(0).bytes(n_bytes - 20), 0).ljust(n_bytes, b"\1")
    assert read_image(path).shape == (40, 40, 3)
    assert "damaged or incomplete" in refusal(
        content[:start] + short[:n_bytes] + content[start + n_bytes :], tmp_path
    )
    assert capfd.readouterr().err == ""


def test_several_pictures_in_a_file(tmp_path: Path) -> None:
    jpeg, small = encoded(PHOTO, "JPEG"), encoded(PHOTO[::2, ::2], "JPEG")
    for content in (jpeg * 2, jpeg + bytes(9) + jpeg, encoded(PHOTO, "PNG") * 2):
        assert "several pictures" in refusal(content, tmp_path)
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(PHOTO)])
    for content in (jpeg + small, jpeg + b"\0\0\0\x18ftypmp42" + jpeg, buffer.getvalue()):
        assert read(content, tmp_path).shape == PHOTO.shape


def test_unsupported_is_not_damaged(tmp_path: Path) -> None:
    def bitmap(bits: int, compression: int, rest: bytes) -> bytes:
        head = struct.pack("<IiiHHIIiiII", 40, 32, 32, 1, bits, compression, len(rest), 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 54 + len(rest), 0, 0, 54) + head + rest

    masks = struct.pack("<3I", 0x3FF00000, 0xFFC00, 0x3FF)
    kinds = {
        "JPEG-LS": bytes(imagecodecs.jpegls_encode(PHOTO[..., 0].copy())),
        "bit-field BMP": bitmap(32, 3, masks + bytes(32 * 32 * 4)),
        "JPEG-compressed BMP": bitmap(0, 4, encoded(PHOTO[:32, :32], "JPEG")),
        "PNG-compressed BMP": bitmap(0, 5, encoded(PHOTO[:32, :32], "PNG")),
    }
    path = tmp_path / "a.tif"
    for name, options in (("CMYK", {"photometric": "separated"}), ("grey", {"photometric": "minisblack"})):
        n_channels = 5 if name == "CMYK" else 2
        extra = "unassalpha" if name == "CMYK" else "assocalpha"
        tifffile.imwrite(path, np.zeros((16, 16, n_channels), np.uint8), extrasamples=[extra], **options)
        kinds[name] = path.read_bytes()
    for kind, content in kinds.items():
        message = refusal(content, tmp_path)
        assert kind in message
        assert "damaged" not in message


@pytest.mark.parametrize("factor", [1, 257])
def test_palettes_of_8_and_of_16_bits(factor: int, tmp_path: Path) -> None:
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, indices, photometric="palette", colormap=(colours * factor).astype(np.uint16))
    np.testing.assert_array_equal(read_image(path), colours.T.reshape(16, 16, 3))
