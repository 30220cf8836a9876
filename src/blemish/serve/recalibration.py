"""A new threshold from what people said of parts, with the promise of the held-out good photographs kept.

People choose which parts they review, mostly rejected ones, so reviewed parts are no random draw. Those that are good
and score above the threshold of the held-out photographs can only raise it; so whatever is chosen, a good part is
rejected no more often than the held-out photographs promise (``thresholds.raised_threshold``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from blemish.artifact import read_artifact
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.inspection.sources import photographs
from blemish.inspection.stream import Judgement, judge
from blemish.learning.calibration import MARGIN
from blemish.record.record import VerdictRecord
from blemish.record.storage import Storage
from blemish.serve.jobs import Conflict, Json, Refused
from blemish.thresholds import Threshold, conformal_threshold, n_needed, raised_threshold

MOST_ROWS = 5000
"""Newest verdicts and newest reviews that are looked at."""
PAGE = 500
NO_HELD_OUT = "it has no held-out good photographs, and people have chosen which parts they reviewed"


NETWORK_OF = "network_of"
"""Key of the provenance: digests of the earlier files with the same network, whose scores are its own."""


def of_network(detector: Detector, digest: str) -> Detector:
    """A detector whose rule was changed, with the digest of the file that it comes from."""
    new = copy(detector)
    new.provenance = {**detector.provenance, NETWORK_OF: [digest, *detector.provenance.get(NETWORK_OF, ())]}
    return new


@dataclass(frozen=True)
class Recalibration:
    """A detector with its new threshold, and what that means for the parts of late."""

    detector: Detector
    before: Threshold
    n_held_out: int
    n_reviewed: int
    """Reviewed good parts that the threshold comes from, too."""
    n_left_out: int
    """Reviewed good parts whose score is not known, as the detector has changed and their images are not kept."""
    changed: list[Json] = field(default_factory=list)
    """Parts of late with another verdict."""
    missed: list[int] = field(default_factory=list)
    """Ids of parts that people called defective, and that would pass."""

    def row(self) -> Json:
        """It as JSON."""
        threshold = self.detector.threshold
        return {
            "threshold": threshold.value,
            "threshold_before": self.before.value,
            "n_good": self.n_held_out + self.n_reviewed,
            "n_held_out": self.n_held_out,
            "n_reviewed": self.n_reviewed,
            "n_left_out": self.n_left_out,
            "promised_false_rejects": threshold.false_reject_rate if threshold.is_promised else None,
            "promise": threshold.explain(),
            "changed": self.changed,
            "missed": self.missed,
        }


def recalibrated(
    product: str,
    detector: Detector,
    digest: str,
    record: VerdictRecord,
    storage: Storage,
    false_rejects: float | None = None,
) -> Recalibration:
    """Set the threshold anew, from the held-out good photographs of a detector and from reviews.

    Parameters
    ----------
    digest : of the detector's file; scores of verdicts by it are known.
    false_rejects : in (0, 1), the share of good parts that may be rejected; None is as before.

    Raises
    ------
    Refused
        If the rate cannot be promised.
    Conflict
        If there is neither a held-out photograph nor a reviewed good part.
    """
    rate = detector.threshold.false_reject_rate if false_rejects is None else false_rejects
    try:
        n_needed(rate)
    except BlemishError as error:
        raise Refused(str(error)) from error
    own = {digest, *detector.provenance.get(NETWORK_OF, ())}
    held_out = _held_out(detector, storage)
    reviewed, n_left_out = _scores_of_good(product, detector, own, record, storage)
    if not held_out and not reviewed:
        raise Conflict(f"{product}: no part is reviewed as good, and the detector has no held-out good photographs")
    if held_out:
        threshold, doubt = raised_threshold(held_out, reviewed, rate), ""
        floor = conformal_threshold(held_out, rate).value
        reviewed = [score for score in reviewed if score > floor]
    else:
        threshold, doubt = conformal_threshold(reviewed, rate), NO_HELD_OUT
    new = copy(detector)
    new.threshold = replace(threshold, value=threshold.value * (1.0 + MARGIN), doubt=doubt)
    calibrated_on = {"data": "held-out photographs and reviews", "n": len(held_out) + len(reviewed)}
    new.provenance = {**detector.provenance, "calibrated_on": calibrated_on}
    new.calibration_scores = held_out
    changed, missed = _consequences(product, own, record, new.threshold.value)
    return Recalibration(new, detector.threshold, len(held_out), len(reviewed), n_left_out, changed, missed)


def _held_out(detector: Detector, storage: Storage) -> tuple[float, ...]:
    """Scores of the held-out good photographs: its own, or of the file from before its threshold was set by hand."""
    if detector.calibration_scores:
        return detector.calibration_scores
    for digest in detector.provenance.get(NETWORK_OF, ()):
        path = storage.detector(digest)
        if path is not None and (scores := read_artifact(path)[1]["calibration_scores"]):
            return tuple(scores)
    return ()


def _scores_of_good(
    product: str, detector: Detector, own: Collection[str], record: VerdictRecord, storage: Storage
) -> tuple[list[float], int]:
    """The scores of reviewed good parts, each photograph once, and how many are not known."""
    scores, again, n_left_out, seen = list[float](), list[Any](), 0, set[str]()
    for row in _rows(record, product, reviewed=True):
        if row["review"]["is_defective"] or row["verdict"] == "not_inspected" or row["photograph"] in seen:
            continue
        seen.add(row["photograph"])
        if row["detector"] in own and row["score"] is not None:
            scores.append(row["score"])
            continue
        pictures = record.pictures(row["id"])
        path = None if pictures is None else storage.path(pictures.image)
        if path is None:
            n_left_out += 1
        else:
            again.append(path)

    def score(judgement: Judgement) -> float | None:
        return None if judgement.error is not None else judgement.score

    for value in judge(detector, photographs(again), score):
        if value is None:
            n_left_out += 1
        else:
            scores.append(value)
    return scores, n_left_out


def _consequences(
    product: str, own: Collection[str], record: VerdictRecord, now: float
) -> tuple[list[Json], list[int]]:
    """Which of the newest verdicts would be others, and which parts that people called defective would pass."""
    changed, missed = list[Json](), list[int]()
    for row in _rows(record, product, reviewed=None):
        score = row["score"]
        if row["detector"] not in own or score is None:
            continue
        would_be = "defective" if score > now else "good"
        was = "defective" if score > row["threshold"] else "good"
        if row["verdict"] in ("good", "defective") and was != would_be:
            part = {key: row[key] for key in ("id", "part", "score", "verdict")}
            changed.append(part | {"would_be": would_be})
        if row["review"] is not None and row["review"]["is_defective"] and score <= now:
            missed.append(row["id"])
    return changed, missed


def _rows(record: VerdictRecord, product: str, reviewed: bool | None) -> Iterator[Json]:
    """The newest verdicts of a product."""
    cursor, n = None, 0
    while n < MOST_ROWS:
        rows: Sequence[Json]
        rows, cursor = record.verdicts(product=product, reviewed=reviewed, cursor=cursor, limit=PAGE)
        yield from rows
        n += len(rows)
        if cursor is None:
            return
