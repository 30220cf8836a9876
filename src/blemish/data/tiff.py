"""TIFF files: what they hold by their tags, and grey and RGB pixels of 8 to 16 bits, by tifffile.

Pillow decodes the others: 1 to 4 bits, palettes, YCbCr, CMYK. It would read planar colour, WhiteIsZero, signed and
packed pixels of more than 8 bits wrong, or as damaged. Imported only when a TIFF is read.
"""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, SAMPLEFORMAT, TIFF, TiffFile, TiffPage

from blemish.data.integrity import jpeg_pixels
from blemish.errors import BlemishError

_GREY = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
_JPEG = (COMPRESSION.OJPEG, COMPRESSION.JPEG)
_USUAL_COMPRESSIONS = (
    COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE, COMPRESSION.PACKBITS,
    COMPRESSION.JPEG,
)  # fmt: skip
_MAY_END_IN_ZEROS = (
    COMPRESSION.NONE, COMPRESSION.PACKBITS, COMPRESSION.LERC, COMPRESSION.CCITTRLE, COMPRESSION.CCITTFAX3,
    COMPRESSION.CCITTFAX4, COMPRESSION.CCIRLEW,
)  # fmt: skip
_CHANNELS_OF_PILLOW = {
    PHOTOMETRIC.PALETTE: 1, PHOTOMETRIC.SEPARATED: 4, PHOTOMETRIC.YCBCR: 3, PHOTOMETRIC.CIELAB: 3,
}  # fmt: skip
_REMEDY = "save it as PNG, or as TIFF of 8 or 16 bits, grey or RGB"
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT, _METAMORPH_PLANES = 258, 262, 274, 339, 33629
_PREMULTIPLIED = 1  # of the tag ExtraSamples

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it finds odd must not appear on stderr


def read_tiff(
    file: BinaryIO, name: object, check_size: Callable[[int, int, object], None]
) -> tuple[NDArray[Any], int] | None:
    """Decode a TIFF file of grey or RGB pixels.

    Parameters
    ----------
    file : open file.
    name : what errors call it.
    check_size : called with height, width and name before the pixels are decoded; raises BlemishError.

    Returns
    -------
    (H, W) or (H, W, 3), uint8 or uint16, 0 is black, and EXIF's orientation, 1 to 8, still to be applied. Pixels of
    9 to 15 bits are converted to 8. None if Pillow should decode the file.

    Raises
    ------
    BlemishError
        If the file holds several pages, or pixels that neither decodes right.
    """
    with _page(file, name) as page:
        check_size(page.imagelength, page.imagewidth, name)
        if page.compression == COMPRESSION.JPEG:
            _check_jpegs(page)
        if not _is_for_tifffile(page):
            _check_inflated(page)
            return None
        try:
            pixels = page.asarray(maxworkers=1)
        except Exception as error:
            if page.compression in _USUAL_COMPRESSIONS:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            kind = _compression(page)
            raise BlemishError(f"{name}: {kind}-compressed pixels cannot be decoded ({reason}); {_REMEDY}") from error
        if page.photometric == PHOTOMETRIC.PALETTE:  # of 8-bit colours, (3, 2**bits)
            pixels = np.moveaxis(np.asarray(page.colormap).astype(np.uint8)[:, pixels], 0, -1)
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.ndim == 3:
            pixels = pixels[..., 0] if page.photometric in _GREY else pixels[..., :3]
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            pixels = pixels.dtype.type(2**page.bitspersample - 1) - pixels
        if 8 < page.bitspersample < 16:
            pixels = (pixels >> (page.bitspersample - 8)).astype(np.uint8)
        return pixels, int(page.tags.valueof(_ORIENTATION, 1))


def kind_of_tiff(file: BinaryIO, name: object) -> str:
    """Return the pixels of a TIFF file in words, from its tags: "grey, 16 bits", "colour with alpha, 8 bits".

    Raises
    ------
    BlemishError
        As ``read_tiff``, as far as the tags show it.
    """
    with _page(file, name) as page:
        if page.photometric == PHOTOMETRIC.PALETTE:
            return "palette"
        is_grey = page.photometric in _GREY
        colours = {5: "CMYK", 8: "CIELAB"}.get(page.photometric, "colour")
        alpha = " with alpha" if page.samplesperpixel in (2, 4) and colours != "CMYK" else ""
        bits = page.bitspersample
        return f"{'grey' if is_grey else colours}{alpha}, {bits} bit{'s' * (bits != 1)}"


def orientation_of_tiff(file: BinaryIO, name: object) -> int:
    """Return the orientation of a TIFF file by its tag; 1 without one. Raises as ``kind_of_tiff`` does."""
    with _page(file, name) as page:
        return int(page.tags.valueof(_ORIENTATION, 1))


@contextmanager
def _page(file: BinaryIO, name: object) -> Iterator[TiffPage]:
    """Yield the only page of a TIFF file, once it is known that its pixels can be decoded right."""
    file.seek(0)
    with TiffFile(file) as tiff:
        n_pages = _n_pages(tiff)
        if n_pages > 1:
            raise BlemishError(f"{name}: has {n_pages} pages, of which one would be read; save each as its own file")
        page = tiff.pages.first
        fault = _fault(tiff, page)
        if fault is not None:
            raise BlemishError(f"{name}: {fault}; {_REMEDY}")
        _check_whole(tiff, page)
        yield page
    file.seek(0)


def _n_pages(tiff: TiffFile) -> int:
    """Return how many pictures there are, without reduced copies and masks of them."""
    first = tiff.pages.first
    pages = [page for page in tiff.pages if isinstance(page, TiffPage)]
    pages = [page for page in pages if page is first or not (page.is_reduced or page.is_mask)]
    n_below = sum(len(page.pages) for page in pages if page.pages is not None and not _all_reduced(page))
    n_images = int((tiff.imagej_metadata or {}).get("images", 1)) if tiff.is_imagej else 1
    n_planes = first.tags[_METAMORPH_PLANES].count if _METAMORPH_PLANES in first.tags else 1
    return max(len(pages) + n_below, n_images, n_planes)


def _all_reduced(page: TiffPage) -> bool:
    """Return whether the pages below a page are reduced copies of it."""
    return page.pages is None or all(isinstance(inner, TiffPage) and inner.is_reduced for inner in page.pages)


def _fault(tiff: TiffFile, page: TiffPage) -> str | None:
    """Return what the pixels are, if they cannot be decoded right; else None."""
    bits, photometric, n_channels = page.bitspersample, page.photometric, page.samplesperpixel
    formats = set(np.atleast_1d(page.tags.valueof(_SAMPLE_FORMAT, SAMPLEFORMAT.UINT)).tolist())
    if _PHOTOMETRIC not in page.tags:
        return "does not say whether 0 is black or white"
    if page.is_reduced:
        return "its first page is a reduced copy of a picture, as in a raw file of a camera"
    if page.imagedepth != 1:
        return f"is a volume of {page.imagedepth} layers"
    if formats & {SAMPLEFORMAT.IEEEFP, SAMPLEFORMAT.COMPLEXIEEEFP}:
        return f"{bits}-bit floating-point pixels are not supported"
    if formats & {SAMPLEFORMAT.INT, SAMPLEFORMAT.COMPLEXINT}:
        return f"signed {bits}-bit pixels are not supported"
    if formats != {SAMPLEFORMAT.UINT} or len(np.unique(page.tags.valueof(_BITS_PER_SAMPLE, 1))) > 1:
        return "channels of different or undefined kinds are not supported"
    if bits > 16 or (bits < 8 and bits not in (1, 2, 4)):
        return f"{bits}-bit pixels are not supported"
    if photometric in (*_GREY, PHOTOMETRIC.RGB):
        n_colours = 1 if photometric in _GREY else 3
    elif photometric in _CHANNELS_OF_PILLOW:
        n_colours = _CHANNELS_OF_PILLOW[PHOTOMETRIC(photometric)]
    else:
        return f"pixels of the kind {getattr(photometric, 'name', photometric)} are not supported"
    has_alpha = n_channels == n_colours + 1 and (n_colours > 1 or page.extrasamples[:1] != (0,))
    if n_channels != n_colours and not has_alpha:
        return f"has {n_channels} channels, of which {n_colours} would be read"
    is_premultiplied = page.extrasamples[:1] == (_PREMULTIPLIED,)
    if has_alpha and photometric in _GREY and is_premultiplied:
        return "grey pixels with premultiplied alpha are not supported"
    if has_alpha and n_colours > 1 and photometric != PHOTOMETRIC.RGB and page.extrasamples[:1] != (0,):
        return f"{'CMYK' if n_colours == 4 else PHOTOMETRIC(photometric).name} pixels with alpha are not supported"
    if _is_for_tifffile(page):
        return _fault_for_tifffile(page)
    return _fault_for_pillow(page)


def _fault_for_tifffile(page: TiffPage) -> str | None:
    if page.compression in TIFF.DECOMPRESSORS or page.compression == COMPRESSION.NONE:
        return None
    return f"{_compression(page)}-compressed pixels are not supported"


def _fault_for_pillow(page: TiffPage) -> str | None:
    from PIL.TiffImagePlugin import COMPRESSION_INFO

    is_separate = page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 1
    if page.compression not in COMPRESSION_INFO:
        return f"{_compression(page)}-compressed pixels are not supported"
    if page.bitspersample > 8 or (page.bitspersample < 8 and page.samplesperpixel > 1):
        return f"{page.bitspersample}-bit pixels of this kind are not supported"
    if page.is_subsampled and page.compression not in _JPEG:
        return "subsampled YCbCr pixels are supported with JPEG compression only"
    if is_separate:
        return "separate planes of pixels of this kind are not supported"
    return None


def _is_for_tifffile(page: TiffPage) -> bool:
    """Return whether tifffile decodes the pixels: it does not convert colours, premultiplied alpha and few bits."""
    if page.photometric == PHOTOMETRIC.PALETTE:  # Pillow takes colours of 8 bits for colours of 16 bits: almost black
        return page.colormap is not None and page.samplesperpixel == 1 and int(np.max(page.colormap)) < 256
    is_premultiplied = page.extrasamples[:1] == (_PREMULTIPLIED,)
    return page.photometric in (*_GREY, PHOTOMETRIC.RGB) and page.bitspersample >= 8 and not is_premultiplied


def _check_whole(tiff: TiffFile, page: TiffPage) -> None:
    """Refuse a file in which pixels or a further page are missing, which tifffile fills in or leaves out."""
    size = tiff.filehandle.size
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))[: math.prod(page.chunked)]
    if len(segments) < math.prod(page.chunked) or not all(n and offset + n <= size for offset, n in segments):
        raise ValueError("pixels are missing")
    file, layout, offset = tiff.filehandle, tiff.tiff, tiff.pages[-1].offset
    if page.compression not in _MAY_END_IN_ZEROS:  # else a file that is still being copied would be read
        file.seek(max(offset + n for offset, n in segments) - 16)
        if not any(file.read(16)):
            raise ValueError("its pixels end in zeros")
    file.seek(offset)
    (n_tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    file.seek(offset + layout.tagnosize + n_tags * layout.tagsize)
    if any(file.read(layout.offsetsize)):
        raise ValueError("a further page is missing")


def _check_jpegs(page: TiffPage) -> None:
    """Raise ValueError if pixels of a JPEG-compressed page are missing or destroyed; its decoders do not say so."""
    tables, file = page.jpegtables, page.parent.filehandle
    colours = "CMYK" if page.samplesperpixel == 4 and page.photometric == PHOTOMETRIC.SEPARATED else "GRAY"
    for offset, n_bytes in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        content = file.read(n_bytes)
        jpeg_pixels(content if tables is None else tables[:-2] + content[2:], colours, least_size=True)


def _check_inflated(page: TiffPage) -> None:
    """Raise ValueError if a deflated page is short of pixels, before libtiff writes so to stderr."""
    if page.compression not in (COMPRESSION.DEFLATE, COMPRESSION.ADOBE_DEFLATE):
        return
    file, n_bytes = page.parent.filehandle, 0
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        n_bytes += len(zlib.decompress(file.read(length)))
    if n_bytes < page.imagelength * ((page.imagewidth * page.samplesperpixel * page.bitspersample + 7) // 8):
        raise ValueError("pixels are missing")


def _compression(page: TiffPage) -> str:
    """Return the name of the compression, such as JPEG2000; its number if it has no name."""
    return str(getattr(page.compression, "name", f"number {page.compression}"))
