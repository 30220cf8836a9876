"""AITEX fabric image database: strips of seven fabrics, 4096 x 256 px.

Source: J. Silvestre-Blanes et al., "A public fabric database for defect detection methods and results", Autex
Research Journal 2019. The published data have irregularities: two images have two masks each, one has none
(0100_025_08), one mask is black (0106_010_03), and one strip is 3796 px long (0094_027_05).
"""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.samples import (
    Fault,
    Layout,
    Mask,
    Sample,
    defective,
    good,
    lacks_folder,
    required_images,
    split_of,
)
from blemish.data.listing import list_images
from blemish.errors import BlemishError

_DEFECTS = {
    "002": "broken end", "006": "broken yarn", "010": "broken pick", "016": "weft curling", "019": "fuzzyball",
    "022": "cut selvage", "023": "crease", "025": "warp ball", "027": "knots", "029": "contamination", "030": "nep",
    "036": "weft crack",
}  # fmt: skip


def _samples(root: Path, faults: list[Fault]) -> list[Sample]:
    """No split is published: all defective images and every eighth good one are test images."""
    good_images = sorted(list_images(root / "NODefect_images", recursive=True))  # one folder per fabric
    if not good_images:
        raise BlemishError(f"{root / 'NODefect_images'}: holds no images, in it or below; unpack the dataset again")
    samples = [good(image, split_of(index)) for index, image in enumerate(good_images)]
    for image in required_images(root / "Defect_images"):
        _, code, *_ = [*image.stem.split("_"), ""]
        samples.append(defective(image, _DEFECTS.get(code, code or "defect"), _mask(image, root / "Mask_images")))
    return samples


def _mask(image: Path, folder: Path) -> Mask | None:
    """All masks of an image, united. A missing mask is not a fault, because one is missing in the published data."""
    paths = tuple(path for n in ("", "1", "2") if (path := folder / f"{image.stem}_mask{n}.png").is_file())
    return Mask(paths, "white") if paths else None


AITEX = Layout(
    "aitex",
    "NODefect_images/<fabric>, Defect_images and Mask_images",
    lacks_folder("NODefect_images", "Defect_images", "Mask_images"),
    _samples,
)
