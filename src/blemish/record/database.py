"""Opening the database of a record: SQLite or PostgreSQL, migrated, with its errors in one line."""

from __future__ import annotations

import importlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from blemish.errors import BlemishError, NotNow
from blemish.record.tables import VERSION_TABLE

BUSY_S = 30.0
"""So long a process waits for another one that writes to the same SQLite file."""
LOCK = 0x626C656D
"""Number of the lock that writers of a PostgreSQL database take in turn, so that ids are in the order of commits."""
_KEPT_ALIVE = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "blemish",
}
"""A server whose machine vanished is noticed after some 20 s."""
_MIGRATING = threading.Lock()
"""Alembic migrates one database at a time in a process."""
_SECRET = ("password", "sslpassword")


class RecordAway(NotNow):
    """The database cannot be used at the moment: it may be later, without any change."""


class Database:
    """An open database.

    Parameters
    ----------
    address : path of a SQLite file, which is made if there is none, or the URL of a PostgreSQL database.
    must_exist : make no new record.

    Raises
    ------
    BlemishError
        If it cannot be opened, or is none of blemish, or of a newer version.
    """

    def __init__(self, address: str, *, must_exist: bool = False) -> None:
        url = _url_of(address, must_exist)
        if must_exist and url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
            raise BlemishError(f"{url.database}: no such file; check the path")
        self.name = _name_of(url)
        """Path or URL, without password."""
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url) if self.is_sqlite else _postgresql_engine(url)
        try:
            with self.transaction(writes=True) as connection:
                _migrate(connection, self.name, must_exist)
        except sa.exc.DBAPIError as error:
            self.engine.dispose()
            raise _fault(self.name, error) from None
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def transaction(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        """A transaction, which is committed at the end; one that writes waits for its turn first.

        Raises
        ------
        RecordAway
            If the database cannot be reached, is locked by another program, or its disk is full.
        BlemishError
            If it is damaged or no database.
        """
        try:
            with self.engine.connect().execution_options(blemish_writes=writes) as connection, connection.begin():
                if writes and not self.is_sqlite:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
                yield connection
        except sa.exc.DBAPIError as error:
            is_of_values = isinstance(error, sa.exc.DataError | sa.exc.IntegrityError | sa.exc.ProgrammingError)
            is_of_values |= str(getattr(error.orig, "sqlstate", "")).startswith("54")  # too large for an index
            if is_of_values and "permission denied" not in str(error.orig):
                raise
            raise _fault(self.name, error) from None
        except sa.exc.TimeoutError:
            raise RecordAway(f"{self.name}: all connections are busy; try again") from None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _url_of(address: str, must_exist: bool) -> sa.URL:
    if not address:
        raise BlemishError("--db: is empty; give the path of a file, or postgresql://user:password@host/name")
    if "://" not in address:
        path = Path(address).expanduser()
        try:
            if not must_exist:
                path.parent.mkdir(parents=True, exist_ok=True)
            is_folder = path.is_dir()
        except OSError as error:
            raise _cannot_write(address, error.strerror or str(error)) from error
        if is_folder:
            raise BlemishError(f"{address}: is a folder; give the file of a database, such as {path / 'record.db'}")
        return sa.URL.create("sqlite", database=str(path))
    scheme, _, rest = address.partition("://")
    if scheme == "sqlite":
        return _url_of(rest.removeprefix("/"), must_exist)
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise BlemishError(f"{scheme}://: is no database that is supported; give the path of a file for SQLite, or "
                           "postgresql://user:password@host/name")  # fmt: skip
    try:
        url = sa.make_url(f"postgresql+psycopg://{rest}")
        if rest.count("@") > 1:  # a part of the password would be taken for the host, and shown
            raise ValueError
    except (sa.exc.ArgumentError, ValueError):
        raise BlemishError(
            f"{scheme}://...: is no valid URL; it should be postgresql://user:password@host:port/name, with special "
            "characters in the password written as %XX"
        ) from None
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        raise BlemishError('psycopg is not installed; pip install "blemish[serve]"') from error
    return url


def _name_of(url: sa.URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    shown = url.set(drivername="postgresql").difference_update_query(_SECRET)
    return shown.render_as_string(hide_password=True)


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    settings = {key: value for key, value in _KEPT_ALIVE.items() if key not in url.query}
    return sa.create_engine(url, connect_args=settings, pool_pre_ping=True, hide_parameters=True)


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_S}, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # this file begins the transactions, not the driver
        if _write_ahead(connection) != "wal":
            raise BlemishError(
                f"{url.database}: SQLite's write-ahead log does not work there (a network share?); choose a file on "
                "a local disk, or a PostgreSQL database"
            )
        for setting in ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={round(BUSY_S * 1000)}"):
            connection.execute(f"PRAGMA {setting}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("blemish_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> str:
    """Ask for the write-ahead log, and return which kind of journal there is now."""
    end_s = time.monotonic() + BUSY_S
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
        except sqlite3.OperationalError as error:  # while another process asks for it, SQLite does not wait by itself
            if "locked" not in str(error) or time.monotonic() > end_s:
                raise
            time.sleep(0.01)


def _migrate(connection: sa.Connection, name: str, must_exist: bool) -> None:
    """Bring the tables up to date, or make them."""
    folder = Path(__file__).with_name("migrations")
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    tables = sa.inspect(connection).get_table_names()
    if VERSION_TABLE not in tables:
        if tables:
            raise BlemishError(f"{name}: is the database of another program; give a new file or an empty database")
        if must_exist:
            raise BlemishError(f"{name}: is empty, no record of verdicts; check the path or URL")
    else:
        current = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_heads()
        if current and not known.issuperset(current):
            raise BlemishError(f"{name}: was written by a newer blemish (revision {current[0]}); update blemish")
        if current == tuple(scripts.get_heads()):
            return
    with _MIGRATING:
        command.upgrade(config, "head")


def _cannot_write(name: str, reason: str) -> BlemishError:
    return BlemishError(f"{name}: cannot be written ({reason}); check the permissions, or choose another file")


def _fault(name: str, error: sa.exc.DBAPIError) -> BlemishError:
    """The error of a database in one line, with the remedy."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    text = lines[0] if lines else type(error.orig).__name__
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_fault(name, text)
    return _postgresql_fault(name, " ".join(lines), text)


def _sqlite_fault(name: str, text: str) -> BlemishError:
    if "not a database" in text:
        return BlemishError(f"{name}: is no database; choose another file")
    if "malformed" in text:
        return BlemishError(f"{name}: is damaged ({text}); restore it from a backup")
    if "unable to open" in text or "readonly" in text:
        return RecordAway(str(_cannot_write(name, text)))
    if "locked" in text:
        return RecordAway(f"{name}: another program keeps it locked; close that program")
    if "full" in text:
        return RecordAway(f"{name}: its disk is full; free the disk")
    return RecordAway(f"{name}: cannot be used ({text}); check the disk")


def _postgresql_fault(name: str, whole: str, text: str) -> BlemishError:
    if "authentication failed" in whole or "no password supplied" in whole:
        return RecordAway(f"{name}: the server refuses the user or the password; correct the URL")
    if "does not exist" in whole:
        return RecordAway(f"{name}: no such database or user; make it, for example with createdb")
    if "permission denied" in whole:
        return RecordAway(f"{name}: the user may not do this ({text}); grant it the rights on this database")
    return RecordAway(f"{name}: cannot be reached ({text}); start the server, or check the URL")
