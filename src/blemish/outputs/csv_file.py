"""Verdicts in a CSV file, a row each, on disk before they count as delivered."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from blemish.errors import BlemishError
from blemish.files import cannot_be_written
from blemish.outputs.base import Away, Deliveries
from blemish.record.rows import Message

COLUMNS = (
    "id", "time", "product", "part", "lot", "path", "verdict", "score", "threshold", "is_defective", "n_regions",
    "largest_area_px", "unlike", "error", "detector", "photograph",
)  # fmt: skip
"""Named as in ``findings.csv``, where that has them."""
TAIL_BYTES = 1 << 18
"""The end of the file in which rows are looked for that are there already."""
_HEAD = (",".join(COLUMNS) + "\r\n").encode()


class CsvFile:
    """Adds rows to a file. Events are not written.

    The file is opened anew each time: it may be moved away, and a new one is begun. What was written before a sudden
    end, and not yet marked as delivered, is not written twice.
    """

    is_live = False

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.address = name, path, str(path)

    def open(self) -> None:
        try:
            if self.path.exists():
                with self.path.open("rb") as file:
                    head = file.read(len(_HEAD))
                if not _HEAD.startswith(head):
                    raise BlemishError(f"{self.path}: is not a table of verdicts of blemish; choose another --csv")
            self.path.open("ab").close()
        except OSError as error:
            raise cannot_be_written(self.path, error) from error

    def deliver(self, messages: Sequence[Message]) -> Deliveries:
        try:
            with self.path.open("r+b" if self.path.exists() else "w+b") as file:
                written = _mended_tail(file)
                rows = [row_of(message.payload) for message in messages if message.kind == "verdict"]
                self._append(file, [row for row in rows if (str(row["id"]), row["time"]) not in written])
        except OSError as error:
            raise Away(str(cannot_be_written(self.path, error))) from error
        for message in messages:
            yield message, None

    def close(self) -> None:
        """Nothing is open between deliveries."""

    @staticmethod
    def _append(file: BinaryIO, rows: list[dict[str, Any]]) -> None:
        """Write all rows, or none: what a full disk cut off is removed."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, COLUMNS).writerows(rows)
        end = file.seek(0, os.SEEK_END)
        try:
            file.write((b"" if end else _HEAD) + text.getvalue().encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), end)
            raise


def row_of(payload: dict[str, Any]) -> dict[str, Any]:
    """The row of a verdict; without line breaks, so that each row is a line."""
    areas_px = [region["area_px"] for region in payload["regions"]]
    values = {name: payload.get(name) for name in COLUMNS} | {
        "path": payload["name"],
        "n_regions": len(areas_px),
        "largest_area_px": max(areas_px, default=0),
        "unlike": "; ".join(payload["unlike"]),
        "error": payload["reason"] if payload["verdict"] == "not_inspected" else None,
    }
    return {key: " ".join(value.splitlines()) if isinstance(value, str) else value for key, value in values.items()}


def _mended_tail(file: BinaryIO) -> set[tuple[str, str]]:
    """Remove a row that was not finished, and return id and time of the last rows."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - TAIL_BYTES))
    tail = file.read()
    *lines, torn = tail.split(b"\r\n")
    if torn:
        file.truncate(end - len(torn))
    beginnings = (line.decode("utf-8", "replace").split(",", 2) for line in lines)
    return {(row[0], row[1]) for row in beginnings if len(row) == 3}
