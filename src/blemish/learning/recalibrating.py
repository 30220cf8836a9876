"""New thresholds for a trained detector: from good photographs that it has not seen, or as given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blemish.data.layouts import name_of, open_dataset
from blemish.detector import Detector
from blemish.errors import BlemishError, print_notices
from blemish.inspection.sources import photographs
from blemish.inspection.stream import Judgement, judge
from blemish.learning.alike import are_alike
from blemish.learning.calibration import MARGIN, set_thresholds
from blemish.learning.copies import to_divide
from blemish.learning.held_out import are_copies, seen_of
from blemish.learning.images import digests_of_files, fingerprints_of, load_overviews, notices_of
from blemish.thresholds import MIN_HELD_OUT, n_needed, raised_threshold

GIVEN = "the threshold was given by hand"
UNKNOWN = "whether it was trained on some of these photographs is not known"


@dataclass(frozen=True)
class Recalibration:
    """A detector with a new threshold, and what it says of the good photographs."""

    detector: Detector
    paths: tuple[Path, ...]
    """The photographs that were judged."""
    were_rejected: tuple[bool, ...]
    """By the threshold of before."""
    are_rejected: tuple[bool, ...]
    n_raising: int = 0
    """Of the reviewed photographs, those that raise the threshold."""


def calibrate(
    detector: Detector,
    good: str | Path,
    *,
    false_rejects: float = 0.01,
    layout: str = "auto",
    min_area_px: int | None = None,
    reviewed: Sequence[Path] = (),
) -> Recalibration:
    """Set the thresholds anew, without training.

    Parameters
    ----------
    good : folder or dataset of good photographs. Those that the detector was trained on are left out, also if they
        were saved anew: of the folder that it was trained on, what ``fit`` held out is left, with the same threshold.
    false_rejects : in (0, 1), the share of good parts that may be rejected.
    min_area_px : least area of a region that is outlined; None leaves it as it is. The threshold does not depend on
        it: the promise is kept, and fewer are rejected.
    reviewed : further photographs, which people called good. They can only raise the threshold; see
        ``thresholds.raised_threshold``.

    Raises
    ------
    BlemishError
        If too few photographs are left, or any cannot be read.
    """
    n_needed(false_rejects)  # raises if it is not a rate
    dataset = open_dataset(good, layout, only="train")
    print_notices(notices_of(dataset))
    paths, doubt = _unseen(detector, good, [sample.path for sample in dataset.train])
    if len(paths) < MIN_HELD_OUT:
        raise BlemishError(
            f"{good}: {len(paths)} photographs that it was not trained on; at least {MIN_HELD_OUT} are needed"
        )
    new = copy(detector)
    new.provenance = {**detector.provenance, "calibrated_on": {"data": name_of(Path(good)), "n": len(paths)}}
    new.min_area_px = detector.min_area_px if min_area_px is None else min_area_px
    set_thresholds(new, paths, false_rejects, doubt)
    if not reviewed:
        return _compared(detector, new, paths, new.calibration_scores)
    taken = set(digests_of_files(paths))
    further = [path for path, digest in zip(reviewed, digests_of_files(reviewed), strict=True) if digest not in taken]
    scores = list(judge(new, photographs(further), lambda judgement: judgement.checked().score))
    n_raising = sum(score > new.threshold.value for score in scores)
    raised = raised_threshold(new.calibration_scores, scores, false_rejects)
    new.threshold = replace(new.threshold, value=raised.value * (1.0 + MARGIN))
    new.provenance["calibrated_on"] |= {"n_reviewed": len(further)}
    result = _compared(detector, new, [*paths, *further], [*new.calibration_scores, *scores])
    return replace(result, n_raising=n_raising)


def with_rule(
    detector: Detector,
    good: str | Path | None,
    layout: str = "auto",
    *,
    threshold: float | None = None,
    min_area_px: int | None = None,
) -> Recalibration:
    """Set the threshold of the image score, which then promises nothing, or the least area of a region, or both.

    ``good`` photographs are only judged.

    Raises
    ------
    BlemishError
        If the value is no threshold.
    """
    new = copy(detector)
    if threshold is not None:
        if not (math.isfinite(threshold) and threshold >= 0):
            raise BlemishError(f"threshold {threshold}: should be a number of at least 0, as scores are")
        new.threshold = replace(detector.threshold, value=threshold, n_calibration=0, doubt=GIVEN)
        new.calibration_scores = ()
        new.provenance = {**detector.provenance, "calibrated_on": None}
    new.min_area_px = detector.min_area_px if min_area_px is None else min_area_px
    paths = [] if good is None else [sample.path for sample in open_dataset(good, layout, only="train").train]
    return _compared(detector, new, paths)


def _compared(
    detector: Detector, new: Detector, paths: Sequence[Path], scores: Sequence[float] | None = None
) -> Recalibration:
    """Judge photographs, whose scores may be known, by the rules of both detectors."""

    def verdicts(judgement: Judgement) -> tuple[bool, bool]:
        again = replace(judgement.checked(), detector=new)
        return judgement.finding.is_defective, again.finding.is_defective

    if detector.min_area_px or new.min_area_px:
        pairs = list(judge(detector, photographs(paths), verdicts))
    else:
        if scores is None:
            scores = list(judge(detector, photographs(paths), lambda judgement: judgement.checked().score))
        pairs = [(score > detector.threshold.value, score > new.threshold.value) for score in scores]
    return Recalibration(new, tuple(paths), tuple(was for was, _ in pairs), tuple(is_now for _, is_now in pairs))


def _unseen(detector: Detector, good: str | Path, paths: list[Path]) -> tuple[list[Path], str]:
    """One file of each photograph that the detector was not trained on and that is like those, and the doubt."""
    provenances = [detector.provenance, *detector.provenance.get("parts", {}).values()]
    loaded, _ = load_overviews(paths, detector.framing, detector.bits)
    fingerprints, seen = fingerprints_of(paths, loaded), seen_of(provenances)
    are_new = np.array([digest not in seen for digest in digests_of_files(paths)])
    are_new &= ~are_copies(provenances, [fingerprints[path] for path in paths])
    if n_seen := int((~are_new).sum()):
        print_notices([f"{good}: {n_seen} of {len(paths)} photographs were trained on; they are left out"])
    paths, loaded = [path for path, is_new in zip(paths, are_new, strict=True) if is_new], loaded[are_new]
    if paths and detector.likeness is not None:
        whom = "those that it learned from"
        kept = are_alike(detector.likeness, detector.size_hw, loaded, paths, good, whom, may_be_others=True)
        paths = [path for path, is_kept in zip(paths, kept, strict=True) if is_kept]
    apart = to_divide(good, paths, fingerprints)
    print_notices([apart.notice] if apart.notice else [])
    is_known = all("seen" in provenance for provenance in provenances[1:] or provenances)
    return [group[0] for group in apart.groups], apart.doubt or ("" if is_known else UNKNOWN)
