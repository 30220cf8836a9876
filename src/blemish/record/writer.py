"""The thread that records verdicts: all that wait go into one transaction, since each costs a sync of the disk."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from blemish.errors import print_line
from blemish.record.record import RecordAway, VerdictRecord
from blemish.record.rows import NewVerdict

MOST_TOGETHER = 500
"""Verdicts in one transaction."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
"""Pauses between attempts to reach a database that is away."""
PROBE_S = 2.0
"""So often a database is asked whether it is there while nothing is to be written."""
_Waiting = tuple[NewVerdict, "Future[int]"]


class Writer:
    """Records verdicts in the order in which they come; also a context manager, which closes it.

    A database that is away is tried again until it is back: what has been put waits, nothing is lost or written
    twice.

    Parameters
    ----------
    record : that is written to.
    on_commit : called, in the writer's thread, after each transaction; it should return at once.
    tell : called with one line when the database cannot be written to, and when it can again. Default: to stderr.
    """

    def __init__(
        self,
        record: VerdictRecord,
        on_commit: Callable[[], object] | None = None,
        tell: Callable[[str], object] = print_line,
    ) -> None:
        self.record = record
        self.on_commit, self.tell = on_commit, tell
        self.fault: str | None = None
        """Why the database cannot be written to at the moment, in one line."""
        self._waiting = deque[_Waiting]()
        self._n_taken = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._give_up_s = float("inf")
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    @property
    def is_healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self.fault is None and self._thread.is_alive()

    @property
    def n_waiting(self) -> int:
        """How many verdicts have been put and are not on disk yet."""
        with self._changed:
            return len(self._waiting) + self._n_taken

    def put(self, verdict: NewVerdict) -> Future[int]:
        """Let a verdict be recorded.

        Returns
        -------
        Its id, once it is on disk. It cannot be cancelled. It fails if the database refuses this verdict, or is still
        away when the writer is closed.

        Raises
        ------
        RuntimeError
            If the writer is closed.
        """
        future = Future[int]()
        future.set_running_or_notify_cancel()  # from now on, it cannot be cancelled
        with self._changed:
            if self._is_closing:
                raise RuntimeError("the writer is closed")
            self._waiting.append((verdict, future))
            self._changed.notify_all()
        return future

    def close(self, patience_s: float = 30.0) -> None:
        """Write what waits, and end; a database that is away is waited for so long."""
        with self._changed:
            self._is_closing = True
            self._give_up_s = time.monotonic() + patience_s
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while batch := self._take():
            self._write(batch)
            with self._changed:
                self._n_taken = 0

    def _take(self) -> list[_Waiting]:
        """Wait for verdicts, and take all there are; none at the end."""
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._waiting or self._is_closing, PROBE_S):
                    batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
                    self._n_taken = len(batch)
                    return batch
            self._probe()

    def _probe(self) -> None:
        """See whether the database is there, also while nothing is to be written."""
        try:
            self.record.latest_id()
            self._well()
        except RecordAway as error:
            self._away(error)

    def _well(self) -> None:
        if self.fault is not None:
            self.fault = None
            self.tell(f"{self.record.database.name}: is recorded to again")

    def _away(self, error: RecordAway) -> None:
        if self.fault is None:
            self.tell(f"{error}; what is judged waits")
        self.fault = str(error)

    def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            ids = self._added([verdict for verdict, _ in batch])
        except Exception as error:
            if len(batch) == 1 or isinstance(error, RecordAway):
                for _, future in batch:
                    future.set_exception(error)
            else:  # one of them is refused; the others are written without it
                for each in batch:
                    self._write([each])
            return
        for (_, future), id_ in zip(batch, ids, strict=True):
            future.set_result(id_)
        if self.on_commit is not None:
            self.on_commit()

    def _added(self, verdicts: Sequence[NewVerdict]) -> list[int]:
        """Record verdicts, as soon as the database can be used."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                ids = self.record.add(verdicts)
                self._well()
                return ids
            except RecordAway as error:
                self._away(error)
                with self._changed:
                    left_s = self._give_up_s - time.monotonic()
                    if left_s <= 0:
                        raise
                    self._changed.wait_for(lambda: self._is_closing, min(pause_s, left_s))
                    if self._is_closing:
                        self._changed.wait(min(FIRST_PAUSE_S, left_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
