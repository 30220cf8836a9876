"""Which files are what: datasets on disk as lists of samples. Nothing is decoded here.

A layout is one function and one row of `_LAYOUTS`. The function takes the path, raises `_NoMatch` where it
is not that layout, and BlemishError where it is, but faulty.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blemish.data.reading import IMAGE_SUFFIXES, list_images, natural_key
from blemish.errors import BlemishError


@dataclass(frozen=True)
class Sample:
    """One image and what is known of it.

    `defect` is "good" or the kind of defect; `mask_path` is None for good images and where no mask is known.
    Paths begin with the path that the dataset was opened by.
    """

    path: Path
    split: Literal["train", "test"]
    is_defective: bool
    defect: str
    mask_path: Path | None


@dataclass(frozen=True)
class Dataset:
    """The samples below `root`, under the layout's name."""

    layout: str
    root: Path
    samples: tuple[Sample, ...]

    @property
    def train(self) -> tuple[Sample, ...]:
        """The good training samples."""
        return tuple(s for s in self.samples if s.split == "train" and not s.is_defective)

    @property
    def test(self) -> tuple[Sample, ...]:
        """The test samples, good and defective."""
        return tuple(s for s in self.samples if s.split == "test")


def open_dataset(path: str | Path, layout: str = "auto") -> Dataset:
    """Find out what the files of a dataset are.

    Parameters
    ----------
    path
        A folder, or the `.csv` file of a manifest.
    layout
        "csv", "mvtec", "magnetic-tile" or "folder"; "auto" takes the first of these that matches.

        - folder: images directly in the folder; all are good training images.
        - mvtec: `train/good`, `test/<defect>`, `ground_truth/<defect>/<stem>_mask.png` (or `<stem>.png`).
        - magnetic-tile: `MT_Free`, `MT_<defect>`, with `images` and `masks`, or `Imgs` with .jpg images and
          .png masks. No split is published: all defective images and every eighth good one (by plain sorted
          file name, the 8th, 16th ...) are the test set.
        - csv: columns `path,label` and optionally `mask,split`; paths are relative to the file's folder.
          Label good, ok or 0 is good; bad or 1 is "defect"; any other word is the kind of defect. An empty
          split means train for good images, test for defective ones. A good image's mask is ignored.

    Returns
    -------
    Dataset, its samples in a fixed order.

    Raises
    ------
    BlemishError
        No layout matches (tells what was found), or the one that does lacks something.
    """
    path = Path(path)
    if layout != "auto" and layout not in _LAYOUTS:
        raise BlemishError(f"layout {layout!r} is unknown; use auto, {', '.join(_LAYOUTS)}")
    try:
        if not path.exists():
            raise BlemishError(f"{path}: no such file or folder; check the path")
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
            raise BlemishError(f"{path}: is a single image; give the folder that holds the images")
        reasons = []
        for name in _LAYOUTS if layout == "auto" else (layout,):
            try:
                samples = _LAYOUTS[name][0](path)
            except _NoMatch as reason:
                reasons.append(str(reason))
            else:
                return Dataset(name, path if path.is_dir() else path.parent, tuple(samples))
        found = _found_in(path)
    except OSError as error:
        raise BlemishError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    if layout != "auto":
        raise BlemishError(f"{path}: not the layout {layout}: {reasons[0]}; {found}")
    expected = ", or ".join(expected for _, expected in _LAYOUTS.values())
    raise BlemishError(f"{path}: no known layout; {found}; expected {expected}")


class _NoMatch(Exception):
    """Not this layout, and why."""


def _folder(root: Path) -> list[Sample]:
    if not root.is_dir():
        raise _NoMatch("it is not a folder")
    images = list_images(root)
    if not images:
        raise _NoMatch("there are no images directly in the folder")
    return [_good(image, "train") for image in images]


def _mvtec(root: Path) -> list[Sample]:
    good = root / "train" / "good"
    if not good.is_dir():
        raise _NoMatch("train/good is missing")
    samples = [_good(image, "train") for image in _some_images(good)]
    for folder in _subfolders(root / "test"):
        masks = root / "ground_truth" / folder.name
        for image in list_images(folder):
            if folder.name == "good":
                samples.append(_good(image, "test"))
            else:
                mask = _first_file(image, masks / f"{image.stem}_mask.png", masks / f"{image.stem}.png")
                samples.append(_defective(image, folder.name, mask))
    return samples


def _magnetic_tile(root: Path) -> list[Sample]:
    if not (root / "MT_Free").is_dir():
        raise _NoMatch("MT_Free is missing")
    # Plain order, not natural: it is what any other tool gets from sorting the names, so splits agree.
    good = sorted(_tiles(root / "MT_Free"))
    samples = [_good(image, "test" if index % 8 == 7 else "train") for index, image in enumerate(good)]
    for folder in _subfolders(root):
        if folder.name.startswith("MT_") and folder.name != "MT_Free":
            for image in _tiles(folder):
                masks = image.parent if image.parent.name == "Imgs" else folder / "masks"
                mask = _first_file(image, masks / f"{image.stem}.png")
                samples.append(_defective(image, folder.name.removeprefix("MT_").lower(), mask))
    return samples


def _tiles(folder: Path) -> list[Path]:
    """The photographs of one `MT_*` folder; the published `Imgs` hold the masks too, as .png."""
    if (folder / "images").is_dir():
        return _some_images(folder / "images")
    if (folder / "Imgs").is_dir():
        return [image for image in _some_images(folder / "Imgs") if image.suffix.lower() != ".png"]
    raise BlemishError(f"{folder}: holds neither images/ nor Imgs/; copy the dataset again")


def _csv(path: Path) -> list[Sample]:
    if not path.is_file() or path.suffix.lower() != ".csv":
        raise _NoMatch("it is not a .csv file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BlemishError(f"{path}: not a CSV file in UTF-8 ({error}); save it as CSV UTF-8") from error
    if missing := [name for name in ("path", "label") if name not in reader.fieldnames]:
        found = ",".join(reader.fieldnames)
        raise BlemishError(f"{path}: no column {' and '.join(missing)} in the header '{found}'; name it so")
    samples: dict[str, Sample] = {}
    for line, row in rows:
        where = f"{path}, row {line}"
        if any(row.pop(None, ())):
            raise BlemishError(f"{where}: more cells than columns; put quotes around text with commas")
        cells = {name: cell.strip() for name, cell in row.items()}
        if any(cells.values()):
            sample = _csv_sample(where, path.parent, cells)
            if samples.setdefault(os.path.normpath(sample.path), sample) is not sample:
                raise BlemishError(f"{where}: {cells['path']} is listed twice; remove one of the rows")
    if not samples:
        raise BlemishError(f"{path}: lists no images; add one row for each image")
    return list(samples.values())


def _csv_sample(where: str, folder: Path, cells: dict[str, str]) -> Sample:
    for column in ("path", "label"):
        if not cells[column]:
            raise BlemishError(f"{where}: the {column} is empty; fill it in or remove the row")
    label = cells["label"].lower()
    is_defective = label not in ("good", "ok", "0")
    split = cells.get("split", "").lower() or ("test" if is_defective else "train")
    if split not in ("train", "test"):
        raise BlemishError(f"{where}: split '{cells['split']}' is unknown; use train or test")
    if is_defective and split == "train":
        raise BlemishError(f"{where}: a defective image cannot train; set its split to test or its label to good")
    mask = cells.get("mask", "")
    for column in (cells["path"], mask):
        if column and not (folder / column).is_file():
            raise BlemishError(f"{where}: {folder / column} is not a file; paths are relative to {folder}")
    if not is_defective:
        return _good(folder / cells["path"], "train" if split == "train" else "test")
    defect = "defect" if label in ("bad", "1") else cells["label"]
    return _defective(folder / cells["path"], defect, folder / mask if mask else None)


_LAYOUTS: dict[str, tuple[Callable[[Path], list[Sample]], str]] = {
    "csv": (_csv, "a .csv file with the columns path,label,mask,split"),
    "mvtec": (_mvtec, "train/good with test/<defect> and ground_truth/<defect> (mvtec)"),
    "magnetic-tile": (_magnetic_tile, "MT_Free with MT_<defect> (magnetic-tile)"),
    "folder": (_folder, "images of good parts directly in the folder"),
}


def _good(path: Path, split: Literal["train", "test"]) -> Sample:
    return Sample(path, split, is_defective=False, defect="good", mask_path=None)


def _defective(path: Path, defect: str, mask_path: Path | None) -> Sample:
    return Sample(path, "test", is_defective=True, defect=defect, mask_path=mask_path)


def _some_images(folder: Path) -> list[Path]:
    images = list_images(folder)
    if not images:
        raise BlemishError(f"{folder}: holds no images; put the images there")
    return images


def _first_file(image: Path, *masks: Path) -> Path:
    for mask in masks:
        if mask.is_file():
            return mask
    raise BlemishError(f"{image}: its mask {' or '.join(map(str, masks))} is missing; add it, or use a CSV without")


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    inside = (entry for entry in folder.iterdir() if entry.is_dir())
    return sorted((f for f in inside if not f.name.startswith((".", "__MACOSX"))), key=natural_key)


def _found_in(path: Path) -> str:
    """What lies at `path`, for an error: "found 3 subfolders: a, b, c; no images"."""
    if path.is_file():
        return "found a file"
    folders = _subfolders(path)
    images = list_images(path)
    others = [f for f in path.iterdir() if f.is_file() and f not in images and not f.name.startswith(".")]
    if not folders and not images and not others:
        return "the folder is empty"
    kinds = ((folders, "subfolder"), (images, "image"), (sorted(others), "other file"))
    return "found " + "; ".join(_counted(entries, kind) for entries, kind in kinds if entries or kind == "image")


def _counted(entries: Iterable[Path], kind: str) -> str:
    names = [entry.name for entry in entries]
    if not names:
        return f"no {kind}s"
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} {kind}{'s' * (len(names) > 1)}: {shown}"
