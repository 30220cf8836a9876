"""The live feed: verdicts, reviews and events as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from services import DEFECTIVE, GOOD, WAIT_S, Running, running, served, wait_for

from blemish.serve.feed import MOST_WAITING, Feed


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, products={"gasket": served(), "lid": served()}) as each:
        yield each


def events(answer: httpx.Response) -> Iterator[tuple[str, str | None, dict[str, object]]]:
    """Name, id and JSON of each event."""
    fields = dict[str, str]()
    for text in answer.iter_lines():
        if text:
            name, _, value = text.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields["event"], fields.get("id"), json.loads(fields["data"])
            fields.clear()


def test_what_happens_is_told_as_it_happens(line: Running) -> None:
    with line.http.stream("GET", "/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        wait_for(lambda: line.service.feed.n_readers == 1)
        happenings = events(answer)
        row = line.inspect(DEFECTIVE).json()
        assert next(happenings) == ("verdict", str(row["id"]), row)
        line.http.post(f"/verdicts/{row['id']}/review", json={"is_defective": False}).raise_for_status()
        name, _, review = next(happenings)
        assert (name, review["id"]) == ("review", row["id"])
        line.http.put("/products/gasket", json={"threshold": 0.9}).raise_for_status()
        name, _, event = next(happenings)
        assert (name, event["kind"], event["product"]) == ("event", "threshold", "gasket")
    wait_for(lambda: line.service.feed.n_readers == 0)


def test_who_comes_back_gets_what_it_has_missed_and_only_its_product(line: Running) -> None:
    first, _, third = [line.inspect(GOOD, product).json()["id"] for product in ("gasket", "lid", "gasket")]
    headers = {"Last-Event-ID": str(first)}
    with line.http.stream("GET", "/events", params={"product": "gasket"}, headers=headers) as answer:
        happenings = events(answer)
        assert next(happenings)[1] == str(third)
        line.inspect(GOOD, "lid")
        fifth = line.inspect(GOOD, "gasket").json()["id"]
        assert next(happenings)[1] == str(fifth)


def test_a_reader_does_not_keep_the_service_from_ending(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with running(tmp_path) as line:

            def read() -> int:
                with httpx.stream("GET", line.url + "/events", timeout=WAIT_S) as answer:
                    return len(list(events(answer)))

            reading = pool.submit(read)
            wait_for(lambda: line.service.feed.n_readers == 1)
            line.inspect(GOOD)
        assert reading.result(WAIT_S) == 1


def test_a_slow_reader_loses_the_oldest() -> None:
    async def read() -> list[int]:
        feed = Feed()
        with feed.read() as happenings:
            for number in range(MOST_WAITING + 5):
                feed.tell("verdict", {"id": number})
            await asyncio.sleep(0)
            return [(await anext(happenings)).content["id"] for _ in range(3)]

    assert asyncio.run(read()) == [5, 6, 7]
