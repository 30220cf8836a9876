"""CSV files as a spreadsheet reads them: whole rows, each once, also on a full disk and after a sudden end."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.outputs.addresses import output_at
from blemish.outputs.csv_file import COLUMNS
from blemish.outputs.delivery import Delivery
from blemish.record.record import VerdictRecord
from outputs import courier
from outputs.receivers import add, wait_for


@pytest.fixture
def record(tmp_path: Path) -> Iterator[VerdictRecord]:
    with VerdictRecord.open(str(tmp_path / "record.db")) as opened:
        yield opened


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows(record: VerdictRecord, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    with Delivery(record, [output_at(f"csv:{path}")]) as delivery:
        first, second = add(record, 1, 2, lot="L,7\n")
        (third,) = add(record, 3, verdict="not_inspected", reason="late", score=None, regions=[], unlike=[])
        record.add_event("started", "not in the file")
        delivery.wake()
        wait_for(lambda: record.waiting("csv") == 0)
        path.rename(tmp_path / "old.csv")  # as a program does that collects them
        add(record, 4)
        delivery.wake()
        wait_for(lambda: record.waiting("csv") == 0)
    old, new = rows_of(tmp_path / "old.csv"), rows_of(path)
    assert [row["id"] for row in old] == [str(first), str(second), str(third)]
    assert tuple(old[0]) == COLUMNS
    verdict = record.verdict(first)
    assert verdict is not None
    shown = {"time": verdict["time"], "product": "gasket", "part": "1", "lot": "L,7", "path": "part 1.png",
             "verdict": "defective", "score": "0.75", "n_regions": "1", "largest_area_px": "4"}  # fmt: skip
    assert {key: old[0][key] for key in shown} == shown
    assert (old[2]["error"], old[2]["score"]) == ("late", "")
    assert [row["part"] for row in new] == ["4"]


ON_A_FULL_DISK = """
import resource, sys
from blemish.outputs.addresses import output_at
from blemish.outputs.base import Away
from blemish.record.rows import Message, verdict_json
from outputs.receivers import verdict

path = sys.argv[1]
output = output_at("csv:" + path)
output.open()
messages = [Message(n, "csv", "verdict", verdict_json(verdict(n).row(None) | {"id": n}, None), 0) for n in range(20)]
assert len(list(output.deliver(messages[:5]))) == 5
before = open(path, "rb").read()
resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 300, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        list(output.deliver(messages[5:]))
    except Away as away:
        print(away)
    assert open(path, "rb").read() == before
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert len(list(output.deliver(messages[5:]))) == 15
"""


def test_a_full_disk_means_later_and_no_torn_row(tmp_path: Path) -> None:
    """A limit of a file's size stands for the end of the disk: the system stops the write in the middle of a row."""
    path = tmp_path / "verdicts.csv"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = f"{path}: cannot be written (File too large); free the disk or choose another folder"
    assert done.stdout.splitlines() == [line, line]
    assert [row["id"] for row in rows_of(path)] == [str(number) for number in range(20)]


def test_killed_between_deliveries_each_row_is_there_once(tmp_path: Path) -> None:
    path, database = tmp_path / "verdicts.csv", str(tmp_path / "record.db")
    for kill in range(3):
        process = subprocess.Popen([sys.executable, courier.__file__, database, "300", f"csv:{path}"])
        wait_for(lambda kill=kill: path.exists() and len(path.read_bytes().splitlines()) > 300 * kill + 50)
        process.kill()
        process.wait()
        with path.open("ab") as file:
            file.write(b'7,2026-11-28T00:00:00,gas"')  # torn
        with VerdictRecord.open(database) as record, Delivery(record, [output_at(f"csv:{path}")]):
            wait_for(lambda record=record: record.waiting("csv") == 0)
            n_recorded = record.latest_id()
        assert [int(row["id"]) for row in rows_of(path)] == list(range(1, n_recorded + 1))


def test_another_record_begins_with_the_same_ids(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    for name in ("a", "b"):
        output = output_at(f"csv:{path}")
        with VerdictRecord.open(str(tmp_path / f"{name}.db")) as record, Delivery(record, [output]) as delivery:
            add(record, 1, 2)
            delivery.wake()
            wait_for(lambda record=record: record.waiting("csv") == 0)
    assert [row["id"] for row in rows_of(path)] == ["1", "2", "1", "2"]


def test_files_of_others_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    missing = tmp_path / "mistyped" / "verdicts.csv"
    with pytest.raises(BlemishError, match=r"there is no folder .*mistyped; make it"):
        output_at(f"csv:{missing}").open()
    other = tmp_path / "other.csv"
    other.write_text("path,score\n")
    with pytest.raises(BlemishError, match=r"other\.csv: is not a table of verdicts of blemish; choose "):
        output_at(f"csv:{other}").open()
    with pytest.raises(BlemishError, match="cannot be written"):
        output_at(f"csv:{other}/verdicts.csv").open()
    with pytest.raises(BlemishError, match=r"cannot be written \(Is a directory\)"):
        output_at(f"csv:{tmp_path}").open()
