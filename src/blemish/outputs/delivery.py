"""Delivers what waits in the outbox: to each output in its own thread, in order, at least once, until it is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from blemish.errors import BlemishError, print_line
from blemish.outputs.base import Away, Output
from blemish.record.record import Message, VerdictRecord

POLL_S = 1.0
"""So often the outbox is looked at if nobody says that something was put there."""
LEAST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0
"""Pauses between attempts to reach a receiver: each is twice the one before."""
MOST_REFUSALS = 6
"""A message is set aside when it was refused so often while others were taken."""
AT_ONCE = 100
MARK_S = 0.5
"""So often messages are marked as delivered while more are delivered."""


def pause_s(n_failures: int) -> float:
    """The pause after so many failures in a row."""
    return min(LEAST_PAUSE_S * 2.0 ** min(n_failures - 1, 10), MOST_PAUSE_S)


@dataclass(frozen=True)
class OutputState:
    """How an output stands."""

    name: str
    address: str
    n_waiting: int
    """Messages that it has still to deliver."""
    fault: str | None
    """Why nothing can be delivered at the moment; None if all is well."""


class Delivery:
    """Delivers to all outputs as long as it is open; a context manager.

    Whatever keeps a receiver from taking messages, they wait in the record. A message that a receiver refuses,
    while it takes others, is tried ``MOST_REFUSALS`` times and then set aside: it stays in the outbox, and an event
    tells of it. A receiver that refuses everything is one with a wrong address or password: all messages wait.

    Parameters
    ----------
    record : whose outbox is emptied. Its ``outputs`` are set to these.
    outputs : with different names.
    tell : called with one line when a receiver is away, is back, or refuses a message for good. Default: to stderr.

    Raises
    ------
    BlemishError
        On entering, if an output can never work.
    """

    def __init__(
        self, record: VerdictRecord, outputs: Sequence[Output], tell: Callable[[str], None] = print_line
    ) -> None:
        self.outputs = tuple(outputs)
        self._record = record
        record.outputs = tuple(output.name for output in outputs if not output.is_live)
        self._couriers = [_Courier(record, output, tell) for output in outputs]

    def __enter__(self) -> Self:
        opened = list[Output]()
        try:
            for output in self.outputs:
                output.open()
                opened.append(output)
        except BaseException:
            for output in opened:
                output.close()
            raise
        for courier in self._couriers:
            courier.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wake(self) -> None:
        """Something has been added to the record."""
        for courier in self._couriers:
            courier.woken.set()

    def close(self, timeout_s: float = 15.0) -> None:
        """Deliver what is due if the receivers take it at once, and end; the rest waits for the next start."""
        until_s = time.monotonic() + timeout_s
        for courier in self._couriers:
            courier.stop.set()
            courier.woken.set()
        for courier in self._couriers:
            courier.join(max(0.1, until_s - time.monotonic()))
            courier.output.close()

    def states(self) -> list[OutputState]:
        """How each output stands."""
        return [
            OutputState(
                output.name, output.address, 0 if output.is_live else self._record.waiting(output.name), fault
            )
            for output, fault in ((courier.output, courier.fault) for courier in self._couriers)
        ]


class RefusesAll(Away):
    """The receiver refuses all that it was given: another message may be one that it takes."""


class _Courier(threading.Thread):
    """The thread of an output."""

    def __init__(self, record: VerdictRecord, output: Output, tell: Callable[[str], None]) -> None:
        super().__init__(name=f"output {output.name}", daemon=True)
        self.record, self.output, self.tell = record, output, tell
        self.stop, self.woken = threading.Event(), threading.Event()
        self.fault: str | None = None
        self._n_failures = 0
        self._shown = record.latest_id() if output.is_live else 0
        """Of a live output: the id of the last verdict that it was given; older ones are not shown."""

    def run(self) -> None:
        while True:
            stops = self.stop.is_set()
            self.woken.clear()
            try:
                has_more = self._show() if self.output.is_live else self._deliver()
                self._well()
            except Away as away:
                if stops:
                    return
                self._failed(str(away), LEAST_PAUSE_S if isinstance(away, RefusesAll) else away.pause_s)
                if isinstance(away, RefusesAll):
                    self.woken.wait(pause_s(self._n_failures))
                continue
            except BlemishError as error:  # of the record: the database is away, which its writer tells
                if stops:
                    return
                self.fault = str(error)
                self.stop.wait(LEAST_PAUSE_S)
                continue
            except Exception as error:  # a fault of the program: the messages wait, the other outputs go on
                if stops:
                    return
                self._failed(f"{self.output.address}: {type(error).__name__}: {error}".splitlines()[0], None)
                continue
            if has_more:
                continue
            if stops:
                return
            self.woken.wait(POLL_S)

    def _show(self) -> bool:
        """Give a live output the verdicts that have come since; return whether there may be more."""
        rows, following = self.record.verdicts(cursor=self._shown, limit=AT_ONCE, newest_first=False)
        for row in rows:
            for _ in self.output.deliver([Message(row["id"], self.output.name, "verdict", row, 0)]):
                self._shown = row["id"]
        return following is not None

    def _deliver(self) -> bool:
        """Deliver what is due; return whether there may be more."""
        messages = self.record.due(self.output.name, AT_ONCE)
        taken, marked_s = list[int](), time.monotonic()
        refused, has_taken = list[tuple[Message, str]](), False
        try:
            with closing(self.output.deliver(messages)) as deliveries:
                for message, refusal in deliveries:
                    if refusal is None:
                        taken.append(message.id)
                        has_taken = True
                    else:
                        refused.append((message, refusal))
                    if time.monotonic() - marked_s > MARK_S:
                        self.record.delivered(taken)
                        taken, marked_s = [], time.monotonic()
                        if self.stop.is_set():
                            break
        finally:
            if taken:
                self.record.delivered(taken)
            if has_taken:
                for message, refusal in refused:
                    self._refused(message, refusal)
        if refused and not has_taken:
            raise RefusesAll(f"{self.output.address}: refuses everything ({refused[0][1]}); check the address")
        return len(messages) == AT_ONCE and not self.stop.is_set()

    def _refused(self, message: Message, refusal: str) -> None:
        """A message was refused, and others were not: it is tried again later, or set aside."""
        n_attempts = message.attempts + 1
        if n_attempts < MOST_REFUSALS:
            self.record.failed([message.id], refusal, time.time() + pause_s(n_attempts))
            return
        self.record.failed([message.id], refusal, None)
        line = (
            f"{self.output.address}: refuses {message.kind} {message.payload['id']} ({refusal}), and takes others; "
            "it is set aside"
        )
        self.tell(line)
        if message.kind == "verdict":  # of an event, this would be another one that may be refused
            about = {"output": self.output.name, "verdict_id": message.payload["id"], "error": refusal}
            self.record.add_event("output", line, message.payload["product"], about)

    def _failed(self, text: str, asked_s: float | None) -> None:
        """The receiver is away: tell it once if it is for longer, and pause."""
        self._n_failures += 1
        self.fault = text
        if self._n_failures == 2:
            self._tell(f"{text}; messages wait, and are delivered later")
        self.stop.wait(pause_s(self._n_failures) if asked_s is None else asked_s)

    def _well(self) -> None:
        if self._n_failures >= 2:
            self._tell(f"{self.output.address}: takes messages again")
        self._n_failures, self.fault = 0, None

    def _tell(self, line: str) -> None:
        self.tell(line)
        details: dict[str, Any] = {"output": self.output.name}
        try:
            self.record.add_event("output", line, None, details)
        except BlemishError as error:
            self.tell(f"{error}")
