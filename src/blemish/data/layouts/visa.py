"""VisA: a folder for each object, and beside them one CSV file with the split of all objects.

Source: Y. Zou et al., "SPot-the-Difference self-supervised pre-training for anomaly detection and segmentation",
ECCV 2022. The split is the published one-class split (`split_csv/1cls.csv`).
"""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.own import read_rows
from blemish.data.layouts.samples import Fault, Layout, Mask, Sample, Split, defective, good, lacks_folder
from blemish.errors import BlemishError

_CLASS_NUMBERS = "nonzero"  # mask values are class numbers of defects, from 1 up


def _visa(root: Path, faults: list[Fault]) -> list[Sample]:
    name = root.resolve().name  # also works for "."; the CSV file uses the folders' names as object names
    split_file = (root if root.name == name else root.resolve()).parent / "split_csv" / "1cls.csv"
    if not split_file.is_file():
        raise BlemishError(f"{root}: its split {split_file} is missing; copy split_csv from the VisA archive there")
    rows = read_rows(split_file, ("object", "split", "label", "image", "mask"))
    rows = [(line, cells) for line, cells in rows if cells["object"] == name]
    if not rows:
        raise BlemishError(f"{root}: {split_file} lists no object {name}; rename the folder as in VisA")
    kinds = _kinds(root / "image_anno.csv", name)
    samples = []
    for line, cells in rows:
        image = _inside(root, name, cells["image"])
        mask = _inside(root, name, cells["mask"]) if cells["mask"] else None
        split: Split = "train" if cells["split"] == "train" else "test"
        for file in (image, mask):
            if file is not None and not file.is_file():
                text = f"{file}: is missing, but {split_file}, row {line} lists it; unpack VisA again"
                faults.append(Fault(text, image, split, "image" if file == image else "mask"))
        if mask is not None and not mask.is_file():
            mask = None
        if cells["label"] == "normal":
            samples.append(good(image, split))
        else:
            kind = kinds.get(image, "anomaly")
            samples.append(defective(image, kind, Mask((mask,), _CLASS_NUMBERS) if mask else None, split))
    return samples


def _inside(root: Path, name: str, cell: str) -> Path:
    """Convert a path of the CSV files, which begins with the object's name, to one below `root`."""
    return root / cell.removeprefix(f"{name}/")


def _kinds(path: Path, name: str) -> dict[Path, str]:
    """The kind of defect in each image; several kinds in one image are "combined", as in MVTec AD."""
    if not path.is_file():
        return {}
    rows = read_rows(path, ("image", "label"))
    return {
        _inside(path.parent, name, cells["image"]): "combined" if "," in cells["label"] else cells["label"]
        for _, cells in rows
    }


VISA = Layout(
    "visa",
    "Data/Images/Normal, Data/Images/Anomaly and Data/Masks/Anomaly, with ../split_csv/1cls.csv",
    lacks_folder("Data/Images/Normal"),
    _visa,
)
