"""What goes into the record comes out of it, on each kind of database."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.record.record import NewVerdict, VerdictRecord
from blemish.record.rows import VERDICTS

WHOLE = NewVerdict(
    product="gasket", verdict="defective", time=1_700_000_000.1234, source="http", name="a.jpg", part="17", lot="A3",
    reason=None, score=0.75, threshold=0.5, is_defective=True,
    regions=[{"bbox_xyxy": [1, 2, 3, 4], "area_px": 4, "peak": 0.9}], unlike=["too dark"], detector="d" * 64,
    photograph="f" * 64, width=640, height=480, ms=12.5, image="pictures/x.jpg", n_bytes=9,
)  # fmt: skip


def made(record: VerdictRecord, n: int = 1, **columns: Any) -> list[int]:
    return record.add([NewVerdict(**{"product": "gasket", "verdict": "good"} | columns) for _ in range(n)])


def ids(page: tuple[list[dict[str, Any]], int | None]) -> list[int]:
    return [row["id"] for row in page[0]]


def test_a_verdict_comes_back_whole(address: str) -> None:
    with VerdictRecord.open(address) as record:
        (id_,) = record.add([WHOLE])
    with VerdictRecord.open(address) as record:
        assert record.verdict(id_) == {
            "id": id_, "time": "2023-11-14T22:13:20.123+00:00", "product": "gasket", "part": "17", "lot": "A3",
            "name": "a.jpg", "source": "http", "verdict": "defective", "reason": None, "score": 0.75,
            "threshold": 0.5, "is_defective": True,
            "regions": [{"bbox_xyxy": [1, 2, 3, 4], "area_px": 4, "peak": 0.9}], "unlike": ["too dark"],
            "detector": "d" * 64, "photograph": "f" * 64, "size_wh": [640, 480], "ms": 12.5, "has_image": True,
            "has_overlay": False, "review": None, "reviews": [],
        }  # fmt: skip
        assert record.verdict(id_ + 1) is None
        assert record.latest_id() == id_


def test_what_is_not_known_stays_unknown(record: VerdictRecord) -> None:
    before = time.time()
    (id_,) = made(record, verdict="not_inspected", reason="late: 200 ms")
    row = record.verdict(id_)
    assert row is not None
    assert row["reason"] == "late: 200 ms"
    assert [row[key] for key in ("score", "is_defective", "size_wh", "part", "detector")] == [None] * 5
    assert ids(record.verdicts(since=before)) == [id_]
    assert ids(record.verdicts(since=time.time() + 1)) == []


def test_values_that_no_database_takes_are_mended(record: VerdictRecord) -> None:
    (id_,) = made(
        record, name="a\0b\udcff", score=math.nan, threshold=np.float32(0.5), unlike=["\0"], width=np.int64(3),
        height=4, regions=[{"bbox_xyxy": (1, 2, 3, 4), "peak": math.inf}], is_defective=np.bool_(True),
        part=Path("17"),
    )  # fmt: skip
    row = record.verdict(id_)
    assert row is not None
    assert row["name"] == "a\\0b\\udcff"
    assert row["unlike"] == ["\\0"]
    assert (row["score"], row["threshold"], row["is_defective"], row["part"]) == (None, 0.5, True, "17")
    assert row["regions"] == [{"bbox_xyxy": [1, 2, 3, 4], "peak": None}]
    assert row["size_wh"] == [3, 4]
    event = record.add_event("drift", "\0", details={"value": math.nan, "at": Path("x")})
    assert event == record.events()[0]
    assert event | {"time": ""} == {
        "id": 1, "time": "", "product": None, "kind": "drift", "text": "\\0",
        "details": {"value": None, "at": "x"},
    }  # fmt: skip


def test_all_or_none_are_added_and_none_twice(record: VerdictRecord) -> None:
    first = NewVerdict(product="gasket", verdict="good")
    (id_,) = record.add([first])
    second = NewVerdict(product="gasket", verdict="good")
    again = record.add([second, first])
    assert again[1] == id_
    assert again == record.add([second, first])
    assert sum(record.counts().values()) == 2
    bad: Any = NewVerdict(product="gasket", verdict="good", width=2**80)
    with pytest.raises(Exception, match=r"(?i)large|range"):
        record.add([NewVerdict(product="gasket", verdict="good"), bad])
    assert sum(record.counts().values()) == 2
    assert record.add([]) == []


@pytest.mark.parametrize("id_", [0, -1, 2**63 - 1, 2**63, -(2**70), 10**40])
def test_ids_that_no_part_has(record: VerdictRecord, id_: int) -> None:
    there = made(record, 3)
    assert record.verdict(id_) is None
    assert record.pictures(id_) is None
    with pytest.raises(LookupError):
        record.review(id_, True)
    assert ids(record.verdicts(cursor=id_)) == (there[::-1] if id_ > 0 else [])
    assert ids(record.verdicts(cursor=id_, newest_first=False)) == ([] if id_ > 0 else there)


LONG_TEXT = random.Random(0).randbytes(10_000).hex()


@pytest.mark.parametrize("text", ["a\0b", "\udcff", "%", "_", LONG_TEXT], ids=["NUL", "half", "%", "_", "long"])
def test_any_text_can_be_searched(record: VerdictRecord, text: str) -> None:
    made(record)
    (id_,) = made(record, product=text, part=text, lot=text)
    assert ids(record.verdicts(product=text, part=text, lot=text)) == [id_]
    record.set_product(text, None, {})
    record.set_product(text, None, {"again": text})
    assert len(record.product_settings()) == 1
    assert record.counts(text)["good"] == 1


@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_hold_each_verdict_once_while_others_are_added(record: VerdictRecord, newest_first: bool) -> None:
    there = made(record, 23)
    seen, cursor, n_pages = list[int](), None, 0
    while True:
        rows, cursor = record.verdicts(cursor=cursor, limit=5, newest_first=newest_first)
        seen += [row["id"] for row in rows]
        if n_pages < 3:
            made(record, 4)
        n_pages += 1
        if cursor is None:
            break
    everything = list(range(there[0], record.latest_id() + 1))
    assert seen == (there[::-1] if newest_first else everything)


def test_a_page_that_is_just_full_is_the_last_one(record: VerdictRecord) -> None:
    there = made(record, 10)
    assert record.verdicts(limit=10)[1] is None
    rows, cursor = record.verdicts(limit=9)
    assert cursor == rows[-1]["id"] == there[1]


def test_a_search_combines_its_conditions(record: VerdictRecord) -> None:
    for index, verdict in enumerate(VERDICTS * 2):
        product = "gasket" if index < 4 else "washer"
        made(record, product=product, verdict=verdict, time=1000.0 + index, part=f"p{index}", lot=f"l{index % 2}")
    first = record.latest_id() - 7
    record.review(first + 5, True)

    def found(**conditions: Any) -> list[int]:
        return [id_ - first for id_ in ids(record.verdicts(newest_first=False, **conditions))]

    assert found(product="washer") == [4, 5, 6, 7]
    assert found(verdict="defective") == [1, 5]
    assert found(since=1003.0, until=1005.0) == [3, 4]
    assert found(part="p6") == [6]
    assert found(lot="l1", product="gasket") == [1, 3]
    assert found(reviewed=True) == [5]
    assert found(reviewed=False, verdict="defective") == [1]
    assert found(reviewed=True, product="gasket") == []
    assert found(part="p6' OR 1=1 --") == []
    assert record.counts("gasket") == dict.fromkeys(VERDICTS, 1)
    assert record.counts(since=1006.0) == {"good": 0, "defective": 0, "unlike": 1, "not_inspected": 1}
    assert record.counts("none") == dict.fromkeys(VERDICTS, 0)


def test_rates_are_counted_in_equal_spans(record: VerdictRecord) -> None:
    for time_s in (999.9, 1000.0, 1009.9, 1010.0, 1019.99, 1025.0, 1030.0):
        made(record, time=time_s)
    made(record, time=1015.0, verdict="defective")
    rates = record.rates("gasket", 1000.0, 3, until=1030.0)
    assert [(rate["good"], rate["defective"]) for rate in rates] == [(2, 0), (2, 1), (1, 0)]
    assert [rate["time"][17:23] for rate in rates] == ["40.000", "50.000", "00.000"]
    assert [rate["good"] for rate in record.rates(None, time.time() - 5, 2)] == [0, 0]


def test_the_newest_review_counts_and_all_are_kept(record: VerdictRecord) -> None:
    (id_,) = made(record)
    assert record.review(id_, True, "anna", "a scratch")["is_defective"] is True
    record.review(id_, False, "ben", None)
    row = record.verdict(id_)
    assert row is not None
    assert [(review["by"], review["is_defective"]) for review in row["reviews"]] == [("ben", False), ("anna", True)]
    assert row["review"] == row["reviews"][0] == record.verdicts()[0][0]["review"]
    with pytest.raises(LookupError, match=f"there is no verdict {id_ + 1}"):
        record.review(id_ + 1, True)


def test_events_by_id(record: VerdictRecord) -> None:
    first, second, third = (record.add_event("drift", str(n), "gasket", {"n": n})["id"] for n in range(3))
    assert [event["id"] for event in record.events(limit=2)] == [third, second]
    later = record.events(since_id=first, newest_first=False)
    assert [(event["id"], event["details"]) for event in later] == [(second, {"n": 1}), (third, {"n": 2})]


def test_products_are_kept_as_last_set(record: VerdictRecord) -> None:
    record.set_product("washer", None, {})
    record.set_product("gasket", "a" * 64, {"min_area_px": 4})
    record.set_product("gasket", "b" * 64, {"min_area_px": 9})
    products = record.product_settings()
    assert list(products) == ["gasket", "washer"]
    assert (products["gasket"]["detector"], products["gasket"]["settings"]) == ("b" * 64, {"min_area_px": 9})


def test_each_output_gets_what_is_added_after_it_was_named(record: VerdictRecord) -> None:
    made(record)
    record.outputs = ("mqtt", "csv")
    (id_,) = made(record, part="17")
    record.review(id_, True)
    event = record.add_event("drift", "up")["id"]
    messages = record.due("mqtt")
    assert [(message.kind, message.payload["id"], message.attempts) for message in messages] == [
        ("verdict", id_, 0), ("event", event, 0),
    ]  # fmt: skip
    row = record.verdict(id_)
    assert row is not None
    del row["reviews"]
    assert messages[0].payload == row
    record.delivered([messages[0].id])
    assert [message.kind for message in record.due("mqtt")] == ["event"]
    assert (record.waiting("mqtt"), record.waiting("csv"), record.waiting("other")) == (1, 2, 0)
    assert [message.kind for message in record.due("csv", limit=1)] == ["verdict"]


def test_what_failed_is_due_later_or_set_aside(record: VerdictRecord) -> None:
    record.outputs = ("mqtt",)
    made(record, 2)
    first, second = record.due("mqtt")
    record.failed([first.id], "refused", due=time.time() + 1000)
    assert [message.id for message in record.due("mqtt")] == [second.id]
    assert [message.attempts for message in record.due("mqtt", now=time.time() + 2000)] == [1, 0]
    record.failed([first.id], "refused", due=None)
    assert [message.id for message in record.due("mqtt", now=time.time() + 1e9)] == [second.id]
    assert record.waiting("mqtt") == 1


def test_more_than_a_database_takes_at_once(record: VerdictRecord) -> None:
    record.outputs = ("mqtt",)
    there = made(record, 2500)
    assert there == sorted(there)
    messages = record.due("mqtt", limit=5000)
    assert [message.payload["id"] for message in messages] == there
    record.delivered([message.id for message in messages])
    assert record.waiting("mqtt") == 0
    record.drop_pictures(there)
    assert len(record.verdicts(limit=5000)[0]) == 2500
