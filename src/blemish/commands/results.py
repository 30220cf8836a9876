"""The folder of results that ``blemish inspect`` and ``blemish watch`` write: rows, and what ``--save`` names."""

from __future__ import annotations

import errno
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from blemish.data.kinds import MAP, MASK, OVERLAY, kind_of, with_comment
from blemish.data.listing import MAPS, MASKS, OVERLAYS
from blemish.errors import BlemishError
from blemish.files import check_own, make_folder, replace_file
from blemish.inspection.encodings import map_npy, map_tiff, map_tiff16, mask_png
from blemish.inspection.sinks import Coco, Contours, Parquet, Record, Rows, Sink, Table
from blemish.inspection.stream import Judgement
from blemish.report.overlay import as_jpeg, as_png, overlay

MapFormat = Literal["tiff", "tiff16", "npy"]
PICTURES = {OVERLAYS: OVERLAY, MAPS: MAP, MASKS: MASK}
"""Folders with a file for each photograph, and the kind of these files."""
SINKS: Mapping[str, tuple[str, type[Sink]]] = {
    "rows": ("findings.jsonl", Rows),
    "table": ("findings.csv", Table),
    "contours": ("contours.jsonl", Contours),
    "coco": ("findings.coco.json", Coco),
    "parquet": ("findings.parquet", Parquet),
}
"""Files with a row for each photograph, and what writes them; the first two always."""
KINDS = (*PICTURES, *list(SINKS)[2:])
"""What ``--save`` takes, beside ``none``."""
ROWS, HEARTBEAT = SINKS["rows"][0], "heartbeat.json"
"""The rows, and the file by which a folder is known as one of ``blemish watch``."""
PHOTOGRAPHS = "photographs"
"""Folder of the frames of a camera, which are no results: a later run may inspect them."""
_OF_ONE_FILE = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
"""Errors of a single picture; any other, such as a full disk, stops the run."""


@dataclass(frozen=True)
class Saving:
    """What is saved of each photograph, beside its row."""

    kinds: frozenset[str] = frozenset({OVERLAYS})
    map_format: MapFormat = "tiff"
    pictures_of_good: bool = True
    """Whether pictures of good photographs are saved, too."""

    @classmethod
    def named(
        cls,
        text: str,
        map_format: MapFormat = "tiff",
        allowed: Collection[str] = KINDS,
        pictures_of_good: bool = True,
    ) -> Self:
        """As the option ``--save`` says: kinds, separated by commas, or ``none``.

        Raises
        ------
        BlemishError
            If a kind is unknown, or not among those that are allowed.
        """
        names = [name.strip() for name in text.split(",")]
        unknown = [name for name in names if name not in (*allowed, "none")]
        if unknown or ("none" in names and len(names) > 1):
            raise BlemishError(f"--save {text}: should be none, or some of {','.join(allowed)}, separated by commas")
        if map_format != "tiff" and MAPS not in names:
            raise BlemishError(f"--map-format {map_format}: but no maps are saved; give --save maps, too")
        return cls(frozenset(names) - {"none"}, map_format, pictures_of_good)


def check_results(out: Path) -> None:
    """Check that the files that would be replaced in a folder are results of blemish.

    Raises
    ------
    BlemishError
        If one is not.
    """
    for name, sink in SINKS.values():
        check_own(out / name, sink.is_own)


def sink_files(out: Path) -> set[Path]:
    """The files in a folder of results that are no pictures."""
    return {out / name for name, _ in SINKS.values()}


def clear(out: Path) -> None:
    """Remove the results of an earlier run, and no other file."""
    listed = {out / name for row in _rows_at(out) for name in (row.get("map"),) if name}
    for folder in PICTURES:
        for path in (out / folder).iterdir() if (out / folder).is_dir() else ():
            if path in listed or _is_picture(path, PICTURES[folder]):
                path.unlink(missing_ok=True)
    for path in sink_files(out):
        if path.is_file():
            path.unlink(missing_ok=True)


def _rows_at(out: Path) -> Iterable[Mapping[str, Any]]:
    """The rows of an earlier run, as far as they can be read."""
    path = out / SINKS["rows"][0]
    try:
        lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    except OSError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _is_picture(path: Path, kind: Any) -> bool:
    """Whether a file is one that blemish wrote or began to write."""
    try:
        return bool(re.fullmatch(r"\..*\.\d+\.part", path.name)) or (path.is_file() and kind_of(path) == kind)
    except OSError:
        return False


def taken_names(out: Path) -> list[str]:
    """Names, without suffix, that files in the folders of pictures have already."""
    folders = [out / name for name in (*PICTURES, PHOTOGRAPHS)]
    return [path.stem for folder in folders if folder.is_dir() for path in folder.iterdir()]


def continued(out: Path) -> list[tuple[str, str]]:
    """Prepare the results of an earlier run to be continued; see ``continued_rows``.

    Returns
    -------
    Path and version (``watching.Version``) of each file whose row is complete.
    """
    return [(row["path"], row["version"]) for row in continued_rows(out) if row.get("path") and row.get("version")]


def continued_rows(out: Path) -> list[dict[str, Any]]:
    """Remove lines that were not finished by an earlier run, and return the rows that were."""
    for name, _ in SINKS.values():
        path = out / name
        if path.suffix in (".jsonl", ".csv") and path.is_file():
            with path.open("rb+") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)
    rows = [dict(row) for row in _rows_at(out)]
    if rows:  # the table may lack lines that a loss of power has taken
        with Table(out / SINKS["table"][0]) as table:
            for row in rows:
                table.take(Record(row, is_judged=row.get("score") is not None))
    return rows


@dataclass
class Results:
    """A folder with the results of a run: a context manager that takes one record at a time, in order.

    ``record`` makes the record of a judgement and writes its pictures; it is called in any thread. ``take`` writes
    what the records say and counts the verdicts.
    """

    out: Path
    saving: Saving
    is_continued: bool = False
    """Whether rows are added to those of an earlier run."""
    counts: Counter[str] = field(default_factory=Counter)
    """How many photographs have which verdict; ``unreadable``, and ``not saved``, of which a picture is missing."""
    _sinks: list[Sink] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for folder in (*PICTURES, PHOTOGRAPHS):
                if folder in self.saving.kinds:
                    make_folder(self.out / folder)
            for kind, (name, sink) in SINKS.items():
                if kind in ("rows", "table") or kind in self.saving.kinds:
                    self._sinks.append(stack.enter_context(sink(self.out / name, is_continued=self.is_continued)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def record(self, judgement: Judgement) -> Record:
        """Write the pictures of a photograph, and return what the other files say of it, without its pixels."""
        if judgement.error is None and (self.saving.pictures_of_good or judgement.finding.verdict != "good"):
            for folder in (*PICTURES, PHOTOGRAPHS):
                if folder in self.saving.kinds:
                    self._save_picture(judgement, folder)
        return Record.of(judgement, self.saving.kinds)

    def take(self, record: Record) -> None:
        """Write the rows of a photograph, and count its verdict."""
        for sink in reversed(self._sinks):  # the row last: a file without one is inspected again after a crash
            sink.take(record)
        if record.is_judged:
            self.counts[record.row["verdict"]] += 1
            self.counts["not saved"] += record.row["error"] is not None
        else:
            self.counts["unreadable"] += 1

    def _save_picture(self, judgement: Judgement, folder: str) -> None:
        suffix, encode = self._encoding(folder)
        name = f"{folder}/{judgement.photograph.name}.{suffix}"
        try:
            content = encode(judgement)
            with replace_file(self.out / name) as file:
                file.write(content)
            judgement.files[folder.removesuffix("s")] = name
        except BlemishError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno not in _OF_ONE_FILE:
                raise
            lack = f"{judgement.photograph.path}: has no {folder.removesuffix('s')}: {error}"
            judgement.save_error = judgement.save_error or BlemishError(lack)

    def _encoding(self, folder: str) -> tuple[str, Callable[[Judgement], bytes]]:
        """Suffix and content of the files of a folder."""
        if folder == OVERLAYS:
            return "jpg", lambda judgement: with_comment(as_jpeg(overlay(judgement.pixels, judgement.finding)))
        if folder == PHOTOGRAPHS:
            return "png", lambda judgement: as_png(judgement.pixels)
        if folder == MASKS:
            return "png", lambda judgement: mask_png(judgement.finding.mask)
        if self.saving.map_format == "npy":
            return "npy", lambda judgement: map_npy(judgement.finding.map)
        if self.saving.map_format == "tiff":
            return "tiff", lambda judgement: map_tiff(judgement.finding.map)
        return "tiff", lambda judgement: map_tiff16(judgement.finding.map, judgement.detector.pixel_threshold)
