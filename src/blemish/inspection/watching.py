"""A folder that is watched: each photograph that comes into it is taken once, as soon as it is whole.

The folder is listed again and again. Notifications of the system would be sooner, but they do not come for files that
another machine writes to a network share, they get lost when many come at once, and they tell of a file when it is
begun, not when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from blemish.data.kinds import IMAGE_SUFFIXES, JPEG_SUFFIXES, RECORD, SYSTEM, kind_of
from blemish.data.listing import natural_key
from blemish.errors import BlemishError
from blemish.inspection.sources import Photograph

POLL_S, QUIET_S = 0.5, 1.0
PATIENCE_S = 10.0
"""A file without its end is taken, and one with the name of an unfinished one told, when quiet for so long."""
LISTING_SHARE = 0.2
"""Share of the time that listing the folder may take."""
_UNFINISHED = frozenset({".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".writing"})
_TAIL_BYTES = 1024


class Version(NamedTuple):
    """A file is another one when one of these changes."""

    size: int
    modified_ns: int
    changed_ns: int
    """Also of a file that was moved to the name, with its own time of modification."""

    def __str__(self) -> str:
        return f"{self.size}-{self.modified_ns}-{self.changed_ns}"


class WatchedFolder:
    """Photographs that are in a folder or its subfolders, or come there later.

    Parameters
    ----------
    folder : that is watched.
    done : keys (``key_of``) of the files that have been taken by an earlier run; they are not taken again.
    ignored : folders in it whose files are not taken.
    tell : called with one line about each file that is not taken, and when the folder is gone and back.
    poll_s : pause between two listings.
    quiet_s : a file is whole when size and time have not changed for so long, and its end is there.
    patience_s : after so long also without its end.

    Raises
    ------
    BlemishError
        If it is no folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        done: Iterable[int] = (),
        ignored: Iterable[Path] = (),
        tell: Callable[[str], None],
        poll_s: float = POLL_S,
        quiet_s: float = QUIET_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        if not folder.is_dir():
            raise BlemishError(f"{folder}: is no folder; give a folder, or the address of a camera")
        self.folder, self.tell = folder, tell
        self.poll_s, self.quiet_s, self.patience_s = poll_s, quiet_s, patience_s
        self.state = "running"
        """``running``, or ``gone since`` and the time (UTC)."""
        self._done, self._ignored = set(done), {os.path.realpath(path) for path in ignored}
        self._waiting: dict[str, tuple[Version, float]] = {}
        self._whole: deque[tuple[str, Version]] = deque()
        self._told: set[str] = set()

    @property
    def left(self) -> list[str]:
        """Files that were seen and not given out: they have to be whole first, or it was stopped before."""
        return [path for path in [*self._waiting, *(path for path, _ in self._whole)] if path not in self._told]

    def frames(self, stop: threading.Event) -> Iterator[Photograph | None]:
        """Yield photographs that are whole, in natural order; None after each listing, until ``stop`` is set."""
        while not stop.is_set():
            began_s = time.monotonic()
            self._whole = deque(sorted(self._whole_files(), key=lambda file: natural_key(Path(file[0]))))
            while self._whole:
                if stop.is_set():
                    return
                path, version = self._whole.popleft()
                self._done.add(key_of(path, str(version)))
                yield Photograph(path, Path(path).stem, columns={"version": str(version)})
            listing_s = time.monotonic() - began_s
            until_s = time.monotonic() + max(self.poll_s, listing_s * (1 / LISTING_SHARE - 1))
            yield None
            while time.monotonic() < until_s and not stop.wait(min(0.2, max(0.0, until_s - time.monotonic()))):
                yield None

    def _whole_files(self) -> list[tuple[str, Version]]:
        """The files that are new and whole."""
        now_s, present, whole = time.monotonic(), set[str](), list[tuple[str, Version]]()
        for path, version in self._files():
            present.add(path)
            if key_of(path, str(version)) in self._done:
                continue
            earlier, since_s = self._waiting.get(path, (None, now_s))
            if earlier != version:
                self._waiting[path] = version, now_s
                continue
            quiet_s = now_s - since_s
            if quiet_s < self.quiet_s:
                continue
            lack = _lack_of(path)
            if lack is None or (lack == "end" and quiet_s >= self.patience_s):
                whole.append((path, version))
                del self._waiting[path]
            elif lack == "result":
                self._done.add(key_of(path, str(version)))
                del self._waiting[path]
            elif lack != "end" and (quiet_s >= self.patience_s or Path(path).suffix.lower() not in _UNFINISHED):
                self._tell_once(path, f"{path}: is not taken: {lack}")
        if self.state == "running":
            for path in self._waiting.keys() - present:
                del self._waiting[path]
        return whole

    def _files(self) -> Iterator[tuple[str, Version]]:
        """All files in and below the folder that is there."""
        waiting = [str(self.folder)]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        try:
                            if entry.is_dir():
                                if os.path.realpath(entry.path) not in self._ignored and not entry.is_symlink():
                                    waiting.append(entry.path)
                            elif entry.is_file():
                                status = entry.stat()
                                yield entry.path, Version(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                        except OSError:  # gone, or a link to itself
                            continue
                self._back(folder)
            except OSError as error:
                self._gone(folder, error)

    def _gone(self, folder: str, error: OSError) -> None:
        if folder != str(self.folder):
            self._tell_once(folder, f"{folder}: cannot be listed ({error.strerror}); check its permissions")
        elif self.state == "running":
            self.state = f"gone since {datetime.now(UTC).isoformat(timespec='seconds')}"
            self.tell(f"{folder}: cannot be listed ({error.strerror}); it is tried again until it can")

    def _back(self, folder: str) -> None:
        self._told.discard(folder)
        if folder == str(self.folder) and self.state != "running":
            self.state = "running"
            self.tell(f"{folder}: is back")

    def _tell_once(self, path: str, line: str) -> None:
        if path not in self._told:
            self._told.add(path)
            self.tell(line)


def key_of(path: str, version: str) -> int:
    """A key for a file as it is, 8 bytes: of millions of files, names would take much memory."""
    text = f"{os.path.realpath(path)}\n{version}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def version_of(path: str) -> str | None:
    """The version of a file as it is now; None if there is none."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return str(Version(status.st_size, status.st_mtime_ns, status.st_ctime_ns))


def _lack_of(path: str) -> str | None:
    """Why a quiet file is not taken: ``end`` if its end is missing, ``result`` if blemish wrote it; None if it is."""
    suffix = Path(path).suffix.lower()
    if suffix in _UNFINISHED:
        return "by its name it is not finished; rename it"
    try:
        if suffix not in IMAGE_SUFFIXES or suffix in JPEG_SUFFIXES:
            kind = kind_of(Path(path))
            if kind.is_result or kind in (RECORD, SYSTEM):
                return "result"
            if not (kind.is_picture or suffix in IMAGE_SUFFIXES):
                return "end" if kind.name == "empty" else f"{kind.name}; only images are inspected"
        return None if _has_end(path) else "end"
    except OSError:  # gone, or not readable: told by the one who reads it
        return None


def _has_end(path: str) -> bool:
    """Whether the end of a file is there, as far as its format tells; the reader tells for certain."""
    with Path(path).open("rb") as file:
        head = file.read(12)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
    if head.startswith(b"\x89PNG"):
        return b"IEND\xaeB`\x82" in tail
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"RIFF"):
        return size >= int.from_bytes(head[4:8], "little") + 8
    if head.startswith(b"BM"):
        return size >= int.from_bytes(head[2:6], "little")
    return bool(head)
