"""Databases that cannot be used are told in one line, with the remedy and without a password."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from blemish.errors import BlemishError
from blemish.record import database as database_module
from blemish.record.database import RecordAway
from blemish.record.record import NewVerdict, VerdictRecord
from blemish.record.tables import VERSION_TABLE, metadata
from conftest import Server


def refusal(address: str) -> str:
    with pytest.raises(BlemishError) as caught:
        VerdictRecord.open(address)
    text = str(caught.value)
    assert "\n" not in text
    return text


def matches(text: str, pattern: str) -> None:
    assert re.search(pattern, text), text


def as_if_newer(connection: sqlite3.Connection | psycopg.Connection) -> None:
    connection.execute("UPDATE blemish_version SET version_num = '9999'")
    connection.commit()
    connection.close()


def test_migrations_make_the_tables_that_the_code_asks(address: str) -> None:
    """Columns, types, indices and constraints: alembic finds nothing to change."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with VerdictRecord.open(address) as record, record.database.transaction() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        assert {"verdicts", VERSION_TABLE} <= set(sa.inspect(connection).get_table_names())


def test_sqlite_is_set_to_lose_nothing(sqlite_record: VerdictRecord) -> None:
    with sqlite_record.database.transaction() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_many_open_a_new_database_at_once(address: str) -> None:
    records, errors = list[VerdictRecord](), list[Exception]()
    together = threading.Barrier(4)

    def open_it() -> None:
        together.wait()
        try:
            records.append(VerdictRecord.open(address))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for record in records:
        record.add([NewVerdict(product="gasket", verdict="good")])
        record.close()


def test_a_file_is_made_with_its_folder(tmp_path: Path) -> None:
    VerdictRecord.open(str(tmp_path / "new" / "record.db")).close()
    (tmp_path / "empty.db").touch()
    VerdictRecord.open(f"sqlite:///{tmp_path / 'empty.db'}").close()
    assert (tmp_path / "empty.db").stat().st_size


def test_files_that_are_no_record(tmp_path: Path) -> None:
    text, other, newer = tmp_path / "notes.txt", tmp_path / "other.db", tmp_path / "newer.db"
    text.write_text("These are notes, and not a database of any kind.\n" * 30)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE songs (title)")
    VerdictRecord.open(str(newer)).close()
    as_if_newer(sqlite3.connect(newer))
    assert refusal(str(text)) == f"{text}: is no database; choose another file"
    matches(refusal(str(other)), "is the database of another program; give a new file")
    matches(refusal(str(newer)), r"was written by a newer blemish \(revision 9999\); update blemish")
    matches(refusal(str(tmp_path)), r"is a folder; give the file of a database, such as .*record\.db")
    assert text.read_text().startswith("These are notes")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and /sys")
def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    matches(refusal("/sys/folder/record.db"), r"cannot be written \(.*\); check the permissions, or choose another")
    matches(refusal("/proc/record.db"), r"cannot be written \(unable to open database file\)")
    matches(refusal(f"{tmp_path}/file/record.db"), "cannot be written")
    matches(refusal(":memory:"), "write-ahead log does not work there .* choose a file on a local disk")


def test_a_damaged_database(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with VerdictRecord.open(str(path)) as record:
        record.add([NewVerdict(product="gasket", verdict="good") for _ in range(500)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 60_000)
    matches(refusal(str(path)), r"record\.db: is damaged \(.*\); restore it from a backup")


def test_a_locked_database_is_waited_for_and_then_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_S", 0.2)
    with VerdictRecord.open(str(tmp_path / "record.db")) as record:
        other = sqlite3.connect(tmp_path / "record.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordAway, match="another program keeps it locked; close that program"):
            record.add([NewVerdict(product="gasket", verdict="good")])
        other.execute("COMMIT")
        other.close()
        assert record.add([NewVerdict(product="gasket", verdict="good")]) == [1]


@pytest.mark.parametrize(
    ("address", "pattern"),
    [
        ("", "--db: is empty; give the path"),
        ("mysql://u:secret@host/name", "mysql://: is no database that is supported; give the path of a file"),
        ("postgresql://u:secret@host:port/name", "is no valid URL; .* special characters in the password"),
        ("postgresql://u:sec@ret@host/name", "is no valid URL"),
        ("postgresql://u:secret@127.0.0.1:1/name", r"postgresql://u:\*\*\*@127\.0\.0\.1:1/name: cannot be reached \("
                                                   r".*Connection refused\); start the server, or check the URL"),
        ("postgres://u@127.0.0.1:1/name?password=secret", "cannot be reached"),
        ("postgresql://u:secret@127.0.0.1:1/name?colour=red", 'invalid connection option "colour"'),
    ],
)  # fmt: skip
def test_addresses_of_no_use(address: str, pattern: str) -> None:
    text = refusal(address)
    matches(text, pattern)
    assert "secret" not in text
    assert "ret@" not in text


def test_a_server_that_refuses(postgresql: Server) -> None:
    url = postgresql.new_database()
    name = url.rpartition("/")[2]
    matches(refusal(postgresql.url(name, password="wr0ng")), "the server refuses the user or the password; correct")
    matches(refusal(postgresql.url(name, user="nobody")), "refuses the user or the password")
    matches(refusal(postgresql.url("missing")), "no such database or user; make it, for example with createdb")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name}_guest LOGIN PASSWORD '{postgresql.password}'")
    matches(refusal(postgresql.url(name, user=f"{name}_guest")), "the user may not do this .* grant it the rights")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE songs (title text)")
    matches(refusal(url), "is the database of another program; give a new file or an empty database")


def test_a_newer_postgresql_database_and_no_password_in_any_message(postgresql: Server) -> None:
    url = postgresql.new_database()
    with VerdictRecord.open(url) as record:
        assert "***" in record.database.name
        assert postgresql.password not in repr(record.database.engine)
    as_if_newer(psycopg.connect(url))
    text = refusal(url)
    matches(text, r"was written by a newer blemish \(revision 9999\); update blemish")
    assert "s3cret" not in text


def test_a_library_that_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['{0}'] = None\n"
        "from blemish.errors import BlemishError\n"
        "try:\n"
        "    from blemish.record.record import VerdictRecord; VerdictRecord.open('postgresql://u@h/d')\n"
        "except BlemishError as error: print(error)"
    )
    for name in ("sqlalchemy", "alembic", "psycopg"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(name)], capture_output=True, text=True, cwd=tmp_path, check=True
        )
        assert done.stdout == f'{name} is not installed; pip install "blemish[serve]"\n'


def test_neither_torch_nor_a_web_framework_is_imported() -> None:
    code = (
        "import sys, blemish.record.writer, blemish.record.storage\n"
        "print({'torch', 'fastapi', 'cv2', 'psycopg'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
