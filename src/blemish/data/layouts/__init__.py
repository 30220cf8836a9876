"""Which files are what: datasets on disk as lists of samples.

A layout is one `Layout` in the file of its family here (`own`, `mvtec`, `visa`, `kolektor`, `dagm`, `aitex`,
`magnetic_tile`) and its place in `LAYOUTS`. `samples` says what they all build on.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from blemish.data.layouts.aitex import AITEX
from blemish.data.layouts.dagm import DAGM
from blemish.data.layouts.kolektor import KSDD, KSDD2
from blemish.data.layouts.magnetic_tile import MAGNETIC_TILE
from blemish.data.layouts.mvtec import BTAD, MVTEC, MVTEC_AD_2
from blemish.data.layouts.own import CSV, FOLDER
from blemish.data.layouts.samples import Dataset, EllipseMask, Layout, Mask, Sample, Split, subfolders
from blemish.data.layouts.visa import VISA
from blemish.data.reading import IMAGE_SUFFIXES, list_images
from blemish.errors import BlemishError

__all__ = [
    "LAYOUTS",
    "Dataset",
    "EllipseMask",
    "Layout",
    "Mask",
    "Sample",
    "Split",
    "find_dataset",
    "name_of",
    "open_dataset",
]

_PUBLISHED = (MVTEC, MVTEC_AD_2, BTAD, VISA, KSDD, KSDD2, DAGM, AITEX, MAGNETIC_TILE)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (CSV, *_PUBLISHED, FOLDER)}
"""By name, in the order in which "auto" tries them: a folder of images comes last, for datasets hold images too."""


def open_dataset(path: str | Path, layout: str = "auto") -> Dataset:
    """Find out what the files of a dataset are.

    Parameters
    ----------
    path
        A folder, or the `.csv` file of a manifest. Of a dataset with several categories, the folder of one.
    layout
        A key of `LAYOUTS`; "auto" takes the first of these that matches.

        - folder: images directly in the folder; all are good training images.
        - csv: columns `path,label` and optionally `mask,split`; paths are relative to the file's folder.
          Label good, ok or 0 is good; bad or 1 is "defect"; any other word is the kind of defect. An empty
          split means train for good images, test for defective ones. A good image's mask is ignored.
        - mvtec: `train/good`, `test/<defect>`, `ground_truth/<defect>/<stem>_mask.png` (or `<stem>.png`).
          MPDD has this layout too.
        - mvtec-ad-2, btad, visa, ksdd, ksdd2, dagm, aitex, magnetic-tile: as published; their files say more.

    Returns
    -------
    Dataset, its samples in a fixed order.

    Raises
    ------
    BlemishError
        No layout matches (tells what was found, and what may be meant), or the one that does lacks something.
    """
    dataset = find_dataset(path, layout)
    if dataset.faults:
        first, *others = dataset.faults
        more = f" (and {len(others)} more like this: blemish data {path})" if others else ""
        raise BlemishError(first + more)
    return dataset


def find_dataset(path: str | Path, layout: str = "auto") -> Dataset:
    """As `open_dataset`, but samples that lack something are told in `Dataset.faults` instead of refused."""
    path = Path(path)
    if layout != "auto" and layout not in LAYOUTS:
        raise BlemishError(f"layout {layout!r} is unknown; use auto, {', '.join(LAYOUTS)}")
    try:
        if not path.exists():
            raise BlemishError(f"{path}: no such file or folder; check the path")
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
            raise BlemishError(f"{path}: is a single image; give the folder that holds the images")
        if layout != "auto":
            chosen = LAYOUTS[layout]
            if lack := chosen.lacks(path):
                raise BlemishError(f"{path}: not the layout {layout}: {lack}; {_found_in(path)}")
        else:
            matching = [one for one in LAYOUTS.values() if one.lacks(path) is None]
            if not matching:
                raise BlemishError(_no_match(path))
            chosen = matching[0]
            if chosen is FOLDER:
                _refuse_defects(path)
        faults: list[str] = []
        samples = tuple(chosen.samples(path, faults))
    except OSError as error:
        raise BlemishError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    return Dataset(chosen.name, path if path.is_dir() else path.parent, samples, tuple(faults))


def name_of(path: Path) -> str:
    """What to call the dataset at a path: the name of its folder, of "." too, or of its manifest without ".csv"."""
    return path.resolve().name if path.is_dir() else path.stem


# --- what was meant, if it is not what was given -------------------------------------------------------------


def _no_match(path: Path) -> str:
    """Why a path is not a dataset, and which one may be meant."""
    hint = ""
    if path.is_dir():
        below = [(folder, layout) for folder in _folders_below(path) if (layout := _published_at(folder))]
        if below:
            names = _counted((str(folder.relative_to(path)) for folder, _ in below), "dataset", most=20)
            kinds = ", ".join(dict.fromkeys(layout.name for _, layout in below))
            return f"{path}: holds {names} ({kinds}); give the folder of one, such as {below[0][0]}"
        for parent in path.resolve().parents[:3]:
            if layout := _published_at(parent):
                return f"{path}: is only a part of the dataset {parent} ({layout.name}); give that folder"
        with_images = next((folder for folder in subfolders(path) if list_images(folder)), None)
        hint = f" (such as {with_images})" if with_images else ""
    return (
        f"{path}: no known layout; {_found_in(path)}; expected {FOLDER.looks_like}{hint}, {MVTEC.looks_like} "
        f"(mvtec), or another layout that blemish data --help lists"
    )


def _folders_below(path: Path) -> list[Path]:
    """Two levels: some archives pack each category into a folder of its own name."""
    children = subfolders(path)
    return children + [grandchild for child in children for grandchild in subfolders(child)]


def _published_at(path: Path) -> Layout | None:
    try:
        return next((layout for layout in _PUBLISHED if layout.lacks(path) is None), None)
    except OSError:  # a folder that may not be looked into
        return None


def _refuse_defects(folder: Path) -> None:
    """A folder of images inside a published dataset may hold its defects or masks: never take them as good."""
    images = {image.resolve() for image in list_images(folder)}
    for root in folder.resolve().parents[:3]:
        layout = _published_at(root)
        if layout is None:
            continue
        try:
            samples = layout.samples(root, [])
        except BlemishError:  # whatever it is, it says nothing of these images
            continue
        bad = [sample for sample in samples if sample.is_defective]
        for name, files in (
            ("defective", {sample.path for sample in bad}),
            ("masks", {sample.mask_path for sample in bad}),
        ):
            if n_bad := len(images & files):
                raise BlemishError(
                    f"{folder}: {n_bad} of its {len(images)} images are {name} in the dataset {root} "
                    f"({layout.name}); give that folder, or --layout folder if all are good parts after all"
                )


def _found_in(path: Path) -> str:
    """What lies at `path`, for an error: "found 3 subfolders: a, b, c; no images"."""
    if path.is_file():
        return "found a file"
    folders = subfolders(path)
    images = list_images(path)
    others = [f for f in path.iterdir() if f.is_file() and f not in images and not f.name.startswith(".")]
    if not folders and not images and not others:
        return "the folder is empty"
    kinds = ((folders, "subfolder"), (images, "image"), (sorted(others), "other file"))
    told = (
        _counted((entry.name for entry in entries), kind) for entries, kind in kinds if entries or kind == "image"
    )
    return "found " + "; ".join(told)


def _counted(names: Iterable[str], kind: str, most: int = 5) -> str:
    names = list(names)
    if not names:
        return f"no {kind}s"
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} {kind}{'s' * (len(names) > 1)}: {shown}"
