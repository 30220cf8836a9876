"""Lines about photographs that may be many, such as those of a camera that has moved: they do not flood a log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Self

PAUSE_S = 60.0


class Telling:
    """Tells the first line of each kind at once, then at most one a minute, with the number of those in between.

    A context manager: at the end it tells what has waited.

    Parameters
    ----------
    tell : called with each line that is told.
    pause_s : least time between two lines of a kind.
    clock : seconds.
    """

    def __init__(
        self, tell: Callable[[str], None], pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.tell, self.pause_s, self.clock = tell, pause_s, clock
        self._told_s = dict[Hashable, float]()
        self._waiting = dict[Hashable, tuple[str, int]]()
        """The newest line of each kind, and how many wait before it."""

    def take(self, kind: Hashable, line: str) -> None:
        """Tell a line now or later."""
        n_before = self._waiting[kind][1] + 1 if kind in self._waiting else 0
        self._waiting[kind] = line, n_before
        self.tick()

    def tick(self, is_end: bool = False) -> None:
        """Tell what has waited for long enough."""
        now_s = self.clock()
        for kind, (line, n_before) in [*self._waiting.items()]:
            if is_end or now_s - self._told_s.get(kind, -math.inf) >= self.pause_s:
                self.tell(f"{line}; {n_before} more like it before, as their rows say" if n_before else line)
                self._told_s[kind] = now_s
                del self._waiting[kind]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.tick(is_end=True)
