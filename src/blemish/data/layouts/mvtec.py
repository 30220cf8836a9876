"""MVTec AD and the datasets with a similar layout: MPDD (the same layout), MVTec AD 2, BTAD.

Sources: P. Bergmann et al., "MVTec AD", CVPR 2019; S. Jezek et al., "Deep learning-based defect detection of metal
parts", ICUMT 2021 (MPDD); L. Heckler-Kram et al., "The MVTec AD 2 dataset", 2025; P. Mishra et al., "VT-ADL",
ISIE 2021 (BTAD).
"""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.samples import (
    Layout,
    Sample,
    Split,
    defective,
    good,
    lacks_folder,
    mask_file,
    optional_images,
    required_images,
    subfolders,
)
from blemish.data.reading import IMAGE_SUFFIXES, list_images


def _mvtec_lacks(root: Path) -> str | None:
    if (root / "test_public").is_dir():
        return "test_public makes it mvtec-ad-2"
    return lacks_folder("train/good")(root)


def _mvtec(root: Path, faults: list[str]) -> list[Sample]:
    return _good(root / "train" / "good", "train") + _test(root / "test", root / "ground_truth", "good", faults)


def _mvtec_ad_2(root: Path, faults: list[str]) -> list[Sample]:
    """Leaves out `test_private` and `test_private_mixed`, which have no labels."""
    samples = _good(root / "train" / "good", "train")
    samples += [good(image, "validation") for image in optional_images(root / "validation" / "good")]
    test = root / "test_public"
    return samples + _test(test, test / "ground_truth", "good", faults)


def _btad(root: Path, faults: list[str]) -> list[Sample]:
    return _good(root / "train" / "ok", "train") + _test(root / "test", root / "ground_truth", "ok", faults)


def _good(folder: Path, split: Split) -> list[Sample]:
    return [good(image, split) for image in required_images(folder)]


def _test(folder: Path, masks: Path, good_name: str, faults: list[str]) -> list[Sample]:
    """The test images of a folder that has a subfolder for good images and for each kind of defect."""
    samples = []
    for kind in subfolders(folder):
        if kind != masks:
            for image in list_images(kind):
                if kind.name == good_name:
                    samples.append(good(image, "test"))
                else:
                    candidates = _mask_names(image, masks / kind.name)
                    samples.append(defective(image, kind.name, mask_file(image, faults, *candidates)))
    return samples


def _mask_names(image: Path, folder: Path) -> list[Path]:
    """Possible paths of a mask: `_mask.png` as in MVTec AD; `.png`; and other suffixes that exist, as in BTAD."""
    usual = [folder / f"{image.stem}_mask.png", folder / f"{image.stem}.png"]
    with_other_suffix = [folder / f"{image.stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES - {".png"})]
    return [*usual, *(path for path in with_other_suffix if path.is_file())]


MVTEC = Layout("mvtec", "train/good with test/<defect> and ground_truth/<defect>", _mvtec_lacks, _mvtec)
MVTEC_AD_2 = Layout(
    "mvtec-ad-2",
    "train/good, validation/good, test_public/good, test_public/bad and test_public/ground_truth/bad",
    lacks_folder("train/good", "test_public"),
    _mvtec_ad_2,
)
BTAD = Layout("btad", "train/ok, test/ok, test/ko and ground_truth/ko", lacks_folder("train/ok"), _btad)
