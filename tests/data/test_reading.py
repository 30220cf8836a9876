from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from blemish.data import reading
from blemish.data.listing import list_images
from blemish.data.masks import read_mask
from blemish.data.reading import as_rgb, read_image
from blemish.errors import BlemishError

SIZE_HW = (9, 12)
GREY = np.arange(108, dtype=np.uint8).reshape(SIZE_HW) * 2
RGB = np.stack([GREY, 255 - GREY, GREY // 3], axis=2)
GREY16 = np.linspace(0, 65535, 108).astype(np.uint16).reshape(SIZE_HW)
RGB16 = np.stack([GREY16, 65535 - GREY16, GREY16 // 3], axis=2)
ALPHA = np.where(GREY > 100, 0, 255).astype(np.uint8)
RGB_OF_GREY = np.stack([GREY] * 3, axis=2)


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def png(width: int, height: int, depth: int, color_type: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def message_of(error: pytest.ExceptionInfo[BlemishError]) -> str:
    """The message of an error, which must be one line."""
    message = str(error.value)
    assert "\n" not in message
    return message


def refusal(path: Path) -> str:
    with pytest.raises(BlemishError) as error:
        read_image(path)
    message = message_of(error)
    assert message.startswith(str(path))
    return message


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize(("pixels", "expected"), [(GREY, RGB_OF_GREY), (RGB, RGB)], ids=["grey", "rgb"])
def test_lossless_8_bit(tmp_path: Path, suffix: str, pixels: np.ndarray, expected: np.ndarray) -> None:
    image = read_image(save(tmp_path / f"Teil nº 7 – größe{suffix}", pixels))
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


def test_webp_and_gif_and_jpeg(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.webp", RGB, lossless=True)), RGB)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.gif", GREY)), RGB_OF_GREY)
    flat = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    jpeg = read_image(save(tmp_path / "a.jpg", flat, quality=95, subsampling=0))
    assert np.abs(jpeg.astype(int) - flat).max() <= 3


def test_the_content_counts_not_the_suffix(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "really_png.jpg", RGB, format="PNG")), RGB)


def test_cmyk_jpeg_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    assert np.abs(read_image(tmp_path / "red.jpg") - np.array([255, 0, 0])).max() <= 6


def test_alpha_is_dropped(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, ALPHA])
    for name in ("rgba.png", "rgba.tif"):
        np.testing.assert_array_equal(read_image(save(tmp_path / name, rgba)), RGB)
    save(tmp_path / "la.png", np.dstack([GREY, ALPHA]))
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), RGB_OF_GREY)


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray((GREY > 100).astype(np.uint8), mode="P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    for name, transparency in (("index.png", 1), ("bytes.png", bytes([128, 0]))):
        image.save(tmp_path / name, transparency=transparency)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pixels = read_image(tmp_path / name)
        np.testing.assert_array_equal(pixels, np.where(GREY[..., None] > 100, (200, 100, 50), (10, 20, 30)))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_1_bit(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(tmp_path / f"bits{suffix}", GREY > 100))
    np.testing.assert_array_equal(image, np.where(GREY[..., None] > 100, 255, 0).repeat(3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_keeps_the_high_byte(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = {1: GREY16, 3: RGB16, 4: np.dstack([RGB16, GREY16])}[channels]
    written = pixels if channels == 1 else pixels[..., [2, 1, 0, 3][:channels]]
    path = tmp_path / f"deep{suffix}"
    assert cv2.imwrite(str(path), np.ascontiguousarray(written))
    expected = (np.stack([GREY16] * 3, axis=2) if channels == 1 else RGB16) >> 8
    np.testing.assert_array_equal(read_image(path), expected)
    assert (expected.min(), expected.max()) == (0, 255)


def test_16_bit_grey_with_alpha(tmp_path: Path) -> None:
    rows = np.dstack([GREY16, 65535 - GREY16]).astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    (tmp_path / "la16.png").write_bytes(png(12, 9, 16, 4, data))
    np.testing.assert_array_equal(read_image(tmp_path / "la16.png")[..., 0], GREY16 >> 8)


def test_a_dark_16_bit_image_is_not_stretched(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "dark.png", GREY16 // 100))[..., 0], GREY16 // 100 >> 8)


@pytest.mark.parametrize(
    ("suffix", "pixels"),
    [
        *((".png", pixels) for pixels in (RGB, GREY, GREY16)),
        *((".tif", pixels) for pixels in (RGB, GREY, GREY16, GREY > 100)),
        (".webp", RGB),
    ],
)
def test_exif_orientation(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer must turn the stored pixels 90 degrees clockwise
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"turned{suffix}", pixels, exif=exif, **options)
    np.testing.assert_array_equal(read_image(path), np.rot90(as_rgb(pixels), -1))


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    upper_half = np.zeros((16, 32), np.uint8)
    upper_half[:8] = 255
    image = read_image(save(tmp_path / "phone.jpg", upper_half, exif=exif))
    assert image[:8].max() < 10
    assert image[8:].min() > 245


def test_first_of_many_frames(tmp_path: Path) -> None:
    second = Image.fromarray(255 - GREY)
    path = save(tmp_path / "frames.gif", GREY, save_all=True, append_images=[second])
    np.testing.assert_array_equal(read_image(path), RGB_OF_GREY)
    flat = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    second = Image.fromarray(255 - flat)
    two = save(tmp_path / "two.jpg", flat, format="MPO", save_all=True, append_images=[second], quality=95)
    assert np.abs(read_image(two).astype(int) - flat).max() <= 4


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp"])
def test_refuses_other_files_of_many_frames(tmp_path: Path, suffix: str) -> None:
    others = [Image.fromarray(255 - RGB), Image.fromarray(RGB // 2)]
    path = save(tmp_path / f"frames{suffix}", RGB, save_all=True, append_images=others)
    assert re.search("has 3 (pages|frames), .* save each as its own file", refusal(path))


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.png")
    assert "is a folder" in refusal(tmp_path)


def test_refuses_what_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert "empty" in refusal(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("not an image at all\n")
    assert "is not a PNG, JPEG" in refusal(tmp_path / "text.png")
    (tmp_path / "vector.svg").write_text("<svg/>")
    assert "convert" in refusal(tmp_path / "vector.svg")
    (tmp_path / "signature_only.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "damaged" in refusal(tmp_path / "signature_only.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        assert "not a regular file" in refusal(tmp_path / "pipe.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".gif"])
@pytest.mark.parametrize("kept", [0.2, 0.9])
def test_refuses_truncated_files(tmp_path: Path, suffix: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut{suffix}", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "damaged or incomplete" in refusal(path)


def test_refuses_a_damaged_png(tmp_path: Path) -> None:
    path = save(tmp_path / "flipped.png", RGB)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 0xFF
    path.write_bytes(data)
    assert "damaged" in refusal(path)


def test_refuses_32_bit_pixels(tmp_path: Path) -> None:
    assert "8 or 16 bits" in refusal(save(tmp_path / "float.tif", GREY.astype(np.float32)))
    assert "8 or 16 bits" in refusal(save(tmp_path / "int.tif", GREY.astype(np.int32)))


def test_refuses_by_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "locked.png", RGB)

    def locked(self: Path, mode: str) -> io.BytesIO:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", locked)
    assert "Permission denied" in refusal(path)


def test_size_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "1x1 px is too small" in refusal(save(tmp_path / "dot.png", RGB[:1, :1]))
    assert "20x7 px is too small" in refusal(save(tmp_path / "flat.png", np.zeros((7, 20), np.uint8)))
    assert read_image(save(tmp_path / "8.png", RGB[:8, :8])).shape == (8, 8, 3)
    assert read_image(save(tmp_path / "line.png", np.zeros((10, 20000), np.uint8))).shape == (10, 20000, 3)
    monkeypatch.setattr(reading, "MAX_PIXELS", 107)
    assert "12x9 px is too large" in refusal(save(tmp_path / "big.png", RGB))
    monkeypatch.setattr(reading, "MAX_PIXELS", 108)
    assert read_image(tmp_path / "big.png").shape == (9, 12, 3)


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(50_000, 50_000, 8, 0, b""))
    assert "at most 200 megapixels" in refusal(tmp_path / "bomb.png")


def test_pillow_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Image.open would refuse 108 pixels
    read_image(save(tmp_path / "a.png", RGB))
    read_image(save(tmp_path / "a.jpg", RGB))
    assert Image.MAX_IMAGE_PIXELS == 50
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GREY, RGB_OF_GREY),
        (GREY[..., None], RGB_OF_GREY),
        (RGB, RGB),
        (RGB[:, ::-1], RGB[:, ::-1]),
        (np.dstack([RGB, ALPHA]), RGB),
        (GREY16, np.stack([GREY16 >> 8] * 3, axis=2)),
        (RGB16.astype(">u2"), RGB16 >> 8),
        (GREY > 100, np.where(RGB_OF_GREY > 100, 255, 0)),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(GREY16), np.stack([GREY16 >> 8] * 3, axis=2)),
        (Image.fromarray(np.dstack([GREY, ALPHA])), RGB_OF_GREY),
    ],
)
def test_as_rgb(image: np.ndarray | Image.Image, expected: np.ndarray) -> None:
    pixels = as_rgb(image)
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


def test_as_rgb_agrees_with_read_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    path = save(tmp_path / "a.png", GREY16, exif=exif)
    for image in (path, str(path), Image.open(path)):
        np.testing.assert_array_equal(as_rgb(image), read_image(path))


@pytest.mark.parametrize(
    ("image", "message_part"),
    [
        (RGB / 255.0, "float64 pixels; scale to 0..255"),
        (RGB.astype(np.float16), "float16"),
        (RGB.astype(np.int64), "int64 pixels; convert to uint8"),
        (RGB.astype(np.int8), "int8"),
        (RGB.transpose(2, 0, 1), r"shape \(3, 9, 12\)"),
        (RGB[None], r"shape \(1, 9, 12, 3\)"),
        (RGB[..., :2], r"shape \(9, 12, 2\)"),
        (RGB[:0], "12x0 px is too small"),
        (RGB[:5], "12x5 px is too small"),
        (Image.fromarray(RGB[:5]), "12x5 px is too small"),
        (Image.fromarray(GREY.astype(np.float32)), "32-bit"),
        (None, "cannot use a NoneType"),
        ([[1, 2]], "cannot use a list"),
    ],
)
def test_as_rgb_refuses(image: object, message_part: str) -> None:
    with pytest.raises(BlemishError, match=f"^camera 2: .*{message_part}") as error:
        as_rgb(image, name="camera 2")  # type: ignore[arg-type]
    assert message_of(error)


def test_as_rgb_names_a_truncated_pil_image(tmp_path: Path) -> None:
    data = save(tmp_path / "a.jpg", np.tile(RGB, (20, 20, 1))).read_bytes()
    with pytest.raises(BlemishError, match=r"^upload: damaged or incomplete"):
        as_rgb(Image.open(io.BytesIO(data[:-40])), name="upload")


def test_list_images(tmp_path: Path) -> None:
    for name in (
        "10.png",
        "2.PNG",
        "b 1.Jpeg",
        "ü.tif",
        ".hidden.png",
        "._2.png",
        "Thumbs.db",
        "notes.txt",
        "1",
    ):
        (tmp_path / name).touch()
    for folder in ("sub 2", "sub 10", "__MACOSX", ".git"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    (tmp_path / "folder.png").mkdir()
    direct = ["2.PNG", "10.png", "b 1.Jpeg", "ü.tif"]
    assert [path.name for path in list_images(tmp_path)] == direct
    paths = [path.relative_to(tmp_path).as_posix() for path in list_images(str(tmp_path), recursive=True)]
    assert paths == ["2.PNG", "10.png", "b 1.Jpeg", "sub 2/a.png", "sub 10/a.png", "ü.tif"]


def test_list_images_refuses_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(BlemishError, match=f"{name}: cannot be listed") as error:
            list_images(tmp_path / name)
        assert message_of(error)


def test_real_images_read(shared_data: Path) -> None:
    bottle = shared_data / "mvtec" / "bottle"
    assert read_image(bottle / "train" / "good" / "000.jpg").shape == (512, 512, 3)
    assert read_mask(bottle / "ground_truth" / "broken_large" / "000_mask.png", (512, 512)).any()
    tile = shared_data / "magnetic-tile" / "MT_Blowhole"
    grey = read_image(list_images(tile / "images")[0])
    assert (grey[..., 0] == grey[..., 2]).all()
    assert read_mask(list_images(tile / "masks")[0], grey.shape[:2]).any()
