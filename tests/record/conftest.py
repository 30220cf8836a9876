"""A PostgreSQL server for the tests of the record, and a new database for each test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from blemish.record.record import VerdictRecord


@dataclass
class Server:
    """A PostgreSQL server of its own, on a free port."""

    programs: Path
    folder: Path
    port: int
    password: str = "s3cret word"
    n_databases: int = 0

    def run(self, program: str, *arguments: str) -> None:
        user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        subprocess.run(
            [self.programs / program, "-D", self.folder / "data", *arguments],
            cwd=self.folder, check=True, stdout=subprocess.DEVNULL, timeout=120, **user,
        )  # fmt: skip

    def start(self) -> None:
        settings = "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}", "fsync=off"
        options = " ".join([f"-p {self.port}", *(f"-c {setting}" for setting in settings)])
        self.run("pg_ctl", "-w", "-t", "100", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-m", "immediate", "-w", "stop")

    def url(self, database: str, user: str = "postgres", password: str | None = None) -> str:
        word = (password or self.password).replace(" ", "%20")
        return f"postgresql://{user}:{word}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make a database, and return its URL."""
        self.n_databases += 1
        name = f"record{self.n_databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """The server; tests that use it are skipped where PostgreSQL is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    on_path = shutil.which("initdb")
    programs = folders[-1] if folders else Path(on_path).parent if on_path else None
    if programs is None or not (programs / "initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="blemish-pg-", dir="/tmp"))  # pytest's own may not be entered by postgres
    server = Server(programs, folder, port)
    try:
        word = folder / "word"
        word.write_text(server.password)
        if os.geteuid() == 0:
            for path in (folder, word):
                shutil.chown(path, "postgres", "postgres")
        server.run("initdb", "-A", "scram-sha-256", f"--pwfile={word}", "--no-sync", "-U", "postgres", "-E", "UTF8",
                   "--locale=C")  # fmt: skip
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new record can be made: the path of a file, or the URL of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "record.db")
    server: Server = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
def record(address: str) -> Iterator[VerdictRecord]:
    """A new record, on each kind of database."""
    with VerdictRecord.open(address) as record:
        yield record


@pytest.fixture
def sqlite_record(tmp_path: Path) -> Iterator[VerdictRecord]:
    """A new record in a file."""
    with VerdictRecord.open(str(tmp_path / "record.db")) as record:
        yield record
