"""What a dataset is made of: samples, their masks, and what a layout has to say. Every layout builds on these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.data.reading import list_images, natural_key, read_mask
from blemish.errors import BlemishError

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Mask:
    """The image files that show where an image is defective; several are united.

    A pixel is defective where a colour channel exceeds `above` of 255: 127 for masks in black and white, 0 for
    those whose values are numbers of kinds of defects. A layout that knows of such masks says so here, and
    only here.
    """

    paths: tuple[Path, ...]
    above: int = 127

    @property
    def path(self) -> Path:
        """The first file."""
        return self.paths[0]

    def read(self, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool, true where defective. Raises BlemishError as `read_mask` does."""
        mask: NDArray[np.bool_] = np.logical_or.reduce([read_mask(path, size_hw, self.above) for path in self.paths])
        return mask


@dataclass(frozen=True)
class EllipseMask:
    """An ellipse that a text file gives in numbers, in place of an image.

    Lengths and coordinates in pixels, x to the right, y down; `angle_rad` turns from x towards y.
    """

    path: Path
    center_xy: tuple[float, float]
    semi_axes: tuple[float, float]
    angle_rad: float

    def read(self, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool, true on and inside the ellipse."""
        y, x = np.ogrid[: size_hw[0], : size_hw[1]]
        dx, dy = x - self.center_xy[0], y - self.center_xy[1]
        cos, sin = np.cos(self.angle_rad), np.sin(self.angle_rad)
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        inside: NDArray[np.bool_] = (along / self.semi_axes[0]) ** 2 + (across / self.semi_axes[1]) ** 2 <= 1
        return inside


@dataclass(frozen=True)
class Sample:
    """One image and what is known of it.

    `defect` is "good" or the kind of defect; `mask` is None for good images and where no mask is known.
    Paths begin with the path that the dataset was opened by.
    """

    path: Path
    split: Split
    is_defective: bool
    defect: str
    mask: Mask | EllipseMask | None

    @property
    def mask_path(self) -> Path | None:
        """The (first) file of the mask; to read it, use `mask.read`, which knows how its values are meant."""
        return None if self.mask is None else self.mask.path


@dataclass(frozen=True)
class Dataset:
    """The samples below `root`, under the layout's name.

    `faults` are lines on samples that lack something; a dataset from `open_dataset` has none.
    """

    layout: str
    root: Path
    samples: tuple[Sample, ...]
    faults: tuple[str, ...] = ()

    @property
    def train(self) -> tuple[Sample, ...]:
        """The good training samples: all that learning from good parts alone reads."""
        return tuple(s for s in self.samples if s.split == "train" and not s.is_defective)

    @property
    def train_defective(self) -> tuple[Sample, ...]:
        """Real defects of the training split (KSDD2 and DAGM publish some), for supervised learning only."""
        return tuple(s for s in self.samples if s.split == "train" and s.is_defective)

    @property
    def test(self) -> tuple[Sample, ...]:
        """The test samples, good and defective."""
        return tuple(s for s in self.samples if s.split == "test")


@dataclass(frozen=True)
class Layout:
    """One way to lay out a dataset.

    Attributes
    ----------
    name
        What `--layout` calls it.
    looks_like
        Its structure in a few words, for people.
    lacks
        What a path lacks to be this layout; None if it is. Looks at names only, as few as will do: it is also
        asked about paths of other layouts, and exactly one may say None.
    samples
        Lists the samples of a path that lacks nothing. A sample that is faulty becomes a line in the list it
        is given; what leaves nothing to work with is a BlemishError.
    """

    name: str
    looks_like: str
    lacks: Callable[[Path], str | None]
    samples: Callable[[Path, list[str]], list[Sample]]


def good(path: Path, split: Split) -> Sample:
    """A sample without defects."""
    return Sample(path, split, is_defective=False, defect="good", mask=None)


def defective(path: Path, defect: str, mask: Mask | EllipseMask | None, split: Split = "test") -> Sample:
    """A sample with a defect."""
    return Sample(path, split, is_defective=True, defect=defect, mask=mask)


def lacks_folder(*names: str) -> Callable[[Path], str | None]:
    """`Layout.lacks` of a layout that is told by its folders."""

    def lacks(root: Path) -> str | None:
        missing = [name for name in names if not (root / name).is_dir()]
        return f"{missing[0]} is missing" if missing else None

    return lacks


def some_images(folder: Path) -> list[Path]:
    """The images in a folder that must hold some."""
    images = list_images(folder)
    if not images:
        raise BlemishError(f"{folder}: holds no images; put the images there")
    return images


def images_if_any(folder: Path) -> list[Path]:
    """The images in a folder that need not exist."""
    return list_images(folder) if folder.is_dir() else []


def mask_file(image: Path, faults: list[str], *candidates: Path, above: int = 127) -> Mask | None:
    """The first of the files that exists; none is a fault of the image."""
    for candidate in candidates:
        if candidate.is_file():
            return Mask((candidate,), above)
    faults.append(
        f"{image}: its mask {' or '.join(map(str, candidates))} is missing; add it, or use a CSV without masks"
    )
    return None


def split_of(index: int) -> Split:
    """Where no split is published: every eighth of the good ones, the 8th, 16th ..., is for the test."""
    return "test" if index % 8 == 7 else "train"


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in a folder, in natural order; none if it does not exist."""
    if not folder.is_dir():
        return []
    inside = (entry for entry in folder.iterdir() if entry.is_dir())
    return sorted((f for f in inside if not f.name.startswith((".", "__MACOSX"))), key=natural_key)
