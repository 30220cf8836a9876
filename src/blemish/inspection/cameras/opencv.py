"""Cameras through OpenCV: devices of the system by their number, and streams by their URL."""

from __future__ import annotations

import os

import cv2
import numpy as np

from blemish.inspection.cameras.driver import Frame, Gone
from blemish.inspection.captures import capture

_TIMEOUT_S = 10


class OpenCVCamera:
    """A device such as ``0``, or a stream such as ``rtsp://camera.local/1``: 8 bits, and no numbers of its own.

    ``read`` may wait up to 10 s for a frame, as OpenCV's does.
    """

    is_free_running = True

    def __init__(self, address: str) -> None:
        self.address = address
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        if self.address.isdecimal():
            os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(_TIMEOUT_S))
            self._capture = capture(int(self.address))
        else:
            timeout_ms = 1000 * _TIMEOUT_S
            self._capture = capture(
                self.address, cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms
            )
        if not self._capture.isOpened():
            raise Gone("cannot be opened")

    def read(self) -> Frame | None:
        assert self._capture is not None
        is_read, image = self._capture.read()
        if not is_read:
            raise Gone("sends no more frames")
        return Frame(np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)))

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
