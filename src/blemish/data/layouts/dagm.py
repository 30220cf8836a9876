"""DAGM 2007: ten synthetic textures, the defects marked by ellipses.

The dataset exists in two forms. The competition's final data, also on Zenodo and Kaggle, have a folder for each
class with `Train` and `Test`, and in each a folder `Label` with `Labels.txt` and a mask `0576_label.PNG` for each
defective image. The earlier development data have 1000 good images in `Class1` and 150 defective ones in
`Class1_def`, with the parameters of the ellipses in `labels.txt`, and no split.

Source: M. Wieler, T. Hahn, F. A. Hamprecht, "Weakly supervised learning for industrial optical inspection", 2007.
"""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.samples import (
    EllipseMask,
    Fault,
    Layout,
    Mask,
    Sample,
    Split,
    defective,
    good,
    required_images,
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
    """The folder of a class's defective images in the development data; `root` may be this folder or the class's."""
    root = root if root.name.strip(".") else root.resolve()  # "." has no name to append "_def" to
    return root if root.name.endswith("_def") else root.parent / f"{root.name}_def"


def _samples(root: Path, faults: list[Fault]) -> list[Sample]:
    if _is_competition(root):
        return _competition(root / "Train", "train", faults) + _competition(root / "Test", "test", faults)
    return _development(_defects_of(root), faults)


def _competition(folder: Path, split: Split, faults: list[Fault]) -> list[Sample]:
    """An image is defective if it has a mask. If there is a `Labels.txt`, it must agree."""
    labels = _labels_file(folder / "Label" / "Labels.txt")
    samples = []
    for image in required_images(folder):
        mask_path = folder / "Label" / f"{image.stem}_label.PNG"
        mask = next(
            (Mask((path,), "white") for path in (mask_path, mask_path.with_suffix(".png")) if path.is_file()), None
        )
        samples.append(defective(image, "defect", mask, split) if mask else good(image, split))
        if labels.get(image.name.lower(), mask is not None) != (mask is not None):
            remedy = f"its mask {mask_path} exists; remove it" if mask else f"its mask {mask_path} is missing; add it"
            label = "good" if mask else "defective"
            label_file = mask_path.with_name("Labels.txt")
            text = f"{image}: {label_file} says {label}, but {remedy}, or correct the list"
            faults.append(Fault(text, image, split))
    return samples


def _labels_file(path: Path) -> dict[str, bool]:
    """Whether each image is defective, by the image's name in lower case.

    The rows hold number, 0 or 1, image, 0, mask or 0, separated by tabs; the first row holds only the class.
    """
    if not path.is_file():
        return {}
    rows = [line.split() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    return {row[2].lower(): row[1] == "1" for row in rows if len(row) >= 3}


def _development(defects: Path, faults: list[Fault]) -> list[Sample]:
    good_images = sorted(required_images(defects.with_name(defects.name.removesuffix("_def"))))
    samples = [good(image, split_of(index)) for index, image in enumerate(good_images)]
    ellipses = _ellipses(defects / "labels.txt")
    for image in required_images(defects):
        mask = ellipses.get(image.stem.lstrip("0"))
        if mask is None:
            text = f"{image}: {defects / 'labels.txt'} holds no ellipse for it; add it or remove the image"
            faults.append(Fault(text, image, "test", "mask"))
        samples.append(defective(image, "defect", mask))
    return samples


def _ellipses(path: Path) -> dict[str, EllipseMask]:
    """The ellipse of each image, by the image's number without leading zeros.

    The rows hold number, two semi-axes in pixels, angle in radians from x towards y, and centre x and y in pixels,
    separated by tabs.
    """
    ellipses = {}
    for line, row in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if row.strip():
            number, *values = row.split()
            try:
                major, minor, angle, x, y = map(float, values)
            except ValueError:
                raise BlemishError(
                    f"{path}, row {line}: should hold an image number and five values of an ellipse; "
                    f"copy the dataset again"
                ) from None
            ellipses[Path(number).stem.lstrip("0")] = EllipseMask(path, (x, y), (major, minor), angle)
    return ellipses


DAGM = Layout(
    "dagm",
    "a class's Train, Test and in each Label/<number>_label.PNG; or Class<n> with Class<n>_def/labels.txt beside it",
    _lacks,
    _samples,
)
