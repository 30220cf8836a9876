"""DAGM 2007: ten synthetic textures, the defects marked by ellipses.

Two forms are in circulation. The competition's final data, also on Zenodo and Kaggle, has a folder for each class
with `Train` and `Test`, and in each a folder `Label` with `Labels.txt` and a mask `0576_label.PNG` for each
defective image. The earlier development data has 1000 good images in `Class1` and 150 defective ones in
`Class1_def`, with a `labels.txt` that gives the ellipses in numbers, and no split.

Source: M. Wieler, T. Hahn, F. A. Hamprecht, "Weakly supervised learning for industrial optical inspection", 2007.
"""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.samples import (
    EllipseMask,
    Layout,
    Mask,
    Sample,
    Split,
    defective,
    good,
    some_images,
    split_of,
)
from blemish.errors import BlemishError


def _lacks(root: Path) -> str | None:
    if _is_competition(root) or (_defects_of(root) / "labels.txt").is_file():
        return None
    return "Train/Label is missing"


def _is_competition(root: Path) -> bool:
    return (root / "Train" / "Label").is_dir() or (root / "Test" / "Label").is_dir()


def _defects_of(root: Path) -> Path:
    """The folder with the defective images of a class of the development data; `root` may be that folder itself."""
    root = root if root.name.strip(".") else root.resolve()  # "." has no name to add to
    return root if root.name.endswith("_def") else root.parent / f"{root.name}_def"


def _samples(root: Path, faults: list[str]) -> list[Sample]:
    if _is_competition(root):
        return _competition(root / "Train", "train", faults) + _competition(root / "Test", "test", faults)
    return _development(_defects_of(root), faults)


def _competition(folder: Path, split: Split, faults: list[str]) -> list[Sample]:
    """An image is defective if it has a mask, and `Labels.txt`, where there is one, must agree."""
    told = _labels_file(folder / "Label" / "Labels.txt")
    samples = []
    for image in some_images(folder):
        label = folder / "Label" / f"{image.stem}_label.PNG"
        mask = next((Mask((path,)) for path in (label, label.with_suffix(".png")) if path.is_file()), None)
        samples.append(defective(image, "defect", mask, split) if mask else good(image, split))
        if told.get(image.name.lower(), mask is not None) != (mask is not None):
            remedy = f"its mask {label} is there; remove it" if mask else f"its mask {label} is missing; add it"
            says = "good" if mask else "defective"
            faults.append(f"{image}: {label.with_name('Labels.txt')} says {says}, but {remedy}, or correct the list")
    return samples


def _labels_file(path: Path) -> dict[str, bool]:
    """Whether each image, by its name in lower case, is defective.

    Rows of number, 0 or 1, image, 0, mask or 0, separated by tabs; the first row holds the class alone.
    """
    if not path.is_file():
        return {}
    rows = [line.split() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    return {row[2].lower(): row[1] == "1" for row in rows if len(row) >= 3}


def _development(defects: Path, faults: list[str]) -> list[Sample]:
    good_images = sorted(some_images(defects.with_name(defects.name.removesuffix("_def"))))
    samples = [good(image, split_of(index)) for index, image in enumerate(good_images)]
    ellipses = _ellipses(defects / "labels.txt")
    for image in some_images(defects):
        mask = ellipses.get(image.stem.lstrip("0"))
        if mask is None:
            faults.append(f"{image}: {defects / 'labels.txt'} holds no ellipse for it; add it or remove the image")
        samples.append(defective(image, "defect", mask))
    return samples


def _ellipses(path: Path) -> dict[str, EllipseMask]:
    """The ellipse of each image, by its number.

    Rows of number, semi-axes, angle in radians from x towards y, and centre x and y, separated by tabs.
    """
    ellipses = {}
    for line, row in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if row.strip():
            number, *values = row.split()
            try:
                major, minor, angle, x, y = map(float, values)
            except ValueError:
                raise BlemishError(
                    f"{path}, row {line}: should hold a number and five values of an ellipse; copy the dataset again"
                ) from None
            ellipses[Path(number).stem.lstrip("0")] = EllipseMask(path, (x, y), (major, minor), angle)
    return ellipses


DAGM = Layout(
    "dagm",
    "a class's Train, Test and in each Label/<number>_label.PNG; or Class<n> with Class<n>_def/labels.txt beside it",
    _lacks,
    _samples,
)
