"""``blemish calibrate``: a trained detector with new thresholds."""

from __future__ import annotations

from pathlib import Path

from blemish.artifact import artifact_at
from blemish.detector import Detector
from blemish.devices import Device, resolve_device
from blemish.errors import BlemishError
from blemish.files import check_new, folder_for_files
from blemish.learning.recalibrating import Recalibration, calibrate, with_rule


def calibrate_run(
    path: Path,
    good: Path | None,
    out: Path,
    false_rejects: float | None,
    threshold: float | None,
    min_area_px: int | None,
    layout: str,
    device: Device,
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
    detector = Detector.load(path, resolve_device(device))
    if threshold is not None or (good is None and false_rejects is None and min_area_px is not None):
        result = with_rule(detector, good, layout, threshold=threshold, min_area_px=min_area_px)
    elif good is None:
        raise BlemishError("calibrate: no photographs; give a folder of good ones, or --threshold VALUE")
    else:
        rate = 0.01 if false_rejects is None else false_rejects
        result = calibrate(detector, good, false_rejects=rate, layout=layout, min_area_px=min_area_px)
    with folder_for_files(out.parent):
        result.detector.save(out)
    _print(detector, result, out)


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
