"""A camera as a source of photographs: fetched in a thread of its own, and opened again whenever it was gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError, print_notices
from blemish.inspection.cameras.driver import WAIT_S, Driver, Frame, Gone
from blemish.inspection.cameras.numbers import Numbers
from blemish.inspection.cameras.queue import FrameQueue, photograph_of
from blemish.inspection.sources import Photograph

MAX_FRAMES, MAX_BYTES = 32, 256_000_000
"""As much waits for the inspection, at most."""
N_IDENTICAL = 25
"""So many frames without a single different pixel: noise alone makes frames of a working camera differ."""
PATIENCE_S, STALL_S = 600.0, 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0
"""Between attempts to open a camera that is gone; each pause is twice the one before."""
_CLOSING_S = 3.0


def print_notice(line: str) -> None:
    """Print a line to stderr."""
    print_notices([line])


class Camera:
    """A camera; a context manager, opened when it is entered, so a wrong address is an error at once.

    Parameters
    ----------
    driver : the camera through its library.
    tell : called with one line when the camera is gone, is back, or shows the same picture all the time; in another
        thread. Default: printed to stderr.
    patience_s : how long a camera that is gone is tried to be opened again; 0 gives up at once.
    stall_s : a camera that runs free and sends nothing for so long counts as gone.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        tell: Callable[[str], None] = print_notice,
        patience_s: float = PATIENCE_S,
        stall_s: float = STALL_S,
        max_frames: int = MAX_FRAMES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.tell, self.patience_s, self.stall_s = tell, patience_s, stall_s
        self.state = "closed"
        """``closed``, ``running``, or ``gone since`` and the time (UTC)."""
        self.n_arrived = self.n_broken = self.n_missing = 0
        """Frames that arrived; those of them that were not whole; and those that never arrived."""
        self._driver = driver
        self._queue = FrameQueue(driver.address, max_frames, max_bytes)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._numbers = Numbers()
        self._last_image: NDArray[Any] | None = None
        self._n_identical = 1

    @property
    def address(self) -> str:
        """What the labels of its frames begin with."""
        return self._queue.address

    @property
    def n_too_slow(self) -> int:
        """Frames that were not inspected because the inspection is slower than the camera."""
        return self._queue.n_too_slow

    def __enter__(self) -> Self:
        """Open the camera.

        Raises
        ------
        BlemishError
            If it cannot be reached or used.
        """
        try:
            self._driver.open()
        except Gone as error:
            self._driver.close()
            raise BlemishError(
                f"{self._driver.address}: {error}; check the address, that the camera has power and network, and "
                f"that no other program uses it"
            ) from error
        self._queue.address = self._driver.address
        self.state = "running"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._thread is None:
            self._driver.close()
        else:
            self._thread.join(_CLOSING_S)  # a library may wait longer; then the thread ends by itself, or the process
        self.state = "closed"

    def frames(self, stop: threading.Event) -> Iterator[Photograph | None]:
        """Yield frames as photographs in the order in which they arrive; None whenever there is none for 0.2 s.

        A frame that is not whole, never arrived or found no room is a photograph with a fault, in its place. Each is
        yielded once. When ``stop`` is set, no more frames are fetched; those that wait are still yielded.
        To be called once.

        Raises
        ------
        BlemishError
            If the camera is gone for longer than ``patience_s``, or came back unusable.
        """
        self._thread = threading.Thread(target=self._fetch, name=f"camera {self.address}", daemon=True)
        self._thread.start()
        while True:
            if stop.is_set():
                self._closing.set()
            try:
                photograph = self._queue.get(WAIT_S)
            except EOFError:
                return
            if photograph is None and self._closing.is_set():
                return  # the thread may be in a call of its library that takes long
            yield photograph

    def _fetch(self) -> None:
        """Fetch frames until the end; in the thread."""
        failure: BaseException | None = None
        last_s = time.monotonic()
        try:
            while not self._closing.is_set():
                try:
                    frame = self._driver.read()
                    self._lose(self._numbers.lost(time.monotonic()))
                    if frame is not None:
                        last_s = time.monotonic()
                        self._take(frame)
                    elif self._driver.is_free_running and 0 < self.stall_s <= time.monotonic() - last_s:
                        raise Gone(f"no frame for {self.stall_s:g} s")
                except Gone as error:
                    self._bring_back(error)
                    last_s = time.monotonic()
        except BaseException as error:  # it is raised where frames are taken
            failure = error
        finally:
            self._driver.close()
            self._lose(self._numbers.restart())
            self._queue.end(failure)

    def _take(self, frame: Frame) -> None:
        """Number a frame, and pass it on."""
        at = datetime.now(UTC)
        number, has_restarted = self._numbers.of(frame.id, time.monotonic(), is_whole=frame.fault is None)
        if has_restarted:
            self.tell(f"{self.address}: its numbers start again at {frame.id}; frames between may be missing")
        self.n_arrived += 1
        if frame.fault is not None:
            self.n_broken += 1
            self._queue.lose(number, number, frame.fault, at)
            return
        assert frame.image is not None
        photograph = photograph_of(self.address, number, at, frame.image)
        self._queue.put(photograph, number, at, frame.image.nbytes)
        self._watch_for_standstill(frame.image)

    def _lose(self, lost: Iterable[tuple[int, int]]) -> None:
        """Pass on that frames never arrived."""
        for first, last in lost:
            self.n_missing += last - first + 1
            why = "never arrived; check cable, network and the camera's packet delay"
            self._queue.lose(first, last, why, datetime.now(UTC))

    def _watch_for_standstill(self, image: NDArray[Any]) -> None:
        """Tell once if the camera shows the same picture all the time, and once when that ends."""
        is_same = self._last_image is not None and are_identical(image, self._last_image)
        if not is_same and self._n_identical >= N_IDENTICAL:
            self.tell(f"{self.address}: its picture changes again")
        self._n_identical = self._n_identical + 1 if is_same else 1
        if self._n_identical == N_IDENTICAL:
            self.tell(
                f"{self.address}: the last {N_IDENTICAL} frames are the same in every pixel; if the camera is not "
                f"covered, switch it off and on"
            )
        self._last_image = image

    def _bring_back(self, reason: Gone) -> None:
        """Open the camera again; returns when it is open, or when the inspection ends.

        Raises
        ------
        BlemishError
            If it is gone for longer than the patience.
        """
        began_s, pause_s = time.monotonic(), FIRST_PAUSE_S
        self.state = f"gone since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self._driver.close()
        self._lose(self._numbers.restart())
        if self.patience_s > 0:
            self.tell(
                f"{self.address}: gone ({reason}); nothing is inspected until it is back, tried for "
                f"{self.patience_s:g} s"
            )
        while True:
            left_s = self.patience_s - (time.monotonic() - began_s)
            if left_s <= 0:
                raise BlemishError(
                    f"{self.address}: gone ({reason}), and not back after {self.patience_s:g} s; check power "
                    f"and network"
                )
            if self._closing.wait(min(pause_s, left_s)):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                self._driver.open()
            except Gone as error:
                self._driver.close()
                reason = error
                continue
            self.state = "running"
            away_s = time.monotonic() - began_s
            self.tell(f"{self.address}: back after {away_s:.0f} s")
            self._numbers.newest += 1
            number, why = self._numbers.newest, f"was gone for {away_s:.0f} s; nothing of that time is inspected"
            self._queue.lose(number, number, why, datetime.now(UTC))
            return


def are_identical(image: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two images are the same in every pixel; quick where they are not."""
    if image.shape != other.shape or image.dtype != other.dtype or not np.array_equal(image[::64], other[::64]):
        return False
    return np.array_equal(image, other)
