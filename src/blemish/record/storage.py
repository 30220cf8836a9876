"""The folder of pictures beside the record, and of each detector that ever judged; with limits for the pictures.

    pictures/<product>/<YYYY-MM-DD>/<sha16>-<n>.jpg            the photograph, its bytes as sent
    pictures/<product>/<YYYY-MM-DD>/<sha16>-<n>-overlay.jpg    with its outlines
    detectors/<sha256>.blemish
    storage.json                                               the id by which the record knows the folder

The rows of the record are never removed, and pictures give way to them: a disk that is nearly full takes no more
pictures, so that the database can go on.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import platform
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote
from uuid import uuid4

from blemish.errors import BlemishError, print_line
from blemish.files import owned_folder, replace_file, write_text
from blemish.record.record import RecordAway, VerdictRecord
from blemish.record.retention import PICTURES, Retention

DETECTORS, ABOUT = "detectors", "storage.json"
RESERVE_SHARE, LEAST_RESERVE_BYTES, MOST_RESERVE_BYTES = 0.02, 2**28, 2**30
"""So much of the disk is left free: a share of it, at least 256 MiB (of a small disk a quarter), at most 1 GiB."""
RETRY_S = 5.0
"""After a picture could not be saved, so long none is tried."""
PASS_S = 60.0
"""Pause between two looks for pictures that are to be removed."""
_FREE = "free the disk, or give a lower --keep-gb"
_SUFFIXES = ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"II", "tif"), (b"MM", "tif"), (b"BM", "bmp"))


class Storage:
    """The pictures of a record in a folder, which one process at a time may write to: a context manager.

    While it is entered, a thread removes what a crash has left, and pictures beyond the limits: those of good parts
    first, then of parts that were not inspected, unlike the good ones, and defective; oldest first; parts with a
    review last. Without being entered, it can only be read.

    Parameters
    ----------
    folder : made if it is missing.
    keep_days : pictures of older parts are removed; None keeps all.
    keep_gb : limit of all pictures together, 10^9 bytes; None is no limit.
    record : whose pictures these are.
    reserve_bytes : so much of the disk is left free; None is 2 %, at least 256 MiB, at most 1 GiB; of a small disk
        a quarter.
    tell : called with one line when no picture can be saved, and when they are saved again. Default: to stderr.

    Raises
    ------
    BlemishError
        If a limit is not above 0.
    """

    def __init__(
        self,
        folder: str | Path,
        keep_days: float | None = None,
        keep_gb: float | None = None,
        *,
        record: VerdictRecord | None = None,
        reserve_bytes: int | None = None,
        tell: Callable[[str], object] = print_line,
    ) -> None:
        for option, value in (("--keep-days", keep_days), ("--keep-gb", keep_gb)):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise BlemishError(f"{option} {value}: should be a number above 0")
        self.folder = Path(folder)
        self.keep_days, self.keep_gb = keep_days, keep_gb
        self.fault: str | None = None
        """Why no pictures are saved at the moment, in one line."""
        self._record, self._reserve_bytes, self._told = record, reserve_bytes, tell
        self._retention: Retention | None = None
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._is_ending = False
        self._events = deque[tuple[str, dict[str, str]]]()
        self._retry_s = 0.0
        self._number = time.time_ns()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the folder for writing.

        Raises
        ------
        BlemishError
            If another process writes there, nothing can be written, or it has the pictures of another record.
        """
        if self._record is None:
            raise ValueError("a storage that is written to needs a record")
        with ExitStack() as stack:
            stack.enter_context(owned_folder(self.folder, "--storage"))
            storage_id = _registered(self.folder, self._record)
            self._record.storage = storage_id
            limits = self.keep_days, self.keep_gb
            self._retention = Retention(self.folder, storage_id, self._record, *limits, self._number)
            thread = threading.Thread(target=self._run, args=(self._retention,), name="storage", daemon=True)
            thread.start()
            stack.callback(self._end, thread)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    # --- files --------------------------------------------------------------------------------------------------

    def save_image(self, product: str, content: bytes, digest: str, time_s: float) -> str | None:
        """Save a photograph as it was sent.

        Parameters
        ----------
        digest : SHA-256 of the content, hex.
        time_s : of its verdict, s since 1970.

        Returns
        -------
        The name of the file for the record (``NewVerdict.image``); None if pictures cannot be saved now: see
        ``fault``, which the record tells as an event.
        """
        suffix = next((suffix for head, suffix in _SUFFIXES if content.startswith(head)), "image")
        return self._save(product, content, digest, time_s, f".{suffix}")

    def save_overlay(self, product: str, content: bytes, digest: str, time_s: float) -> str | None:
        """Save the JPEG of a photograph with its outlines; like ``save_image``, whose digest it takes."""
        return self._save(product, content, digest, time_s, "-overlay.jpg")

    def path(self, name: str | None) -> Path | None:
        """The file of a picture by its name in the record; None if it is not here (any more)."""
        if name is None:
            return None
        path = self.folder / name
        is_inside = path.resolve().is_relative_to((self.folder / PICTURES).resolve())
        return path if is_inside and path.is_file() else None

    def add_detector(self, path: Path) -> str:
        """Keep a copy of a detector's file, and return its SHA-256, hex.

        Raises
        ------
        BlemishError
            If it cannot be read or saved.
        """
        try:
            content = path.read_bytes()
            (self.folder / DETECTORS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BlemishError(f"{error.filename}: cannot be used ({error.strerror or error}); check it") from error
        digest = hashlib.sha256(content).hexdigest()
        if self.detector(digest) is None:
            with replace_file(self._detector_file(digest)) as file:
                file.write(content)
        return digest

    def detector(self, digest: str | None) -> Path | None:
        """The file of a detector by its SHA-256; None if it is not here."""
        if digest is None or not re.fullmatch("[0-9a-f]{64}", digest):
            return None
        path = self._detector_file(digest)
        return path if path.is_file() else None

    def _detector_file(self, digest: str) -> Path:
        return self.folder / DETECTORS / f"{digest}.blemish"

    @property
    def n_bytes(self) -> int:
        """Size of all pictures; while the folder is still being looked through after the start, less."""
        return 0 if self._retention is None else self._retention.n_bytes

    # --- saving -------------------------------------------------------------------------------------------------

    def _save(self, product: str, content: bytes, digest: str, time_s: float, ending: str) -> str | None:
        if self._retention is None:
            raise RuntimeError("the storage is not open for writing")
        if not self._has_room(len(content)):
            return None
        day = datetime.fromtimestamp(time_s, UTC).date().isoformat()
        name = f"{PICTURES}/{_folder_name(product)}/{day}/{digest[:16]}-{self._next_number():x}{ending}"
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(path) as file:
                file.write(content)
        except OSError as error:
            self._set_fault(_unsaved(path.parent, error))
            return None
        except BlemishError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            self._set_fault(_unsaved(path.parent, error.__cause__))
            return None
        self._set_fault(None)
        if self._retention.count(len(content)):
            self._wake.set()
        return name

    def _next_number(self) -> int:
        """A number that no other file of this folder has."""
        with self._lock:
            self._number = max(self._number + 1, time.time_ns())
            return self._number

    def _has_room(self, n_bytes: int) -> bool:
        """Whether the disk has room for a picture; once it had not, there must be twice the reserve."""
        if self.fault is not None and time.monotonic() < self._retry_s:
            return False
        disk = shutil.disk_usage(self.folder)
        reserve = _reserve_bytes(disk.total) if self._reserve_bytes is None else self._reserve_bytes
        if disk.free - n_bytes >= reserve * (1 if self.fault is None else 2):
            return True
        full = f"the disk is nearly full, {disk.free / 1e6:.0f} MB are free"
        self._set_fault(f"{self.folder}: no picture can be saved ({full}); {_FREE}")
        return False

    def _set_fault(self, reason: str | None) -> None:
        """Note that pictures cannot be saved, or that they can again; told once."""
        with self._lock:
            if reason is not None:
                self._retry_s = time.monotonic() + RETRY_S
            was_fault = self.fault
            if (was_fault is None) == (reason is None):
                return
            if reason is None:
                self.fault, line = None, f"{self.folder}: pictures are saved again"
            else:
                self.fault = line = f"{reason}; until then only verdicts are recorded, no pictures are saved"
            self._events.append((line, {"folder": str(self.folder)}))
        self._wake.set()
        self._told(line)

    # --- the thread ---------------------------------------------------------------------------------------------

    def _run(self, retention: Retention) -> None:
        while True:
            is_last = self._is_ending
            self._wake.clear()
            with suppress(RecordAway, OSError):  # tried again in the next pass
                self._tell()
                if not is_last:
                    retention.tidy(lambda: self._is_ending)
            if is_last:
                return
            if not self._is_ending:
                self._wake.wait(PASS_S)

    def _tell(self) -> None:
        """Record the events that wait."""
        assert self._record is not None
        while self._events:
            text, details = self._events[0]
            self._record.add_event("storage", text, details=details or None)
            self._events.popleft()

    def _end(self, thread: threading.Thread) -> None:
        self._is_ending = True
        self._wake.set()
        thread.join()
        self._retention = None


def _reserve_bytes(disk_bytes: int) -> int:
    """So much of a disk is left free for the database."""
    least = min(LEAST_RESERVE_BYTES, disk_bytes // 4)
    return min(max(round(RESERVE_SHARE * disk_bytes), least), MOST_RESERVE_BYTES)


def _unsaved(folder: Path, error: OSError) -> str:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = _FREE if is_full else "check the folder"
    return f"{folder}: no picture can be saved ({error.strerror or error}); {remedy}"


def _folder_name(product: str) -> str:
    """A product as the name of a folder, on every system."""
    name = quote(product, safe="", errors="backslashreplace").replace(".", "%2E")
    if len(name) > 100:
        return f"{name[:80]}-{hashlib.sha256(product.encode('utf-8', 'backslashreplace')).hexdigest()[:16]}"
    return name or "%"


def id_of(folder: Path) -> str | None:
    """The id of a storage; None if the folder is none.

    Raises
    ------
    BlemishError
        If the file with the id cannot be read.
    """
    file = folder / ABOUT
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["id"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BlemishError(f"{file}: cannot be read ({error}); choose another --storage") from error


def _registered(folder: Path, record: VerdictRecord) -> str:
    """The id of a folder, which the record knows; a new folder gets one."""
    file, place = folder / ABOUT, {"folder": str(folder.absolute()), "host": platform.node()}
    storage_id = id_of(folder)
    if storage_id is None:
        if (folder / PICTURES).exists():
            raise BlemishError(
                f"{file}: is missing, so it is not known whose pictures are beside it; choose another --storage"
            )
        storage_id = uuid4().hex
        record.add_storage(storage_id, **place)
        write_text(file, json.dumps({"id": storage_id}) + "\n")
        return storage_id
    known = record.storages().get(storage_id)
    if known is None:
        raise BlemishError(
            f"{folder}: has the pictures of another record than {record.database.name}; choose another --storage"
        )
    if known != place:  # a full disk should not keep it from starting
        record.add_storage(storage_id, **place)
    return storage_id
