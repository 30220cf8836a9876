"""What may be wrong with a dataset: one function for each kind of problem, with one line for each case.

An error stops `fit` or `evaluate`. A warning lets them run, but results may mislead. A note is information only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blemish.data.bits import bits_of, of_other_bits
from blemish.data.duplicates import Fingerprint, find_same, first_shown
from blemish.data.layouts import Dataset, Sample
from blemish.data.listing import list_images
from blemish.errors import BlemishError
from blemish.thresholds import MIN_IMAGES, MOST_HELD_OUT, USUAL_RATE, lowest_rate, n_held_out, n_needed

Level = Literal["error", "warning", "note"]

_USUAL_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")


@dataclass(frozen=True)
class CheckedSample:
    """What was measured of one sample when it was read.

    `error` says why its image could not be read; the other fields are then without meaning. `size_wh` is in pixels.
    `darkest` and `brightest` are in [0, 255]. Samples are recognized by their `fingerprint`. `value_bits` are the
    bits that occur in the values of a 16-bit image; None for fewer bits.
    """

    sample: Sample
    error: str | None = None
    size_wh: tuple[int, int] = (0, 0)
    kind: str = ""
    is_grey: bool = False
    darkest: int = 0
    brightest: int = 0
    fingerprint: Fingerprint | None = None
    value_bits: int | None = None
    mask_error: str | None = None
    mask_doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """One problem of a dataset. `about` names its kind; `text` is one line with the file and the remedy."""

    level: Level
    about: str
    text: str


def find_problems(dataset: Dataset, samples: Sequence[CheckedSample]) -> list[Problem]:
    """All problems of a dataset, the worst first."""
    readable = [sample for sample in samples if sample.error is None]
    problems = [
        *_missing(dataset),
        *_unreadable(samples),
        *_too_few(dataset),
        *_same_pixels(readable),
        *_same_photograph(readable),
        *_masks(readable, dataset),
        *_flat(readable),
        *_grey_and_colour(readable),
        *_bits(readable),
        *_sizes(readable),
        *_promise(dataset),
        *_suffixes(samples),
        *_left_out(dataset),
    ]
    return sorted(problems, key=lambda problem: ("error", "warning", "note").index(problem.level))


def _missing(dataset: Dataset) -> Iterator[Problem]:
    for fault in dataset.faults:
        if fault.about == "image":
            yield Problem("error", "missing", fault.text)
        else:
            yield Problem("warning", "no mask" if fault.about == "mask" else fault.about, fault.text)


def _unreadable(samples: Sequence[CheckedSample]) -> Iterator[Problem]:
    for checked in samples:
        for error in (checked.error, checked.mask_error):
            if error is not None:
                yield Problem("error" if _is_used(checked.sample) else "warning", "unreadable", error)


def _is_used(sample: Sample) -> bool:
    """Whether `fit` or `evaluate` reads this sample."""
    return sample.split == "test" or (sample.split == "train" and not sample.is_defective)


def _too_few(dataset: Dataset) -> Iterator[Problem]:
    n_train, n_test = len(dataset.train), len(dataset.test)
    if n_train < MIN_IMAGES:
        text = (
            f"{dataset.root}: {_images(n_train, 'good training')}; add more: fit needs {MIN_IMAGES}, "
            f"and 50 to 500 are better"
        )
        yield Problem("error", "too few", text)
    n_defective = sum(sample.is_defective for sample in dataset.test)
    if n_test == 0:
        text = f"{dataset.root}: no test images; fit needs none, but evaluate needs some, good and defective"
        yield Problem("note", "no test", text)
    elif n_defective in (0, n_test):
        lacking = "good" if n_defective else "defective"
        text = (
            f"{dataset.root}: no {lacking} test images; add some, because AUROC and similar metrics compare good "
            f"with defective images"
        )
        yield Problem("warning", "one-sided test", text)


def _same_pixels(readable: Sequence[CheckedSample]) -> Iterator[Problem]:
    samples_by_digest: dict[bytes, list[Sample]] = {}
    for checked in readable:
        digest = checked.fingerprint.digest if checked.fingerprint is not None else b""
        samples_by_digest.setdefault(digest, []).append(checked.sample)
    for first, *copies in samples_by_digest.values():
        in_other_split = next((copy for copy in copies if copy.split != first.split), None)
        with_other_label = next((copy for copy in copies if copy.is_defective != first.is_defective), None)
        if in_other_split is not None:
            text = (
                f"{_described(first)} and {_described(in_other_split)} have the same pixels: results would look "
                f"better than they are; remove one"
            )
            yield Problem("warning", "leak", text)
        if with_other_label is not None:
            text = (
                f"{_described(first)} and {_described(with_other_label)} have the same pixels, but different labels; "
                f"correct one label, or remove one image"
            )
            yield Problem("warning", "contradiction", text)
        if copies and in_other_split is None and with_other_label is None:
            paths = _listed([str(copy.path) for copy in copies])
            yield Problem("warning", "duplicate", f"{_described(first)} and {paths} have the same pixels; keep one")


def _same_photograph(readable: Sequence[CheckedSample]) -> Iterator[Problem]:
    """Photographs that were saved twice with different bytes: in training, or in training and another split."""
    different = {checked.fingerprint.digest: checked for checked in reversed(readable) if checked.fingerprint}
    samples = [
        (checked.sample, checked.fingerprint) for checked in reversed(different.values()) if checked.fingerprint
    ]
    train = [(sample, fingerprint) for sample, fingerprint in samples if sample.split == "train"]
    other = [(sample, fingerprint) for sample, fingerprint in samples if sample.split != "train"]
    known = [fingerprint for _, fingerprint in train]
    for (sample, _), match in zip(other, find_same([fingerprint for _, fingerprint in other], known), strict=True):
        if match >= 0:
            text = (
                f"{_described(train[match][0])} and {_described(sample)} show the same photograph, saved or taken "
                f"again: results would look better than they are; remove one"
            )
            yield Problem("warning", "leak", text)
    for (sample, _), first in zip(train, first_shown(known), strict=True):
        if train[first][0] is not sample:
            text = (
                f"{_described(train[first][0])} and {_described(sample)} show the same photograph, saved or taken "
                f"again; keep one"
            )
            yield Problem("warning", "duplicate", text)


def _described(sample: Sample) -> str:
    return f"{sample.path} ({sample.split}, {sample.defect})"


def _masks(readable: Sequence[CheckedSample], dataset: Dataset) -> Iterator[Problem]:
    for checked in readable:
        for doubt in checked.mask_doubts:
            yield Problem("warning", "doubtful mask", doubt)
    maskless = [checked.sample for checked in readable if checked.sample.is_defective and checked.sample.mask is None]
    with_fault = {fault.path for fault in dataset.faults}
    if paths := [str(sample.path) for sample in maskless if sample.path not in with_fault]:
        text = f"{_listed(paths)}: defective, but without a mask; add one, or pixel metrics leave the image out"
        yield Problem("warning", "no mask", text)


def _flat(readable: Sequence[CheckedSample]) -> Iterator[Problem]:
    for checked in readable:
        if checked.darkest == checked.brightest:
            text = f"{checked.sample.path}: all pixels are the same; remove the image if the camera recorded nothing"
            yield Problem("warning", "flat", text)


def _grey_and_colour(readable: Sequence[CheckedSample]) -> Iterator[Problem]:
    grey = [checked for checked in readable if checked.is_grey]
    coloured = [checked for checked in readable if not checked.is_grey]
    fewer, more = sorted((grey, coloured), key=len)
    if fewer:
        fewer_are, more_are = ("grey", "colour") if fewer[0].is_grey else ("colour", "grey")
        text = (
            f"{_listed([str(checked.sample.path) for checked in fewer])}: {fewer_are}, unlike "
            f"{_images(len(more), more_are)}; take all images in the same way, or the detector may learn this "
            f"difference instead of the defects"
        )
        yield Problem("warning", "grey and colour", text)


def _bits(readable: Sequence[CheckedSample]) -> Iterator[Problem]:
    deep = [checked for checked in readable if checked.value_bits is not None]
    if deep and len(deep) < len(readable):
        text = (
            f"{deep[0].sample.path}: has 16 bits, but {len(readable) - len(deep)} of {len(readable)} images do not; "
            f"save all with the same depth"
        )
        yield Problem("warning", "bits", text)
    trained_on = [checked for checked in deep if checked.sample.split == "train" and not checked.sample.is_defective]
    bits = bits_of(checked.value_bits or 0 for checked in trained_on or deep)
    if deep and bits < 16:
        text = (
            f"{deep[0].sample.path}: has 16 bits, of which the 16-bit images use the lower {bits}, which fit finds "
            f"out (--bits auto); other programs show them dark: multiply the values by {2 ** (16 - bits)} when saving"
        )
        yield Problem("note", "bits", text)
    if dim := of_other_bits({checked.sample.path: checked.value_bits or 0 for checked in deep}, bits):
        yield Problem("warning", "bits", dim)
    brighter = [checked for checked in deep if (checked.value_bits or 0) >= 2**bits]
    if brighter:
        text = (
            f"{_listed([str(checked.sample.path) for checked in brighter])}: uses more than the {bits} bits of the "
            f"good training images, and so cannot be inspected; save all in the same way, or fit with "
            f"--bits {bits_of(checked.value_bits or 0 for checked in brighter)}"
        )
        yield Problem("warning", "bits", text)


def _sizes(readable: Sequence[CheckedSample]) -> Iterator[Problem]:
    sizes = Counter(checked.size_wh for checked in readable)
    if not sizes:
        return
    usual = sizes.most_common(1)[0][0]
    ratios = [width / height for width, height in sizes]
    odd = next((checked for checked in readable if checked.size_wh != usual), None)
    if odd is not None:
        size = "{}x{}".format(*odd.size_wh)
        text = (
            f"{odd.sample.path}: {size} px, but the most frequent of {len(sizes)} sizes is {usual[0]}x{usual[1]} px"
        )
        if max(ratios) > 1.1 * min(ratios):
            remedy = "images are stretched to a square, which distorts each differently: crop all to one shape"
            yield Problem("warning", "sizes", f"{text}, and shapes differ; {remedy}")
        else:
            yield Problem("note", "sizes", f"{text}; shapes are alike, and all images are resized to one size")
    elongation = max(usual) / min(usual)
    if elongation >= 2:
        text = (
            f"{readable[0].sample.path}: images are {elongation:.3g} times as long as wide, and are squeezed into a "
            f"square; cut them into nearly square pieces"
        )
        yield Problem("warning", "long images", text)


def _promise(dataset: Dataset) -> Iterator[Problem]:
    """How many good images will set the threshold, and which rate of false rejects that allows to promise."""
    n_train, needed = len(dataset.train), n_needed(USUAL_RATE)
    if n_train < MIN_IMAGES:
        return
    n_calibration = n_held_out(n_train)
    default_rate = f"{100 * USUAL_RATE:g} %"
    held_out = f"{dataset.root}: fit will hold out {n_calibration} of {n_train} good images to set the threshold"
    if n_calibration >= needed:
        yield Problem("note", "threshold", f"{held_out}, enough to promise {default_rate} false rejects")
    else:
        text = (
            f"{held_out}, enough to promise {lowest_rate(n_calibration)} false rejects; {default_rate} needs "
            f"{needed}: give {needed} other good images as --calibration, or {math.ceil(needed / MOST_HELD_OUT)} "
            f"good images in all"
        )
        yield Problem("note", "threshold", text)


def _suffixes(samples: Sequence[CheckedSample]) -> Iterator[Problem]:
    """Images by unusual names, which are read by what they hold, but not by every program."""
    unusual = [
        checked.sample.path for checked in samples if checked.sample.path.suffix.lower() not in _USUAL_SUFFIXES
    ]
    if unusual:
        suffixes = ", ".join(sorted({path.suffix or "no suffix" for path in unusual}))
        text = f"{unusual[0]}: {_images(len(unusual))} called by other suffixes ({suffixes}), read by what they hold"
        yield Problem("note", "suffixes", text)


def _left_out(dataset: Dataset) -> Iterator[Problem]:
    """Images in the dataset's folder that neither `fit` nor `evaluate` uses."""
    if dataset.train_defective:
        n_images = len(dataset.train_defective)
        text = f"{dataset.root}: {_images(n_images, 'defective training')}, which fit does not use"
        yield Problem("note", "left out", text)
    validation = [sample for sample in dataset.samples if sample.split == "validation"]
    if validation:
        folders = {sample.path.parent for sample in validation}
        other_folders = {sample.path.parent for sample in dataset.samples if sample.split != "validation"}
        if folders & other_folders or len(folders) > 1 or any(sample.is_defective for sample in validation):
            text = f"{dataset.root}: {_images(len(validation), 'validation')}, which neither fit nor evaluate uses"
        else:
            text = (
                f"{folders.pop()}: {_images(len(validation), 'good')}, which fit uses only if the folder is given as "
                f"--calibration"
            )
        yield Problem("note", "left out", text)
    mask_paths = [path for sample in dataset.samples for path in getattr(sample.mask, "paths", ())]
    used = {path.parent for path in [*(sample.path for sample in dataset.samples), *mask_paths]}
    used |= {fault.path for fault in dataset.faults if fault.about == "left out"}  # reported already
    try:
        images = list_images(dataset.root, recursive=True)
    except BlemishError:  # a folder without read permission is not part of the dataset
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
