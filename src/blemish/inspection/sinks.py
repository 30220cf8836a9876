"""Sinks that write judgements to files: context managers that take one judgement at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from blemish.errors import BlemishError
from blemish.files import cannot_be_written
from blemish.inspection.stream import Judgement


class _File:
    """A text file, open as long as the sink. It also accepts paths that are not valid UTF-8.

    If it cannot be written, a ``BlemishError`` names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        with self._named():
            self.file: TextIO = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, BlemishError):  # perhaps of this file, which would be reported again
            with suppress(OSError):
                self.file.close()
            return
        with self._named():
            self.file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_be_written(self.path, error) from error


class Rows(_File):
    """``findings.jsonl``: one row for each photograph, flushed immediately."""

    def take(self, judgement: Judgement) -> None:
        with self._named():
            print(json.dumps(judgement.row()), file=self.file, flush=True)

    @staticmethod
    def is_own(content: bytes) -> bool:
        """Whether the first bytes of a file are those of one that this class wrote."""
        try:
            row = json.loads(content.split(b"\n", 1)[0])
        except ValueError:
            return False
        return isinstance(row, dict) and "path" in row and "score" in row


class Table(_File):
    """``findings.csv``: the same rows, but with the number of regions and the largest area instead of the regions."""

    COLUMNS = (
        "path",
        "score",
        "threshold",
        "is_defective",
        "n_regions",
        "largest_area_px",
        "error",
        "verdict",
        "unlike",
        "overlay",
    )
    N_FIRST_COLUMNS = 4
    """As many columns, at least, each version of blemish has written; later versions add some at the end."""

    @classmethod
    def is_own(cls, content: bytes) -> bool:
        """Whether the first bytes of a file are those of one that this class wrote."""
        columns = content.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split(",")
        return len(columns) >= cls.N_FIRST_COLUMNS and columns == list(cls.COLUMNS[: len(columns)])

    def __enter__(self) -> Self:
        super().__enter__()
        self.writer = csv.DictWriter(self.file, self.COLUMNS, extrasaction="ignore")
        with self._named():
            self.writer.writeheader()
        return self

    def take(self, judgement: Judgement) -> None:
        row: dict[str, Any] = judgement.row()
        areas_px = [region["area_px"] for region in row["regions"] or []]
        unlike = "; ".join(row["unlike"] or [])
        counts = {"n_regions": len(areas_px), "largest_area_px": max(areas_px, default=0)}
        with self._named():
            self.writer.writerow(row | counts | {"unlike": unlike})
            self.file.flush()
