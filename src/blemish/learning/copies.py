"""Copies of one photograph among the good images: none may be trained on if another sets the threshold.

The promise on false rejects needs calibration images that are new to the detector, and different ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from blemish.data.duplicates import Fingerprint, find_same, first_shown
from blemish.errors import BlemishError
from blemish.thresholds import MIN_HELD_OUT, MIN_IMAGES

Group = list[Path]
"""Files that show one photograph, the first one first."""
_MOST_NAMED = 3


def grouped(paths: Sequence[Path], fingerprints: Mapping[Path, Fingerprint]) -> list[Group]:
    """Group files by the photograph that they show, in the order of their first ones."""
    groups: dict[int, Group] = {}
    for path, first in zip(paths, first_shown([fingerprints[path] for path in paths]), strict=True):
        groups.setdefault(int(first), []).append(path)
    return list(groups.values())


def groups_to_divide(
    folder: str | Path, paths: Sequence[Path], fingerprints: Mapping[Path, Fingerprint]
) -> tuple[list[Group], list[str]]:
    """Group the good images of a folder, which are to be divided into training and calibration images.

    Returns
    -------
    The groups; and a line for the user if there are copies.

    Raises
    ------
    BlemishError
        If there are too few different photographs.
    """
    groups = grouped(paths, fingerprints)
    if len(groups) == len(paths):
        return groups, []
    copies = [(copy, group[0]) for group in groups for copy in group[1:]]
    start = f"{folder}: {len(paths)} good images show {len(groups)} different photographs ({_listed(copies)})"
    if len(groups) < MIN_IMAGES:
        raise BlemishError(f"{start}; at least {MIN_IMAGES} different ones are needed, 50 to 500 are better")
    return groups, [
        f"{start}; copies of a photograph are trained on together or held out together, and count once for the "
        f"promise on false rejects"
    ]


def apart(
    folder: str | Path,
    paths: Sequence[Path],
    calibration_folder: str | Path,
    calibration: Sequence[Path],
    fingerprints: Mapping[Path, Fingerprint],
) -> tuple[list[Group], list[Path], list[str]]:
    """Leave out training images that are calibration images too, and calibration images that are there twice.

    Returns
    -------
    Training images in groups; calibration images; and a line for the user for either kind that was left out.

    Raises
    ------
    BlemishError
        If too few are left.
    """
    groups, calibration_groups = grouped(paths, fingerprints), grouped(calibration, fingerprints)
    matches = find_same([fingerprints[path] for path in calibration], [fingerprints[path] for path in paths])
    same = {paths[match]: path for path, match in zip(calibration, matches, strict=True) if match >= 0}
    kept = [group for group in groups if same.keys().isdisjoint(group)]
    notices = []
    repeated = [(copy, group[0]) for group in calibration_groups for copy in group[1:]]
    if repeated:
        text = (
            f"{calibration_folder}: {len(calibration)} calibration images show {len(calibration_groups)} different "
            f"photographs ({_listed(repeated)}); each is used once"
        )
        if len(calibration_groups) < MIN_HELD_OUT:
            raise BlemishError(f"{text}, and at least {MIN_HELD_OUT} different ones are needed to calibrate")
        notices.append(text)
    if len(kept) < len(groups):
        n_left_out = len(paths) - sum(map(len, kept))
        text = (
            f"{folder}: {n_left_out} of {len(paths)} training images show the same photographs as calibration images "
            f"({_listed([*same.items()])})"
        )
        if len(paths) - n_left_out < MIN_IMAGES:
            raise BlemishError(
                f"{text}; without them fewer than {MIN_IMAGES} are left to train on, and with them no rate of false "
                f"rejects can be promised: calibrate with photographs that are not trained on"
            )
        notices.append(f"{text}; they are not trained on, so that the rate of false rejects can be promised")
    return kept, [group[0] for group in calibration_groups], notices


def _listed(pairs: Sequence[tuple[Path, Path]]) -> str:
    """Name copies: "b.png is a.png, d.png is c.png and 3 more"."""
    named = ", ".join(f"{copy} is the same as {original}" for copy, original in pairs[:_MOST_NAMED])
    return named if len(pairs) <= _MOST_NAMED else f"{named}, and {len(pairs) - _MOST_NAMED} more"
