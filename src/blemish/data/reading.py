"""Bytes to pixels: every image becomes (H, W, 3) uint8 RGB. Masks are read in `masks`.

Pillow decodes, because it reports a truncated file, where OpenCV returns grey pixels without an error; simplejpeg
decodes JPEG, because it reports destroyed pixels, too; tifffile and imagecodecs decode what Pillow would read wrong
or with fewer bits: grey and RGB TIFF, and 16-bit PNG.

16-bit values keep the high byte of the `bits` that are used: with 16, 65535 -> 255; with 12, 4095 -> 255. `bits` is
the same for all images of a detector, so brightness stays comparable between images. No image is stretched to its own
range, and a value that needs more bits is an error.
Alpha is dropped (the colour of transparent pixels is kept), colour profiles are ignored, and the EXIF orientation is
applied. Of an animated GIF the first frame is read, and of a JPEG with further pictures the first picture; any other
file of several pages or frames is refused.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from blemish.data.containers import (
    check_jpeg,
    check_png,
    check_tail,
    kind_of_bitmap,
    png_bit_depth,
    png_pixels,
    png_without_text,
)  # fmt: skip
from blemish.data.integrity import check_avif, check_png_rows, deep_png_pixels, jpeg_pixels
from blemish.data.kinds import FORMATS, PREFIX_BYTES, RESULTS, UNKNOWN, kind_of_bytes
from blemish.errors import BlemishError, TooManyPixels
from blemish.settings import MIN_SIDE_PX

MAX_PIXELS = 200_000_000
"""Images with more pixels are refused by their header, before decoding."""

BITS = (8, 10, 12, 14, 16)
"""Numbers of bits that cameras use of 16-bit values."""
_SURELY_16_BITS = 2**14
"""A value from which on 16 bits are used, as no camera uses 15."""


def read_image(path: str | Path, bits: int | None = 16, content: bytes | None = None) -> NDArray[np.uint8]:
    """Read one image file.

    Parameters
    ----------
    path
        PNG, JPEG, BMP, TIFF, WebP, GIF or AVIF (by content, not by suffix): 1-bit, 8-bit or 16-bit; grey, RGB,
        palette or CMYK, with or without alpha. The module's docstring says how 16 bits and alpha are converted.
    bits
        How many bits of 16-bit values are used, 8 to 16; None if that is not known, and then values that may use
        fewer than 16 are an error. Files of fewer bits are unaffected.
    content
        The bytes of the file, if they are in memory; the path is then only what errors call it.

    Returns
    -------
    (H, W, 3) uint8 RGB in [0, 255], upright by EXIF.

    Raises
    ------
    BlemishError
        The file is missing, unreadable, empty, truncated, no image, or of an unsupported kind or size; or a 16-bit
        value needs more than `bits`.
    """
    return _rgb8(_decode(Path(path), content), bits, path)


def read_values(path: str | Path) -> NDArray[Any]:
    """Read one image file, without conversion to 8 bits.

    Returns
    -------
    (H, W) grey or (H, W, 3) RGB, upright by EXIF; uint16 in [0, 65535] if the file has 16 bits per channel, else
    uint8 in [0, 255].

    Raises
    ------
    BlemishError
        As `read_image`.
    """
    return _decode(Path(path))


def as_rgb(
    image: str | Path | Image.Image | NDArray[Any], name: str = "image", bits: int | None = 16
) -> NDArray[np.uint8]:
    """Convert an image in any supported form to the form that `read_image` returns.

    Parameters
    ----------
    image
        A path, a PIL image, or a numpy array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of uint8,
        uint16 or bool.
    name
        What error messages call the image. For a path they name the file.
    bits
        How many bits of uint16 values are used, 8 to 16: full range is 2**bits - 1. None as in `read_image`.

    Returns
    -------
    (H, W, 3) uint8 RGB in [0, 255], C-contiguous. It may share memory with a numpy `image`.

    Raises
    ------
    BlemishError
        As `read_image`; also for other types, shapes and dtypes (floats have no standard range).
    """
    if isinstance(image, str | Path):
        return read_image(image, bits)
    if isinstance(image, Image.Image):
        if bits != 16 and any(";16" in str(tile) for tile in getattr(image, "tile", ())) and image.mode[:2] != "I;":
            raise BlemishError(f"{name}: Pillow keeps 8 of the 16 bits of colour pixels; give the path of the file")
        with _errors_about(name):
            return _rgb8(_pixels(image, name), bits, name)
    if not isinstance(image, np.ndarray):
        raise BlemishError(f"{name}: cannot use a {type(image).__name__}; give a path, PIL image or numpy array")
    if image.dtype.kind == "f":
        raise BlemishError(f"{name}: {image.dtype} pixels; scale to 0..255, round and convert with .astype('uint8')")
    if image.dtype.kind != "b" and image.dtype.str[1:] not in ("u1", "u2"):
        raise BlemishError(f"{name}: {image.dtype} pixels; convert to uint8, uint16 or bool")
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] not in (1, 3, 4)):
        raise BlemishError(
            f"{name}: shape {image.shape}; give one image as (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        )
    _check_size(image.shape[0], image.shape[1], name)
    return _rgb8(image, bits, name)


def read_alpha(path: str | Path) -> NDArray[np.uint8] | None:
    """Read the alpha channel of an image file. Raises as `read_image` does.

    Returns
    -------
    (H, W) uint8, 0 is transparent and 255 opaque (of 16 bits the high byte), upright by EXIF; None without alpha.
    """
    path = Path(path)
    with _open(path) as file, _errors_about(path):
        format_name = _format_of(file, path)
        if format_name == "TIFF":
            from blemish.data.tiff import kind_of_tiff

            if "alpha" not in kind_of_tiff(file, path):
                return None
        image, _ = _open_header(format_name, file, path)
        if not image.has_transparency_data:
            return None
        try:
            alpha = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
        except ValueError as error:  # a transparent grey value of 16 bits
            raise BlemishError(f"{path}: its transparency cannot be decoded; save it without") from error
        return np.array(alpha)


def read_orientation(path: str | Path) -> int:
    """Return how EXIF turns an image file: 1 is upright, 2 to 8 are not. Raises as `file_kind` does."""
    path = Path(path)
    with _open(path) as file, _errors_about(path):
        format_name = _format_of(file, path)
        if format_name == "TIFF":
            from blemish.data.tiff import orientation_of_tiff

            orientation = orientation_of_tiff(file, path)
        else:
            orientation = _open_header(format_name, file, path)[0].getexif().get(_ORIENTATION, 1)
        return orientation if orientation in _TURNS else 1


def file_kind(path: str | Path) -> str:
    """Format and pixels of an image file, from its header alone: "PNG, grey, 8 bits", "JPEG, colour, 8 bits".

    Raises
    ------
    BlemishError
        As `read_image`, for faults that the header shows.
    """
    path = Path(path)
    with _open(path) as file, _errors_about(path):
        format_name = _format_of(file, path)
        if format_name == "TIFF":
            from blemish.data.tiff import kind_of_tiff

            return f"TIFF, {kind_of_tiff(file, path)}"
        image, deep_png = _open_header(format_name, file, path)
        pixels = _MODES.get(image.mode, image.mode)
        if deep_png is not None:
            pixels = pixels.replace("8 bits", "16 bits")
        return f"{image.format}, {pixels}"


def has_16_bits(path: str | Path) -> bool:
    """Return whether an image file has 16 bits per channel, from its header alone. Raises as `file_kind` does."""
    path = Path(path)
    with _open(path) as file, _errors_about(path):
        format_name = _format_of(file, path)
        if format_name == "TIFF":
            from blemish.data.tiff import kind_of_tiff

            return kind_of_tiff(file, path).endswith("16 bits")
        return format_name == "PNG" and png_bit_depth(file.read(25)) == 16


_MODES = {
    "1": "grey, 1 bit",
    "L": "grey, 8 bits",
    "LA": "grey with alpha, 8 bits",
    "I;16": "grey, 16 bits",
    "I;16L": "grey, 16 bits",
    "I;16B": "grey, 16 bits",
    "P": "palette",
    "RGB": "colour, 8 bits",
    "RGBA": "colour with alpha, 8 bits",
}


def _decode(path: Path, content: bytes | None = None) -> NDArray[Any]:
    """Decode a file: (H, W) grey or (H, W, 3) RGB, uint16 if the file has 16 bits per channel, else uint8."""
    with _open(path) if content is None else BytesIO(content) as file, _errors_about(path):
        format_name = _format_of(file, path)
        if format_name == "TIFF":
            from blemish.data.tiff import read_tiff  # tifffile is imported for TIFF only

            decoded = read_tiff(file, path, _check_size)
            if decoded is not None:
                return _upright(*decoded)
        image, deep_png = _open_header(format_name, file, path)
        if deep_png is not None:
            _check_size(image.height, image.width, path)
            return _upright(deep_png_pixels(png_pixels(deep_png)), image.getexif().get(_ORIENTATION, 1))
        if format_name == "JPEG" and image.mode in ("L", "RGB", "CMYK"):
            _check_size(image.height, image.width, path)
            file.seek(0)
            pixels = jpeg_pixels(file.read(), "CMYK" if image.mode == "CMYK" else "RGB")
            if pixels is not None and image.mode != "CMYK":
                with suppress(SyntaxError):
                    image.getexif()
                return _upright(pixels, image.getexif().get(_ORIENTATION, 1))
        pixels = _pixels(image, path)
        last_row = (0, image.height - 1, image.width, image.height)
        if format_name == "PNG" and (image.info.get("interlace") or not np.any(np.asarray(image.crop(last_row)))):
            file.seek(0)
            check_png_rows(file.read())
        return pixels


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror (H, W) or (H, W, 3) pixels as EXIF's orientation says, 1 to 8; others are ignored."""
    is_mirrored, n_quarter_turns = _TURNS.get(orientation, (False, 0))
    pixels = pixels[:, ::-1] if is_mirrored else pixels
    return np.ascontiguousarray(np.rot90(pixels, n_quarter_turns))


_ORIENTATION = 274
_TURNS = {
    2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, -1), 7: (True, -1), 8: (False, 1),
}  # mirrored left to right, then turned anticlockwise by these quarters  # fmt: skip


def _open(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise BlemishError(f"{path}: is a folder, not an image; name a file in it")
        if path.exists() and not path.is_file():
            raise BlemishError(f"{path}: is not a regular file; name an image file")
        return path.open("rb")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BlemishError(f"{path}: is a link to itself; mend or remove it") from error
        raise BlemishError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from error


@contextmanager
def _errors_about(name: object) -> Iterator[None]:
    """Turn any error that Pillow raises into one line about `name`."""
    try:
        yield
    except BlemishError:
        raise
    except Exception as error:  # on damaged bytes Pillow's plugins raise errors of almost any type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BlemishError(f"{name}: damaged or incomplete ({reason}); copy or export it again") from error


def _format_of(file: BinaryIO, path: Path) -> str:
    """Return the format of an open file by its first bytes, one of `FORMATS`."""
    prefix = file.read(PREFIX_BYTES)
    file.seek(0)
    if not prefix:
        raise BlemishError(f"{path}: is empty (0 bytes); copy or export it again")
    kind = kind_of_bytes(prefix, path.suffix)
    if kind.name in FORMATS:
        return kind.name
    if kind.is_result:
        return next(name for name, (_, result) in RESULTS.items() if result == kind)
    kind_name = "" if kind is UNKNOWN else f" but {kind.name}"
    remedy = kind.remedy if kind.remedy and kind is not UNKNOWN else "convert it to PNG"
    raise BlemishError(f"{path}: is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image{kind_name}; {remedy}")


def _open_header(format_name: str, file: BinaryIO, path: Path) -> tuple[Image.Image, bytes | None]:
    """Open as `Image.open` does, but without Pillow's pixel limit, which is global and lower than `MAX_PIXELS`.

    Returns the image, whose pixels are still to be decoded, and the content of a PNG file of 16 bits per channel.
    """
    deep_png = rare_kind = None
    if format_name == "PNG":
        content = png_without_text(file.read())
        check_png(content, path)
        file, deep_png = BytesIO(content), content if png_bit_depth(content) == 16 else None
    elif format_name == "JPEG":
        rare_kind = check_jpeg(file.read(), path)
        file.seek(0)
    elif format_name == "BMP":
        rare_kind = kind_of_bitmap(file.read(PREFIX_BYTES))
        file.seek(0)
    elif format_name == "AVIF":
        check_avif(file.read())
        file.seek(0)
    Image.init()
    factory = Image.OPEN[format_name][0]
    try:
        # Without a file name Pillow does not memory-map, which garbles turned, uncompressed grey TIFFs.
        image = factory(file, "")
        if rare_kind is not None and format_name == "JPEG":
            image.load()
    except Exception as error:
        if rare_kind is None and "MAX_TEXT" not in str(error):
            raise
        kind = f"{rare_kind} {format_name} pixels" if rare_kind is not None else "more than 1 MB of XMP or EXIF text"
        raise BlemishError(f"{path}: {kind} cannot be decoded; save it as PNG without metadata") from error
    if format_name in ("WEBP", "GIF"):
        position = file.tell()
        file.seek(0)
        check_tail(file.read(), format_name, image.width * image.height, path)
        file.seek(position)
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1 and image.format not in ("GIF", "MPO"):
        raise BlemishError(f"{path}: has {n_frames} frames, of which one would be read; save each as its own file")
    return image, deep_png


def _pixels(image: Image.Image, name: object) -> NDArray[Any]:
    """Decode by Pillow: (H, W) uint16 of a 16-bit grey image, (H, W, 3) uint8 RGB of any other."""
    _check_size(image.height, image.width, name)
    if image.mode in ("I", "F"):
        raise BlemishError(f"{name}: 32-bit pixels are not supported; save it with 8 or 16 bits per channel")
    with suppress(SyntaxError):  # EXIF that cannot be read says nothing; Pillow reports it only once
        image.getexif()
    image = ImageOps.exif_transpose(image)  # always a copy, also if the image is upright
    image.info.pop("transparency", None)  # alpha is dropped; for some kinds Pillow would warn
    return np.array(image if image.mode.startswith("I;16") else image.convert("RGB"))


def _check_size(height: int, width: int, name: object) -> None:
    if min(height, width) < MIN_SIDE_PX:
        raise BlemishError(f"{name}: {width}x{height} px is too small; both sides must be {MIN_SIDE_PX} px or more")
    if height * width > MAX_PIXELS:
        limit = f"{MAX_PIXELS / 1e6:g} megapixels"
        raise TooManyPixels(f"{name}: {width}x{height} px is too large; cut or shrink it to at most {limit}")


def _rgb8(pixels: NDArray[Any], bits: int | None = 16, name: object = "image") -> NDArray[np.uint8]:
    """Convert (H, W) or (H, W, 1 | 3 | 4), bool, uint8 or uint16, to contiguous (H, W, 3) uint8."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]  # (H, W, 1)
    pixels = pixels[..., :3]  # without alpha
    if pixels.dtype.kind == "b":
        pixels = pixels * np.uint8(255)
    if pixels.dtype.itemsize == 2:
        largest = int(pixels.max()) if bits != 16 else 0
        if bits is None and largest < _SURELY_16_BITS:
            raise BlemishError(
                f"{name}: has 16-bit values up to {largest}, and how many bits its camera uses is not known, as all "
                f"images that were trained on have 8 bits; save it with 8 bits, or fit with images like this"
            )
        bits = bits or 16
        if largest >= 2**bits:
            raise BlemishError(
                f"{name}: has values up to {largest}, but 16-bit files are read as {bits} bits, up to {2**bits - 1}; "
                f"save it with {bits} bits, or fit with --bits {next(depth for depth in BITS if largest < 2**depth)}"
            )
        pixels = pixels >> (bits - 8)
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)  # (H, W, 3)
    return np.ascontiguousarray(pixels, dtype=np.uint8)
