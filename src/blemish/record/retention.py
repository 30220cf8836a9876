"""Which pictures of a storage are removed: those that a crash has left without a row, and those beyond the limits."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from blemish.record.record import VerdictRecord

PICTURES = "pictures"
ORDER = ("good", "not_inspected", "unlike", "defective")
"""Pictures of these parts are removed in this order."""
KEPT_SHARE = 0.98
"""Once there is too much, it is brought down to this share of the limit."""
KEEP_DAYS = "keep_days"
"""Setting of a product: its own limit, instead of that of the storage."""
AT_ONCE = 200
"""Parts whose pictures are removed in one transaction."""
_DAY_S = 86_400.0
_Part = tuple[int, str | None, str | None]
_NUMBER = re.compile(r"\.?[0-9a-f]+-([0-9a-f]+)[.-]")


class Retention:
    """Removes pictures of one storage.

    Parameters
    ----------
    folder, storage_id : the storage.
    record : whose pictures these are.
    keep_days, keep_gb : limits; see ``storage.Storage``.
    first_number : pictures with lower numbers in their names are of earlier runs.
    """

    def __init__(
        self,
        folder: Path,
        storage_id: str,
        record: VerdictRecord,
        keep_days: float | None,
        keep_gb: float | None,
        first_number: int,
    ) -> None:
        self.folder, self.storage_id, self.record = folder, storage_id, record
        self.keep_days = keep_days
        self.keep_bytes = None if keep_gb is None else round(keep_gb * 1e9)
        self.n_bytes = 0
        """Size of all pictures that are known."""
        self.is_searched = threading.Event()
        """Set when the pictures of earlier runs have been looked through."""
        self._first_number = first_number
        self._lock = threading.Lock()

    def count(self, n_bytes: int) -> bool:
        """Count a picture that was saved; return whether there are too many now."""
        with self._lock:
            self.n_bytes += n_bytes
            return self.keep_bytes is not None and self.n_bytes > self.keep_bytes

    def tidy(self, is_ending: Callable[[], bool]) -> None:
        """Remove what is to be removed now, until it ends.

        Raises
        ------
        RecordAway
            If the database cannot be used; the next call goes on.
        """
        if not self.is_searched.is_set():
            self._search(is_ending)
        settings = {name: about["settings"] for name, about in self.record.product_settings().items()}
        own = {name: each[KEEP_DAYS] for name, each in settings.items() if each.get(KEEP_DAYS)}
        for product, days in (*own.items(), (None, self.keep_days)):
            if days is None:
                continue
            before = time.time() - days * _DAY_S
            others = () if product is not None else own
            for verdict in ORDER:
                while not is_ending() and self._drop(verdict, before=before, product=product, other_than=others):
                    pass
        if self.keep_bytes is not None and self.n_bytes > self.keep_bytes:
            for reviewed in (False, True):
                for verdict in ORDER:
                    while self.n_bytes > KEPT_SHARE * self.keep_bytes and not is_ending():
                        if not self._drop(verdict, reviewed=reviewed):
                            break

    def _drop(
        self,
        verdict: str,
        *,
        reviewed: bool | None = None,
        before: float | None = None,
        product: str | None = None,
        other_than: Collection[str] = (),
    ) -> bool:
        """Remove the oldest pictures of a kind; return whether there were any."""
        parts: Sequence[_Part] = self.record.oldest_pictures(
            self.storage_id, verdict, reviewed=reviewed, before=before, product=product, other_than=other_than,
            limit=AT_ONCE,
        )  # fmt: skip
        if before is None:
            parts = self._enough(parts)
        self.record.drop_pictures([verdict_id for verdict_id, *_ in parts])  # first: a row must not name what is gone
        for _, *names in parts:
            for name in names:
                if name is not None:
                    self._remove(self.folder / name)
        for folder in {(self.folder / name).parent for _, *names in parts for name in names if name is not None}:
            _remove_empty(folder)
        return bool(parts)

    def _enough(self, parts: Sequence[_Part]) -> Sequence[_Part]:
        """The first parts, as many as have to go."""
        assert self.keep_bytes is not None
        too_many = self.n_bytes - KEPT_SHARE * self.keep_bytes
        for index, (_, *names) in enumerate(parts):
            if too_many <= 0:
                return parts[:index]
            too_many -= sum(_size(self.folder / name) for name in names if name is not None)
        return parts

    def _remove(self, path: Path) -> None:
        n_bytes = _size(path)
        with suppress(FileNotFoundError):
            path.unlink()
            self.count(-n_bytes)

    def _search(self, is_ending: Callable[[], bool]) -> None:
        """Look through the pictures of earlier runs: count them, and remove those that no row has."""
        n_bytes = 0
        for folder, day in _days(self.folder / PICTURES):
            sizes = dict(self._earlier(folder))
            names = {f"{PICTURES}/{folder.parent.name}/{folder.name}/{name}": name for name in sizes}
            noon = datetime.combine(day, datetime.min.time(), UTC).timestamp() + _DAY_S / 2
            span = noon - _DAY_S, noon + _DAY_S
            for name in self.record.unknown_pictures(self.storage_id, names, *span) if names else ():
                with suppress(FileNotFoundError):
                    (self.folder / name).unlink()
                del sizes[names[name]]
            n_bytes += sum(sizes.values())
            _remove_empty(folder)
            if is_ending():
                return
        self.count(n_bytes)
        self.is_searched.set()

    def _earlier(self, folder: Path) -> Iterator[tuple[str, int]]:
        """Names and sizes of the pictures in a folder that earlier runs saved, or began to."""
        with os.scandir(folder) as entries:
            for entry in entries:
                number = _NUMBER.match(entry.name)
                if number is not None and int(number[1], 16) < self._first_number:
                    yield entry.name, entry.stat(follow_symlinks=False).st_size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _days(pictures: Path) -> Iterator[tuple[Path, date]]:
    """The folders of days of all products."""
    if not pictures.is_dir():
        return
    for product in sorted(pictures.iterdir()):
        for folder in sorted(product.iterdir()) if product.is_dir() else ():
            with suppress(ValueError):
                yield folder, date.fromisoformat(folder.name)


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a day, if it is empty and no picture will come into it."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    with suppress(OSError):
        if date.fromisoformat(folder.name) < yesterday:
            folder.rmdir()
