"""``blemish calibrate``: a trained detector with new thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.artifact import artifact_at
from blemish.detector import Detector
from blemish.devices import Device, resolve_device
from blemish.errors import BlemishError, print_notices
from blemish.files import check_new, folder_for_files
from blemish.learning.recalibrating import Recalibration, calibrate, with_rule


@dataclass(frozen=True)
class Reviews:
    """Where reviews of parts are."""

    db: str
    """Path or URL of the record."""
    product: str | None = None
    storage: Path | None = None
    """Folder of the pictures; None is where they were written."""


def calibrate_run(
    path: Path,
    good: Path | None,
    out: Path,
    false_rejects: float | None,
    threshold: float | None,
    min_area_px: int | None,
    layout: str,
    device: Device,
    reviews: Reviews | None = None,
) -> None:
    """Write the detector with its new threshold, and print what it promises and which verdicts change."""
    path = artifact_at(path)
    if out.suffix != ".blemish":
        raise BlemishError(f"--out {out}: should end in .blemish")
    check_new(out)
    if threshold is not None and false_rejects is not None:
        raise BlemishError("--threshold, --false-rejects: give one of them")
    if min_area_px is not None and min_area_px < 0:
        raise BlemishError(f"--min-area {min_area_px}: should be a number of pixels, 0 or more")
    if reviews is not None and (good is None or threshold is not None):
        raise BlemishError("--reviews: come on top of good photographs; give a folder of these, and no --threshold")
    reviewed, defective = _reviewed(reviews)
    detector = Detector.load(path, resolve_device(device))
    if threshold is not None or (good is None and false_rejects is None and min_area_px is not None):
        result = with_rule(detector, good, layout, threshold=threshold, min_area_px=min_area_px)
    elif good is None:
        raise BlemishError("calibrate: no photographs; give a folder of good ones, or --threshold VALUE")
    else:
        rate = 0.01 if false_rejects is None else false_rejects
        result = calibrate(
            detector, good, false_rejects=rate, layout=layout, min_area_px=min_area_px, reviewed=reviewed
        )
        if reviews is not None:
            n = f"{result.n_raising} of {len(reviewed)} photographs that were reviewed as good"
            print(f"{n} are above the threshold of the good photographs, and raise it")
            for known in defective:
                if not result.detector.inspect(known).is_defective:
                    print(f"  {known}: was reviewed as defective, and passes with the new threshold")
    with folder_for_files(out.parent):
        result.detector.save(out)
    _print(detector, result, out)


def _reviewed(reviews: Reviews | None) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The photographs of parts that people called good, and of those that they called defective."""
    if reviews is None:
        return (), ()
    from blemish.record.places import reviewed_parts
    from blemish.record.record import VerdictRecord

    with VerdictRecord.open(reviews.db, must_exist=True) as record:
        found = reviewed_parts(record, reviews.product, reviews.storage)
        if found.n_without_image:
            print_notices([f"{record.database.name}: {found.n_without_image} reviewed photographs are not kept (any "
                           "more); they are left out"])  # fmt: skip
    return found.paths, found.defective


def _print(before: Detector, result: Recalibration, out: Path) -> None:
    if result.paths:
        n_before, n_now = sum(result.were_rejected), sum(result.are_rejected)
        print(f"of {len(result.paths)} good photographs {n_now} are rejected, {n_before} before")
    for path, was, is_now in zip(result.paths, result.were_rejected, result.are_rejected, strict=True):
        if was != is_now:
            print(f"  {path}: {'rejected' if is_now else 'good'} now")
    print(result.detector.threshold.explain())
    if result.detector.min_area_px != before.min_area_px:
        print(f"regions of less than {result.detector.min_area_px} px do not count, {before.min_area_px} px before")
    print(f"{out}: image threshold {result.detector.threshold.value:.4g}, before {before.threshold.value:.4g}")
