"""The record that ``blemish watch --db`` writes beside its folder: rows, pictures, and what outputs carry away."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blemish.artifact import DETECTOR
from blemish.commands.results import HEARTBEAT, Results, Saving, continued_rows
from blemish.errors import BlemishError
from blemish.files import sha256_of_file
from blemish.inspection.sinks import Record
from blemish.inspection.stream import Judgement
from blemish.inspection.watching import key_of, version_of
from blemish.outputs.addresses import outputs_at
from blemish.outputs.delivery import Delivery
from blemish.record.keys import keys_of
from blemish.record.record import NewVerdict, VerdictRecord
from blemish.record.rows import PRODUCT_NAME, iso
from blemish.record.storage import Storage
from blemish.record.writer import MOST_TOGETHER, Writer
from blemish.report.overlay import as_jpeg, as_png, overlay

MOST_WAITING = 64
"""Photographs that are judged and not yet recorded; if there are more, the next is not taken."""
PATIENCE_S = 10.0
"""At the end, a database that is away is waited for so long."""
KEY = "watch"


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """Where ``blemish watch`` records to."""

    db: str
    product: str | None = None
    storage: Path | None = None
    outputs: tuple[str, ...] = ()
    """Addresses."""

    def product_of(self, detector: Path) -> str:
        """The product: as it was given, or the name of the detector's folder or file."""
        if self.product is None:
            file = detector / DETECTOR if detector.is_dir() else detector
            name = file.resolve().parent.name if file.name == DETECTOR else file.stem
            return re.sub(r"[^A-Za-z0-9_.-]|^[^A-Za-z0-9_]", "_", name)[:64] or "product"
        if not re.fullmatch(PRODUCT_NAME, self.product):
            raise BlemishError(
                f"--product {self.product}: a name has letters, digits, '_', '-' and '.', at most 64 of them"
            )
        return self.product


@dataclass
class Recording:
    """Records what a run of ``watch`` judges; a context manager.

    Each photograph is recorded once, by a key: of a file, its path and version. A row of ``findings.jsonl`` is
    written when that of the record is on disk, and has its ``id``.
    """

    options: RecordOptions
    source: str
    """The folder or camera that is watched."""
    detector: Path
    """The file of the detector."""
    pictures_of_good: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the product, for the record."""
    judged_by: Path | None = None
    """The file with what this run changes of the detector, such as --min-area; None if nothing."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _pending: deque[tuple[Record, Future[int]]] = field(default_factory=deque)

    def __enter__(self) -> Self:
        self.product = self.options.product_of(self.detector)
        self.source = without_password(self.source)
        self._outputs = outputs_at(self.options.outputs, {self.product})
        with ExitStack() as stack:
            self.record = stack.enter_context(VerdictRecord.open(self.options.db))
            self.storage: Storage | None = None
            if self.options.storage is not None:
                self.storage = stack.enter_context(Storage(self.options.storage, record=self.record))
            file = self.judged_by or self.detector
            self.digest = sha256_of_file(file) if self.storage is None else self.storage.add_detector(file)
            self._first_id = self.record.latest_id()
            self._carrying = stack.enter_context(ExitStack())  # closed after the writer
            self._writer = Writer(self.record, lambda: self._delivery.wake())
            stack.callback(self._writer.close, PATIENCE_S)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack, suppress(BlemishError):  # the database is away
            if self._writer.is_healthy:
                self.record.add_event("stopped", f"blemish watch has stopped ({self.source})", self.product)

    @property
    def about(self) -> dict[str, Any]:
        """What the heartbeat says of it."""
        return {"record": self.record.database.name, "product": self.product, "record_from": self._first_id}

    @property
    def fault(self) -> str | None:
        """Why nothing can be recorded at the moment."""
        return self._writer.fault

    # --- what was inspected before ------------------------------------------------------------------------------

    def continued(self, out: Path, saving: Saving) -> set[int]:
        """Make folder and record agree, and return the keys (``key_of``) of the files that have been inspected.

        From then on, outputs carry what is recorded; what this brings is none of their business.
        If the last run in the folder recorded to the same database and was stopped, the folder is not read.
        """
        before = _heartbeat(out)
        last_id = (before.get("last") or {}).get("id") or 0
        is_same = (before.get("record"), before.get("product")) == (self.record.database.name, self.product)
        is_same = is_same and last_id <= self._first_id  # else it is a new database of the same name
        keys = dict(self._keys())
        if not (is_same and before.get("state") == "stopped"):
            last_id = self._add_missing(continued_rows(out), keys, ids_hold=is_same)
            if is_same:
                self._append_missing(out, saving, last_id or before.get("record_from", 0), keys)
        self._delivery = self._carrying.enter_context(Delivery(self.record, self._outputs))
        known = self.record.product_settings().get(self.product)
        if known is None or "given" not in known["settings"]:  # else a service has set it, and goes on with that
            self.record.set_product(self.product, self.digest, self.settings)
        self.record.add_event("started", f"blemish watch has started ({self.source})", self.product)
        return set(keys)

    def _keys(self, after_id: int = 0) -> Iterable[tuple[int, int]]:
        """Keys of files, and ids of their verdicts."""
        prefix = f"{KEY}/{self.product}/"
        for id_, key in keys_of(self.record, self.product, after_id):
            if key.startswith(prefix):
                yield int(key.removeprefix(prefix), 16), id_

    def _add_missing(self, rows: Iterable[dict[str, Any]], keys: dict[int, int], *, ids_hold: bool) -> int:
        """Record the rows of a folder that the record lacks, such as those from before there was a --db.

        Parameters
        ----------
        ids_hold : rows with an ``id`` are in the record.

        Returns
        -------
        The largest id of the rows; 0 if none has one.
        """
        last_id, missing = 0, dict[int, NewVerdict]()

        def add() -> None:
            keys.update(zip(missing, self.record.add([*missing.values()]), strict=True))
            missing.clear()

        for row in rows:
            last_id = max(last_id, row.get("id") or 0)
            if not (ids_hold and row.get("id")) and (key := _key_of_row(row)) not in keys:
                missing[key] = self._of_row(row, key)
            if len(missing) == MOST_TOGETHER:
                add()
        add()
        return last_id

    def _append_missing(self, out: Path, saving: Saving, last_id: int, keys: dict[int, int]) -> None:
        """Write the rows to the folder that it lacks, because the last run was killed after it had recorded them."""
        missing, cursor = list[dict[str, Any]](), last_id
        while True:
            page, following = self.record.verdicts(product=self.product, cursor=cursor, newest_first=False)
            missing += [row for row in page if row["source"] == self.source]
            if following is None:
                break
            cursor = following
        if missing:
            with Results(out, replace(saving, kinds=frozenset()), is_continued=True) as results:
                for verdict in missing:
                    results.take(_record_of(verdict, keys))

    # --- what is inspected now ----------------------------------------------------------------------------------

    def verdict_of(self, judgement: Judgement, record: Record, ms: float | None) -> tuple[Record, NewVerdict]:
        """The record of a judgement with its time, and its row for the database; its pictures are saved."""
        time_s = time.time()
        row = {**record.row, "time": iso(time_s)}
        image = judgement.photograph.image
        content = _content(Path(image)) if isinstance(image, str | Path) else None
        if content is None and judgement.image is not None and self.storage is not None:
            content = as_png(judgement.pixels)
        digest = None if content is None else hashlib.sha256(content).hexdigest()
        new = self._of_row(row, _key_of_row(row), time_s)
        size_hw = None if judgement.image is None else judgement.size_hw
        new = replace(
            new, photograph=digest, ms=ms, n_bytes=None if content is None else len(content), detector=self.digest,
            height=size_hw[0] if size_hw else None, width=size_hw[1] if size_hw else None,
        )  # fmt: skip
        is_wanted = self.pictures_of_good or new.verdict != "good"
        if self.storage is not None and is_wanted and content is not None and digest is not None:
            new = replace(new, image=self.storage.save_image(self.product, content, digest, time_s))
            if judgement.error is None:
                new = replace(new, overlay=self._saved_overlay(judgement, digest, time_s))
        return replace(record, row=row), new

    def _saved_overlay(self, judgement: Judgement, digest: str, time_s: float) -> str | None:
        assert self.storage is not None
        try:
            drawn = as_jpeg(overlay(judgement.pixels, judgement.finding))
        except BlemishError:  # a side is too long for JPEG: the photograph is saved without
            return None
        return self.storage.save_overlay(self.product, drawn, digest, time_s)

    def _of_row(self, row: Mapping[str, Any], key: int, time_s: float | None = None) -> NewVerdict:
        """The row of the record for one of ``findings.jsonl``."""
        is_judged = row.get("score") is not None
        verdict: Any = row.get("verdict") or ("defective" if row.get("is_defective") else "good")
        unlike = row.get("unlike") or []
        return NewVerdict(
            key=f"{KEY}/{self.product}/{key:016x}",
            product=self.product,
            source=self.source,
            name=None if row["path"] is None else without_password(row["path"]),
            time=datetime.fromisoformat(row["time"]).timestamp() if time_s is None else time_s,
            verdict=verdict if is_judged else "not_inspected",
            reason=("; ".join(unlike) or None) if is_judged else row.get("error"),
            score=row.get("score"),
            threshold=row.get("threshold"),
            is_defective=row.get("is_defective"),
            regions=row.get("regions") or [],
            unlike=unlike,
        )

    def put(self, record: Record, new: NewVerdict) -> None:
        """Let a photograph be recorded."""
        self._pending.append((record, self._writer.put(new)))

    def recorded(
        self, stop: threading.Event, beat: Callable[[], None], *, all_of_them: bool = False
    ) -> Iterable[Record]:
        """The records that are on disk, in order, with their ids; waits if too many are not, or for all.

        Parameters
        ----------
        stop : if it is set, a database that is away is waited for ``PATIENCE_S`` only.
        beat : called while it waits.

        Raises
        ------
        BlemishError
            If one cannot be recorded, or the database stays away after ``stop``.
        """
        stopped_s: float | None = None
        while self._pending:
            record, future = self._pending[0]
            if not future.done():
                if not all_of_them and len(self._pending) <= MOST_WAITING:
                    return
                beat()
                if stop.is_set():
                    stopped_s = stopped_s or time.monotonic()
                    if self.fault and time.monotonic() - stopped_s > PATIENCE_S:
                        raise BlemishError(
                            f"{self.fault}; {len(self._pending)} photographs are judged and not recorded: files "
                            "among them are inspected again at the next start"
                        )
                _wait(future)
                continue
            self._pending.popleft()
            try:
                id_ = future.result()
            except Exception as error:
                name = self.record.database.name
                raise BlemishError(f"{name}: {record.row['path']} cannot be recorded ({error})") from error
            yield replace(record, row={**record.row, "id": id_})


def without_password(address: str) -> str:
    """The address of a camera, or the name of one of its frames, without user and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", address)


def _wait(future: Future[int]) -> None:
    """Wait a moment, or until a verdict is recorded."""
    try:
        future.exception(timeout=0.2)
    except TimeoutError:
        return


def _key_of_row(row: Mapping[str, Any]) -> int:
    """The key of a photograph: a file by its version, the frame of a camera by its time."""
    if row.get("version"):
        return key_of(row["path"], row["version"])
    text = f"{row['path']}\n{row.get('time')}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _record_of(verdict: Mapping[str, Any], keys: Mapping[int, int]) -> Record:
    """What the folder says of a verdict in the record; with the version of its file, if that is still there."""
    is_judged = verdict["verdict"] != "not_inspected"
    row = {
        "path": verdict["name"], "score": verdict["score"], "threshold": verdict["threshold"],
        "is_defective": verdict["is_defective"], "regions": verdict["regions"] if is_judged else None,
        "error": None if is_judged else verdict["reason"], "unlike": verdict["unlike"] if is_judged else None,
        "verdict": verdict["verdict"] if is_judged else "not inspected", "overlay": None, "map": None, "mask": None,
        "time": verdict["time"], "detector": verdict["detector"], "id": verdict["id"],
    }  # fmt: skip
    version = version_of(verdict["name"])
    if version is not None and keys.get(key_of(verdict["name"], version)) == verdict["id"]:
        row["version"] = version
    return Record(row, is_judged)


def _heartbeat(out: Path) -> dict[str, Any]:
    """What the last run in a folder said of itself."""
    try:
        before = json.loads((out / HEARTBEAT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return before if isinstance(before, dict) else {}


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
