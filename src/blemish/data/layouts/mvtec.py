"""MVTec AD and the datasets with a similar layout: MPDD (the same layout), MVTec AD 2, BTAD.

Sources: P. Bergmann et al., "MVTec AD", CVPR 2019; S. Jezek et al., "Deep learning-based defect detection of metal
parts", ICUMT 2021 (MPDD); L. Heckler-Kram et al., "The MVTec AD 2 dataset", 2025; P. Mishra et al., "VT-ADL",
ISIE 2021 (BTAD).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from blemish.data.layouts.samples import (
    Fault,
    Layout,
    Mask,
    Sample,
    Split,
    defective,
    good,
    lacks_folder,
    masks_of_good,
    optional_images,
    subfolders,
    unused_below,
)
from blemish.data.layouts.words import is_good_word
from blemish.data.listing import list_images
from blemish.data.mask_files import MaskFiles, find_masks

LOCO_CONFIG = "defects_config.json"
"""The file that says of MVTec LOCO AD (`mvtec_loco`), and of no other dataset here, which types of defects it has."""


def _mvtec_lacks(root: Path) -> str | None:
    if (root / "test_public").is_dir():
        return "test_public makes it mvtec-ad-2"
    if sign := loco_sign(root):
        return f"{sign} makes it mvtec-loco"
    if all(folder.name == "ok" for folder in _good_folders(root / "train")):
        is_test_only = not (root / "train").exists() and (root / "test").is_dir() and (root / "ground_truth").is_dir()
        return None if is_test_only else "train/good is missing"
    return None


def loco_sign(root: Path) -> str | None:
    """The name of what a folder of MVTec LOCO AD has and others do not have; None if there is nothing of it."""
    if (root / LOCO_CONFIG).is_file() and (root / "train" / "good").is_dir():
        return LOCO_CONFIG
    kinds = ("test/logical_anomalies", "test/structural_anomalies")
    return next((kind for kind in kinds if (root / kind).is_dir()), None)


def _mvtec(root: Path, faults: list[Fault]) -> list[Sample]:
    folders = _good_folders(root / "train") or [root / "train" / "good"]
    samples = [sample for folder in folders for sample in good_images(folder, "train", faults)]
    return samples + labelled_images(root / "test", root, faults)


def _mvtec_ad_2(root: Path, faults: list[Fault]) -> list[Sample]:
    """Leaves out `test_private` and `test_private_mixed`, which have no labels."""
    samples = good_images(root / "train" / "good", "train", faults)
    samples += [good(image, "validation") for image in optional_images(root / "validation" / "good")]
    return samples + labelled_images(root / "test_public", root / "test_public", faults)


def _btad(root: Path, faults: list[Fault]) -> list[Sample]:
    return good_images(root / "train" / "ok", "train", faults) + labelled_images(root / "test", root, faults)


def _good_folders(folder: Path) -> list[Path]:
    """The subfolders whose names mean good parts: usually one, `good`."""
    return [child for child in subfolders(folder) if is_good_word(child.name)]


def good_images(folder: Path, split: Split, faults: list[Fault]) -> list[Sample]:
    """The images directly in a folder; those of its subfolders may be others, and are a fault."""
    images = optional_images(folder)
    if not images:
        faults.append(Fault(f"{folder}: holds no images; put the images there", folder, split))
        return []
    faults += unused_below(folder, split)
    return [good(image, split) for image in images]


def _mask(image: Path, files: MaskFiles, masks: Path, faults: list[Fault]) -> Mask | None:
    """The mask of an image, or a fault: without one the image still counts among images; contradicting ones stop."""
    if image in files.masks:
        return Mask(files.masks[image])
    faults.append(Fault(files.faults[image], image, "test", "image" if image in files.contradicting else "mask"))
    return None


MaskOf: TypeAlias = Callable[[Path, MaskFiles, Path, list[Fault]], Mask | None]
"""Returns the mask of an image, of the files that were found in the folder of the masks, or appends a fault."""


def labelled_images(folder: Path, masks_parent: Path, faults: list[Fault], mask_of: MaskOf = _mask) -> list[Sample]:
    """The test images of a folder that has a subfolder for good images and for each kind of defect.

    Images in folders below these are of the same kind. The masks lie in a folder `ground_truth` in `masks_parent`.
    """
    masks = _named(masks_parent, "ground_truth")
    kinds = [kind for kind in subfolders(folder) if kind != masks]
    samples = []
    for kind in kinds:
        images = list_images(kind, recursive=True)
        masks_of_kind = _named(masks, kind.name) if masks is not None else None
        if is_good_word(kind.name):
            samples += [good(image, "test") for image in images]
            if masks_of_kind is not None:
                faults += masks_of_good(list_images(masks_of_kind, recursive=True), masks_of_kind)
            continue
        files = find_masks(images, kind, masks_of_kind)
        expected = masks_of_kind or masks_parent / "ground_truth" / kind.name
        samples += [defective(image, kind.name, mask_of(image, files, expected, faults)) for image in images]
        faults += _left_out(files.unused, f"of no image in {kind}")
    if masks is not None:
        names = {kind.name.casefold() for kind in kinds}
        unknown = [path for path in subfolders(masks) if path.name.casefold() not in names]
        for path in unknown:
            faults += _left_out(
                list_images(path, recursive=True), f"without images, as there is no {folder / path.name}"
            )
        faults += _left_out(list_images(masks), "outside of the folders of the kinds of defects")
    if folder.is_dir() and (loose := list_images(folder)):
        text = f"{folder}: {_counted(len(loose))} directly in it and not used; move to {folder / 'good'} or "
        text += f"{folder / 'KIND'}, where KIND is the kind of their defect"
        faults.append(Fault(text, folder, "test", "left out"))
    return samples


def _left_out(unused: Iterable[Path], why: str) -> list[Fault]:
    """A fault for each folder of masks that belong to no image."""
    faults = []
    for folder, paths in groupby(unused, lambda path: path.parent):
        names = [path.name for path in paths]
        listed = ", ".join(names[:10]) + f" and {len(names) - 10} more" * (len(names) > 10)
        text = f"{folder}: {len(names)} mask{'s' * (len(names) != 1)} {why}: {listed}; rename or remove"
        faults.append(Fault(f"{text} {'them' if len(names) != 1 else 'it'}", folder, "test", "left out"))
    return faults


def _counted(count: int) -> str:
    return f"{count} image{'s are' if count != 1 else ' is'}"


def _named(parent: Path, name: str) -> Path | None:
    """The subfolder of a name, whatever its letter case; None if there is none."""
    exact = parent / name
    if exact.is_dir():
        return exact
    return next((child for child in subfolders(parent) if child.name.casefold() == name.casefold()), None)


MVTEC = Layout("mvtec", "train/good with test/<defect> and ground_truth/<defect>", _mvtec_lacks, _mvtec)
MVTEC_AD_2 = Layout(
    "mvtec-ad-2",
    "train/good, validation/good, test_public/good, test_public/bad and test_public/ground_truth/bad",
    lacks_folder("train/good", "test_public"),
    _mvtec_ad_2,
)
BTAD = Layout("btad", "train/ok, test/ok, test/ko and ground_truth/ko", lacks_folder("train/ok"), _btad)
