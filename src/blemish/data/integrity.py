"""Compressed pixels that decoders accept although some are missing or destroyed.

libjpeg, libwebp and dav1d fill what they cannot decode, and Pillow does not pass on libjpeg's warnings.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRAY_BYTES = re.compile(r"(\d+) extraneous bytes before marker 0x(\w+)")
_MARKERS_OF_PIXELS = frozenset({"d9", "c4", "da", *(f"d{number}" for number in range(8))})
_FEW_BYTES = 9
"""Webcams leave fewer stray bytes than this behind pixels, which are whole."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MOST_ZEROS_OF_AV1 = 64  # its arithmetic code has up to 4 in a row, also for flat pictures


def jpeg_pixels(content: bytes, colours: str = "RGB", least_size: bool = False) -> NDArray[np.uint8] | None:
    """Decode a JPEG file as Pillow does, but take libjpeg's warnings of destroyed pixels for errors.

    Parameters
    ----------
    content : the file.
    colours : "RGB", "GRAY" or "CMYK".
    least_size : whether to decode at an eighth of the size, as a check that takes half the time.

    Returns
    -------
    (H, W, 3 | 1 | 4) uint8; None if Pillow should: simplejpeg does not read this kind of JPEG, or warns of a trifle.

    Raises
    ------
    ValueError
        If pixels are missing or destroyed.
    """
    import simplejpeg

    scale: dict[str, Any] = {"min_height": 1, "min_width": 1, "min_factor": 8} if least_size else {}
    try:
        return np.asarray(simplejpeg.decode_jpeg(content, colours, strict=True, **scale))
    except ValueError as error:
        is_damage = "Corrupt JPEG data" in str(error) or "Premature end" in str(error)
        if is_damage and not _is_harmless(str(error), content):
            raise
        return None


def _is_harmless(warning: str, content: bytes) -> bool:
    """Return whether libjpeg warns of something that leaves the pixels whole."""
    stray = _STRAY_BYTES.search(warning)
    if stray is None:
        return False
    n_bytes, marker = int(stray[1]), stray[2].lower()
    if n_bytes < _FEW_BYTES or marker not in _MARKERS_OF_PIXELS:
        return True
    return marker == "d9" and bytes(n_bytes) + b"\xff\xd9" in content  # filled up with zeros


def deep_png_pixels(png: bytes) -> NDArray[np.uint16]:
    """Decode a PNG of 16 bits, of which Pillow would keep 8 of colours: (H, W) or (H, W, 3)."""
    if png[28]:  # interlaced: imagecodecs lets libpng write a warning to stderr
        from cv2 import IMREAD_UNCHANGED, imdecode

        check_png_rows(png)
        values = np.asarray(imdecode(np.frombuffer(png, np.uint8), IMREAD_UNCHANGED))
        return np.asarray(values if values.ndim == 2 else values[..., 2::-1], np.uint16)
    from imagecodecs import png_decode

    values = png_decode(png)  # (H, W), or (H, W, 2 | 3 | 4) with alpha last
    return np.asarray(values if values.ndim == 2 else values[..., 0] if values.shape[2] == 2 else values[..., :3])


def check_png_rows(content: bytes) -> None:
    """Check that a PNG file holds all rows of its picture: where rows are missing, Pillow fills in zeros.

    Raises
    ------
    ValueError
        If rows are missing.
    """
    width, height, bits, colours, _, _, is_interlaced = struct.unpack_from(">2I5B", content, 16)
    passes = _ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    n_expected = 0
    for left, top, step_x, step_y in passes:
        n_columns, n_rows = len(range(left, width, step_x)), len(range(top, height, step_y))
        n_expected += n_rows * (1 + (n_columns * bits * _PNG_CHANNELS[colours] + 7) // 8) if n_columns else 0
    inflater, n_bytes = zlib.decompressobj(), 0
    for data in _png_data(content):
        while data:
            n_bytes += len(inflater.decompress(data, 2**20))
            data = inflater.unconsumed_tail
    n_bytes += len(inflater.flush())
    if n_bytes < n_expected:
        raise ValueError(f"{n_expected - n_bytes} bytes of its pixels are missing")


def _png_data(content: bytes) -> Iterator[bytes]:
    position = 8
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"IDAT":
            yield content[position + 8 : position + 8 + length]
        position += 12 + length


def check_avif(content: bytes) -> None:
    """Check that zeros do not stand for compressed pixels in an AVIF file, as after a copy that did not end.

    Raises
    ------
    ValueError
        If zeros stand where compressed pixels should be.
    """
    try:
        extents = list(_av1_extents(content))
    except (struct.error, IndexError, KeyError):  # of another layout than images have
        return
    if any(bytes(_MOST_ZEROS_OF_AV1) in content[start:end] or _ends_in_zeros(content[start:end])
           for start, end in extents):  # fmt: skip
        raise ValueError("zeros stand for its pixels")


def _ends_in_zeros(pixels: bytes) -> bool:
    return len(pixels) >= 16 and not any(pixels[-16:])


def _av1_extents(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of all AV1 pictures in an AVIF file, by the boxes iinf and iloc."""
    boxes = dict(_boxes(content, 0, len(content)))
    start, end = boxes[b"meta"]
    boxes = dict(_boxes(content, start + 4, end))
    start, end = boxes[b"iinf"]
    wide = content[start] > 0
    pictures = set()
    for _, (entry, _end) in _boxes(content, start + (8 if wide else 6), end):
        number, _, kind = struct.unpack_from(">IH4s" if content[entry] > 2 else ">HH4s", content, entry + 4)
        if kind == b"av01":
            pictures.add(number)
    position, _ = boxes[b"iloc"]
    version, sizes, more_sizes = content[position], content[position + 4], content[position + 5]
    sizes_of = (sizes >> 4, sizes & 15, more_sizes >> 4, more_sizes & 15 if version else 0)
    position += 6

    def number_of(n_bytes: int) -> int:
        nonlocal position
        position += n_bytes
        return int.from_bytes(content[position - n_bytes : position])

    for _ in range(number_of(4 if version > 1 else 2)):
        number = number_of(4 if version > 1 else 2)
        method = number_of(2) & 15 if version else 0
        number_of(2)
        base = number_of(sizes_of[2])
        for _ in range(number_of(2)):
            number_of(sizes_of[3])
            first = base + number_of(sizes_of[0])
            length = number_of(sizes_of[1])
            if number in pictures and method == 0:
                yield first, first + length if length else len(content)


def _boxes(content: bytes, position: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield kind, and start and end of the content, of the boxes between two positions."""
    while position + 8 <= end:
        length, kind = struct.unpack_from(">I4s", content, position)
        header = 8
        if length == 1:
            (length,), header = struct.unpack_from(">Q", content, position + 8), 16
        length = length or end - position
        if length < header:
            return
        yield kind, (position + header, position + length)
        position += length
