"""Numbers of frames: the camera's own, going on where its counter starts again; which are missing, which late.

A frame may wait until packets are sent again, and arrive after later ones. A frame that is not whole may lack the
packet with its number; then it has an old number, or none, and counts as the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

LAST_ID_OF_16_BITS = 65535
LATE_FRAMES, LATE_S = 64, 3.0
"""A frame has not been lost until so many later ones have arrived, or so much time has passed."""


@dataclass
class _Absent:
    """Frames, one after the other, that have not arrived yet."""

    first: int
    last: int
    newest: int
    """The newest frame when that was noticed."""
    at_s: float


class Numbers:
    """Numbers frames by the camera's counter."""

    def __init__(self) -> None:
        self.newest = 0
        self._known: tuple[int, int] | None = None
        """The counter of a frame, and its number, to count from."""
        self._absent: list[_Absent] = []

    def of(self, frame_id: int | None, now_s: float, *, is_whole: bool = True) -> tuple[int, bool]:
        """Return the number of a frame that has arrived, and whether the camera's counter has started anew before it.

        Parameters
        ----------
        frame_id : the camera's counter; None if it has none.
        now_s : time of a clock that only goes on.
        """
        if self._known is None and frame_id is not None and (is_whole or frame_id > 0):
            self.newest = self.newest + 1 if self.newest else max(frame_id, 0)
            self._known = frame_id, self.newest
            return self.newest, False
        if self._known is None or frame_id is None:
            self.newest += 1
            return self.newest, False
        number = self._known[1] + steps_between(self._known[0], frame_id)
        if number <= self.newest or (not is_whole and number > self.newest + LATE_FRAMES):
            if is_whole and self._is_late(number):
                return number, False
            self.newest += 1
            if is_whole:
                self._known = frame_id, self.newest
            return self.newest, is_whole
        if number > self.newest + 1:
            self._absent.append(_Absent(self.newest + 1, number - 1, number, now_s))
        self._known, self.newest = (frame_id, number), number
        return number, False

    def _is_late(self, number: int) -> bool:
        """Whether a frame had not arrived; from now on it has."""
        for place, absent in enumerate(self._absent):
            if absent.first <= number <= absent.last:
                rest = (
                    _Absent(absent.first, number - 1, absent.newest, absent.at_s),
                    _Absent(number + 1, absent.last, absent.newest, absent.at_s),
                )
                self._absent[place : place + 1] = [part for part in rest if part.first <= part.last]
                return True
        return False

    def lost(self, now_s: float) -> list[tuple[int, int]]:
        """Return the first and the last number of frames that are lost by now; each once."""
        is_lost = [
            self.newest - absent.newest >= LATE_FRAMES or now_s - absent.at_s >= LATE_S for absent in self._absent
        ]
        lost = [(absent.first, absent.last) for absent, is_over in zip(self._absent, is_lost, strict=True) if is_over]
        self._absent = [absent for absent, is_over in zip(self._absent, is_lost, strict=True) if not is_over]
        return lost

    def restart(self) -> list[tuple[int, int]]:
        """Count on from any number of the camera's; return which frames are lost."""
        self._known = None
        lost = [(absent.first, absent.last) for absent in self._absent]
        self._absent = []
        return lost


def steps_between(last_id: int, next_id: int) -> int:
    """Return by how many frames a camera's counter went on: 1 if none is missing, below 0 if it went back.

    Counters of GigE Vision have 16 bits and go from 65535 to 1; those of GigE Vision 2 and USB3 Vision have 64 bits.
    """
    step = next_id - last_id
    if max(last_id, next_id) > LAST_ID_OF_16_BITS:
        return step
    half = LAST_ID_OF_16_BITS // 2
    return (step + half) % LAST_ID_OF_16_BITS - half
