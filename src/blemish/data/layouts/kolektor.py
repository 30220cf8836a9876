"""The Kolektor surface-defect datasets. Every image has a mask; the mask of a good image is all black.

So the masks must be read to know which images are defective. No other layout decodes images.

Sources: D. Tabernik et al., "Segmentation-based deep-learning approach for surface-defect detection", JIM 2020
(KSDD); J. Božič et al., "Mixed supervision for surface-defect detection", Computers in Industry 2021 (KSDD2).
As in the authors' code, any value above 0 is a defect.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from blemish.data.layouts.samples import (
    Fault,
    Layout,
    Mask,
    Sample,
    Split,
    defective,
    good,
    mask_file,
    split_of,
    subfolders,
)
from blemish.data.listing import list_images
from blemish.data.reading import read_values
from blemish.errors import BlemishError

_ANY_VALUE = "nonzero"


def _ksdd2_lacks(root: Path) -> str | None:
    for split in ("train", "test"):
        if not (root / split).is_dir():
            return f"{split} is missing"
    return None if any((root / "train").glob("*_GT.png")) else "train/<number>_GT.png is missing"


def _ksdd2(root: Path, faults: list[Fault]) -> list[Sample]:
    """Also lists the 246 defective images of the training split, for supervised learning."""
    listed: list[tuple[Path, Mask, Split]] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        # Numbers only: the published archive also holds "10301 (copy).png" and "10301_GT (copy).png" by mistake.
        for image in (image for image in list_images(root / split) if image.stem.isdecimal()):
            if mask := _mask(image, split, faults, "_GT.png"):
                listed.append((image, mask, split))
    flags = _are_defective(listed, faults)
    return [
        _sample(image, mask, split, flag)
        for (image, mask, split), flag in zip(listed, flags, strict=True)
        if flag is not None
    ]


def _ksdd_lacks(root: Path) -> str | None:
    return None if any(root.glob("kos[0-9]*/Part*_label.bmp")) else "kos<number>/Part<number>_label.bmp is missing"


def _ksdd(root: Path, faults: list[Fault]) -> list[Sample]:
    """No split for learning from good images is published: all defective images are test images.

    The good images of every eighth item are test images too. Items are not divided between the splits, because all
    photographs of an item show the same commutator.
    """
    listed: list[tuple[Path, Mask, Split]] = []
    items = [folder for folder in subfolders(root) if re.fullmatch(r"kos\d+", folder.name)]
    for index, item in enumerate(items):
        for image in (image for image in list_images(item) if re.fullmatch(r"Part\d+", image.stem)):
            if mask := _mask(image, split_of(index), faults, "_label.bmp"):
                listed.append((image, mask, split_of(index)))
    flags = _are_defective(listed, faults)
    return [
        _sample(image, mask, "test" if flag else split, flag)
        for (image, mask, split), flag in zip(listed, flags, strict=True)
        if flag is not None
    ]


def _sample(image: Path, mask: Mask, split: Split, is_defective: bool) -> Sample:
    return defective(image, "defect", mask, split) if is_defective else good(image, split)


def _mask(image: Path, split: Split, faults: list[Fault], ending: str) -> Mask | None:
    """The mask of an image. Without it the image cannot be used: nobody knows whether it is defective."""
    mask_faults: list[Fault] = []
    mask = mask_file(image, split, mask_faults, image.with_name(f"{image.stem}{ending}"), _ANY_VALUE)
    faults += [replace(fault, about="image") for fault in mask_faults]
    return mask


def _are_defective(listed: list[tuple[Path, Mask, Split]], faults: list[Fault]) -> list[bool | None]:
    """Whether each mask shows a defect; None if it cannot be read, which is added to the faults."""

    def is_defective(mask: Mask) -> bool | BlemishError:
        try:
            return bool(read_values(mask.path).any())
        except BlemishError as error:
            return error

    with ThreadPoolExecutor(max_workers=4) as pool:
        flags = list(pool.map(is_defective, (mask for _, mask, _ in listed)))
    faults += [
        Fault(str(flag), image, split)
        for (image, _, split), flag in zip(listed, flags, strict=True)
        if isinstance(flag, BlemishError)
    ]
    return [None if isinstance(flag, BlemishError) else flag for flag in flags]


KSDD2 = Layout("ksdd2", "train and test, each with <number>.png and <number>_GT.png", _ksdd2_lacks, _ksdd2)
KSDD = Layout("ksdd", "kos<number> folders with Part<number>.jpg and Part<number>_label.bmp", _ksdd_lacks, _ksdd)
