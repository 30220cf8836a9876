"""Copies of one photograph among the good images: none should be trained on if another sets the threshold.

The promise on false rejects needs calibration images that are new to the detector, and different ones. So all copies
of a photograph are kept on one side. Where too few images would be left for that, the promise is withdrawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.data.duplicates import Fingerprint, find_same, first_shown
from blemish.thresholds import MIN_HELD_OUT, MIN_IMAGES

Group = list[Path]
"""Files that show one photograph, the first one first."""
_MOST_NAMED = 3


@dataclass(frozen=True)
class Apart:
    """Good images with the copies of each photograph together."""

    groups: list[Group]
    """To train on, or to divide."""
    calibration: list[Path] | None = None
    """Different photographs, of which none is among ``groups`` (unless there is a ``doubt``); None: to be divided."""
    notice: str = ""
    """A line for the user about copies; empty if there are none."""
    doubt: str = ""
    """Why the rate of false rejects cannot be promised; see ``thresholds.Threshold``."""


def to_divide(folder: str | Path, paths: Sequence[Path], fingerprints: Mapping[Path, Fingerprint]) -> Apart:
    """Group the good images of a folder, which are to be divided into training and calibration images."""
    groups = _grouped(paths, fingerprints)
    if len(groups) == len(paths):
        return Apart(groups)
    copies = [(_name(copy, folder), _name(group[0], folder)) for group in groups for copy in group[1:]]
    seen = f"{len(paths)} good images show only {_photographs(len(groups))} ({_listed(copies)})"
    if len(groups) < MIN_IMAGES:
        doubt = f"{seen}, too few to keep all copies of those that set the threshold out of training"
        notice = (
            f"{folder}: {seen}: no rate of false rejects can be promised; give {MIN_IMAGES} different ones or more"
        )
        return Apart([[path] for path in paths], None, notice, doubt)
    notice = (
        f"{folder}: {seen}; copies of a photograph are trained on together or held out together, and count once for "
        f"the promise on false rejects"
    )
    return Apart(groups, None, notice)


def from_calibration(
    folder: str | Path,
    paths: Sequence[Path],
    calibration_folder: str | Path,
    calibration: Sequence[Path],
    fingerprints: Mapping[Path, Fingerprint],
) -> Apart:
    """Leave out training images that are calibration images too, and calibration images that are there twice.

    Calibration images that only look like copies of training images withdraw the promise, but nothing is left out:
    some may be other parts that look alike, and others may be copies that are not recognized (cropped, turned).
    """
    groups, calibration_groups = _grouped(paths, fingerprints), _grouped(calibration, fingerprints)
    matches = find_same([fingerprints[path] for path in calibration], [fingerprints[path] for path in paths])
    same = {path: paths[match] for path, match in zip(calibration, matches, strict=True) if match >= 0}
    shared = {path for path in same if fingerprints[path].digest == fingerprints[same[path]].digest}
    alike = same.keys() - shared
    trained_twice = {same[path] for path in shared}
    kept = [group for group in groups if trained_twice.isdisjoint(group)]
    n_kept, n_different = sum(map(len, kept)), len(calibration_groups)
    seen, remedy = [], "calibrate with different photographs that are not trained on"
    if n_different < len(calibration):
        copies = [
            (_name(copy, calibration_folder), _name(group[0], calibration_folder))
            for group in calibration_groups
            for copy in group[1:]
        ]
        seen.append(
            f"{len(calibration)} calibration images show only {_photographs(n_different)} ({_listed(copies)})"
        )
    calibration_name = Path(calibration_folder).name  # without where it lies: the doubt is saved in the detector
    for some, text in ((shared, "are training images"), (alike, "look like training images")):
        if some:
            pairs = [
                (str(Path(calibration_name, _name(path, calibration_folder))), _name(same[path], folder))
                for path in calibration
                if path in some
            ]
            seen.append(f"{len(some)} of {len(calibration)} calibration images {text} ({_listed(pairs)})")
    notice = f"{folder}: {'; '.join(seen)}" if seen else ""
    too_few = n_kept < min(MIN_IMAGES, len(paths)) or n_different < min(MIN_HELD_OUT, len(calibration))
    if too_few or alike:
        notice += f": no rate of false rejects can be promised; {remedy}"
        return Apart([[path] for path in paths], [*calibration], notice, f"{'; '.join(seen)}; {remedy}")
    if shared:
        notice += "; they are not trained on, so that the threshold is set from new images"
    if n_different < len(calibration):
        notice += "; each calibration photograph counts once"
    return Apart(kept, [group[0] for group in calibration_groups], notice)


def _grouped(paths: Sequence[Path], fingerprints: Mapping[Path, Fingerprint]) -> list[Group]:
    """Group files by the photograph that they show, in the order of their first ones."""
    groups: dict[int, Group] = {}
    for path, first in zip(paths, first_shown([fingerprints[path] for path in paths]), strict=True):
        groups.setdefault(int(first), []).append(path)
    return [*groups.values()]


def _photographs(n: int) -> str:
    return f"{n} different photograph{'s' * (n != 1)}"


def _name(path: Path, folder: str | Path) -> str:
    """The path within a folder, if it lies in it: the folder is named already."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _listed(pairs: Sequence[tuple[str, str]]) -> str:
    """Name copies, at most three."""
    named = ", ".join(f"{copy} is the same as {original}" for copy, original in pairs[:_MOST_NAMED])
    return named if len(pairs) <= _MOST_NAMED else f"{named}, and {len(pairs) - _MOST_NAMED} more"
