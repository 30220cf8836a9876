"""OpenCV's ``VideoCapture``, opened so that FFmpeg and OpenCV print nothing: blemish says itself what is wrong."""

from __future__ import annotations

import os

import cv2

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # OpenCV reads it when it first uses FFmpeg
_SILENT = 0


def capture(source: str | int, *settings: int) -> cv2.VideoCapture:
    """Open a video file, a stream or a device; ``isOpened()`` of the result says whether that worked.

    Parameters
    ----------
    source : a path, a URL, or the number of a device.
    settings : pairs of a ``cv2.CAP_PROP_...`` and its value, with which it is opened.
    """
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(_SILENT)
    if isinstance(source, int):
        return cv2.VideoCapture(source, cv2.CAP_ANY, list(settings))
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, list(settings))
