"""Whether the compressed frames of a video are whole: FFmpeg fills what is damaged from earlier frames, and OpenCV
does not say so.

FFV1 has a checksum in each slice (RFC 9043, section 4.9), so all damage is noticed. JPEG has none: most damage, not
all, breaks its code, which libjpeg-turbo notices. Of other codecs only a frame that cannot be decoded is noticed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from blemish.data.integrity import jpeg_pixels
from blemish.inspection.captures import capture

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FOOTER_BYTES = 8
_FFV1, _MJPG = b"FFV1", b"MJPG"


class Packets:
    """The compressed frames of a file, each asked about once, in order."""

    def __init__(self, packets: cv2.VideoCapture | None, codec: bytes) -> None:
        self._packets, self._codec = packets, codec
        self._has_checksums = self._lacks_checksums = False
        self._is_sound = True

    @property
    def can_tell(self) -> bool:
        """Whether the codec is one whose damaged frames are noticed."""
        return self._packets is not None

    @property
    def unchecked(self) -> str:
        """What the codec is called if damage to the frames so far cannot be seen; empty if it can."""
        is_unchecked = self._packets is None or self._lacks_checksums
        return self._codec.decode("latin-1").rstrip("\0 ") or "raw pixels" if is_unchecked else ""

    def next_is_whole(self) -> bool:
        """Whether the next frame is whole; True where that cannot be said."""
        if self._packets is None:
            return True
        is_read, data = self._packets.read()
        if not is_read:
            return True
        packet = data.tobytes()
        if self._codec == _MJPG:
            return _jpeg_is_whole(packet)
        is_key = bool(self._packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME))
        self._is_sound = self._ffv1_is_whole(packet) and (self._is_sound or is_key)  # others may go on with its state
        return self._is_sound

    def _ffv1_is_whole(self, packet: bytes) -> bool:
        slices = ffv1_slices(packet)
        if slices is None:  # a version without checksums, unless earlier frames had some
            self._lacks_checksums = not self._has_checksums
            return self._lacks_checksums
        self._has_checksums = True
        return all(checksum(part) == 0 for part in slices)


@contextmanager
def packets_of(path: Path, fourcc: int) -> Iterator[Packets]:
    """The compressed frames of a video file, if its codec is one whose frames can be checked."""
    codec = (fourcc % 2**32).to_bytes(4, "little").upper()  # FFmpeg writes both ffv1 and FFV1
    if codec not in (_FFV1, _MJPG):
        yield Packets(None, codec)
        return
    packets = capture(str(path.absolute()), cv2.CAP_PROP_FORMAT, -1)
    try:
        yield Packets(packets, codec)
    finally:
        packets.release()


def ffv1_slices(packet: bytes) -> list[bytes] | None:
    """Return the slices of an FFV1 frame with their footers, the last first; None if they have no checksums.

    A footer of 8 bytes holds the length of its slice in 3 bytes, the encoder's status in 1, and the checksum in 4.
    """
    slices, end = [], len(packet)
    while end > 0:
        start = end - _FOOTER_BYTES - int.from_bytes(packet[max(end - 8, 0) : max(end - 5, 0)])
        if start < 0:
            return None
        slices.append(packet[start:end])
        end = start
    return slices or None


def checksum(data: bytes) -> int:
    """The CRC of FFV1: polynomial 0x04C11DB7, the highest bit first, from 0; 0 over data and their own checksum.

    ``zlib`` has the same polynomial with the lowest bit first, so bits are reversed; 0 is 0 both ways round.
    """
    return zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF


def _jpeg_is_whole(packet: bytes) -> bool:
    try:
        jpeg_pixels(packet, least_size=True)
    except ValueError:
        return False
    return True
