"""The frames between the thread that fetches them and the inspection: a bounded number, and each lost one counted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Condition

from blemish.inspection.sources import Photograph, portable

TOO_SLOW = "not inspected: inspection is slower than the camera; use a faster recipe, or fewer frames per second"


def photograph_of(
    address: str, number: int, at: datetime, image: object = None, fault: str | None = None
) -> Photograph:
    """A frame as a photograph; its name begins with the time (UTC), so it is unique over restarts, too."""
    name = portable(f"{at.astimezone(UTC):%Y%m%dT%H%M%S_%f}_{number:06d}")
    label = f"{address}#{number}"
    return Photograph(image, name, None if fault is None else f"{label}: {fault}", label)  # type: ignore[arg-type]


@dataclass
class _Lost:
    """Frames, one after the other, that are lost for one reason: kept as a range, so any number takes no memory."""

    first: int
    last: int
    why: str
    at: datetime


class FrameQueue:
    """Frames in order, at most so many and so many bytes; those that find it full become photographs with a fault.

    Parameters
    ----------
    address : what the frames' labels begin with.
    max_frames, max_bytes : the bounds; one frame always fits.
    """

    def __init__(self, address: str, max_frames: int, max_bytes: int) -> None:
        self.address = address
        self.max_frames, self.max_bytes = max_frames, max_bytes
        self.n_too_slow = 0
        """Frames that found the queue full."""
        self._items: deque[Photograph | _Lost] = deque()
        self._n_frames = self._n_bytes = 0
        self._change = Condition()
        self._end: BaseException | None = None
        self._has_ended = False

    def put(self, photograph: Photograph, number: int, at: datetime, n_bytes: int) -> None:
        """Add a frame of ``n_bytes``, or the fact that there is no room for it."""
        with self._change:
            is_full = self._n_frames >= self.max_frames or self._n_bytes + n_bytes > self.max_bytes
            if is_full and self._n_frames:
                self.n_too_slow += 1
                self._lose(number, number, TOO_SLOW, at)
                return
            self._items.append(photograph)
            self._n_frames += 1
            self._n_bytes += n_bytes
            self._change.notify()

    def lose(self, first: int, last: int, why: str, at: datetime) -> None:
        """Add the fact that the frames ``first`` to ``last`` are lost."""
        with self._change:
            self._lose(first, last, why, at)

    def _lose(self, first: int, last: int, why: str, at: datetime) -> None:
        newest = self._items[-1] if self._items else None
        if isinstance(newest, _Lost) and newest.why == why and newest.last + 1 == first:
            newest.last = last
        else:
            self._items.append(_Lost(first, last, why, at))
        self._change.notify()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more frames come; ``error`` is raised where they are taken, after those before it."""
        with self._change:
            self._end, self._has_ended = error, True
            self._change.notify()

    def get(self, wait_s: float) -> Photograph | None:
        """Take the next frame; None if there is none within ``wait_s``.

        Raises
        ------
        EOFError
            If no more frames come.
        """
        with self._change:
            self._change.wait_for(lambda: self._items or self._has_ended, wait_s)
            if not self._items:
                if self._end is not None:
                    raise self._end
                if self._has_ended:
                    raise EOFError
                return None
            item = self._items[0]
            if isinstance(item, _Lost):
                photograph = photograph_of(self.address, item.first, item.at, fault=item.why)
                item.first += 1
                if item.first > item.last:
                    self._items.popleft()
                return photograph
            self._items.popleft()
            self._n_frames -= 1
            self._n_bytes -= getattr(item.image, "nbytes", 0)
            return item
