"""Samples, masks, datasets and layouts: the classes and functions that every layout uses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.data.kinds import EMPTY, UNKNOWN
from blemish.data.listing import LeftOut, lines_about, list_files, list_images, natural_key, shortened
from blemish.data.masks import mask_doubts, read_mask
from blemish.data.reading import read_values
from blemish.errors import BlemishError

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Fault:
    """What is wrong with the files of a dataset.

    Attributes
    ----------
    text
        One line that names the file and the remedy.
    path
        The image or the folder that it is about.
    split
        The split that it is about; None if that is not known.
    about
        "image": an image cannot be used. "mask": an image is listed without its mask. "left out": there are images
        that belong to no sample. "doubt": a label, a column or a mask may mean something else than it is taken for,
        or a file that says more about masks cannot be used.
    """

    text: str
    path: Path
    split: Split | None
    about: Literal["image", "mask", "left out", "doubt"] = "image"

    @property
    def is_notice(self) -> bool:
        """Whether it stops nothing, and is only to be said."""
        return self.about in ("left out", "doubt")


@dataclass(frozen=True)
class Mask:
    """The image files that show where an image is defective; several files are united.

    `values` says which of their pixels are defective, as `masks.checked_mask_values` defines it.
    """

    paths: tuple[Path, ...]
    values: str = "auto"

    @property
    def path(self) -> Path:
        """The first file."""
        return self.paths[0]

    def read(self, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool, true where defective. Raises BlemishError as `read_mask` does."""
        mask: NDArray[np.bool_] = np.logical_or.reduce([read_mask(path, size_hw, self.values) for path in self.paths])
        return mask

    def doubts(self, image: Path, mask: NDArray[np.bool_]) -> list[str]:
        """Lines about why `mask`, (H, W) bool as it was read, may not show the defects of the image."""
        return mask_doubts(self.paths, image, mask)


@dataclass(frozen=True)
class EllipseMask:
    """An elliptical mask whose parameters come from a text file instead of an image.

    Lengths and coordinates are in pixels, x to the right, y down; `angle_rad` is measured from x towards y.
    """

    path: Path
    center_xy: tuple[float, float]
    semi_axes: tuple[float, float]
    angle_rad: float

    def read(self, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool, true on and inside the ellipse."""
        y, x = np.ogrid[: size_hw[0], : size_hw[1]]  # (H, 1), (1, W)
        dx, dy = x - self.center_xy[0], y - self.center_xy[1]
        cos, sin = np.cos(self.angle_rad), np.sin(self.angle_rad)
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        inside: NDArray[np.bool_] = (along / self.semi_axes[0]) ** 2 + (across / self.semi_axes[1]) ** 2 <= 1
        return inside

    def doubts(self, image: Path, mask: NDArray[np.bool_]) -> list[str]:
        """None: the ellipses are those of a published dataset."""
        return []


@dataclass(frozen=True)
class Sample:
    """One image with its split, label and mask.

    `defect` is "good" or the kind of defect; `mask` is None for good images and if there is no mask. Paths begin with
    the path that was given to open the dataset.
    """

    path: Path
    split: Split
    is_defective: bool
    defect: str
    mask: Mask | EllipseMask | None

    @property
    def mask_path(self) -> Path | None:
        """The (first) file of the mask. To read the mask, use `mask.read`, which interprets its values."""
        return None if self.mask is None else self.mask.path


@dataclass(frozen=True)
class Dataset:
    """The samples below `root`, and the name of their layout.

    `faults` are about incomplete samples and files that belong to none. In a dataset from `open_dataset` they are
    only those that do not stop its caller.
    """

    layout: str
    root: Path
    samples: tuple[Sample, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def train(self) -> tuple[Sample, ...]:
        """The good training samples: the only ones that learning from good parts uses."""
        return tuple(sample for sample in self.samples if sample.split == "train" and not sample.is_defective)

    @property
    def train_defective(self) -> tuple[Sample, ...]:
        """Real defects in the training split (in KSDD2 and DAGM), for supervised learning only."""
        return tuple(sample for sample in self.samples if sample.split == "train" and sample.is_defective)

    @property
    def test(self) -> tuple[Sample, ...]:
        """The test samples, good and defective."""
        return tuple(sample for sample in self.samples if sample.split == "test")


@dataclass(frozen=True)
class Layout:
    """One way to arrange the files of a dataset.

    Attributes
    ----------
    name
        Its name for `--layout`.
    looks_like
        Its structure in a few words, for messages.
    lacks
        Returns what a path lacks to have this layout, or None if the path has it. It checks only names, and few of
        them, because it is also called for paths of other layouts. For a path, only one layout besides "folder" may
        return None.
    samples
        Lists the samples of a path that has this layout. It appends a fault to the list in its second argument for
        each faulty sample, and raises BlemishError if no sample can be used.
    """

    name: str
    looks_like: str
    lacks: Callable[[Path], str | None]
    samples: Callable[[Path, list[Fault]], list[Sample]]


def good(path: Path, split: Split) -> Sample:
    """A sample without defects."""
    return Sample(path, split, is_defective=False, defect="good", mask=None)


def defective(path: Path, defect: str, mask: Mask | EllipseMask | None, split: Split = "test") -> Sample:
    """A sample with a defect."""
    return Sample(path, split, is_defective=True, defect=defect, mask=mask)


def lacks_folder(*names: str) -> Callable[[Path], str | None]:
    """Make `Layout.lacks` for a layout that is recognized by its folders."""

    def lacks(root: Path) -> str | None:
        missing = [name for name in names if not (root / name).is_dir()]
        return f"{missing[0]} is missing" if missing else None

    return lacks


def required_images(folder: Path) -> list[Path]:
    """The images in a folder that must hold at least one."""
    images = list_images(folder)
    if not images:
        raise BlemishError(f"{folder}: holds no images; put the images there")
    return images


def optional_images(folder: Path) -> list[Path]:
    """The images in a folder; none if it does not exist."""
    return list_images(folder) if folder.is_dir() else []


def mask_file(image: Path, split: Split, faults: list[Fault], candidate: Path, values: str) -> Mask | None:
    """The mask of an image of a published dataset; if its file does not exist, adds a fault of the image."""
    if candidate.is_file():
        return Mask((candidate,), values)
    text = f"{image}: its mask {candidate} is missing; add it, or list the images in a CSV file without masks"
    faults.append(Fault(text, image, split, "mask"))
    return None


def masks_of_good(masks: Iterable[Path], root: Path) -> list[Fault]:
    """A fault that names the masks of good images that show something, which contradicts the label."""
    marked = [path.relative_to(root).as_posix() for path in masks if _shows_something(path)]
    if not marked:
        return []
    masks_are = f"{len(marked)} mask{'s of good images are' if len(marked) > 1 else ' of a good image is'} not empty"
    text = f"{root}: {masks_are}: {shortened(marked)}; correct the label of the image, or remove the mask"
    return [Fault(text, root, "test", "doubt")]


def _shows_something(mask: Path) -> bool:
    """Whether the pixels of a mask differ by more than JPEG makes them differ; also if it cannot be read."""
    try:
        values = read_values(mask)
    except BlemishError:
        return True
    return int(values.max()) - int(values.min()) > (32 if mask.suffix.lower() in (".jpg", ".jpeg") else 0)


def split_of(index: int) -> Split:
    """Split of a good image where none is published: every eighth (the 8th, 16th ...) is a test image."""
    return "test" if index % 8 == 7 else "train"


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones and links to folders around it, in natural order.

    None if the folder does not exist.
    """
    if not folder.is_dir():
        return []
    children = (entry for entry in folder.iterdir() if entry.is_dir() and not _leads_up(entry))
    return sorted((child for child in children if not child.name.startswith((".", "__MACOSX"))), key=natural_key)


def _leads_up(folder: Path) -> bool:
    """Whether a folder is a link to one that holds it, which would never end."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def unused_below(folder: Path, split: Split) -> list[Fault]:
    """A fault for each folder below a folder of which only the images directly in it are used."""
    faults = []
    for path, n_images in Counter(image.parent for image in list_images(folder, recursive=True)).items():
        if path != folder:
            counted = f"{n_images} image{'s are' if n_images != 1 else ' is'}"
            text = f"{path}: its {counted} not used; move into {folder}, or out of it"
            faults.append(Fault(text, path, split, "left out"))
    return faults


def other_files(samples: Iterable[Sample], root: Path | None) -> list[Fault]:
    """Faults for the files that are no images, but may hold some, such as archives, and for hidden images.

    They are looked for below `root`, and beside the images of samples if it is None or does not hold these.
    """
    splits: dict[Path, set[Split]] = defaultdict(set)
    for sample in samples:
        splits[sample.path.parent].add(sample.split)
    left_out: dict[Path, list[LeftOut]] = defaultdict(list)
    below = list[LeftOut]()
    if root is not None:
        with suppress(BlemishError):  # a folder without read permission is not part of the dataset
            below = list_files(root, recursive=True).left_out
    for entry in below:
        if entry.path.parent not in splits and entry.kind not in (UNKNOWN, EMPTY):
            left_out[entry.path.parent].append(entry)
    for folder in splits:
        left_out[folder] += list_files(folder).left_out
        left_out[folder] += [entry for entry in below if entry.path.parent == folder and entry.path.is_dir()]
    faults = []
    for folder, entries in left_out.items():
        split = _split_of_folder(folder, splits.get(folder, set()), root)
        named = [entry for entry in entries if entry.kind.remedy or entry.kind.is_result]
        faults += [Fault(line, named[0].path, split, "left out") for line in lines_about(named, folder)]
    return faults


def _split_of_folder(folder: Path, splits: set[Split], root: Path | None) -> Split | None:
    """The split that a folder belongs to: that of its samples, or else by its name; None if that is not known."""
    if splits or root is None or not folder.is_relative_to(root):
        return min(splits) if len(splits) == 1 else None
    name = folder.relative_to(root).as_posix().casefold()
    return "train" if name.startswith("train") else "test" if name.startswith(("test", "ground_truth")) else None
