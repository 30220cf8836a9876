"""Each bad input gets its status and one line, and leaves a row only if it was accepted."""

from __future__ import annotations

import json
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services import DEFECTIVE, GOOD, WAIT_S, Running, png, running, wait_for

from blemish.record import writer
from blemish.serve.service import Limits

MAX_BYTES = 50_000


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(max_bytes=MAX_BYTES, max_px=1_000_000, body_s=2.0)
    with running(tmp_path_factory.mktemp("service"), limits=limits) as each:
        yield each


def bomb(width: int, height: int) -> bytes:
    """A small PNG file of many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def check_error(answer: Any, status: int, text: str) -> None:
    assert answer.status_code == status
    error = answer.json()["error"]
    assert text in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("content", "headers", "path", "status", "text", "n_rows"),
    [
        (GOOD, {"Content-Type": "text/plain"}, "/products/gasket/inspect", 415, "Content-Type text/plain", 0),
        (
            GOOD,
            {"Content-Type": "application/x-www-form-urlencoded"},
            "/products/gasket/inspect",
            415,
            "photograph",
            0,
        ),
        (GOOD, {"Content-Encoding": "gzip"}, "/products/gasket/inspect", 415, "Content-Encoding gzip", 0),
        (GOOD, {}, "/products/lid/inspect", 404, "lid: no such product; served are gasket", 0),
        (GOOD, {}, "/products/gasket/inspect?part=" + "x" * 201, 400, "part", 0),
        (GOOD, {}, "/products/gasket/inspect?serial=17", 400, "serial: is no parameter here; there are part, lot", 0),
        (GOOD, {}, "/nowhere", 404, "/nowhere: Not Found", 0),
        (bytes(MAX_BYTES + 1), {}, "/products/gasket/inspect", 413, "more than 0.05 MB", 0),
        (bomb(30_000, 30_000), {}, "/products/gasket/inspect", 413, "30000x30000 px is too large", 0),
        (b"", {}, "/products/gasket/inspect", 400, "is empty", 1),
        (b"hello", {}, "/products/gasket/inspect", 400, "is not a PNG", 1),
        (GOOD[:-30], {}, "/products/gasket/inspect", 400, "image", 1),
        (bomb(900, 900), {}, "/products/gasket/inspect", 400, "image", 1),
    ],
    ids=str,
)
def test_a_bad_photograph(
    line: Running, content: bytes, headers: dict[str, str], path: str, status: int, text: str, n_rows: int
) -> None:
    n_before = len(line.rows())
    answer = line.http.post(path, content=content, headers={"Content-Type": "image/png"} | headers)
    check_error(answer, status, text)
    rows = line.rows()
    assert len(rows) - n_before == n_rows
    if n_rows:
        assert answer.json()["id"] == rows[-1]["id"]
        assert (rows[-1]["verdict"], rows[-1]["reason"]) == ("not_inspected", answer.json()["error"])
    assert line.service.products()[0]["waiting"] == 0
    assert line.inspect(GOOD).status_code == 200


def test_a_body_in_chunks_is_counted(line: Running) -> None:
    n_before = len(line.rows())

    def chunks() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(1000)

    check_error(line.inspect(chunks()), 413, "more than 0.05 MB")  # type: ignore[arg-type]
    assert len(line.rows()) == n_before
    assert line.inspect(iter([DEFECTIVE])).json()["verdict"] == "defective"  # type: ignore[arg-type]


def raw(line: Running, head: str, body: bytes) -> bytes:
    """The answer to bytes as they are."""
    address = "127.0.0.1", int(line.url.rpartition(":")[2])
    with socket.create_connection(address, WAIT_S) as connection:
        connection.sendall(f"{head}\r\nHost: x\r\nContent-Type: image/png\r\n".encode() + body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
            if b"\r\n\r\n" in answer and b"}" in answer:
                break
    return answer


def test_a_length_that_lies_costs_nothing_but_its_own_request(line: Running) -> None:
    post = "POST /products/gasket/inspect HTTP/1.1"
    n_before = len(line.rows())
    assert b"413" in raw(line, post, b"Content-Length: 99999999999\r\n\r\nabc").split(b"\r\n")[0]
    answer = raw(line, post, f"Content-Length: {len(GOOD) + 5}\r\n\r\n".encode() + GOOD)  # the rest never comes
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"did not come whole in 2 s" in answer
    short = raw(line, post, b"Content-Length: 10\r\n\r\n" + GOOD)  # less than there is: its end is not sent
    assert b" 400 " in short.split(b"\r\n")[0]
    wait_for(lambda: line.service.products()[0]["waiting"] == 0)
    assert len(line.rows()) - n_before == 1
    assert line.inspect(GOOD).status_code == 200


def test_a_client_that_goes_away_gives_its_place_back(line: Running) -> None:
    address = "127.0.0.1", int(line.url.rpartition(":")[2])
    n_before = len(line.rows())
    with socket.create_connection(address, WAIT_S) as connection:
        connection.sendall(b"POST /products/gasket/inspect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                           b"Content-Length: 1000\r\n\r\nabc")  # fmt: skip
        wait_for(lambda: line.service.products()[0]["waiting"] == 1)
    wait_for(lambda: line.service.products()[0]["waiting"] == 0)
    assert len(line.rows()) == n_before


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/verdicts?limit=0", None, 400, "limit"),
        ("GET", "/verdicts?cursor=x", None, 400, "cursor"),
        (
            "GET",
            "/verdicts?verdikt=good",
            None,
            400,
            "verdikt: is no parameter here; there are product, since, until",
        ),
        ("GET", "/verdicts?limit=1&limit=2", None, 400, "limit: is given more than once"),
        ("GET", "/products?x", None, 400, "x: is no parameter here; there are none"),
        ("POST", "/products/gasket/recalibrate?dry_run=false", "{}", 400, "dry_run: is no parameter here"),
        ("GET", "/verdicts?cursor=99999999999999999999", None, 400, "cursor"),
        ("GET", "/verdicts?since=yesterday", None, 400, "since"),
        ("GET", "/verdicts?verdict=bad", None, 400, "verdict"),
        ("GET", "/verdicts?reviewed=perhaps", None, 400, "reviewed"),
        ("GET", "/verdicts/x", None, 400, "number"),
        ("GET", "/verdicts/", None, 404, "/verdicts/: Not Found"),
        ("POST", "/products/gasket/inspect/", "x", 404, "Not Found"),
        ("GET", "/v2/models/gasket/versions/7", None, 404, "gasket: has no version 7; there is dddddddddddd"),
        ("DELETE", "/products/lid", None, 404, "lid: no such product"),
        ("GET", "/verdicts/123456", None, 404, "there is no verdict 123456"),
        ("GET", "/verdicts/99999999999999999999", None, 400, "number"),
        ("GET", "/verdicts/123456/image", None, 404, "there is no verdict 123456"),
        ("GET", "/verdicts/123456/overlay", None, 404, "there is no verdict 123456"),
        ("POST", "/verdicts/1/review", "{", 400, "the body is no valid JSON ("),
        ("POST", "/verdicts/1/review", None, 400, "the body: Field required"),
        ("POST", "/verdicts/1/review", "{}", 400, "is_defective"),
        ("POST", "/verdicts/1/review", '{"is_defective": "yes"}', 400, "is_defective"),
        ("POST", "/verdicts/1/review", '{"is_defective": true, "who": "me"}', 400, "who"),
        ("POST", "/verdicts/123456/review", '{"is_defective": true}', 404, "there is no verdict 123456"),
        ("DELETE", "/verdicts/1", None, 405, "Method Not Allowed"),
        ("GET", "/products/lid", None, 404, "no such product"),
        ("PUT", "/products/lid", "{}", 400, "give a detector"),
        ("PUT", "/products/l id", '{"detector": "x"}', 400, "product"),
        ("PUT", "/products/gasket", '{"threshold": -1}', 400, "threshold"),
        ("PUT", "/products/gasket", '{"bits": 9}', 400, "bits"),
        ("PUT", "/products/gasket", "{}", 400, "nothing is to change"),
        ("PUT", "/products/gasket", '{"detector": "/nowhere.blemish"}', 400, "/nowhere.blemish"),
        ("PUT", "/products/gasket", '{"detector": "' + 3999 * "0" + '"}', 400, "no file here"),
        ("PUT", "/products/gasket", '{"keep_days": -5}', 400, "keep_days"),
        ("PUT", "/products/gasket", '{"roi": "region.png"}', 400, "roi: is not known here"),
        ("POST", "/products/lid/recalibrate", "{}", 404, "no such product"),
        ("POST", "/products/gasket/recalibrate", '{"false_rejects": 1}', 400, "false_rejects"),
        ("GET", "/v2/models/lid", None, 404, "no such product"),
        ("POST", "/v2/models/lid/infer", "{}", 404, "no such product"),
    ],
)
def test_a_bad_request(line: Running, method: str, path: str, body: str | None, status: int, text: str) -> None:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    check_error(line.http.request(method, path, content=body, headers=headers), status, text)


@pytest.mark.parametrize(("path", "status"), [("/parts/abc", 400), ("/nowhere", 404), ("/products/lid", 404)])
def test_a_browser_gets_an_error_as_a_page(line: Running, path: str, status: int) -> None:
    answer = line.http.get(path, headers={"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"})
    assert answer.status_code == status
    assert answer.text.startswith("<!doctype html>")
    said = line.http.get(path).json()["error"]
    assert f'<p class="breaks">{said}</p>' in answer.text


def test_json_without_its_content_type_is_told(line: Running) -> None:
    answer = line.http.put("/products/gasket", content=b"{}", headers={"Content-Type": "text/plain"})
    check_error(answer, 400, "the body: should be a JSON object, with Content-Type: application/json")


def test_a_time_is_taken_as_a_row_has_it(line: Running) -> None:
    line.inspect(GOOD)
    newest = line.rows()[-1]
    found = line.http.get(f"/verdicts?since={newest['time']}").json()["verdicts"]  # its + means a space in a query
    assert found[0]["id"] == newest["id"]


def test_a_review_has_a_limit(line: Running) -> None:
    sent = b'{"is_defective": true, "note": "' + bytes(2_000_000)
    answer = line.http.post("/verdicts/1/review", content=iter([sent]), headers={"Content-Type": "application/json"})
    check_error(answer, 413, "more than 1 MB")


def test_a_review_as_a_form_is_refused(line: Running) -> None:
    """A page of another site may send forms through the browser of who looks at it, but no JSON."""
    number = line.inspect(GOOD).json()["id"]
    sent = json.dumps({"is_defective": True})
    answer = line.http.post(f"/verdicts/{number}/review", content=sent, headers={"Content-Type": "text/plain"})
    assert answer.status_code in (400, 415)
    assert line.record.verdict(number)["review"] is None  # type: ignore[index]


def test_without_the_record_nothing_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PROBE_S", WAIT_S)  # it would find that the database is not away
    with running(tmp_path) as line:
        line.service.writer.fault = "the database is away"
        check_error(line.inspect(GOOD), 503, "the record cannot be written")
        assert line.inspect(GOOD).headers["Retry-After"]
        assert line.http.get("/v2/health/ready").status_code == 503
        assert line.http.get("/v2/health/live").status_code == 200
        line.service.writer.fault = None
        assert line.inspect(png(0)).json()["verdict"] == "defective"
