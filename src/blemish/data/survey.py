"""Check a dataset before training: what it holds, and what is wrong with it. Reads every file once.

`survey` is the whole flow: list the samples, read each (`_check`), find the problems, and count by split and defect.
Neither this module nor `problems` imports torch, so the command starts quickly.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blemish.data.bits import bits_of, value_bits
from blemish.data.duplicates import Fingerprint
from blemish.data.layouts import LAYOUTS, DefectMasks, Sample, find_dataset
from blemish.data.problems import CheckedSample, Problem, find_problems
from blemish.data.reading import as_rgb, file_kind, read_values
from blemish.errors import BlemishError

_MAX_WORKERS = 4  # each holds a decoded image, which may have 100 megapixels


@dataclass(frozen=True)
class Group:
    """The images of one split that are good, or have the same kind of defect.

    `sizes` ("512x512", width first) and `kinds` ("PNG, grey, 8 bits") count the readable images, the most frequent
    first.
    """

    split: str
    defect: str
    n_images: int
    n_masks: int
    sizes: dict[str, int]
    kinds: dict[str, int]


@dataclass(frozen=True)
class Survey:
    """What a dataset holds, and its problems.

    Attributes
    ----------
    layout, looks_like
        Name of the layout, and its structure in a few words.
    root
        The dataset's folder.
    groups
        Training images first.
    problems
        The worst first; empty if there are none.
    """

    layout: str
    looks_like: str
    root: Path
    groups: tuple[Group, ...]
    problems: tuple[Problem, ...]

    @property
    def is_fit_to_use(self) -> bool:
        """Whether no problem stops `fit`, or `evaluate` if there are test images."""
        return not any(problem.level == "error" for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """All fields, in types that JSON can hold."""
        return {**asdict(self), "root": str(self.root), "is_fit_to_use": self.is_fit_to_use}


def survey(
    path: str | Path,
    layout: str = "auto",
    mask_values: str = "auto",
    *,
    on_read: Callable[[int, int], None] = lambda done, total: None,
) -> Survey:
    """Read every image and mask of a dataset, and report what it holds and which problems it has.

    Parameters
    ----------
    path, layout, mask_values
        As in `open_dataset`.
    on_read
        Called after each image with the number of images read so far, and of all images.

    Raises
    ------
    BlemishError
        If there is no dataset at `path`. Faults of single files do not raise; they become problems.
    """
    dataset = find_dataset(path, layout, mask_values)
    samples: list[CheckedSample] = []
    with ThreadPoolExecutor(max_workers=min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:
        for checked in pool.map(_check, dataset.samples):
            samples.append(checked)
            on_read(len(samples), len(dataset.samples))
    problems = find_problems(dataset, samples)
    looks_like = LAYOUTS[dataset.layout].looks_like
    return Survey(dataset.layout, looks_like, dataset.root, _groups(samples), tuple(problems))


def _check(sample: Sample) -> CheckedSample:
    """Decode an image and its mask, and keep only what the checks need, not the pixels."""
    try:
        kind = file_kind(sample.path)
        values = read_values(sample.path)  # (H, W) or (H, W, 3)
    except BlemishError as error:
        return CheckedSample(sample, error=str(error))
    height, width = values.shape[:2]
    occurring = value_bits(values)
    pixels = as_rgb(values, bits=16 if occurring is None else bits_of([occurring]))  # (H, W, 3)
    mask_error, mask_doubts = None, list[str]()
    if sample.mask is not None:
        try:
            mask_doubts = sample.mask.doubts(sample.path, sample.mask.read((height, width)))
            if isinstance(sample.mask, DefectMasks):
                mask_doubts += [defect.doubt for defect in sample.mask.defects((height, width)) if defect.doubt]
        except BlemishError as error:
            mask_error = str(error)
    is_grey = values.ndim == 2 or bool((values == values[..., :1]).all())
    return CheckedSample(
        sample,
        size_wh=(width, height),
        kind=kind.replace("colour,", "grey saved as colour,") if is_grey else kind,
        is_grey=is_grey,
        darkest=int(pixels.min()),
        brightest=int(pixels.max()),
        fingerprint=Fingerprint.of(pixels),
        value_bits=occurring,
        mask_error=mask_error,
        mask_doubts=tuple(mask_doubts),
    )


def _groups(samples: Sequence[CheckedSample]) -> tuple[Group, ...]:
    """Count by split and kind of defect, in the order train, validation, test; good images first in each split."""
    members: dict[tuple[str, str], list[CheckedSample]] = {}
    for checked in samples:
        members.setdefault((checked.sample.split, checked.sample.defect), []).append(checked)
    order = ("train", "validation", "test")
    groups = []
    for split, defect in sorted(members, key=lambda key: (order.index(key[0]), key[1] != "good", key[1])):
        group = members[split, defect]
        readable = [checked for checked in group if checked.error is None]
        sizes = Counter("{}x{}".format(*checked.size_wh) for checked in readable)
        kinds = Counter(checked.kind for checked in readable)
        n_masks = sum(checked.sample.mask is not None for checked in group)
        counts = len(group), n_masks, dict(sizes.most_common()), dict(kinds.most_common())
        groups.append(Group(split, defect, *counts))
    return tuple(groups)
