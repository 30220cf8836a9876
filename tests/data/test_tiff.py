"""TIFF files of every kind: the right pixels, or a refusal that says what the file is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from blemish.data.reading import file_kind, read_image
from blemish.errors import BlemishError

GREY = (np.arange(40) * 5 + np.arange(24)[:, None] * 2).astype(np.uint8)  # (24, 40)
RGB = np.stack([GREY, 255 - GREY, GREY[:, ::-1]], axis=2)
GREY16, RGB16 = GREY.astype(np.uint16) * 257, RGB.astype(np.uint16) * 257
ALPHA = GREY[::-1]


def tiff(path: Path, pixels: np.ndarray, photometric: str = "minisblack", **options: Any) -> Path:
    tifffile.imwrite(path, pixels, photometric=photometric, metadata=None, **options)
    return path


def overwrite(path: Path, **tags: Any) -> Path:
    with tifffile.TiffFile(path, mode="r+") as opened:
        for name, value in tags.items():
            opened.pages.first.tags[name].overwrite(value)
    return path


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """(H, W) or (H, W, 3) uint16 to (H, N) uint8 rows without gaps between the values."""
    high_first = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)  # (H W, 16)
    return np.packbits(high_first[:, 16 - bits :].reshape(len(values), -1), axis=1)


def refusal(path: Path) -> str:
    with pytest.raises(BlemishError) as error:
        read_image(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd", "jpeg2000"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_every_arrangement_of_the_pixels(
    byteorder: str, compression: str | None, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"byteorder": byteorder, "compression": compression, "tile": tile}
    if compression in ("lzw", "zlib"):
        options["predictor"] = True
    for pixels, shown in ((GREY, GREY), (GREY16, GREY)):
        path = tiff(tmp_path / "a.tif", pixels, **options)
        np.testing.assert_array_equal(read_image(path), np.stack([shown] * 3, axis=2))
        white_is_zero = tiff(tmp_path / "b.tif", np.iinfo(pixels.dtype).max - pixels, "miniswhite", **options)
        np.testing.assert_array_equal(read_image(white_is_zero), np.stack([shown] * 3, axis=2))
    for pixels in (RGB, RGB16, np.dstack([RGB, ALPHA]), np.dstack([RGB16, GREY16])):
        alpha = {"extrasamples": ["unassalpha"]} if pixels.shape[2] == 4 else {}
        path = tiff(tmp_path / "a.tif", pixels, "rgb", planarconfig="contig", **alpha, **options)
        np.testing.assert_array_equal(read_image(path), RGB)
        planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        path = tiff(tmp_path / "b.tif", planes, "rgb", planarconfig="separate", **alpha, **options)
        np.testing.assert_array_equal(read_image(path), RGB)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_values(bits: int, tmp_path: Path) -> None:
    for pixels, photometric in ((GREY16, "minisblack"), (RGB16, "rgb")):
        rows = packed(pixels >> (16 - bits), bits)
        path = tiff(tmp_path / "a.tif", rows if pixels.ndim == 2 else rows.reshape(24, -1, 3), photometric)
        overwrite(path, ImageWidth=40, BitsPerSample=bits if pixels.ndim == 2 else (bits,) * 3)
        expected = RGB if pixels.ndim == 3 else np.stack([GREY] * 3, axis=2)
        np.testing.assert_array_equal(read_image(path), expected)
        np.testing.assert_array_equal(read_image(path, bits=10), expected)  # it says itself how many bits it has
        assert file_kind(path).endswith(f", {bits} bits")


def test_alpha_of_grey_and_what_pillow_decodes(tmp_path: Path) -> None:
    with_alpha = tiff(
        tmp_path / "la.tif", np.dstack([GREY, ALPHA]), extrasamples=["unassalpha"], planarconfig="contig"
    )
    np.testing.assert_array_equal(read_image(with_alpha)[..., 0], GREY)
    for mode in ("P", "CMYK", "YCbCr", "1", "RGBA", "LA"):
        image = Image.fromarray(RGB).convert(mode)
        image.save(tmp_path / "a.tif")
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.array(image.convert("RGB")))
    Image.fromarray(GREY > 100).save(tmp_path / "fax.tif", compression="group4")
    np.testing.assert_array_equal(read_image(tmp_path / "fax.tif")[..., 0], np.where(GREY > 100, 255, 0))


@pytest.mark.parametrize(
    ("pixels", "options", "said"),
    [
        (GREY.view(np.int8), {}, "signed 8-bit pixels"),
        (GREY16.view(np.int16), {}, "signed 16-bit pixels"),
        (RGB.view(np.int8), {"photometric": "rgb"}, "signed 8-bit pixels"),
        (GREY.astype(np.float16), {}, "16-bit floating-point pixels"),
        (GREY / np.float32(255), {}, "32-bit floating-point pixels"),
        (RGB / np.float32(255), {"photometric": "rgb"}, "32-bit floating-point pixels"),
        (GREY.astype(np.float64), {}, "64-bit floating-point pixels"),
        (GREY.astype(np.uint32), {}, "32-bit pixels"),
        (np.dstack([RGB, GREY, GREY]), {"planarconfig": "contig"}, "has 5 channels, of which 1 would be read"),
        (np.dstack([RGB, GREY, GREY]), {"photometric": "rgb", "extrasamples": [0, 0]}, "has 5 channels, of which 3"),
        (np.dstack([GREY, GREY]), {"planarconfig": "contig"}, "has 2 channels, of which 1 would be read"),
        (np.stack([GREY] * 3), {"photometric": "minisblack", "planarconfig": "separate"}, "has 3 channels"),
        (GREY16, {"photometric": "cfa"}, "pixels of the kind CFA"),
        (np.stack([np.tile(GREY, (2, 1))[:32, :32]] * 16), {"volumetric": True, "tile": (16, 16, 16)}, "16 layers"),
        (np.dstack([RGB16, GREY16]), {"photometric": "separated"}, "16-bit pixels of this kind"),
    ],
)
def test_refuses_what_would_be_read_wrong(
    pixels: np.ndarray, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    message = refusal(tiff(tmp_path / "a.tif", pixels, **options))
    assert said in message
    assert "save it as PNG, or as TIFF of 8 or 16 bits" in message
    assert "damaged" not in message


def test_refuses_compression_that_cannot_be_decoded(tmp_path: Path) -> None:
    unknown = refusal(overwrite(tiff(tmp_path / "a.tif", GREY), Compression=34713))
    assert "NIKON_NEF-compressed pixels are not supported" in unknown
    message = refusal(overwrite(tiff(tmp_path / "b.tif", GREY), Compression=34712))
    assert "JPEG2000-compressed pixels cannot be decoded" in message
    assert "damaged" not in unknown + message


def write_pages(path: Path, *pages: np.ndarray, **of_later_pages: Any) -> Path:
    with tifffile.TiffWriter(path) as writer:
        writer.write(pages[0], photometric="minisblack", metadata=None)
        for page in pages[1:]:
            writer.write(page, photometric="minisblack", metadata=None, **of_later_pages)
    return path


def test_further_pages_are_refused_but_not_reduced_copies(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    assert "has 2 pages, of which one would be read" in refusal(write_pages(path, GREY, GREY // 2))
    assert "has 3 pages" in refusal(write_pages(path, GREY, GREY[:10], GREY[:8]))
    np.testing.assert_array_equal(read_image(write_pages(path, GREY, GREY[::2, ::2], subfiletype=1))[..., 0], GREY)
    for options in ({"imagej": True}, {"ome": True}):
        tifffile.imwrite(path, np.stack([GREY16] * 3), **options)
        assert "has 3 pages" in refusal(path)
    with tifffile.TiffWriter(path, ome=True) as writer:  # a pyramid
        writer.write(GREY, photometric="minisblack", subifds=1)
        writer.write(GREY[::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(read_image(path)[..., 0], GREY)
    assert "first page is a reduced copy" in refusal(tiff(path, GREY, subfiletype=1))


def test_what_is_missing_is_not_made_up(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", GREY, rowsperstrip=8)
    assert "damaged or incomplete (pixels are missing)" in refusal(overwrite(path, StripByteCounts=(320, 0, 320)))
    whole = write_pages(path, GREY, GREY).read_bytes()
    with tifffile.TiffFile(path) as opened:
        path.write_bytes(whole[: opened.pages[1].offset + 2])
    assert "damaged or incomplete" in refusal(path)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for compression in ("jpeg", "zstd", "jpeg2000", "lzw", "zlib"):
        for share in (0.5, 0.97):
            content = tiff(path, noise, "rgb", compression=compression, rowsperstrip=16).read_bytes()
            path.write_bytes(content[: int(share * len(content))].ljust(len(content), b"\0"))
            assert "damaged" in refusal(path) or "cannot be decoded" in refusal(path)


def test_a_tiff_without_photometric_is_not_guessed(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", GREY)
    with tifffile.TiffFile(path) as opened:
        at = opened.pages.first.tags["PhotometricInterpretation"].offset
    content = bytearray(path.read_bytes())
    content[at : at + 2] = (263).to_bytes(2, "little")
    path.write_bytes(content)
    assert "does not say whether 0 is black or white" in refusal(path)


def test_only_a_tiff_imports_tifffile() -> None:
    late = "'tifffile', 'imagecodecs', 'torch'"
    code = f"import sys, blemish.data.survey; print([name for name in ({late}) if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
