"""MQTT against a real broker, which is stopped, started and asked for passwords."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blemish.outputs.addresses import output_at
from blemish.outputs.delivery import Delivery
from blemish.record.record import VerdictRecord
from outputs import courier
from outputs.receivers import MOSQUITTO, Mosquitto, add, parts_of, subscribed, wait_for

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def record(tmp_path: Path) -> Iterator[VerdictRecord]:
    with VerdictRecord.open(str(tmp_path / "record.db")) as opened:
        yield opened


def in_order(parts: list[str]) -> bool:
    """Whether parts that may have come twice first came in order, none missing."""
    first = list(dict.fromkeys(parts))
    return first == sorted(first, key=int) and {int(part) for part in first} == set(range(len(first)))


def test_topics_and_status(broker: Mosquitto, record: VerdictRecord) -> None:
    with subscribed(broker.port, "line-3/#") as seen:
        with Delivery(record, [output_at(f"mqtt://127.0.0.1:{broker.port}/line-3")]) as delivery:
            (id_,) = add(record, 1, product="M6 nut/steel #2")
            record.add_event("drift", "good parts score higher", "gasket")
            record.add_event("started", "blemish serve has started")
            delivery.wake()
            wait_for(lambda: record.waiting("mqtt") == 0)
        wait_for(lambda: len(seen) == 5)
    topics = [topic for topic, _ in seen]
    assert topics[0] == topics[-1] == "line-3/status"
    assert (seen[0][1], seen[-1][1]) == ("online", "offline")
    assert topics[1:4] == ["line-3/M6 nut_steel _2/verdict", "line-3/gasket/event", "line-3/event"]
    assert json.loads(seen[1][1]) | {"reviews": []} == record.verdict(id_)
    with subscribed(broker.port, "line-3/#") as seen:  # the status is retained, verdicts are not
        wait_for(lambda: seen)
        assert seen == [("line-3/status", "offline")]


def test_a_broker_that_stops_for_a_while_means_later_and_in_order(broker: Mosquitto, record: VerdictRecord) -> None:
    """The broker is stopped twice in the middle of the parts of two products, and parts come while it is away."""
    told: list[str] = []
    with (
        subscribed(broker.port) as seen,
        Delivery(record, [output_at(f"mqtt://127.0.0.1:{broker.port}")], told.append) as delivery,
    ):
        for stage in range(3):
            for number in range(100 * stage, 100 * stage + 100):
                add(record, number)
                add(record, number, product="nut")
                delivery.wake()
                if number % 100 == 50 and stage < 2:
                    wait_for(lambda number=number: len(parts_of(seen)) > number - 20)
                    broker.stop()
            if stage < 2:
                wait_for(lambda stage=stage: len(told) == 2 * stage + 1)
                assert delivery.states()[0].n_waiting >= 98
                broker.start()
                wait_for(lambda stage=stage: len(told) == 2 * stage + 2)
        wait_for(lambda: record.waiting("mqtt") == 0)
        for product in ("gasket", "nut"):
            wait_for(lambda product=product: len(set(parts_of(seen, product))) == 300)
            assert in_order(parts_of(seen, product))
            assert len(parts_of(seen, product)) <= 300 + 2 * 20  # twice only what was on its way
    assert "messages wait, and are delivered later" in told[0]
    assert told[1].endswith("takes messages again")
    assert [event["kind"] for event in record.events()] == ["output"] * 4


def test_killed_between_deliveries_loses_none_and_leaves_a_last_will(broker: Mosquitto, tmp_path: Path) -> None:
    path, address = str(tmp_path / "record.db"), f"mqtt://127.0.0.1:{broker.port}"
    with subscribed(broker.port) as seen:
        for kill in range(3):
            process = subprocess.Popen([sys.executable, courier.__file__, path, "100", address])
            wait_for(lambda kill=kill: len(set(parts_of(seen))) >= 100 * kill + 30)
            process.kill()
            process.wait()
            wait_for(lambda kill=kill: [s for s in seen if s == ("blemish/status", "offline")][kill:])
        with VerdictRecord.open(path) as record:
            n_recorded = record.latest_id()
            with Delivery(record, [output_at(address)]):
                wait_for(lambda: record.waiting("mqtt") == 0)
        wait_for(lambda: len(set(parts_of(seen))) == n_recorded)
    assert in_order(parts_of(seen))


def test_a_wrong_password_is_told_without_it(tmp_path: Path, record: VerdictRecord) -> None:
    (tmp_path / "passwords").write_text("")
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    told: list[str] = []
    try:
        with Delivery(record, [output_at(f"mqtt://line:s3cret@127.0.0.1:{broker.port}")], told.append):
            add(record, 1)
            wait_for(lambda: told)
    finally:
        broker.stop()
    assert told == [
        f"mqtt://127.0.0.1:{broker.port}: the broker refuses the connection (Not authorized); check user and "
        "password; messages wait, and are delivered later"
    ]
    assert record.waiting("mqtt") >= 1


def test_a_broker_that_is_not_there_yet(tmp_path: Path, record: VerdictRecord) -> None:
    broker = Mosquitto(tmp_path)
    broker.stop()
    told: list[str] = []
    with Delivery(record, [output_at(f"mqtt://127.0.0.1:{broker.port}")], told.append):
        add(record, 1)
        wait_for(lambda: told)
        assert "cannot be reached; check host and port" in told[0]
        broker.start()
        wait_for(lambda: record.waiting("mqtt") == 0)
    broker.stop()
