"""``blemish watch --db``: one row for each photograph, in the database and in the folder, whatever ends it."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from pymodbus.client import ModbusTcpClient

import blemish
from blemish.cli import main
from blemish.commands.replay import replayed
from blemish.outputs.registers import COUNTS
from blemish.record.record import VerdictRecord
from blemish.record.storage import Storage
from commands.test_watch import Process, Start, in_a_process, rows, wait_for
from forked import Forked
from learning.test_fit import TINY, part, save_parts
from outputs.receivers import Web, free_port


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch")
    blemish.fit(save_parts(folder / "good", 12), settings=TINY, device="cpu", false_rejects=0.2, out=folder / "nut")
    return folder / "nut"


@pytest.fixture
def start(run: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts the command in a process; all are killed at the end. Those with a storage are no forks."""
    processes: list[Process] = []

    def started(*words: object) -> Process:
        command = ["watch", str(tmp_path / "in"), "--detector", str(run), "--out", str(tmp_path / "out")]
        command += ["--device", "cpu", "--db", str(tmp_path / "record.db"), *map(str, words)]
        processes.append(in_a_process(command) if "--storage" in command else Forked(command))
        return processes[-1]

    (tmp_path / "in").mkdir()
    yield started
    for process in processes:
        process.kill()
        process.communicate()


def stop(process: Process, tmp_path: Path) -> str:
    """Stop a process that watches; earlier, a signal would end it at once."""
    heartbeat = tmp_path / "out" / "heartbeat.json"
    wait_for(lambda: json.loads(heartbeat.read_text())["pid"] == process.pid, process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert process.returncode in (0, 3), errors
    return output + errors


def recorded(tmp_path: Path) -> list[dict[str, object]]:
    with VerdictRecord.open(str(tmp_path / "record.db")) as record:
        return record.verdicts(limit=1000, newest_first=False)[0]


def n_shown_to_a_plc(port: int) -> int:
    """How many parts a PLC was shown, once it was shown any."""
    with ModbusTcpClient("127.0.0.1", port=port, timeout=20) as client:
        while (counted := client.read_holding_registers(COUNTS, count=2, device_id=1).registers) == [0, 0]:
            time.sleep(0.01)
    return int(counted[1])


def same(tmp_path: Path) -> list[dict[str, object]]:
    """The rows of the record, which are those of the folder, each once."""
    of_record, of_folder = recorded(tmp_path), rows(tmp_path / "out")
    assert max(Counter(row["name"] for row in of_record).values()) == 1
    assert [row["name"] for row in of_record] == [row["path"] for row in of_folder]
    assert [row["id"] for row in of_record] == [row["id"] for row in of_folder]
    for key in ("score", "threshold", "is_defective", "time", "detector"):
        assert [row[key] for row in of_record] == [row[key] for row in of_folder]
    table = (tmp_path / "out" / "findings.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == [row["name"] for row in of_record]
    return of_record


def test_the_record_says_what_the_folder_says(start: Start, run: Path, tmp_path: Path) -> None:
    save_parts(tmp_path / "in", 3)
    Image.fromarray(255 - part(0)).save(tmp_path / "in" / "strange.png")
    (tmp_path / "in" / "torn.png").write_bytes((tmp_path / "in" / "part 0.png").read_bytes()[:200])
    process = start("--storage", tmp_path / "in" / "storage", "--save-good", "--save", "none")
    wait_for(lambda: len(rows(tmp_path / "out")) == 5, process)
    assert "torn.png: damaged or incomplete" in stop(process, tmp_path)
    good, *_, torn = same(tmp_path)
    path = tmp_path / "in" / "part 0.png"
    assert good["photograph"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert good["detector"] == hashlib.sha256((run / "detector.blemish").read_bytes()).hexdigest()
    assert (good["product"], good["source"], good["size_wh"]) == ("nut", str(tmp_path / "in"), [50, 40])
    assert good["has_image"]
    assert good["has_overlay"]
    assert (torn["verdict"], torn["score"]) == ("not_inspected", None)
    assert "damaged or incomplete" in str(torn["reason"])
    images = [file.read_bytes() for file in (tmp_path / "in" / "storage" / "pictures").rglob("*.png")]
    assert path.read_bytes() in images
    with VerdictRecord.open(str(tmp_path / "record.db")) as record:
        assert [event["kind"] for event in record.events(newest_first=False)] == ["started", "stopped"]
        assert record.product_settings()["nut"]["detector"] == good["detector"]


def test_killed_and_started_again_each_photograph_has_one_row(start: Start, tmp_path: Path) -> None:
    for kill in range(2):
        for number in range(10):
            Image.fromarray(part(number)).save(tmp_path / "in" / f"{kill}-{number}.png")
        process = start("--save", "none")
        wait_for(lambda kill=kill: len(recorded(tmp_path)) > 10 * kill + 3 if (tmp_path / "record.db").exists()
                 else False, process)  # fmt: skip
        process.kill()
        process.communicate()
        if kill == 1:  # killed after rows were recorded, before they were in the folder
            file = tmp_path / "out" / "findings.jsonl"
            lines = file.read_bytes().splitlines(keepends=True)
            file.write_bytes(b"".join(lines[:-2]) + b'{"path": "torn')
    process = start("--save", "none")
    wait_for(lambda: len(rows(tmp_path / "out")) == 20, process)
    stop(process, tmp_path)
    assert len(same(tmp_path)) == 20


def test_what_the_least_area_decided_can_be_replayed(start: Start, tmp_path: Path) -> None:
    pixels = part(0)
    pixels[10:20, 10:30] = 0
    Image.fromarray(pixels).save(tmp_path / "in" / "spot.png")
    process = start("--storage", tmp_path / "storage", "--save-good", "--save", "none", "--min-area", "2000")
    wait_for(lambda: len(rows(tmp_path / "out")) == 1, process)
    stop(process, tmp_path)
    (row,) = recorded(tmp_path)
    assert row["score"] > row["threshold"]  # type: ignore[operator]
    assert not row["is_defective"]
    with (
        VerdictRecord.open(str(tmp_path / "record.db")) as record,
        Storage(tmp_path / "storage", record=record) as storage,
    ):
        assert replayed(record, storage, 1).is_same


def test_what_was_stopped_goes_on_from_the_database(start: Start, tmp_path: Path) -> None:
    save_parts(tmp_path / "in", 3)
    process = start("--save", "none")
    wait_for(lambda: len(rows(tmp_path / "out")) == 3, process)
    stop(process, tmp_path)
    (tmp_path / "out" / "findings.jsonl").write_bytes(b"")  # it is not read
    Image.fromarray(part(7)).save(tmp_path / "in" / "late.png")
    process = start("--save", "none")
    wait_for(lambda: len(rows(tmp_path / "out")) == 1, process)
    stop(process, tmp_path)
    assert [Path(row["path"]).name for row in rows(tmp_path / "out")] == ["late.png"]
    assert len(recorded(tmp_path)) == 4


def test_a_folder_that_was_watched_without_a_record_is_taken_into_it(start: Start, run: Path, tmp_path: Path) -> None:
    save_parts(tmp_path / "in", 3)
    command = ["watch", str(tmp_path / "in"), "--detector", str(run), "--out", str(tmp_path / "out")]
    process: Process = Forked([*command, "--save", "none"])
    wait_for(lambda: len(rows(tmp_path / "out")) == 3, process)
    process.terminate()
    process.communicate()
    web = Web()
    for number in (7, 8):
        Image.fromarray(part(number)).save(tmp_path / "in" / f"late {number}.png")
        port = free_port()
        process = start("--save", "none", "--webhook", web.url, "--modbus", f":{port}", "--product", "bolt")
        wait_for(lambda number=number: len(rows(tmp_path / "out")) == number - 3, process)
        assert n_shown_to_a_plc(port) == 1
        stop(process, tmp_path)
    names = [Path(str(row["name"])).name for row in recorded(tmp_path)]
    assert names == ["part 0.png", "part 1.png", "part 2.png", "late 7.png", "late 8.png"]
    assert [row["path"] for row in rows(tmp_path / "out")] == [row["name"] for row in recorded(tmp_path)]
    sent = [payload for payload in web.taken if "score" in payload]
    web.close()
    assert [payload | {"review": None} for payload in sent] == recorded(tmp_path)[3:]  # and no old ones
    assert {row["product"] for row in recorded(tmp_path)} == {"bolt"}


def test_a_new_database_in_the_same_place_takes_all_in(start: Start, tmp_path: Path) -> None:
    save_parts(tmp_path / "in", 3)
    for _ in range(2):
        process = start("--save", "none")
        wait_for(lambda: len(rows(tmp_path / "out")) == 3, process)
        wait_for(lambda: len(recorded(tmp_path)) == 3, process)
        stop(process, tmp_path)
        (tmp_path / "record.db").rename(tmp_path / "old.db")
    assert len(rows(tmp_path / "out")) == 3


def test_a_database_that_is_away_is_started_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    command = ["watch", str(tmp_path / "in"), "--detector", str(run), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        main([*command, "--db", "postgresql://line:s3cret@127.0.0.1:9/record"])
    assert end.value.code == 75
    errors = capsys.readouterr().err
    assert "127.0.0.1" in errors
    assert "s3cret" not in errors


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--mqtt", "mqtt://host"], "--mqtt: needs the record of a database, where all waits until it is delivered"),
        (["--product", "x"], "--product: needs the record of a database"),
        (["--db", "{folder}/r.db", "--mqtt", "http://u:s3cret@host"], "--mqtt http://host: should be mqtt://[USER"),
        (["--db", "{folder}/r.db", "--modbus", "host"], "modbus://host: names no port; the usual one is 502"),
        (["--db", "{folder}/r.db", "--product", "a/b"], "--product a/b: a name has letters, digits,"),
        (["--db", "{folder}"], "is a folder; give the file of a database"),
    ],
)
def test_mistakes_are_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    (tmp_path / "in").mkdir()
    command = ["watch", str(tmp_path / "in"), "--detector", str(run), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        main([*command, *(word.replace("{folder}", str(tmp_path)) for word in words)])
    assert end.value.code == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert line in errors
    assert "s3cret" not in errors
    assert not (tmp_path / "out").exists()
