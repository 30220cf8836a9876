"""Nothing is lost or written twice: killed processes, a server that stops, a full disk, several processes at once."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from record_workers import photograph, record_some, record_until_killed, record_with_small_files_only

from blemish.record.record import NewVerdict, VerdictRecord
from blemish.record.storage import Storage
from blemish.record.writer import Writer
from conftest import Server
from forked import CONTEXT

LONG_S = 120.0
N_KILLS = 8


@pytest.fixture(scope="module")
def processes() -> Any:
    """Starts processes quickly: each is forked from one that has no threads and has imported everything."""
    return CONTEXT


def rows(record: VerdictRecord) -> list[dict[str, Any]]:
    return record.verdicts(limit=100_000, newest_first=False)[0]


def received(connection: Connection) -> tuple[int, str]:
    assert connection.poll(LONG_S)
    message: tuple[int, str] = connection.recv()
    return message


def killed_under_load(processes: Any, address: str, folder: Path, n_first: int) -> dict[int, str]:
    """Let a process record parts, kill it after so many answers, and return all answers that it gave."""
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=record_until_killed, args=(address, folder, theirs))
    process.start()
    theirs.close()
    answers = [received(ours) for _ in range(n_first)]
    process.kill()
    with contextlib.suppress(EOFError, OSError):
        while True:
            answers.append(received(ours))
    process.join(LONG_S)
    return dict(answers)


def test_kill_loses_no_part_that_was_acknowledged(processes: Any, address: str, tmp_path: Path) -> None:
    folder, chance = tmp_path / "storage", random.Random(0)
    acknowledged = dict[int, str]()
    for _ in range(N_KILLS):
        acknowledged |= killed_under_load(processes, address, folder, chance.randint(1, 60))
    with VerdictRecord.open(address) as record:
        there = {row["id"]: row["part"] for row in rows(record)}
        assert acknowledged.items() <= there.items()
        assert len(set(there.values())) == len(there)
        assert record.waiting("broker") == len(there)
        with Storage(folder, record=record, reserve_bytes=0) as storage:
            assert storage._retention is not None
            assert storage._retention.is_searched.wait(LONG_S)
            n_files = sum(path.is_file() for path in (folder / "pictures").rglob("*"))
            assert n_files == len(there)
            for id_, part in there.items():
                pictures = record.pictures(id_)
                assert pictures is not None
                image = storage.path(pictures.image)
                assert image is not None
                assert image.read_bytes() == photograph(part)


def test_processes_that_write_at_once_lose_nothing_and_keep_the_order(processes: Any, address: str) -> None:
    """One who follows by id meanwhile sees each row once: ids are in the order of commits."""
    with VerdictRecord.open(address) as record:
        names = "one", "two"
        workers = [processes.Process(target=record_some, args=(address, name, 200)) for name in names]
        for worker in workers:
            worker.start()
        seen, last = list[str](), 0
        end_s = time.monotonic() + LONG_S
        while len(seen) < 400 and time.monotonic() < end_s:
            page, _ = record.verdicts(newest_first=False, cursor=last, limit=50)
            seen += [row["part"] for row in page]
            last = page[-1]["id"] if page else last
        for worker in workers:
            worker.join(LONG_S)
            assert worker.exitcode == 0
        assert sorted(seen) == sorted(
            f"{name}-{thread}-{n}" for name in names for thread in range(4) for n in range(50)
        )
        assert record.verdicts(newest_first=False, cursor=last) == ([], None)


def test_a_server_that_stops_and_starts_loses_nothing(postgresql: Server) -> None:
    """Parts are put before, while and after it is stopped; transactions are cut off in the middle."""
    with VerdictRecord.open(postgresql.new_database()) as record:
        record.outputs = ("broker",)
        is_over = threading.Event()
        futures = list[Any]()

        def load() -> None:
            while not is_over.is_set() or len(futures) < 400:
                futures.append(writer.put(NewVerdict(product="gasket", verdict="good", part=str(len(futures)))))
                if len(futures) % 10 == 0:
                    time.sleep(0.001)

        with Writer(record) as writer:
            loading = threading.Thread(target=load)
            loading.start()
            for _ in range(2):
                until = len(futures) + 100
                while len(futures) < until:
                    time.sleep(0.001)
                postgresql.stop()
                writer.put(NewVerdict(product="gasket", verdict="defective"))
                while writer.is_healthy:
                    time.sleep(0.001)
                assert writer.fault is not None
                assert "\n" not in writer.fault
                assert postgresql.password not in writer.fault
                assert writer.n_waiting
                postgresql.start()
                futures[-1].result(LONG_S)
            is_over.set()
            loading.join(LONG_S)
            ids = [future.result(LONG_S) for future in futures]
            assert writer.is_healthy
        found = {row["id"]: row["part"] for row in rows(record) if row["verdict"] == "good"}
        assert found == {id_: str(part) for part, id_ in enumerate(ids)}
        assert ids == sorted(ids)
        assert record.counts()["defective"] == 2
        assert record.waiting("broker") == len(ids) + 2


def test_a_full_disk_of_the_database_is_waited_for(sqlite_record: VerdictRecord) -> None:
    limit_pages = 0

    @sa.event.listens_for(sqlite_record.database.engine, "checkout")
    def limit(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={limit_pages or 2**30}")

    with Writer(sqlite_record) as writer:
        writer.put(NewVerdict(product="gasket", verdict="good")).result(LONG_S)
        limit_pages = 1  # as many as it has
        futures = [writer.put(NewVerdict(product="gasket", verdict="good", reason="x" * 5000)) for _ in range(50)]
        while writer.is_healthy:
            time.sleep(0.001)
        assert writer.fault is not None
        assert writer.fault.endswith("its disk is full; free the disk")
        limit_pages = 0
        assert [future.result(LONG_S) for future in futures] == list(range(2, 52))


def test_where_no_large_file_can_be_written_verdicts_go_on(processes: Any, tmp_path: Path) -> None:
    address, folder = str(tmp_path / "record.db"), tmp_path / "storage"
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=record_with_small_files_only, args=(address, folder, theirs))
    process.start()
    theirs.close()
    results: list[Any] = [received(ours) for _ in range(4)]
    process.join(LONG_S)
    assert process.exitcode == 0
    assert [(image, id_) for image, id_, _ in results[:3]] == [(None, 1), (None, 2), (None, 3)]
    assert all("(File too large); free the disk" in fault for *_, fault in results[:3])
    assert results[3][0] is not None
    with VerdictRecord.open(address) as record:
        texts = [event["text"] for event in record.events(newest_first=False)]
        assert len(texts) == 2
        assert "no picture can be saved" in texts[0]
        assert texts[1].endswith(": pictures are saved again")
        assert [row["has_image"] for row in rows(record)] == [False, False, False, True]
    assert [path.stat().st_size for path in (folder / "pictures").rglob("*.*")] == [9_000_000]
