"""Webhooks against a real web server, through the record's outbox."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blemish.outputs import delivery, webhook
from blemish.outputs.addresses import output_at
from blemish.outputs.delivery import Delivery
from blemish.record.record import VerdictRecord
from outputs.receivers import Web, add, free_port, wait_for


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture
def record(tmp_path: Path) -> Iterator[VerdictRecord]:
    with VerdictRecord.open(str(tmp_path / "record.db")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are a tenth of what they are."""
    monkeypatch.setattr(delivery, "LEAST_PAUSE_S", 0.1)


def aside(record: VerdictRecord) -> int:
    """How many messages have been set aside."""
    with record.database.transaction() as connection:
        return int(connection.exec_driver_sql("select count(*) from outbox where due is null").scalar_one())


def test_the_json_of_the_record_is_posted_in_order(web: Web, record: VerdictRecord) -> None:
    url = web.url.replace("//", "//us%40er:pass@")
    with Delivery(record, [output_at(url)]) as deliveries:
        ids = add(record, *range(20))
        event = record.add_event("drift", "good parts score higher", "gasket")["id"]
        deliveries.wake()
        wait_for(lambda: len(web.taken) == 21)
    expected = [record.verdict(id_) for id_ in ids]
    assert [payload | {"reviews": []} for payload in web.taken[:20]] == expected
    assert web.taken[20]["id"] == event
    assert web.taken[20]["kind"] == "drift"
    assert [headers["x-blemish-kind"] for headers in web.headers] == ["verdict"] * 20 + ["event"]
    assert web.headers[0]["authorization"] == f"Basic {base64.b64encode(b'us@er:pass').decode()}"
    assert record.waiting("webhook") == 0


def test_a_fault_of_the_server_is_waited_for(web: Web, record: VerdictRecord) -> None:
    failures = iter((500, 503, 429))
    web.answer = lambda payload: next(failures, 200)
    with Delivery(record, [output_at(web.url)]):
        add(record, 1, 2, 3)
        wait_for(lambda: len(web.taken) >= 3)
    assert web.parts() == ["1", "2", "3"]
    assert [payload["part"] for payload in web.asked if "part" in payload][:4] == ["1", "1", "1", "1"]


def test_a_message_that_is_refused_is_set_aside_and_told(
    web: Web, record: VerdictRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MOST_REFUSALS", 2)
    web.answer = lambda payload: 404 if payload.get("part") == "2" else 200
    told: list[str] = []
    with Delivery(record, [output_at(web.url)], told.append):
        (_, bad, _) = add(record, 1, 2, 3)
        wait_for(lambda: web.parts() == ["1", "3"])
        number = 3
        while not aside(record):
            number += 1
            assert number < 300
            add(record, number)
            wait_for(lambda number=number: str(number) in web.parts())
        wait_for(lambda: any(payload.get("kind") == "output" for payload in web.taken))
    (event,) = record.events()
    assert event["text"] == told[0]
    assert f"refuses verdict {bad} (HTTP 404 Not Found), and takes others; it is set aside" in told[0]
    assert event["details"]["verdict_id"] == bad
    assert web.parts() == ["1", *map(str, range(3, number + 1))]


def test_a_message_that_breaks_the_server_does_not_hold_up_the_others(web: Web, record: VerdictRecord) -> None:
    web.answer = lambda payload: 500 if payload.get("part") == "1" else 200
    with Delivery(record, [output_at(web.url)]):
        add(record, 1, 2, 3)
        wait_for(lambda: web.parts() == ["2", "3"])
    assert len([payload for payload in web.asked if payload.get("part") == "1"]) >= webhook.MOST_FAILURES


def test_a_wrong_address_loses_nothing(web: Web, record: VerdictRecord) -> None:
    web.answer = lambda payload: 401
    told: list[str] = []
    url = web.url.replace("//", "//user:s3cret@")
    with Delivery(record, [output_at(url + "?key=s3cret")], told.append) as deliveries:
        add(record, *range(5))
        wait_for(lambda: told)
        wait_for(lambda: deliveries.states()[0].n_waiting == 6)  # and the event that tells of it
        assert "401" in (deliveries.states()[0].fault or "")
        for _ in range(2 * delivery.MOST_REFUSALS):  # however often
            n_asked = len(web.asked)
            deliveries.wake()
            wait_for(lambda n_asked=n_asked: len(web.asked) > n_asked)
        web.answer = lambda payload: 200
        deliveries.wake()
        wait_for(lambda: sorted(web.parts()) == ["0", "1", "2", "3", "4"])
        wait_for(lambda: len(told) == 2)
    assert told[0] == (
        f"{web.url}: refuses everything (HTTP 401 Unauthorized); check the address; messages wait, and are delivered "
        "later"
    )
    assert told[1] == f"{web.url}: takes messages again"
    assert aside(record) == 0


def test_a_server_that_hangs_or_is_not_there_is_away(web: Web, record: VerdictRecord) -> None:
    hangs = [0.6, 0.6]
    web.answer = lambda payload: time.sleep(hangs.pop() if hangs else 0) or 200  # type: ignore[func-returns-value]
    output = output_at(web.url)
    assert isinstance(output, webhook.Webhook)
    output.timeout_s = 0.2
    told: list[str] = []
    with Delivery(record, [output], told.append):
        add(record, 1, 2)
        wait_for(lambda: web.parts()[-2:] == ["1", "2"])
    assert told[0].startswith(f"{web.url}: no answer within 0.2 s; messages wait")
    told.clear()
    nobody = f"http://127.0.0.1:{free_port()}/"
    with Delivery(record, [output_at(nobody)], told.append):
        add(record, 3)
        wait_for(lambda: told)
    assert told == [f"{nobody}: Connection refused; messages wait, and are delivered later"]
    assert record.waiting("webhook") >= 1


def test_a_redirection_is_not_followed(web: Web, record: VerdictRecord) -> None:
    web.answer = lambda payload: 301
    told: list[str] = []
    with Delivery(record, [output_at(web.url)], told.append):
        add(record, 1)
        wait_for(lambda: told)
    assert "HTTP 301 Moved Permanently" in told[0]
