"""Photographs over HTTP: what is accepted has a row, and what is refused has none."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from breakable import CRASHES, HANGS
from services import DEFECTIVE, GOOD, Running, running, served, wait_for

from blemish.serve.service import Limits


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(max_bytes=100_000, max_px=1_000_000)
    with running(tmp_path_factory.mktemp("service"), limits=limits) as each:
        yield each


def test_a_photograph_gets_its_verdict_and_its_row(line: Running) -> None:
    answer = line.inspect(DEFECTIVE, part="17", lot="A3", name="left.png")
    assert answer.status_code == 200
    row = answer.json()
    assert (row["verdict"], row["part"], row["lot"], row["name"]) == ("defective", "17", "A3", "left.png")
    assert row["size_wh"] == [64, 64]
    assert row["photograph"] == hashlib.sha256(DEFECTIVE).hexdigest()
    assert row["score"] > row["threshold"] == 0.5
    (region,) = row["regions"]
    left, top, right, bottom = region["bbox_xyxy"]
    assert left < 24 < right
    assert top < 24 < bottom
    recorded = line.record.verdict(row["id"])
    assert recorded is not None
    assert recorded | {"reviews": []} == row | {"reviews": []}


def test_its_image_is_kept_as_sent_and_its_overlay_drawn(line: Running) -> None:
    number = line.inspect(DEFECTIVE).json()["id"]
    image = line.http.get(f"/verdicts/{number}/image")
    assert (image.content, image.headers["content-type"]) == (DEFECTIVE, "image/png")
    overlay = line.http.get(f"/verdicts/{number}/overlay")
    assert overlay.content.startswith(b"\xff\xd8\xff")
    assert overlay.headers["content-type"] == "image/jpeg"
    good = line.inspect(GOOD).json()
    assert (good["verdict"], good["has_overlay"]) == ("good", False)
    assert line.http.get(f"/verdicts/{good['id']}/overlay").status_code == 404


def test_a_review_is_kept(line: Running) -> None:
    number = line.inspect(DEFECTIVE).json()["id"]
    sent = {"is_defective": False, "by": "Ada", "note": "only dust"}
    assert line.http.post(f"/verdicts/{number}/review", json=sent).json()["by"] == "Ada"
    row = line.http.get(f"/verdicts/{number}").json()
    assert row["review"]["is_defective"] is False
    assert [review["note"] for review in row["reviews"]] == ["only dust"]
    assert line.http.post("/verdicts/999999/review", json=sent).status_code == 404


def test_pages_of_verdicts_hold_each_once(line: Running) -> None:
    sent = [line.inspect(GOOD, lot="pages").json()["id"] for _ in range(5)]
    found, cursor = list[int](), None
    while True:
        page = line.http.get(
            "/verdicts", params={"lot": "pages", "limit": 2} | ({"cursor": cursor} if cursor else {})
        )
        found += [row["id"] for row in page.json()["verdicts"]]
        cursor = page.json()["cursor"]
        if cursor is None:
            break
    assert found == sent[::-1]


def test_a_decoder_that_crashes_costs_one_row(line: Running) -> None:
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(line.inspect, [GOOD] * 4 + [CRASHES] + [GOOD] * 4))
    assert [answer.status_code for answer in answers] == [200] * 4 + [400] + [200] * 4
    row = answers[4].json()
    assert row["verdict"] == "not_inspected"
    assert "crashed (exit code 7)" in row["error"]
    assert line.record.verdict(row["id"]) is not None
    assert line.service.decoders.n_died >= 1
    assert line.inspect(GOOD).status_code == 200


def test_a_decoder_that_hangs_costs_one_row(tmp_path: Path) -> None:
    with running(tmp_path, limits=Limits(decode_s=2.0)) as line, ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(line.inspect, [GOOD, GOOD, HANGS, GOOD, GOOD]))
        assert [answer.status_code for answer in answers] == [200, 200, 400, 200, 200]
        assert "not decoded in 2 s" in answers[2].json()["error"]


def test_what_is_late_is_not_inspected_and_has_one_row(tmp_path: Path) -> None:
    with running(tmp_path, limits=Limits(deadline_s=0.5)) as line, ThreadPoolExecutor(4) as pool:
        line.gate.clear()
        answers = list(pool.map(line.inspect, [GOOD, DEFECTIVE, GOOD, GOOD]))
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["verdict"] for answer in answers} == {"not_inspected"}
        assert all(answer.json()["reason"].startswith("late") for answer in answers)
        line.gate.set()
        wait_for(lambda: line.inspect(DEFECTIVE, part="after").json()["verdict"] == "defective")
        assert len([row for row in line.rows() if row["part"] is None]) == 4
        assert line.service.products()[0]["waiting"] == 0


def test_a_full_queue_refuses_and_what_it_accepted_is_judged(tmp_path: Path) -> None:
    with running(tmp_path, limits=Limits(places=3)) as line, ThreadPoolExecutor(8) as pool:
        line.gate.clear()
        answers = [pool.submit(line.inspect, GOOD) for _ in range(8)]
        refused = wait_for(lambda: [answer for answer in answers if answer.done()][4:5])[0].result()
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"].startswith("gasket: 3 photographs wait, of 3 at most")
        line.gate.set()
        assert sorted(answer.result().status_code for answer in answers) == [200] * 3 + [429] * 5
        assert len(line.rows()) == 3


def test_products_are_judged_each_by_its_own_detector(tmp_path: Path) -> None:
    products = {"gasket": served(0.5, "a" * 64), "lid": served(2.0, "b" * 64)}
    with running(tmp_path, products=products) as line, ThreadPoolExecutor(8) as pool:
        names = ["gasket", "lid"] * 8
        answers = list(pool.map(lambda name: line.inspect(DEFECTIVE, name).json(), names))
        assert [answer["verdict"] for answer in answers] == ["defective", "good"] * 8
        assert {answer["detector"][0] for answer in answers if answer["product"] == "lid"} == {"b"}


def test_another_detector_is_taken_without_a_gap(tmp_path: Path) -> None:
    with running(tmp_path) as line, ThreadPoolExecutor(4) as pool:
        stop = threading.Event()

        def send() -> list[tuple[int, str]]:
            sent = list[tuple[int, str]]()
            while not stop.is_set():
                answer = line.inspect(DEFECTIVE)
                sent.append((answer.status_code, answer.json().get("detector", "")[:1]))
            return sent

        senders = [pool.submit(send) for _ in range(4)]
        wait_for(lambda: len(line.rows()) > 20)
        line.service.serve("gasket", served(2.0, "e" * 64))
        wait_for(lambda: [row["verdict"] for row in line.rows()[-20:]] == ["good"] * 20)
        stop.set()
        sent = [each for sender in senders for each in sender.result()]
        assert {status for status, _ in sent} == {200}
        assert {digest for _, digest in sent} == {"d", "e"}
        assert all((row["verdict"] == "good") == (row["detector"][0] == "e") for row in line.rows())
