"""The thread that records verdicts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from blemish.record import writer as writer_module
from blemish.record.record import NewVerdict, RecordAway, VerdictRecord
from blemish.record.writer import Writer

LONG_S = 120.0


def good(part: int) -> NewVerdict:
    return NewVerdict(product="gasket", verdict="good", part=str(part))


def parts(record: VerdictRecord) -> list[str]:
    return [row["part"] for row in record.verdicts(limit=10_000, newest_first=False)[0]]


class Gate:
    """Stands between a writer and its record: closed, away, or with its answer lost."""

    def __init__(self, record: VerdictRecord, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.is_away, self.loses_answers = False, False
        self.sizes = list[int]()
        add = record.add

        def gated(verdicts: Sequence[NewVerdict]) -> list[int]:
            self.entered.set()
            assert self.open.wait(LONG_S)
            self.sizes.append(len(verdicts))
            if self.is_away:
                raise RecordAway("away")
            ids = add(verdicts)
            if self.loses_answers:
                self.loses_answers = False
                raise RecordAway("lost")
            return ids

        monkeypatch.setattr(record, "add", gated)


@pytest.fixture
def gate(record: VerdictRecord, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(record, monkeypatch)


def test_ids_come_after_the_commit_in_the_order_of_the_verdicts(record: VerdictRecord) -> None:
    with Writer(record) as writer:
        ids = [writer.put(good(part)).result(LONG_S) for part in range(3)]
        assert parts(record) == ["0", "1", "2"]
        assert ids == sorted(ids)
        assert writer.is_healthy
        assert writer.n_waiting == 0


def test_all_that_wait_go_into_one_transaction(record: VerdictRecord, gate: Gate) -> None:
    with Writer(record) as writer:
        first = writer.put(good(0))
        assert gate.entered.wait(LONG_S)
        later = [writer.put(good(part)) for part in range(1, 40)]
        assert writer.n_waiting == 40
        gate.open.set()
        assert [first.result(LONG_S), *(future.result(LONG_S) for future in later)] == list(range(1, 41))
    assert gate.sizes == [1, 39]


def test_what_has_been_put_is_written_before_it_closes(record: VerdictRecord, gate: Gate) -> None:
    writer = Writer(record)
    futures = [writer.put(good(part)) for part in range(2000)]
    closing = threading.Thread(target=writer.close)
    closing.start()
    gate.open.set()
    closing.join(LONG_S)
    assert all(future.done() for future in futures)
    assert len(parts(record)) == 2000
    with pytest.raises(RuntimeError, match="closed"):
        writer.put(good(0))


def test_a_database_that_is_away_is_tried_again(record: VerdictRecord, gate: Gate) -> None:
    gate.is_away = True
    gate.open.set()
    told = list[str]()
    with Writer(record, tell=told.append) as writer:
        future = writer.put(good(0))
        assert gate.entered.wait(LONG_S)
        while writer.is_healthy:
            assert not future.done()
        assert (writer.fault, writer.n_waiting) == ("away", 1)
        gate.is_away = False
        assert future.result(LONG_S) == 1
        assert writer.is_healthy
    assert told == ["away; what is judged waits", f"{record.database.name}: is recorded to again"]


def test_a_database_that_is_away_is_noticed_also_while_nothing_is_recorded(
    record: VerdictRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "PROBE_S", 0.01)
    is_away, told, noticed = [True], list[str](), threading.Event()

    def latest_id() -> int:
        if is_away:
            raise RecordAway("away")
        return 0

    def tell(line: str) -> None:
        told.append(line)
        noticed.set()

    monkeypatch.setattr(record, "latest_id", latest_id)
    with Writer(record, tell=tell) as writer:
        assert noticed.wait(LONG_S)
        assert not writer.is_healthy
        noticed.clear()
        is_away.clear()
        assert noticed.wait(LONG_S)
        assert writer.is_healthy
    assert told == ["away; what is judged waits", f"{record.database.name}: is recorded to again"]


def test_a_commit_whose_answer_is_lost_is_not_written_twice(record: VerdictRecord, gate: Gate) -> None:
    record.outputs = ("broker",)
    gate.loses_answers = True
    gate.open.set()
    with Writer(record) as writer:
        assert writer.put(good(7)).result(LONG_S) == 1
    assert gate.sizes == [1, 1]
    assert parts(record) == ["7"]
    assert record.waiting("broker") == 1


def test_closing_gives_up_on_a_database_that_stays_away(record: VerdictRecord, gate: Gate) -> None:
    gate.is_away = True
    gate.open.set()
    writer = Writer(record)
    future = writer.put(good(0))
    writer.close(patience_s=0.3)
    with pytest.raises(RecordAway, match="away"):
        future.result(LONG_S)


def test_a_verdict_that_the_database_refuses_fails_alone(record: VerdictRecord, gate: Gate) -> None:
    refused: Any = NewVerdict(product="gasket", verdict="good", part="refused", width=2**80)
    with Writer(record) as writer:
        first = writer.put(good(0))
        assert gate.entered.wait(LONG_S)
        futures = [writer.put(good(1)), writer.put(refused), writer.put(good(2))]
        gate.open.set()
        for future in (first, futures[0], futures[2]):
            future.result(LONG_S)
        with pytest.raises((sa.exc.DBAPIError, OverflowError)):
            futures[1].result(LONG_S)
        assert writer.put(good(3)).result(LONG_S)
    assert parts(record) == ["0", "1", "2", "3"]


def test_one_who_waits_cannot_cancel_what_is_accepted(record: VerdictRecord, gate: Gate) -> None:
    with Writer(record) as writer:
        future = writer.put(good(0))
        assert not future.cancel()
        gate.open.set()
        assert future.result(LONG_S)


def test_others_are_told_after_each_commit(record: VerdictRecord) -> None:
    told = threading.Event()
    seen = list[int]()

    def tell() -> None:
        seen.append(record.latest_id())
        told.set()

    with Writer(record, tell) as writer:
        writer.put(good(0))
        assert told.wait(LONG_S)
    assert seen == [1]
