"""Look at a dataset before training: what is in it, and what is wrong with it. Reads every file once.

`survey` is the whole flow: list the samples, read each (`_see`), sum up, and ask `problems` what is amiss.
Neither this nor `problems` needs torch, so that a first look is quick.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blemish.data.layouts import LAYOUTS, Sample, find_dataset
from blemish.data.problems import Problem, Seen, find_problems
from blemish.data.reading import file_kind, read_image
from blemish.errors import BlemishError

_MAX_WORKERS = 4  # each holds a decoded image: few, for images of 100 megapixels do occur


@dataclass(frozen=True)
class Group:
    """The images of one kind in one split.

    `sizes` ("512x512", width first) and `kinds` ("PNG, grey, 8 bits") count the readable ones, the most
    frequent first.
    """

    split: str
    defect: str
    n_images: int
    n_masks: int
    sizes: dict[str, int]
    kinds: dict[str, int]


@dataclass(frozen=True)
class Survey:
    """What a dataset holds.

    Attributes
    ----------
    layout, looks_like
        Name of the layout, and its structure in a few words.
    root
        The dataset's folder.
    groups
        Training images first.
    problems
        The worst first; empty is a rare pleasure.
    """

    layout: str
    looks_like: str
    root: Path
    groups: tuple[Group, ...]
    problems: tuple[Problem, ...]

    @property
    def is_fit_to_use(self) -> bool:
        """Whether nothing found would stop `fit`, or `evaluate` if there are test images."""
        return not any(problem.level == "error" for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """All of it, of types that JSON knows."""
        return {**asdict(self), "root": str(self.root), "is_fit_to_use": self.is_fit_to_use}


def survey(
    path: str | Path, layout: str = "auto", *, on_read: Callable[[int, int], None] = lambda done, total: None
) -> Survey:
    """Read every image and mask of a dataset, and say what is there and what is amiss.

    Parameters
    ----------
    path, layout
        As of `open_dataset`.
    on_read
        Called after each image with the number of those read, and of all.

    Raises
    ------
    BlemishError
        If there is no dataset at `path`. What is wrong with single files becomes problems instead.
    """
    dataset = find_dataset(path, layout)
    seen = []
    with ThreadPoolExecutor(max_workers=min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:
        for one in pool.map(_see, dataset.samples):
            seen.append(one)
            on_read(len(seen), len(dataset.samples))
    problems = find_problems(dataset, seen)
    return Survey(dataset.layout, LAYOUTS[dataset.layout].looks_like, dataset.root, _groups(seen), tuple(problems))


def _see(sample: Sample) -> Seen:
    """Decode an image and its mask, and keep what can be said of them in a few bytes."""
    try:
        kind = file_kind(sample.path)
        pixels = read_image(sample.path)
    except BlemishError as error:
        return Seen(sample, error=str(error))
    height, width, _ = pixels.shape
    mask_error, mask_is_empty = None, False
    if sample.mask is not None:
        try:
            mask_is_empty = not sample.mask.read((height, width)).any()
        except BlemishError as error:
            mask_error = str(error)
    is_grey = kind.split(", ")[1] == "grey" or bool(
        (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    )
    return Seen(
        sample,
        size_wh=(width, height),
        kind=kind.replace("colour,", "grey saved as colour,") if is_grey else kind,
        is_grey=is_grey,
        darkest=int(pixels.min()),
        brightest=int(pixels.max()),
        digest=hashlib.blake2b(pixels.data, digest_size=16, salt=f"{width}x{height}".encode()).digest(),
        mask_error=mask_error,
        mask_is_empty=mask_is_empty,
    )


def _groups(seen: Sequence[Seen]) -> tuple[Group, ...]:
    """By split and kind of defect, in the order train, validation, test, and good ones first."""
    members: dict[tuple[str, str], list[Seen]] = {}
    for one in seen:
        members.setdefault((one.sample.split, one.sample.defect), []).append(one)
    order = ("train", "validation", "test")
    groups = []
    for split, defect in sorted(members, key=lambda key: (order.index(key[0]), key[1] != "good", key[1])):
        own = members[split, defect]
        read = [one for one in own if one.error is None]
        sizes = Counter("{}x{}".format(*one.size_wh) for one in read)
        kinds = Counter(one.kind for one in read)
        n_masks = sum(one.sample.mask is not None for one in own)
        groups.append(Group(split, defect, len(own), n_masks, dict(sizes.most_common()), dict(kinds.most_common())))
    return tuple(groups)
