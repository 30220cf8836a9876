"""``blemish watch``: inspect what a camera sends, or what comes into a folder, until it is stopped."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from blemish.artifact import artifact_at, read_artifact
from blemish.commands.inspect import loaded
from blemish.commands.results import (
    HEARTBEAT,
    KINDS,
    PHOTOGRAPHS,
    ROWS,
    Results,
    Saving,
    check_results,
    continued,
    taken_names,
)
from blemish.commands.telling import Telling
from blemish.devices import Device, Precision
from blemish.errors import BlemishError, NotNow, print_line
from blemish.files import owned_folder, sha256_of_file, write_text
from blemish.inspection.cameras import ADDRESSES, Camera, is_camera, open_camera
from blemish.inspection.sinks import Record
from blemish.inspection.sources import Photograph, photographs
from blemish.inspection.stream import Judgement, judge
from blemish.inspection.watching import WatchedFolder

if TYPE_CHECKING:
    from blemish.commands.recording import Recording, RecordOptions

WATCH_KINDS = (*(kind for kind in KINDS if kind not in ("coco", "parquet")), PHOTOGRAPHS)
"""What ``watch --save`` takes: not what is written at the end only."""
HEARTBEAT_S = 1.0


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

    def beat(self, source: Source, results: Results, end: str = "") -> None:
        """Write the file if it is time, or if it has come to an ``end``, which it then names."""
        if not end and time.monotonic() - self._written_s < HEARTBEAT_S:
            return
        self._written_s = time.monotonic()
        counts = results.counts
        content = {
            "time": now(),
            "state": end or source.state,
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
    record: RecordOptions | None = None,
    *,
    poll_s: float = 0.5,
    patience_s: float = 600.0,
) -> int:
    """Inspect until SIGTERM or SIGINT; return how many photographs were not inspected, or lack a picture.

    Raises
    ------
    BlemishError
        If an argument is wrong, or the source cannot be reached.
    NotNow
        If the folder is in use or the database away, or it ends later without being stopped: the camera is gone, or
        the disk full. To start again may help.
    """
    _check(address, out, poll=poll_s, patience=patience_s)
    detector = loaded(detector_path, device, precision, min_area_px)
    saving = saving or Saving(pictures_of_good=False)
    with owned_folder(out), _recording(record, address, detector_path, detector, saving) as recording:
        done = _done(out, saving, recording)
        digest = recording.digest if recording else sha256_of_file(artifact_at(detector_path))
        _tell_what_changes(out, digest, detector.min_area_px)
        ignored = [*_results_folders(out), *([record.storage] if record and record.storage else [])]
        with _source(address, ignored, done, poll_s, patience_s) as source:
            results = Results(out, saving, is_continued=True)
            about = {
                "source": address, "detector": str(detector_path), "digest": digest,
                "min_area_px": detector.min_area_px, "pid": os.getpid(), "started": now(),
                **(recording.about if recording else {}),
            }  # fmt: skip
            heartbeat = Heartbeat(out / HEARTBEAT, about)
            with stopped_by_signals() as stop, results:
                heartbeat.beat(source, results)
                print(f"watching {address}; results in {out}; stop with Ctrl+C or SIGTERM", flush=True)
                end = "interrupted"
                try:
                    _watch(detector, source, results, heartbeat, stop, taken_names(out), recording)
                    end = "stopped"
                except BlemishError as error:
                    end = f"ended: {error}"
                    raise NotNow(str(error)) from error
                finally:
                    heartbeat.beat(source, results, end)
    left = source.left if isinstance(source, WatchedFolder) else []
    if left:
        print_line(f"{left[0]}: waits, with {len(left) - 1} more files, and is inspected at the next start")
    counts = results.counts
    n_inspected = counts["good"] + counts["defective"] + counts["unlike"]
    print(f"stopped: {n_inspected} inspected, {counts['defective']} defective, {counts['unlike']} unlike the good "
          f"images, {counts['unreadable']} not inspected; results in {out}")  # fmt: skip
    return counts["unreadable"] + counts["not saved"] + len(left)


def _check(address: str, out: Path, **seconds: float) -> None:
    """Raise BlemishError if an argument is wrong in a way that starting again does not mend."""
    for name, value in seconds.items():
        if not 0 <= value < float("inf"):
            raise BlemishError(f"--{name} {value}: should be a number of seconds, 0 or more")
    looks_like_camera = address.startswith("aravis:") or "://" in address
    if not is_camera(address) and (Path(address).is_file() or (looks_like_camera and not Path(address).exists())):
        remedy = "`blemish inspect` takes files" if Path(address).is_file() else f"give a folder, or {ADDRESSES}"
        raise BlemishError(f"{address}: is neither a folder nor the address of a camera; {remedy}")
    check_results(out)
    if (out / ROWS).exists() and not (out / HEARTBEAT).exists():
        raise BlemishError(
            f"{out}: holds results of `blemish inspect`, which are not continued; choose another --out"
        )


@contextmanager
def _recording(
    options: RecordOptions | None, address: str, detector_path: Path, detector: Any, saving: Saving
) -> Iterator[Recording | None]:
    """The record that is written beside the folder, if one is asked for."""
    if options is None:
        yield None
        return
    from blemish.commands.recording import Recording  # needs packages that are not always there

    settings = {"min_area_px": detector.min_area_px, "threshold": detector.threshold.value}
    path = artifact_at(detector_path)
    recording = Recording(options, address, path, saving.pictures_of_good, settings)
    with ExitStack() as stack:
        if detector.min_area_px != _min_area_of(path):  # kept as it judges, so that a verdict can be replayed
            recording.judged_by = Path(stack.enter_context(TemporaryDirectory())) / path.name
            detector.save(recording.judged_by)
        yield stack.enter_context(recording)


def _min_area_of(path: Path) -> int:
    """The least area of a region that a detector's file says, px."""
    return int(read_artifact(path)[1].get("min_area_px", 0))


def _done(out: Path, saving: Saving, recording: Recording | None) -> Iterable[int]:
    """Keys of the files that have been inspected."""
    if recording is not None:
        return recording.continued(out, saving)
    return continued(out)


def _watch(
    detector: Any,
    source: Source,
    results: Results,
    heartbeat: Heartbeat,
    stop: threading.Event,
    taken: list[str],
    recording: Recording | None,
) -> None:
    """Inspect until the source ends."""
    began_s: dict[str, float] = {}

    def record(judgement: Judgement) -> tuple[Record, Any]:
        made = results.record(judgement)
        columns = {**judgement.photograph.columns, "time": now(), "detector": heartbeat.about["digest"]}
        made = replace(made, row={**made.row, **columns})
        ms = 1000 * (time.monotonic() - began_s.pop(judgement.photograph.name))
        return (made, None) if recording is None else recording.verdict_of(judgement, made, ms)

    failures, telling = list[BlemishError](), Telling(print_line)

    def beat() -> None:
        if recording is not None:
            heartbeat.about["record_fault"] = recording.fault
        heartbeat.beat(source, results)

    def take(each: Record) -> None:
        results.take(each)
        heartbeat.last = {key: each.row.get(key) for key in ("path", "verdict", "score", "time", "id")}
        if each.message is not None:
            lacks_a_picture = each.is_judged and each.row["error"] is not None
            telling.take((each.row["verdict"], lacks_a_picture), str(each.message))
        beat()

    def take_recorded(*, all_of_them: bool = False) -> None:
        for each in recording.recorded(stop, beat, all_of_them=all_of_them) if recording else ():
            take(each)

    def incoming() -> Iterator[Photograph | None]:
        try:
            for photograph in photographs(source.frames(stop), taken=taken):
                beat()
                telling.tick()
                take_recorded()
                if photograph is not None:
                    began_s[photograph.name] = time.monotonic()
                yield photograph
        except BlemishError as error:  # raised below: what has come before it is judged
            failures.append(error)

    with telling:
        for made, new in judge(detector, incoming(), record):
            if recording is None:
                take(made)
            else:
                recording.put(made, new)
                take_recorded()
        take_recorded(all_of_them=True)
    for failure in failures:
        raise failure


@contextmanager
def _source(
    address: str, ignored: list[Path], done: Iterable[int], poll_s: float, patience_s: float
) -> Iterator[Source]:
    """The camera or folder at an address."""
    if is_camera(address):
        with _opened(open_camera(address, tell=print_line, patience_s=patience_s), patience_s) as camera:
            yield camera
        return
    if not Path(address).exists():
        raise NotNow(f"{address}: no such folder; check the path, or mount the share")
    yield WatchedFolder(Path(address), done=done, ignored=ignored, tell=print_line, poll_s=poll_s)


@contextmanager
def _opened(camera: Camera, patience_s: float) -> Iterator[Camera]:
    """Open a camera; one that cannot be reached is tried for so long."""
    began_s, pause_s = time.monotonic(), 1.0
    while True:
        try:
            camera.__enter__()
            break
        except BlemishError as error:
            left_s = patience_s - (time.monotonic() - began_s)
            if left_s <= 0:
                raise NotNow(str(error)) from error
            if pause_s == 1.0:
                print_line(f"{error}; it is tried for {patience_s:g} s")
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, 10.0)
    try:
        yield camera
    finally:
        camera.__exit__(None, None, None)


def _tell_what_changes(out: Path, digest: str, min_area_px: int) -> None:
    """Say if another detector goes on with the rows of an earlier run."""
    try:
        before = json.loads((out / HEARTBEAT).read_text(encoding="utf-8"))
        changed = (before["digest"], before["min_area_px"]) != (digest, min_area_px)
    except (OSError, ValueError, KeyError, TypeError):
        return
    if changed:
        print_line(
            f"{out}: goes on with another detector or --min-area than before; what was inspected stays as it is"
        )


def _results_folders(out: Path) -> list[Path]:
    return [out, *(out / kind for kind in WATCH_KINDS)]


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
