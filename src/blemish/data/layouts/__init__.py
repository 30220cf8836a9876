"""Dataset layouts: list the samples of a dataset on disk.

Each layout is one `Layout` in the file of its family (`own`, `mvtec`, `mvtec_loco`, `visa`, `kolektor`, `dagm`,
`aitex`, `magnetic_tile`), registered in `LAYOUTS`. `samples` holds the classes and functions that all layouts use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from blemish.data.kinds import IMAGE_SUFFIXES, kind_of
from blemish.data.layouts.aitex import AITEX
from blemish.data.layouts.dagm import DAGM
from blemish.data.layouts.kolektor import KSDD, KSDD2
from blemish.data.layouts.magnetic_tile import MAGNETIC_TILE
from blemish.data.layouts.mvtec import BTAD, MVTEC, MVTEC_AD_2
from blemish.data.layouts.mvtec_loco import MVTEC_LOCO, Defect, DefectMasks
from blemish.data.layouts.own import CSV, FOLDER
from blemish.data.layouts.samples import (
    Dataset,
    EllipseMask,
    Fault,
    Layout,
    Mask,
    Sample,
    Split,
    other_files,
    subfolders,
)
from blemish.data.layouts.visa import VISA
from blemish.data.layouts.words import names_a_defect
from blemish.data.listing import list_images, shortened
from blemish.data.masks import checked_mask_values
from blemish.errors import BlemishError

__all__ = [
    "LAYOUTS",
    "Dataset",
    "Defect",
    "DefectMasks",
    "EllipseMask",
    "Fault",
    "Layout",
    "Mask",
    "Sample",
    "Split",
    "find_dataset",
    "name_of",
    "open_dataset",
]

_TABLES = (".txt", ".tab", ".dat", ".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_PUBLISHED = (MVTEC, MVTEC_AD_2, MVTEC_LOCO, BTAD, VISA, KSDD, KSDD2, DAGM, AITEX, MAGNETIC_TILE)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (CSV, *_PUBLISHED, FOLDER)}
"""By name, in the order in which "auto" tries them. "folder" is last, because other datasets hold images too."""


def open_dataset(
    path: str | Path, layout: str = "auto", *, only: Split | None = None, mask_values: str = "auto"
) -> Dataset:
    """List the samples of a dataset.

    Parameters
    ----------
    path
        A folder, or the `.csv` file of a manifest. For a dataset with several categories, the folder of one.
    layout
        A key of `LAYOUTS`; "auto" takes the first of these that matches.

        - folder: images directly in the folder; all are good training images.
        - csv: columns `path,label` and optionally `mask,split`, separated by commas, semicolons or tabs; paths are
          relative to the file's folder. Usual other names of columns are understood (`words`). Labels such as good,
          ok, normal or 0 are good (`words.GOOD_WORDS`); bad or 1 is "defect"; any other word is the kind of defect.
          Splits are train, test and validation; an empty split means train for good images, test for defective
          ones. A good image's mask is not used; it has to be empty.
        - mvtec: `train/good`, `test/<defect>`, `ground_truth/<defect>/<stem>_mask.png` (or as `mask_files` says).
          MPDD has this layout too.
        - mvtec-ad-2, mvtec-loco, btad, visa, ksdd, ksdd2, dagm, aitex, magnetic-tile: as published; see their
          modules.
    only
        The only split whose images are needed: faults of the others do not raise, and neither do missing masks;
        they are in `Dataset.faults`, which the caller reports. By default any incomplete sample raises.
    mask_values
        Which pixels of masks are defective, as `masks.checked_mask_values` defines it. With "auto" the published
        layouts whose masks hold other values than black and white know them.

    Returns
    -------
    Dataset, its samples in a fixed order.

    Raises
    ------
    BlemishError
        No layout matches (the message names what is there, and a likely correction), or files are missing.
    """
    dataset = find_dataset(path, layout, mask_values)
    stopping = [fault for fault in dataset.faults if _stops(fault, only)]
    if stopping:
        more = f" (and {len(stopping) - 1} more like this: blemish data {path})" if len(stopping) > 1 else ""
        raise BlemishError(stopping[0].text + more)
    return dataset


def _stops(fault: Fault, only: Split | None) -> bool:
    if only is None:
        return not fault.is_notice
    return fault.about == "image" and fault.split in (None, only)


def find_dataset(path: str | Path, layout: str = "auto", mask_values: str = "auto") -> Dataset:
    """As `open_dataset`, but incomplete samples do not raise; they are reported in `Dataset.faults`."""
    mask_values = checked_mask_values(mask_values)
    path = Path(path)
    if layout != "auto" and layout not in LAYOUTS:
        raise BlemishError(f"layout {layout!r} is unknown; use auto, {', '.join(LAYOUTS)}")
    try:
        if not path.exists():
            raise BlemishError(f"{path}: no such file or folder; check the path")
        if path.is_file() and (path.suffix.lower() in IMAGE_SUFFIXES or kind_of(path).is_picture):
            raise BlemishError(f"{path}: is a single image; give the folder that holds the images")
        if layout != "auto":
            chosen = LAYOUTS[layout]
            if lack := chosen.lacks(path):
                raise BlemishError(f"{path}: not the layout {layout}: {lack}; {_contents(path)}")
        else:
            matches = [candidate for candidate in LAYOUTS.values() if candidate.lacks(path) is None]
            if not matches:
                raise BlemishError(_no_match(path))
            chosen = matches[0]
            if chosen is FOLDER:
                _refuse_defects(path)
        faults: list[Fault] = []
        samples = tuple(_with_mask_values(sample, mask_values) for sample in chosen.samples(path, faults))
        faults += other_files(samples, path if path.is_dir() else None)
        if chosen in (CSV, MVTEC, BTAD):
            faults += _doubtful_kinds(path, samples)
    except OSError as error:
        raise BlemishError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    return Dataset(chosen.name, path if path.is_dir() else path.parent, samples, tuple(faults))


def _doubtful_kinds(path: Path, samples: Iterable[Sample]) -> list[Fault]:
    """A fault that names the words that were taken for kinds of defects, but may mean good parts."""
    has_mask: dict[str, bool] = {}
    for sample in samples:
        if sample.is_defective:
            has_mask[sample.defect] = has_mask.get(sample.defect, False) or sample.mask is not None
    doubtful = [kind for kind, has in has_mask.items() if not has and not names_a_defect(kind)]
    if not doubtful:
        return []
    are, they = ("kinds", "they are") if len(doubtful) > 1 else ("a kind", "these are")
    text = f"{path}: taken for {are} of defect: {shortened(doubtful)}; rename to good if {they} good parts"
    return [Fault(text, path, "test", "doubt")]


def _with_mask_values(sample: Sample, values: str) -> Sample:
    """Have a sample's mask read as the user says."""
    if values == "auto" or not isinstance(sample.mask, Mask):
        return sample
    return replace(sample, mask=replace(sample.mask, values=values))


def name_of(path: Path) -> str:
    """Name of the dataset at a path: its folder's name, also for ".", or its manifest's name without ".csv"."""
    return path.resolve().name if path.is_dir() else path.stem


def datasets_at(path: Path) -> list[Path]:
    """The published datasets below a folder of them, such as the categories of ``mvtec``; any other path itself."""
    if not path.is_dir() or any(layout.lacks(path) is None for layout in LAYOUTS.values()):
        return [path]
    return [folder for folder in _folders_below(path) if _published_at(folder)] or [path]


# --- messages about a path that is not a dataset -------------------------------------------------------------


def _no_match(path: Path) -> str:
    """The message about a path without a dataset, with the dataset that the user may mean."""
    hint = ""
    if path.is_dir():
        datasets = [(folder, layout) for folder in _folders_below(path) if (layout := _published_at(folder))]
        if datasets:
            names = _counted((str(folder.relative_to(path)) for folder, _ in datasets), "dataset", most=20)
            layouts = ", ".join(dict.fromkeys(layout.name for _, layout in datasets))
            return f"{path}: holds {names} ({layouts}); give the folder of one, such as {datasets[0][0]}"
        for parent in path.resolve().parents[:3]:
            if layout := _published_at(parent):
                return f"{path}: is only a part of the dataset {parent} ({layout.name}); give that folder"
        with_images = next((folder for folder in subfolders(path) if list_images(folder)), None)
        hint = f" (such as {with_images})" if with_images else ""
    return (
        f"{path}: no known layout; {_contents(path)}; expected {FOLDER.looks_like}{hint}, {MVTEC.looks_like} "
        f"(mvtec), or another layout that blemish data --help lists"
    )


def _folders_below(path: Path) -> list[Path]:
    """The folders on two levels, because some archives put each category into a second folder of the same name."""
    children = subfolders(path)
    return children + [grandchild for child in children for grandchild in subfolders(child)]


def _published_at(path: Path) -> Layout | None:
    try:
        return next((layout for layout in _PUBLISHED if layout.lacks(path) is None), None)
    except OSError:  # no read permission
        return None


def _refuse_defects(folder: Path) -> None:
    """Raise if the images of a folder are defects or masks of a published dataset around it, hence not good."""
    images = {Path(os.path.realpath(image)) for image in list_images(folder)}
    for root in folder.resolve().parents[:3]:
        layout = _published_at(root)
        if layout is None:
            continue
        try:
            samples = layout.samples(root, [])
        except BlemishError:  # an incomplete dataset says nothing about these images
            continue
        defective = [sample for sample in samples if sample.is_defective]
        for name, files in (
            ("defective", {sample.path for sample in defective}),
            ("masks", {sample.mask_path for sample in defective}),
        ):
            if n_bad := len(images & files):
                raise BlemishError(
                    f"{folder}: {n_bad} of its {len(images)} images are {name} in the dataset {root} "
                    f"({layout.name}); give that folder, or --layout folder if all are good parts after all"
                )


def _contents(path: Path) -> str:
    """Describe what is at `path`, for a message: "found 3 subfolders: a, b, c; no images"."""
    if path.is_file():
        return "found a file" + ("; save it as .csv" if path.suffix.lower() in _TABLES else "")
    folders = subfolders(path)
    images = list_images(path)
    files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    non_images = [file for file in files if file not in images]
    if not folders and not images and not non_images:
        return "the folder is empty"
    kinds = ((folders, "subfolder"), (images, "image"), (sorted(non_images), "other file"))
    counts = (
        _counted((entry.name for entry in entries), kind) for entries, kind in kinds if entries or kind == "image"
    )
    return "found " + "; ".join(counts)


def _counted(names: Iterable[str], kind: str, most: int = 5) -> str:
    names = list(names)
    if not names:
        return f"no {kind}s"
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} {kind}{'s' * (len(names) > 1)}: {shown}"
