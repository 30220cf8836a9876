"""What may be wrong with a dataset: one function for each kind of trouble, each giving one line for each case.

An error would stop `fit` or `evaluate`; a warning would let them run and mislead; a note is worth knowing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blemish.data.layouts import Dataset, Sample
from blemish.data.reading import list_images
from blemish.errors import BlemishError
from blemish.thresholds import HELD_OUT, MIN_IMAGES, lowest_rate, n_held_out, n_needed

Level = Literal["error", "warning", "note"]

_FALSE_REJECTS = 0.01  # what `fit` promises if it is asked for nothing else


@dataclass(frozen=True)
class Seen:
    """One sample after reading. If `error` says why it could not be read, the rest means nothing.

    `size_wh` in pixels; `darkest` and `brightest` of 255; equal `digest` means the same pixels.
    """

    sample: Sample
    error: str | None = None
    size_wh: tuple[int, int] = (0, 0)
    kind: str = ""
    is_grey: bool = False
    darkest: int = 0
    brightest: int = 0
    digest: bytes = b""
    mask_error: str | None = None
    mask_is_empty: bool = False


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in one line that names the file and the remedy. `about` is a word for its kind."""

    level: Level
    about: str
    text: str


def find_problems(dataset: Dataset, seen: Sequence[Seen]) -> list[Problem]:
    """Everything that is amiss, the worst first."""
    read = [one for one in seen if one.error is None]
    problems = [
        *_missing(dataset),
        *_unreadable(seen),
        *_too_few(dataset),
        *_same_pixels(read),
        *_masks(read, dataset.faults),
        *_flat(read),
        *_grey_and_colour(read),
        *_bits(read),
        *_sizes(read),
        *_promise(dataset),
        *_left_out(dataset),
    ]
    return sorted(problems, key=lambda problem: ("error", "warning", "note").index(problem.level))


def _missing(dataset: Dataset) -> Iterator[Problem]:
    for fault in dataset.faults:
        yield Problem("error", "missing", fault)


def _unreadable(seen: Sequence[Seen]) -> Iterator[Problem]:
    for one in seen:
        for error in (one.error, one.mask_error):
            if error is not None:
                yield Problem("error" if _is_used(one.sample) else "warning", "unreadable", error)


def _is_used(sample: Sample) -> bool:
    """Whether `fit` or `evaluate` would read it."""
    return sample.split == "test" or (sample.split == "train" and not sample.is_defective)


def _too_few(dataset: Dataset) -> Iterator[Problem]:
    n_train, n_test = len(dataset.train), len(dataset.test)
    if n_train < MIN_IMAGES:
        text = (
            f"{dataset.root}: {_images(n_train, 'good training')}; fit needs {MIN_IMAGES}, and 50 to 500 are better"
        )
        yield Problem("error", "too few", text)
    n_defective = sum(sample.is_defective for sample in dataset.test)
    if n_test == 0:
        text = f"{dataset.root}: no test images, which is enough for fit; evaluate needs some, good and defective"
        yield Problem("note", "no test", text)
    elif n_defective in (0, n_test):
        lacking = "good" if n_defective else "defective"
        text = (
            f"{dataset.root}: no {lacking} test images; add some, for AUROC and the like compare good with defective"
        )
        yield Problem("warning", "one-sided test", text)


def _same_pixels(read: Sequence[Seen]) -> Iterator[Problem]:
    twins: dict[bytes, list[Sample]] = {}
    for one in read:
        twins.setdefault(one.digest, []).append(one.sample)
    for samples in twins.values():
        first, *others = samples
        other_split = next((sample for sample in others if sample.split != first.split), None)
        other_label = next((sample for sample in others if sample.is_defective != first.is_defective), None)
        if other_split is not None:
            text = (
                f"{_told(first)} and {_told(other_split)} have the same pixels: the test would show what was learnt"
            )
            yield Problem("warning", "leak", f"{text}; remove one")
        if other_label is not None:
            text = (
                f"{_told(first)} and {_told(other_label)} have the same pixels, but not the same label; correct one"
            )
            yield Problem("warning", "contradiction", text)
        if others and other_split is None and other_label is None:
            text = f"{_told(first)} and {_listed([str(one.path) for one in others])} have the same pixels; keep one"
            yield Problem("warning", "duplicate", text)


def _told(sample: Sample) -> str:
    return f"{sample.path} ({sample.split}, {sample.defect})"


def _masks(read: Sequence[Seen], faults: Sequence[str]) -> Iterator[Problem]:
    for one in read:
        if one.mask_is_empty:
            text = f"{one.sample.mask_path}: the mask shows nothing, but its image is defective; draw the defect"
            yield Problem("warning", "empty mask", text)
    bare = [str(one.sample.path) for one in read if one.sample.is_defective and one.sample.mask is None]
    if bare := [path for path in bare if not any(fault.startswith(f"{path}: ") for fault in faults)]:
        text = f"{_listed(bare)}: defective, but without a mask; add one; its pixels count nowhere in pixel metrics"
        yield Problem("warning", "no mask", text)


def _flat(read: Sequence[Seen]) -> Iterator[Problem]:
    for one in read:
        if one.darkest == one.brightest:
            text = f"{one.sample.path}: every pixel is the same; remove the image if the camera saw nothing"
            yield Problem("warning", "flat", text)


def _grey_and_colour(read: Sequence[Seen]) -> Iterator[Problem]:
    fewer, more = sorted(([o for o in read if o.is_grey], [o for o in read if not o.is_grey]), key=len)
    if fewer:
        fewer_are, more_are = ("grey", "colour") if fewer[0].is_grey else ("colour", "grey")
        text = (
            f"{_listed([str(one.sample.path) for one in fewer])}: {fewer_are} among {_images(len(more), more_are)}; "
            f"take all alike, or the difference may be learnt in place of the defects"
        )
        yield Problem("warning", "grey and colour", text)


def _bits(read: Sequence[Seen]) -> Iterator[Problem]:
    deep = [one for one in read if "16 bits" in one.kind]
    if deep and len(deep) < len(read):
        text = f"{deep[0].sample.path}: 16 bits, as {len(deep)} of {len(read)} images; save all with the same depth"
        yield Problem("warning", "bits", text)
    if deep and max(one.brightest for one in deep) < 16:
        text = (
            f"{deep[0].sample.path}: 16 bits, of which this and the others use the lower 12 at most, and come out "
            f"nearly black; multiply the values by 16 when saving"
        )
        yield Problem("warning", "bits", text)


def _sizes(read: Sequence[Seen]) -> Iterator[Problem]:
    sizes = Counter(one.size_wh for one in read)
    if not sizes:
        return
    usual = sizes.most_common(1)[0][0]
    ratios = [width / height for width, height in sizes]
    other = next((one for one in read if one.size_wh != usual), None)
    if other is not None:
        size = "{}x{}".format(*other.size_wh)
        text = f"{other.sample.path}: {size} px, others {usual[0]}x{usual[1]} px; {len(sizes)} sizes in all"
        if max(ratios) > 1.1 * min(ratios):
            remedy = "all are stretched to one square, which distorts each in its own way: cut them to one shape"
            yield Problem("warning", "sizes", f"{text}, of different shapes; {remedy}")
        else:
            yield Problem("note", "sizes", f"{text}, of one shape; all are brought to one size")
    elongation = max(usual) / min(usual)
    if elongation >= 2:
        text = (
            f"{read[0].sample.path}: images are {elongation:.3g} times as long as wide, and are squeezed into a "
            f"square; cut them into nearly square pieces"
        )
        yield Problem("warning", "long images", text)


def _promise(dataset: Dataset) -> Iterator[Problem]:
    n_train, needed = len(dataset.train), n_needed(_FALSE_REJECTS)
    if n_train < MIN_IMAGES:
        return
    n_calibration = n_held_out(n_train)
    asked = f"{100 * _FALSE_REJECTS:g} %"
    held_out = f"{dataset.root}: fit will hold out {n_calibration} of {n_train} good images for the threshold"
    if n_calibration >= needed:
        yield Problem("note", "threshold", f"{held_out}, enough to promise {asked} false rejects")
    else:
        text = (
            f"{held_out}, enough to promise {lowest_rate(n_calibration)} false rejects; {asked} takes {needed}: "
            f"give {needed} others as --calibration, or {round(needed / HELD_OUT)} good images in all"
        )
        yield Problem("note", "threshold", text)


def _left_out(dataset: Dataset) -> Iterator[Problem]:
    """What lies there, but is not used to learn from good images and to evaluate."""
    if dataset.train_defective:
        text = f"{dataset.root}: {_images(len(dataset.train_defective), 'defective training')}, which fit leaves out"
        yield Problem("note", "left out", text)
    validation = [sample for sample in dataset.samples if sample.split == "validation"]
    if validation:
        folder = validation[0].path.parent
        text = (
            f"{folder}: {_images(len(validation), 'good')}, which fit leaves out unless it is given as --calibration"
        )
        yield Problem("note", "left out", text)
    files = [sample.path for sample in dataset.samples] + [p for s in dataset.samples if (p := s.mask_path)]
    used = {path.parent for path in files}
    try:
        images = list_images(dataset.root, recursive=True)
    except BlemishError:  # a folder that may not be looked into is none of the dataset's
        return
    unused: Counter[Path] = Counter(path.parent for path in images if path.parent not in used)
    for folder, n_images in unused.items():
        text = f"{folder}: {_images(n_images)}, which the layout {dataset.layout} does not use"
        yield Problem("note", "left out", text)


def _images(count: int, kind: str = "") -> str:
    return f"{count} {kind}{' ' * bool(kind)}image{'s' * (count != 1)}"


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
