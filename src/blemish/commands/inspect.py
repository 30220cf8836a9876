"""``blemish inspect``: inspect files and folders; write ``findings.jsonl``, ``findings.csv`` and overlays."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from blemish.data.kinds import OVERLAY, kind_of, with_comment
from blemish.data.listing import OVERLAYS
from blemish.detector import Detector
from blemish.devices import Device, Precision, resolve_device
from blemish.errors import BlemishError, print_notices
from blemish.files import check_own, make_folder, owned_folder, replace_file
from blemish.inspection.findings import unlike_text
from blemish.inspection.sinks import Rows, Table
from blemish.inspection.sources import Found, find, photographs
from blemish.inspection.stream import Judgement, judge
from blemish.report.overlay import as_jpeg, overlay

ROWS, TABLE = "findings.jsonl", "findings.csv"
_OF_ONE_FILE = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
"""Errors of a single overlay; any other, such as a full disk, stops the run."""


def inspect_run(
    detector_path: Path, paths: Sequence[Path], out: Path, device: Device, precision: Precision = "auto"
) -> tuple[int, int]:
    """Inspect files and folders.

    Returns
    -------
    How many photographs are defective or unlike the good images, and how many rows have an error.
    """
    check_own(out / ROWS, Rows.is_own)
    check_own(out / TABLE, Table.is_own)
    detector = Detector.load(detector_path, resolve_device(device), precision)
    found = find(paths)
    with owned_folder(out):
        _leave_out_results(found, out)
        print_notices(found.lines())
        if detector.threshold.n_calibration == 0:
            print_notices([f"{detector_path}: {detector.threshold.explain()}"])
        taken = _clear(make_folder(out / OVERLAYS))
        counts = _inspect(detector, found, out, taken)
    print(f"{_summary(counts, found)}; results in {out}")
    return counts["defective"] + counts["unlike"], counts["unreadable"] + counts["without overlay"]


def _inspect(detector: Detector, found: Found, out: Path, taken: Sequence[str]) -> Counter[str]:
    """Write the results, and return how many photographs have which verdict."""
    counts: Counter[str] = Counter()

    def with_overlay(judgement: Judgement) -> Judgement:
        return draw_overlay(judgement, out)

    sources = photographs(found.files, faults=found.faults, taken=taken)
    with Rows(out / ROWS) as rows, Table(out / TABLE) as table:
        # Row by row, so that the rows so far are kept if the run is stopped.
        for judgement in judge(detector, sources, with_overlay):
            rows.take(judgement)
            table.take(judgement)
            message = judgement.error or judgement.overlay_error
            if judgement.error is not None:
                counts["unreadable"] += 1
            else:
                counts[judgement.finding.verdict] += 1
                counts["without overlay"] += judgement.overlay_error is not None
            if judgement.unlike and message is None:
                message = BlemishError(unlike_text(judgement.photograph.path, judgement.unlike))
            if message is not None:
                print(f"blemish: {message}", file=sys.stderr)
    return counts


def _summary(counts: Counter[str], found: Found) -> str:
    """How many files there were, and what became of each."""
    n_images, n_left_out, n_unreadable = len(found.files), found.n_left_out, counts["unreadable"]
    unlike = f"{counts['unlike']} unlike the good images, " if counts["unlike"] else ""
    without = f"{counts['without overlay']} without an overlay, " if counts["without overlay"] else ""
    return (
        f"{n_images} image{'s' * (n_images != 1)}: {counts['defective']} defective, {unlike}{without}{n_unreadable} "
        f"unreadable; {n_images - n_unreadable} of {n_images + n_left_out} files inspected, {n_left_out} left out"
    )


def _leave_out_results(found: Found, out: Path) -> None:
    """Do not report what an earlier run has written into the same folder: it is replaced."""
    folder = _real(out)
    replaced = {folder / ROWS, folder / TABLE}
    found.left_out = [
        (root, entry)
        for root, entry in found.left_out
        if _real(entry.path) not in replaced
        and (entry.kind is not OVERLAY or _real(entry.path).parent != folder / OVERLAYS)
    ]


def _real(path: Path) -> Path:
    """A path without links; of a link to itself, which `Path.resolve` refuses, the link."""
    return Path(os.path.realpath(path))


def _clear(overlays: Path) -> list[str]:
    """Remove the overlays of an earlier run, and no other file; return the names, without suffix, of those others."""
    names = []
    for path in overlays.iterdir():
        try:
            is_own = re.fullmatch(r"\..*\.jpg\.\d+\.part", path.name) or (path.is_file() and kind_of(path) is OVERLAY)
        except OSError:
            is_own = False
        if is_own:
            path.unlink(missing_ok=True)
        else:
            names.append(path.stem)
    return names


def draw_overlay(judgement: Judgement, out: Path) -> Judgement:
    """Write the overlay of a photograph, release its pixels, and return the judgement."""
    if judgement.error is None and judgement.image is not None:
        name = f"{OVERLAYS}/{judgement.photograph.name}.jpg"
        try:
            jpeg = with_comment(as_jpeg(overlay(judgement.image, judgement.finding)))
            with replace_file(out / name) as file:
                file.write(jpeg)
            judgement.overlay = name
        except BlemishError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno not in _OF_ONE_FILE:
                raise
            judgement.overlay_error = BlemishError(f"{judgement.photograph.path}: has no overlay: {error}")
    judgement.image = None
    return judgement
