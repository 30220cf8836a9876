"""A video file as a source of photographs: each frame is one, in order; one that is missing is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.kinds import kind_of
from blemish.errors import BlemishError
from blemish.inspection.captures import capture
from blemish.inspection.sources import Photograph, portable
from blemish.inspection.video_containers import Contents, contents
from blemish.inspection.video_packets import Packets, packets_of

_GREY_16_BITS = int.from_bytes(b"Y1\0\x10", "little")
"""FFmpeg's tag of the pixel format gray16le."""
_MOST_FAILURES = 100
"""So many frames in a row that cannot be decoded are taken as the end."""
_N_BUILT_ON = 16
"""The most frames that a decoder holds back to bring them into order: so many may be built on the last, cut one."""
_MOST_FRAMES = 2**30
_COPY = "copy or record it again"


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its first bytes.

    Raises
    ------
    BlemishError
        If it cannot be read.
    """
    try:
        return kind_of(path).name == "video"
    except OSError as error:
        raise BlemishError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from error


def frames(path: Path, tell: Callable[[str], None] | None = None) -> Iterator[Photograph]:
    """Yield the frames of a video file in order, as photographs labelled ``PATH#1``, ``PATH#2``, ...

    They are (H, W, 3) uint8 RGB, upright by the file's rotation; of 16-bit grey video (H, W) uint16. Other video of
    more than 8 bits is reduced to 8 by FFmpeg. One frame is in memory at a time.

    A frame that cannot be decoded, or may be damaged, is a photograph with a fault, in its place. If the file is no
    video, is cut short or damaged, or fewer frames came than it holds, the last photograph has a fault that says so;
    frames that may be cut are among those that it says are missing.
    What counts is the container: AVI, MP4, QuickTime, Matroska and WebM are exact. Of others (Windows Media, FLV) it
    is known whether their end is missing, or not even that (MPEG).

    Frames of FFV1 (by its checksums) and MJPG (as far as libjpeg notices) are checked one by one. Other codecs build
    frames on each other, and FFmpeg makes up for what is damaged: after a frame that cannot be decoded all are in
    doubt, and of a file that is cut short the last 16; one whose container is damaged is not inspected. Of these
    codecs, damage that leaves the container whole and can be decoded cannot be seen: ``tell`` is called with one line
    that says so.
    """
    fault = _unusable(path)
    if fault is not None:
        yield _end(path, fault)
        return
    held, video = contents(path), _opened(path)
    try:
        is_open, estimate = video.isOpened(), video.get(cv2.CAP_PROP_FRAME_COUNT)
        number = n_read = 0
        with packets_of(path, int(video.get(cv2.CAP_PROP_FOURCC))) as packets:
            n_sound = _n_sound(path, held, packets.can_tell)
            for image in _images(video, packets) if n_sound > 0 else ():
                number += 1
                n_read += image is not None
                if number == 1 and packets.unchecked and tell is not None:
                    tell(_about_concealing(path, packets.unchecked))
                yield _photograph(path, number, image)
                if number == n_sound:
                    break
    finally:
        video.release()
    fault = _shortfall(path, held, n_read, number, estimate) if is_open else _not_opened(path, held)
    if fault is not None:
        yield _end(path, fault)


def _opened(path: Path) -> cv2.VideoCapture:
    return capture(str(path.absolute()))  # absolute, as FFmpeg takes "rtsp:1.mkv" for a URL


def _n_sound(path: Path, held: Contents, can_tell: bool) -> float:
    """How many first frames are not in doubt by the structure of the file."""
    if not held.is_cut:
        return math.inf if held.broken_at is None or can_tell else 0
    video = _opened(path)
    try:
        return sum(1 for _ in _grabbed(video)) - (1 if can_tell else _N_BUILT_ON)
    finally:
        video.release()


def _grabbed(video: cv2.VideoCapture) -> Iterator[bool]:
    """Whether each next frame can be decoded, up to the last that can; it is the one that ``retrieve`` returns."""
    n_failed = 0
    while n_failed < _MOST_FAILURES:
        if not video.grab():
            n_failed += 1
            continue
        for _ in range(n_failed):
            yield False
        n_failed = 0
        yield True


def _unusable(path: Path) -> str | None:
    """Why a file is not even opened as a video."""
    try:
        str(path).encode()  # OpenCV crashes with other names
        if path.is_file() and path.stat().st_size == 0:
            return f"{path}: is empty, so it has no frames; {_COPY}"
        if not is_video(path):
            return f"{path}: is not a video; save it as .mkv, .mp4 or .avi"
    except UnicodeEncodeError:
        return f"{path}: cannot be opened, as its name is not in UTF-8; rename it"
    except BlemishError as error:
        return str(error)
    return None


def _images(video: cv2.VideoCapture, packets: Packets) -> Iterator[NDArray[Any] | None]:
    """Frames as OpenCV decodes them; None for one that is in doubt."""
    is_grey = int(video.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)) == _GREY_16_BITS
    if is_grey:  # only so its values stay; of any other format this would hand over undecoded planes
        video.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    is_sound = True
    for is_decoded in _grabbed(video):
        is_whole = packets.next_is_whole()
        is_sound = is_decoded and is_whole and (is_sound or packets.can_tell)
        is_read, image = video.retrieve() if is_sound else (False, None)
        if is_read and image is not None:
            yield image if is_grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        else:
            yield None


def _photograph(path: Path, number: int, image: NDArray[Any] | None) -> Photograph:
    name, label = f"{portable(path.stem)}_{number:06d}", f"{path}#{number}"
    if image is None:
        fault = f"{label}: is damaged, or built on a frame that is; {_COPY}"
        return Photograph(np.empty((0, 0), np.uint8), name, fault, label)
    return Photograph(image, name, None, label)


def _about_concealing(path: Path, codec: str) -> str:
    return (
        f"{path}: a damaged frame may look whole, as its codec ({codec}) has no checksums; record FFV1 in "
        f".mkv, which has some"
    )


def _end(path: Path, fault: str) -> Photograph:
    return Photograph(path, f"{portable(path.stem)}_end", fault)


def _not_opened(path: Path, held: Contents) -> str:
    if held.is_cut:
        return f"{path}: no frame can be read, as the file is cut short; {_COPY}"
    return (
        f"{path}: no frame can be read: it is damaged, or of a kind that OpenCV's FFmpeg does not decode; {_COPY}, "
        f"or convert it to FFV1 in .mkv"
    )


def _shortfall(path: Path, held: Contents, n_read: int, n_told: int, estimate: float) -> str | None:
    """What is missing beside the ``n_told`` frames that were yielded, in one line; None if nothing is.

    Parameters
    ----------
    n_read : as many of them could be read.
    estimate : OpenCV's number of frames, which may be anything.
    """
    if n_told == 0 and held.broken_at is None:
        return _not_opened(path, held)
    if held.n_frames is not None:
        of = f"{n_read} of {held.n_frames} frames could be read"
    elif n_read < estimate < _MOST_FRAMES:
        of = f"{n_read} of about {estimate:.0f} frames could be read"
    else:
        of = f"{n_read} {'frame' if n_read == 1 else 'frames'} could be read"
    if held.is_cut:
        return f"{path}: {of}, as the file is cut short; {_COPY}"
    if held.broken_at is not None:
        return f"{path}: {of}, as the file is damaged at byte {held.broken_at}; {_COPY}"
    if held.n_frames is not None and n_told < held.n_frames:
        return f"{path}: {of}, as others are damaged; {_COPY}"
    return None
