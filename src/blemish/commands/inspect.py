"""``blemish inspect``: inspect files and folders; write rows, and what ``--save`` names."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from blemish.commands.results import (
    HEARTBEAT,
    PICTURES,
    Results,
    Saving,
    check_results,
    clear,
    sink_files,
    taken_names,
)
from blemish.data.listing import MAPS
from blemish.detector import Detector
from blemish.devices import Device, Precision, resolve_device
from blemish.errors import BlemishError, print_notices
from blemish.files import owned_folder
from blemish.inspection.sources import Found, Photograph, find, photographs
from blemish.inspection.stream import judge
from blemish.inspection.video import frames


def inspect_run(
    detector_path: Path,
    paths: Sequence[Path],
    out: Path,
    device: Device,
    precision: Precision = "auto",
    saving: Saving | None = None,
    min_area_px: int | None = None,
) -> tuple[int, int]:
    """Inspect files and folders.

    Returns
    -------
    How many photographs are defective or unlike the good images, and how many rows have an error.
    """
    check_results(out)
    if (out / HEARTBEAT).exists():
        raise BlemishError(f"{out}: holds the record of `blemish watch`; choose another --out")
    detector = loaded(detector_path, device, precision, min_area_px)
    found = find(paths)
    with owned_folder(out):
        _leave_out_results(found, out)
        print_notices(found.lines())
        clear(out)
        with Results(out, saving or Saving()) as results:
            _inspect(detector, found, results, taken_names(out))
    print(f"{_summary(results.counts, found)}; results in {out}")
    counts = results.counts
    return counts["defective"] + counts["unlike"], counts["unreadable"] + counts["not saved"]


def loaded(path: Path, device: Device, precision: Precision, min_area_px: int | None) -> Detector:
    """Load a detector, with another least area if one is given; says so if its threshold promises nothing."""
    if min_area_px is not None and min_area_px < 0:
        raise BlemishError(f"--min-area {min_area_px}: should be a number of pixels, 0 or more")
    detector = Detector.load(path, resolve_device(device), precision)
    if min_area_px is not None:
        detector.min_area_px = min_area_px
    if detector.threshold.n_calibration == 0:
        print_notices([f"{path}: {detector.threshold.explain()}"])
    return detector


def _inspect(detector: Detector, found: Found, results: Results, taken: Sequence[str]) -> None:
    """Inspect all photographs and write the results, row by row, so that those so far are kept if it is stopped."""
    sources = photographs(_with_frames(found), faults=found.faults, taken=taken)
    for record in judge(detector, sources, results.record):
        results.take(record)
        if record.message is not None:
            print(f"blemish: {record.message}", file=sys.stderr)


def _with_frames(found: Found) -> Iterator[Path | Photograph]:
    """The files, and the frames of those that are videos."""
    for file in found.files:
        if file in found.videos:
            yield from frames(file, tell=lambda line: print_notices([line]))
        else:
            yield file


def _summary(counts: Counter[str], found: Found) -> str:
    """How many files there were, and what became of each."""
    n_left_out, n_unreadable = found.n_left_out, counts["unreadable"]
    n_images = n_unreadable + counts["good"] + counts["defective"] + counts["unlike"]
    what = "files and frames" if found.videos else "files"
    unlike = f"{counts['unlike']} unlike the good images, " if counts["unlike"] else ""
    without = f"{counts['not saved']} without a picture that was to be saved, " if counts["not saved"] else ""
    return (
        f"{n_images} image{'s' * (n_images != 1)}: {counts['defective']} defective, {unlike}{without}{n_unreadable} "
        f"unreadable; {n_images - n_unreadable} of {n_images + n_left_out} {what} inspected, {n_left_out} left out"
    )


def _leave_out_results(found: Found, out: Path) -> None:
    """Do not report what an earlier run has written into the same folder: it is replaced."""
    folder = _real(out)
    replaced = {_real(path) for path in sink_files(folder)}
    pictures = {folder / name for name in PICTURES}
    found.left_out = [
        (root, entry)
        for root, entry in found.left_out
        if (path := _real(entry.path)) not in replaced
        and not (entry.kind.is_result and path.parent in pictures)
        and not (path.suffix == ".npy" and path.parent == folder / MAPS)
    ]


def _real(path: Path) -> Path:
    """A path without links; of a link to itself, which `Path.resolve` refuses, the link."""
    return Path(os.path.realpath(path))
