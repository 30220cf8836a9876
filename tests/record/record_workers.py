"""What other processes do in the tests: they record parts, and are killed, or run out of disk."""

from __future__ import annotations

import hashlib
import itertools
import os
import resource
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from blemish.record.record import NewVerdict, VerdictRecord
from blemish.record.storage import Storage
from blemish.record.writer import Writer


def photograph(part: str) -> bytes:
    """What stands for the photograph of a part: a few kB that no other part has."""
    return b"\xff\xd8" + part.encode() * 300


def record_until_killed(address: str, folder: Path, acknowledged: Connection) -> None:
    """Record parts with images in several threads; send id and part of each that is on disk."""
    turn = threading.Lock()
    with VerdictRecord.open(address) as record:
        record.outputs = ("broker",)
        with Storage(folder, record=record, reserve_bytes=0) as storage, Writer(record) as writer:

            def inspect(thread: int) -> None:
                for number in itertools.count():
                    part = f"{os.getpid()}-{thread}-{number}"
                    content, now = photograph(part), time.time()
                    image = storage.save_image("gasket", content, hashlib.sha256(content).hexdigest(), now)
                    new = NewVerdict(product="gasket", verdict="good", part=part, time=now, image=image)
                    id_ = writer.put(new).result()
                    with turn:
                        acknowledged.send((id_, part))

            threads = [threading.Thread(target=inspect, args=(index,)) for index in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def record_some(address: str, name: str, n: int) -> None:
    """Record so many parts, by several threads that wait for each."""
    with VerdictRecord.open(address) as record, Writer(record) as writer:

        def inspect(thread: int) -> None:
            for number in range(n // 4):
                part = f"{name}-{thread}-{number}"
                writer.put(NewVerdict(product="gasket", verdict="good", part=part)).result()

        threads = [threading.Thread(target=inspect, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def record_with_small_files_only(address: str, folder: Path, results: Connection) -> None:
    """Record parts where the system refuses files of more than 8 MB: first a large image, at the end a small one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, resource.RLIM_INFINITY))
    with (
        VerdictRecord.open(address) as record,
        Storage(folder, record=record, reserve_bytes=0) as storage,
        Writer(record) as writer,
    ):
        for _ in range(3):
            image = storage.save_image("gasket", bytes(9_000_000), "a" * 64, time.time())
            id_ = writer.put(NewVerdict(product="gasket", verdict="good", image=image)).result()
            results.send((image, id_, storage.fault))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        storage._retry_s = 0.0  # as if some seconds had passed
        image = storage.save_image("gasket", bytes(9_000_000), "a" * 64, time.time())
        results.send((image, writer.put(NewVerdict(product="gasket", verdict="good", image=image)).result(), None))
