"""Sinks that write records of judgements to files: context managers that take one record at a time."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

from blemish.errors import BlemishError
from blemish.files import cannot_be_written, replace_file
from blemish.inspection.encodings import polygons, rles
from blemish.inspection.findings import unlike_text
from blemish.inspection.stream import Judgement


@dataclass(frozen=True)
class Record:
    """What the files say of a judgement: small, without pixels."""

    row: dict[str, Any]
    """The row of ``findings.jsonl``."""
    is_judged: bool
    size_wh: tuple[int, int] | None = None
    """Width and height of the photograph, px; None if it could not be read."""
    polygons: list[dict[str, Any]] | None = None
    """See ``encodings.polygons``; None if not asked for."""
    rles: list[dict[str, Any]] | None = None
    """See ``encodings.rles``; None if not asked for."""
    message: BlemishError | None = None
    """What the user is told of the photograph."""

    @classmethod
    def of(cls, judgement: Judgement, kinds: Collection[str] = ()) -> Self:
        """The record of a judgement, with polygons and run lengths if ``kinds`` has ``contours`` and ``coco``."""
        message = judgement.error or judgement.save_error
        if message is None and judgement.unlike:
            message = BlemishError(unlike_text(judgement.photograph.path, judgement.unlike))
        if judgement.error is not None:
            return cls(judgement.row(), False, message=message)
        height, width = judgement.size_hw
        mask, regions = judgement.finding.mask, judgement.finding.regions
        return cls(
            judgement.row(),
            True,
            (width, height),
            polygons(mask, regions) if "contours" in kinds else None,
            list(rles(mask, regions)) if "coco" in kinds else None,
            message,
        )


class Sink(ABC):
    """A file that is written record by record.

    Parameters
    ----------
    path : of the file.
    is_continued : add to the file if there is one.
    """

    def __init__(self, path: Path, *, is_continued: bool = False) -> None:
        self.path, self.is_continued = path, is_continued

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def take(self, record: Record) -> None:
        """Write a record."""

    @staticmethod
    @abstractmethod
    def is_own(content: bytes) -> bool:
        """Whether the first bytes of a file are those of one that this class wrote."""

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_be_written(self.path, error) from error


class _File(Sink):
    """A text file, open as long as the sink. It also accepts paths that are not valid UTF-8.

    If it cannot be written, a ``BlemishError`` names it.
    """

    def __enter__(self) -> Self:
        mode = "a" if self.is_continued else "w"
        with self._named():
            self.file: IO[str] = self.path.open(mode, encoding="utf-8", errors="backslashreplace", newline="")
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

    def _print(self, row: dict[str, Any]) -> None:
        with self._named():
            print(json.dumps(row), file=self.file, flush=True)


class Rows(_File):
    """``findings.jsonl``: one row for each photograph, flushed immediately."""

    def take(self, record: Record) -> None:
        self._print(record.row)

    @staticmethod
    def is_own(content: bytes) -> bool:
        return _first_row_has(content, "path", "score")


class Contours(_File):
    """``contours.jsonl``: for each photograph its path and the outlines of its regions (``encodings.polygons``)."""

    def take(self, record: Record) -> None:
        if record.is_judged:
            self._print({"path": record.row["path"], "size_wh": record.size_wh, "contours": record.polygons})

    @staticmethod
    def is_own(content: bytes) -> bool:
        return _first_row_has(content, "path", "contours")


def _first_row_has(content: bytes, *keys: str) -> bool:
    """Whether the first line is JSON with these keys; of a line that is longer than the content, its beginning."""
    line, end, _ = content.partition(b"\n")
    try:
        row = json.loads(line)
    except ValueError:
        return not end and line.startswith(b'{"path": ') and f'"{keys[-1]}": '.encode() in line
    return isinstance(row, dict) and all(key in row for key in keys)


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
        "map",
        "mask",
        "time",
        "detector",
        "min_area_px",
    )
    N_FIRST_COLUMNS = 4
    """As many columns, at least, each version of blemish has written; later versions add some at the end."""

    @classmethod
    def is_own(cls, content: bytes) -> bool:
        columns = content.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split(",")
        return len(columns) >= cls.N_FIRST_COLUMNS and columns == list(cls.COLUMNS[: len(columns)])

    def __enter__(self) -> Self:
        super().__enter__()
        self.writer = csv.DictWriter(self.file, self.COLUMNS, extrasaction="ignore")
        with self._named():
            if self.file.tell() == 0:
                self.writer.writeheader()
        return self

    def take(self, record: Record) -> None:
        with self._named():
            self.writer.writerow(table_row(record.row))
            self.file.flush()


def table_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of ``findings.jsonl`` with columns of single values."""
    areas_px = [region["area_px"] for region in row["regions"] or []]
    counts = {"n_regions": len(areas_px), "largest_area_px": max(areas_px, default=0)}
    return row | counts | {"unlike": "; ".join(row["unlike"] or [])}


class Coco(Sink):
    """``findings.coco.json``: photographs and regions as COCO's annotations, written at the end.

    The photographs that could not be judged are not in it. Until the end it is kept in temporary files, so memory
    stays bounded; it is also written if the run is stopped.
    """

    HEAD: ClassVar[bytes] = b'{"info": {"description": "findings by blemish"'
    CATEGORY: ClassVar[int] = 1

    def __enter__(self) -> Self:
        with self._named():
            self.images, self.annotations = tempfile.TemporaryFile("w+b"), tempfile.TemporaryFile("w+b")
        self.n_images = self.n_annotations = 0
        return self

    def take(self, record: Record) -> None:
        if not record.is_judged or record.size_wh is None:
            return
        row, (width, height) = record.row, record.size_wh
        self.n_images += 1
        image = {
            "id": self.n_images, "file_name": row["path"], "width": width, "height": height,
            "score": row["score"], "threshold": row["threshold"], "verdict": row["verdict"],
        }  # fmt: skip
        with self._named():
            self.images.write(self._item(image, self.n_images))
            for region, rle in zip(row["regions"], record.rles or (), strict=True):
                left, top, right, bottom = region["bbox_xyxy"]
                self.n_annotations += 1
                annotation = {
                    "id": self.n_annotations, "image_id": self.n_images, "category_id": self.CATEGORY,
                    "bbox": [left, top, right - left, bottom - top], "area": region["area_px"],
                    "segmentation": rle, "iscrowd": 0, "score": region["peak"],
                }  # fmt: skip
                self.annotations.write(self._item(annotation, self.n_annotations))

    @staticmethod
    def _item(values: dict[str, Any], number: int) -> bytes:
        return (",\n" if number > 1 else "\n").encode() + json.dumps(values).encode()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self.images, self.annotations:
            if isinstance(error, BlemishError):
                return
            categories = [{"id": self.CATEGORY, "name": "defect"}]
            with self._named(), replace_file(self.path) as file:
                file.write(self.HEAD + f', "version": "{version("blemish")}"}},\n'.encode())
                file.write(b'"categories": ' + json.dumps(categories).encode())
                for name, part in (("images", self.images), ("annotations", self.annotations)):
                    file.write(f',\n"{name}": ['.encode())
                    part.seek(0)
                    shutil.copyfileobj(part, file)
                    file.write(b"\n]")
                file.write(b"}\n")

    @classmethod
    def is_own(cls, content: bytes) -> bool:
        return content.startswith(cls.HEAD)


class Parquet(Sink):
    """``findings.parquet``: the rows as a table of columns, for many of them; complete at the end.

    Needs ``pip install "blemish[parquet]"``.
    """

    ROWS: ClassVar[int] = 10_000
    """Rows that are kept until they are written together."""

    def __enter__(self) -> Self:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise BlemishError('--save parquet: pyarrow is not installed; pip install "blemish[parquet]"') from error
        texts, box = pa.string(), pa.list_(pa.int32())
        region = pa.struct([("bbox_xyxy", box), ("area_px", pa.int64()), ("peak", pa.float32())])
        kinds = {"score": pa.float64(), "threshold": pa.float64(), "is_defective": pa.bool_(),
                 "n_regions": pa.int32(), "largest_area_px": pa.int64(), "min_area_px": pa.int64(),
                 "unlike": pa.list_(texts)}  # fmt: skip
        columns = [(name, kinds.get(name, texts)) for name in Table.COLUMNS]
        self.schema = pa.schema([*columns, ("regions", pa.list_(region))], metadata={"written_by": "blemish"})
        self.as_table = pa.Table.from_pylist
        self.temporary = self.path.with_name(f".{self.path.name}.part")
        with self._named():
            self.writer = pq.ParquetWriter(self.temporary, self.schema)
        self.rows: list[dict[str, Any]] = []
        return self

    def take(self, record: Record) -> None:
        path = record.row["path"]
        if path is not None:  # a name may be in another encoding
            path = path.encode("utf-8", "backslashreplace").decode()
        self.rows.append(table_row(record.row) | {"path": path, "unlike": record.row["unlike"]})
        if len(self.rows) == self.ROWS:
            self._write()

    def _write(self) -> None:
        with self._named():
            self.writer.write_table(self.as_table(self.rows, self.schema))
        self.rows = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, BlemishError):
                with suppress(OSError):
                    self.writer.close()
                return
            self._write()
            with self._named():
                self.writer.close()
                self.temporary.replace(self.path)
        finally:
            self.temporary.unlink(missing_ok=True)

    @staticmethod
    def is_own(content: bytes) -> bool:
        return content.startswith(b"PAR1")
