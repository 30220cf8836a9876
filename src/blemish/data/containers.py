"""Checks on the bytes of PNG, JPEG, WebP and GIF files that Pillow does not make."""

from __future__ import annotations

import re
import struct

from blemish.errors import BlemishError

_KEPT_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")  # they may hold the orientation
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")  # no fill bytes, restarts, or escaped 0xff in pixel data
_PROCESSES = {
    0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical lossless",
    0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded", 0xCB: "lossless", 0xCD: "hierarchical",
    0xCE: "hierarchical", 0xCF: "hierarchical lossless",
}  # fmt: skip
_RARE_BITMAPS = {3: "bit-field", 6: "bit-field", 4: "JPEG-compressed", 5: "PNG-compressed", 11: "CMYK", 12: "CMYK"}
_ZEROS = re.compile(rb"\0*")
_JPEG_LS = 0xF7
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def png_without_text(content: bytes) -> bytes:
    """Return a PNG file without its text and its colour profile, which Pillow limits in size and no pixel needs.

    Text that may hold the orientation stays. A damaged file is returned as it is, or damaged in the same way.
    """
    chunks, position, is_changed = [content[:8]], 8, False
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        is_text = kind in (b"tEXt", b"zTXt", b"iTXt") and not content.startswith(_KEPT_TEXTS, position + 8)
        if end <= len(content) and (is_text or kind == b"iCCP"):
            is_changed = True
        else:
            chunks.append(content[position:end])
        position = end
    return b"".join([*chunks, content[position:]]) if is_changed else content


def png_pixels(content: bytes) -> bytes:
    """Return a PNG file with nothing but its pixels: libpng writes to stderr if any other part of it is odd."""
    chunks, position = [content[:8]], 8
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            chunks.append(content[position : position + 12 + length])
        position += 12 + length
    return b"".join([*chunks, content[position:]])


def png_bit_depth(content: bytes) -> int:
    """Return the bits per channel of a PNG file's pixels, 1 to 16; 0 if the file is cut off before."""
    return content[24] if len(content) > 24 else 0


def check_jpeg(content: bytes, name: object) -> str | None:
    """Check that a JPEG file is complete and of a supported kind.

    libjpeg fills missing pixels and reports no error: a file that is still being copied, and ends in zeros, would be
    read as grey below. Bytes after the end of the image, such as a second picture, are not looked at.

    Returns
    -------
    What the JPEG is, if it is of a rare kind that Pillow decodes in some files only ("lossless"); else None.

    Raises
    ------
    BlemishError
        If the end of the image is missing; or if the pixels have more than 8 bits, or are stored in a way that
        Pillow cannot decode.
    """
    position, has_scan, process, frame = 2, False, None, b""
    while (marker := _MARKER.search(content, position)) is not None:
        code, position = marker[1][0], marker.end()
        if code == _END_OF_IMAGE:
            break
        if code == _JPEG_LS and not has_scan:
            raise BlemishError(f"{name}: JPEG-LS pixels are not supported; convert it to PNG or TIFF")
        if code in _FRAME_HEADERS:
            frame = frame or content[position + 3 : position + 7]
            process = _PROCESSES.get(code, process)
            bits = content[position + 2] if position + 2 < len(content) else 8
            if bits != 8 or (process is not None and "hierarchical" in process):
                kind = " ".join(filter(None, (process, f"{bits}-bit")))
                raise BlemishError(f"{name}: {kind} JPEG pixels are not supported; convert it to PNG or TIFF")
        has_scan |= code == _START_OF_SCAN
        position += int.from_bytes(content[position : position + 2])
    if marker is None or not has_scan:
        raise BlemishError(f"{name}: damaged or incomplete (the JPEG's end is missing); copy or export it again")
    if b"MPF\0" not in content[:position] and _starts_with_jpeg_of(frame, content, position):
        raise BlemishError(f"{name}: holds several pictures, of which one would be read; save each as its own file")
    return process


def _starts_with_jpeg_of(frame: bytes, content: bytes, position: int) -> bool:
    """Return whether a JPEG begins at a position whose height and width are these 4 bytes; cameras add smaller ones.

    Zeros before it are skipped.
    """
    start = _ZEROS.match(content, position)
    position = start.end() if start is not None else position
    if not content.startswith(b"\xff\xd8\xff", position):
        return False
    position += 2
    while (marker := _MARKER.match(content, position)) is not None:
        if marker[1][0] in _FRAME_HEADERS:
            return content[marker.end() + 3 : marker.end() + 7] == frame
        position = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
    return False


def check_png(content: bytes, name: object) -> None:
    """Refuse a file in which a second PNG of the same size follows directly behind the first.

    Raises
    ------
    BlemishError
        If there are several pictures.
    """
    second = content.find(content[:8] + b"\0\0\0\x0dIHDR" + content[16:24], 8)
    if second > 0 and content[second - 8 : second - 4] == b"IEND":
        raise BlemishError(f"{name}: holds several pictures, of which one would be read; save each as its own file")


def kind_of_bitmap(prefix: bytes) -> str | None:
    """Return what a BMP holds, by its first bytes, if it is a rare kind that Pillow may refuse; else None."""
    if len(prefix) < 34 or int.from_bytes(prefix[14:18], "little") < 40:
        return None
    return _RARE_BITMAPS.get(int.from_bytes(prefix[30:34], "little"))


def check_tail(content: bytes, format_name: str, n_pixels: int, name: object) -> None:
    """Refuse a WebP or GIF file in which zeros stand for pixels, as while it is being copied; both would be read.

    Compressed pixels hold few zeros in a row. In a flat WebP of ``n_pixels`` pixels there is one for each 10,000
    pixels without loss, and one for each 360 pixels at the best quality with loss.

    Raises
    ------
    BlemishError
        If zeros stand where compressed pixels, or the GIF's last byte, should be.
    """
    most_zeros = {b"VP8L": 16 + n_pixels // 8192, b"VP8 ": 24 + n_pixels // 200}
    is_cut = False
    if format_name == "GIF":
        is_cut = content.endswith(bytes(16)) and not content.rstrip(b"\0").endswith(b";")
    elif format_name == "WEBP":
        position = 12
        while position + 8 <= len(content):
            kind, length = struct.unpack_from("<4sI", content, position)
            position += 8
            is_cut |= kind in most_zeros and content.find(bytes(most_zeros[kind]), position, position + length) >= 0
            position += length + length % 2
    if is_cut:
        raise BlemishError(f"{name}: damaged or incomplete (zeros stand for pixels); copy or export it again")
