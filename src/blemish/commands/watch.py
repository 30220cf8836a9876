"""``blemish watch``: inspect what a camera sends, or what comes into a folder, until it is stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from blemish.commands.inspect import loaded
from blemish.commands.results import KINDS, PHOTOGRAPHS, Results, Saving, check_results, continued, taken_names
from blemish.devices import Device, Precision
from blemish.errors import BlemishError
from blemish.files import owned_folder, write_text
from blemish.inspection.cameras import is_camera, open_camera
from blemish.inspection.sinks import Record
from blemish.inspection.sources import Photograph, photographs
from blemish.inspection.stream import Judgement, judge
from blemish.inspection.watching import WatchedFolder, key_of

WATCH_KINDS = (*(kind for kind in KINDS if kind not in ("coco", "parquet")), PHOTOGRAPHS)
"""What ``watch --save`` takes: not what is written at the end only."""
HEARTBEAT = "heartbeat.json"
HEARTBEAT_S = 1.0


class WatchFailed(BlemishError):
    """Watching ended although nobody stopped it: the camera is gone, or the disk full. To start again may help."""


class Source(Protocol):
    """A camera, or a folder that is watched."""

    state: str

    def frames(self, stop: threading.Event) -> Iterator[Photograph | None]:
        """Photographs as they come, and None whenever there is none."""


@dataclass
class Heartbeat:
    """The file that says that it is running, and how it goes: written every second."""

    path: Path
    about: dict[str, Any]
    last: dict[str, Any] | None = None
    _written_s: float = field(default=0.0)

    def beat(self, source: Source, results: Results, *, is_last: bool = False) -> None:
        """Write the file if it is time."""
        if not is_last and time.monotonic() - self._written_s < HEARTBEAT_S:
            return
        self._written_s = time.monotonic()
        counts = results.counts
        content = {
            "time": now(),
            "state": "stopped" if is_last else source.state,
            **self.about,
            "n_inspected": counts["good"] + counts["defective"] + counts["unlike"],
            "n_defective": counts["defective"],
            "n_unlike": counts["unlike"],
            "n_not_inspected": counts["unreadable"],
            "last": self.last,
        }
        write_text(self.path, json.dumps(content, indent=2) + "\n")


def now() -> str:
    """The time, UTC, as ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def watch_run(
    address: str,
    detector_path: Path,
    out: Path,
    device: Device,
    precision: Precision = "auto",
    saving: Saving | None = None,
    min_area_px: int | None = None,
    *,
    poll_s: float = 0.5,
    patience_s: float = 600.0,
) -> int:
    """Inspect until SIGTERM or SIGINT; return how many photographs were not inspected, or lack a picture.

    Raises
    ------
    BlemishError
        If an argument is wrong, or the source cannot be reached.
    WatchFailed
        If it ends later without being stopped.
    """
    for name, value in (("poll", poll_s), ("patience", patience_s)):
        if not 0 <= value < float("inf"):
            raise BlemishError(f"--{name} {value}: should be a number of seconds, 0 or more")
    if not is_camera(address) and not Path(address).is_dir():
        remedy = "`blemish inspect` takes files" if Path(address).is_file() else "give a folder or a camera"
        raise BlemishError(f"{address}: is neither a folder nor the address of a camera; {remedy}")
    check_results(out)
    detector = loaded(detector_path, device, precision, min_area_px)
    with owned_folder(out):
        done = continued(out)
        with _source(address, out, done, poll_s, patience_s) as source:
            results = Results(out, saving or Saving(pictures_of_good=False), is_continued=True)
            about = {"source": address, "detector": str(detector_path), "pid": os.getpid(), "started": now()}
            heartbeat = Heartbeat(out / HEARTBEAT, about)
            with stopped_by_signals() as stop, results:
                heartbeat.beat(source, results)
                print(f"watching {address}; results in {out}; stop with Ctrl+C or SIGTERM", flush=True)
                try:
                    _watch(detector, source, results, heartbeat, stop, taken_names(out))
                except WatchFailed:
                    raise
                except BlemishError as error:
                    raise WatchFailed(str(error)) from error
                finally:
                    heartbeat.beat(source, results, is_last=True)
    counts = results.counts
    n_inspected = counts["good"] + counts["defective"] + counts["unlike"]
    print(f"stopped: {n_inspected} inspected, {counts['defective']} defective, {counts['unlike']} unlike the good "
          f"images, {counts['unreadable']} not inspected; results in {out}")  # fmt: skip
    return counts["unreadable"] + counts["not saved"]


def _watch(
    detector: Any, source: Source, results: Results, heartbeat: Heartbeat, stop: threading.Event, taken: list[str]
) -> None:
    """Inspect until the source ends."""

    def record(judgement: Judgement) -> Record:
        made = results.record(judgement)
        return replace(made, row={**made.row, **judgement.photograph.columns, "time": now()})

    failures = list[BlemishError]()

    def incoming() -> Iterator[Photograph | None]:
        try:
            for photograph in photographs(source.frames(stop), taken=taken):
                heartbeat.beat(source, results)
                yield photograph
        except BlemishError as error:  # raised below: what has come before it is judged
            failures.append(error)

    for each in judge(detector, incoming(), record):
        results.take(each)
        heartbeat.last = {key: each.row[key] for key in ("path", "verdict", "score", "time")}
        if each.message is not None:
            print(f"blemish: {each.message}", file=sys.stderr, flush=True)
        heartbeat.beat(source, results)
    for failure in failures:
        raise failure


@contextmanager
def _source(
    address: str, out: Path, done: list[tuple[str, str]], poll_s: float, patience_s: float
) -> Iterator[Source]:
    """The camera or folder at an address."""
    if is_camera(address):
        with open_camera(address, tell=_tell, patience_s=patience_s) as camera:
            yield camera
        return
    keys = (key_of(path, version) for path, version in done)
    yield WatchedFolder(Path(address), done=keys, ignored=_results_folders(out), tell=_tell, poll_s=poll_s)


def _results_folders(out: Path) -> list[Path]:
    return [out, *(out / kind for kind in WATCH_KINDS)]


def _tell(line: str) -> None:
    print(f"blemish: {line}", file=sys.stderr, flush=True)


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the second SIGINT interrupts at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    earlier: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
