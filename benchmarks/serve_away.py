"""`blemish serve` while its broker, and then its PostgreSQL, is away: nothing that was answered may be lost.

    .venv/bin/python benchmarks/serve_away.py DETECTOR IMAGES --away 60 --rate 8

Starts a PostgreSQL and a mosquitto of its own on free ports of 127.0.0.1 (both must be installed), the service by
both, and a subscriber. Photographs come at a steady rate all the time; the broker is stopped for so many seconds,
later the database. Counted are answers, rows of the record, and messages that the subscriber got. Writes
``results/serve-away.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psycopg

from blemish.data.listing import list_images
from machine import RESULTS, describe
from serve_load import Answers, open_loop, serving


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PostgreSQL:
    """A server that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder / "pg", free_port()
        self.programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self.folder.mkdir()
        if os.geteuid() == 0:
            folder.chmod(0o755)
            shutil.chown(self.folder, "postgres", "postgres")
        self._run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *words: str) -> None:
        user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        command = [self.programs / program, "-D", self.folder / "data", *words]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, **user)  # type: ignore[call-overload]

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")


class Mosquitto:
    """A broker that can be stopped and started, and keeps the sessions of its subscribers."""

    def __init__(self, folder: Path) -> None:
        self.port, self.config = free_port(), folder / "mosquitto.conf"
        place = folder / "broker"
        place.mkdir()
        place.chmod(0o777)
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {place}/\nmax_queued_messages 0\n"
        )

    def start(self) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "mosquitto is not installed"
        self.process = subprocess.Popen([program, "-c", self.config], stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def subscribed(port: int, ids: Counter[int]) -> mqtt.Client:
    """A subscriber that counts the ids of the verdicts that it gets."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "counts", clean_session=False)
    client.on_connect = lambda client, *_: client.subscribe("blemish/+/verdict", 1)
    client.on_message = lambda client, _, message: ids.update([json.loads(message.payload)["id"]])
    client.reconnect_delay_set(1, 2)
    client.connect_async("127.0.0.1", port)
    client.loop_start()
    return client


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    contents = [path.read_bytes() for path in list_images(arguments.images, recursive=True)][:100]
    database, broker = PostgreSQL(folder), Mosquitto(folder)
    database.start()
    broker.start()
    got = Counter[int]()
    client = subscribed(broker.port, got)
    words = ["--db", database.url, "--mqtt", f"mqtt://127.0.0.1:{broker.port}"]
    calm, away = 20.0, arguments.away
    try:
        with serving(arguments.detector, folder / "storage", *words) as served:

            def trouble() -> None:
                for each in (broker, database):
                    time.sleep(calm)
                    each.stop()
                    time.sleep(away)
                    each.start()

            thread = threading.Thread(target=trouble)
            thread.start()
            answers = Answers()
            asyncio.run(open_loop(served.port, contents, arguments.rate, 3 * calm + 2 * away, answers))
            thread.join()
            ends_s = time.monotonic() + 180
            with psycopg.connect(database.url) as connection:
                while time.monotonic() < ends_s:
                    waiting = connection.execute("SELECT count(*) FROM outbox").fetchone()
                    connection.rollback()
                    if waiting == (0,):
                        break
                    time.sleep(1)
                rows = {row[0] for row in connection.execute("SELECT id FROM verdicts").fetchall()}
                time.sleep(3)
            code = served.stop()
    finally:
        client.loop_stop()
        broker.stop()
        database.stop()
    return {
        "away_s": away, "rate_per_s": arguments.rate, **answers.figures(), "rows": len(rows),
        "answered_without_a_row": sum(each not in rows for each in answers.ids),
        "rows_without_a_message": len(rows - got.keys()), "messages_got_twice": sum(n > 1 for n in got.values()),
        "outbox_at_the_end": waiting[0] if waiting else None, "exit_code": code,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--away", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "serve-away.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="blemish-away-", dir="/tmp") as name:
        result = {**describe(), **measured(arguments, Path(name))}
    print(json.dumps(result, indent=1))
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
