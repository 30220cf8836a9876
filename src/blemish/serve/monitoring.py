"""Watches the scores of each product for drift; an alarm that begins or ends is an event."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from blemish.errors import print_line
from blemish.record.record import RecordAway, VerdictRecord
from blemish.serve.drift import MOST_REFERENCE, Drift, DriftState
from blemish.serve.jobs import Json
from blemish.serve.line import Served

PAGE = 500


class Monitor:
    """The charts of all products.

    They take verdicts in a thread of their own, since an event is written to the record.

    Parameters
    ----------
    tell : called with the JSON of each event.
    """

    def __init__(self, record: VerdictRecord, tell: Callable[[Json], None]) -> None:
        self.record, self._tell = record, tell
        self._charts: dict[str, tuple[str, Drift]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="drift")

    def begin(self, product: str, served: Served) -> None:
        """Watch a product that is judged by a detector from now on; goes on with what it has judged before."""
        detector = served.detector
        drift = Drift(detector.calibration_scores, detector.threshold.value)
        for row in reversed(self._earlier(product, served.digest)):
            drift.take(row["verdict"], row["score"], row["id"])
        with self._lock:
            _, before = self._charts.get(product, ("", None))
            self._charts[product] = served.digest, drift
        alarms = [] if before is None else [state for state in before.states if state.alarm]
        for state in alarms:  # an alarm that is over only since it is watched anew is told
            self._record(f"{product}: is watched anew, since its detector was changed; before, {state.text}", product)

    def end(self, product: str) -> None:
        """Watch a product no more."""
        with self._lock:
            self._charts.pop(product, None)

    def take(self, row: Json) -> None:
        """Take a verdict that was committed; returns at once."""
        self._pool.submit(self._take, row)

    def states(self, product: str) -> list[DriftState]:
        """How the charts of a product stand."""
        with self._lock:
            return self._charts[product][1].states if product in self._charts else []

    def reset(self, product: str) -> None:
        """Begin anew, as after a repair."""
        with self._lock:
            if product in self._charts:
                self._charts[product][1].reset()

    def close(self) -> None:
        """Take what is left."""
        self._pool.shutdown()

    def _take(self, row: Json) -> None:
        product = row["product"]
        with self._lock:
            digest, drift = self._charts.get(product, ("", None))
            if drift is None or row["detector"] != digest:
                return
            changed = drift.take(row["verdict"], row["score"], row["id"])
        for state in changed:
            text = f"{product}: {state.text}" if state.alarm else f"{product}: no more drift ({state.kind})"
            self._record(text, product, asdict(state))

    def _record(self, text: str, product: str, details: Json | None = None) -> None:
        """Record an event, and tell it; a record that is away keeps nobody from judging."""
        try:
            self._tell(self.record.add_event("drift", text, product, details))
        except RecordAway as error:
            print_line(f"{text} ({error})")
        except Exception:
            traceback.print_exc(file=sys.stderr)

    def _earlier(self, product: str, digest: str) -> list[Json]:
        """The newest verdicts on a product by a detector, newest first."""
        found, cursor = list[Json](), None
        while len(found) < MOST_REFERENCE:
            rows, cursor = self.record.verdicts(product=product, cursor=cursor, limit=PAGE)
            found += [row for row in rows if row["detector"] == digest]
            if cursor is None or not any(row["detector"] == digest for row in rows):
                break
        return found
