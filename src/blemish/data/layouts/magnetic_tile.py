"""Magnetic tiles: grey photographs of many sizes, five kinds of defects.

Source: Y. Huang, C. Qiu, K. Yuan, "Surface defect saliency of magnetic tile", The Visual Computer 2020.
"""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.samples import (
    Fault,
    Layout,
    Sample,
    defective,
    good,
    lacks_folder,
    mask_file,
    required_images,
    split_of,
    subfolders,
)
from blemish.errors import BlemishError


def _samples(root: Path, faults: list[Fault]) -> list[Sample]:
    """No split is published: all defective images and every eighth good one are test images."""
    # Plain order, not natural order: other tools sort names like this, so the splits agree.
    good_tiles = sorted(_tiles(root / "MT_Free"))
    samples = [good(image, split_of(index)) for index, image in enumerate(good_tiles)]
    for folder in subfolders(root):
        if folder.name.startswith("MT_") and folder.name != "MT_Free":
            for image in _tiles(folder):
                masks = image.parent if image.parent.name == "Imgs" else folder / "masks"
                mask = mask_file(image, "test", faults, masks / f"{image.stem}.png", "white")
                samples.append(defective(image, folder.name.removeprefix("MT_").lower(), mask))
    return samples


def _tiles(folder: Path) -> list[Path]:
    """The photographs in one `MT_*` folder. The published `Imgs` folders also hold the masks, as .png."""
    if (folder / "images").is_dir():
        return required_images(folder / "images")
    if (folder / "Imgs").is_dir():
        return [image for image in required_images(folder / "Imgs") if image.suffix.lower() != ".png"]
    raise BlemishError(f"{folder}: holds neither images/ nor Imgs/; copy the dataset again")


MAGNETIC_TILE = Layout("magnetic-tile", "MT_Free with MT_<defect>", lacks_folder("MT_Free"), _samples)
