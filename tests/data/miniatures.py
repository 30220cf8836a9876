"""Published datasets in miniature: their folders, names and irregularities, with tiny images, all different."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE_HW = (24, 16)


def image(path: Path, size_hw: tuple[int, int] = SIZE_HW, seed: str | None = None) -> Path:
    """A grey image of noise that depends on the path (or the seed) alone."""
    digest = hashlib.sha256((seed or str(path)).encode()).digest()
    pixels = np.random.default_rng(list(digest)).integers(0, 256, size_hw, dtype=np.uint8)
    return save(path, pixels)


def mask(path: Path, value: int = 255, size_hw: tuple[int, int] = SIZE_HW, left: int = 4) -> Path:
    """A mask with a 4x4 square of the value, its upper corner at row 4."""
    pixels = np.zeros(size_hw, dtype=np.uint8)
    pixels[4:8, left : left + 4] = value
    return save(path, pixels)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def mvtec(root: Path) -> Path:
    for number in range(12):
        image(root / f"train/good/{number:03d}.png")
    for number in range(3):
        image(root / f"test/good/{number:03d}.png")
        image(root / f"test/scratch/{number:03d}.png")
        mask(root / f"ground_truth/scratch/{number:03d}_mask.png")
    (root / "license.txt").write_text("CC BY-NC-SA 4.0")
    return root


def mpdd(root: Path) -> Path:
    """A category of MPDD: MVTec's layout with several kinds of defects."""
    mvtec(root)
    image(root / "test/parts_mismatch/000.png")
    mask(root / "ground_truth/parts_mismatch/000_mask.png")
    return root


def mvtec_ad_2(root: Path) -> Path:
    for number in range(12):
        image(root / f"train/good/{number:03d}_regular.png")
    for number in range(2):
        image(root / f"validation/good/{number:03d}_regular.png")
        image(root / f"test_public/good/{number:03d}_regular.png")
        image(root / f"test_public/bad/{number:03d}_overexposed.png")
        mask(root / f"test_public/ground_truth/bad/{number:03d}_overexposed_mask.png")
        image(root / f"test_private/{number:03d}_regular.png")
        image(root / f"test_private_mixed/{number:03d}_mixed.png")
    return root


def mvtec_loco(root: Path) -> Path:
    """A category of MVTec LOCO AD: a folder of masks for each image, one for each defect; two of them overlap."""
    for number in range(12):
        image(root / f"train/good/{number:03d}.png")
    for number in range(2):
        image(root / f"validation/good/{number:03d}.png")
        image(root / f"test/good/{number:03d}.png")
        image(root / f"test/logical_anomalies/{number:03d}.png")
        image(root / f"test/structural_anomalies/{number:03d}.png")
        mask(root / f"ground_truth/logical_anomalies/{number:03d}/000.png", value=255)
        mask(root / f"ground_truth/structural_anomalies/{number:03d}/000.png", value=249)
    mask(root / "ground_truth/logical_anomalies/001/001.png", value=254, left=6)
    keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    rows = (("missing_part", 255, 10, False), ("extra_part", 254, 100, False), ("scratch", 249, 0.3, True))
    (root / "defects_config.json").write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    (root / "license.txt").write_text("CC BY-NC-SA 4.0")
    return root


def btad(root: Path) -> Path:
    """A category of BTAD: .bmp images with .png masks, as in 01, and one .bmp mask, as in 03."""
    for number in range(12):
        image(root / f"train/ok/{number:04d}.bmp")
    for number in range(2):
        image(root / f"test/ok/{number:04d}.bmp")
        image(root / f"test/ko/{number:04d}.bmp")
    mask(root / "ground_truth/ko/0000.png")
    mask(root / "ground_truth/ko/0001.bmp")
    return root


def visa(root: Path) -> Path:
    """VisA with the objects candle and pcb1; returns candle's folder. Masks hold class numbers."""
    rows = ["object,split,label,image,mask"]
    for name, suffix in (("candle", "JPG"), ("pcb1", "JPG")):
        kinds = ["image,label,mask"]
        for number in range(15):
            path = f"{name}/Data/Images/Normal/{number:04d}.{suffix}"
            image(root / path)
            rows.append(f"{name},{'test' if number % 5 == 0 else 'train'},normal,{path},")
            kinds.append(f"{path},normal,")
        for number, kind in enumerate(("melt", '"melt,scratch"', "chunk of wax missing")):
            path = f"{name}/Data/Images/Anomaly/{number:03d}.{suffix}"
            mask_path = f"{name}/Data/Masks/Anomaly/{number:03d}.png"
            image(root / path)
            mask(root / mask_path, value=number + 1)
            rows.append(f"{name},test,anomaly,{path},{mask_path}")
            kinds.append(f"{path},{kind},{mask_path}")
        (root / name / "image_anno.csv").write_text("\n".join(kinds) + "\n")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    (root / "split_csv/2cls_highshot.csv").write_text(rows[0] + "\n")
    return root / "candle"


def ksdd2(root: Path) -> Path:
    """Every image has a mask, black for good images; one mask is dark; with the archive's two stray files."""
    for split, first, n_good, n_defective in (("train", 10000, 12, 3), ("test", 20000, 4, 2)):
        for number in range(first, first + n_good + n_defective):
            image(root / split / f"{number}.png")
            value = 0 if number < first + n_good else 255
            mask(root / split / f"{number}_GT.png", value=value)
    mask(root / "test/20004_GT.png", value=1)
    image(root / "train/10001 (copy).png", seed=str(root / "train/10001.png"))
    mask(root / "train/10001_GT (copy).png", value=0)
    return root


def ksdd(root: Path) -> Path:
    """Nine items of three photographs; two photographs are defective, one of them in item 8."""
    for item in range(1, 10):
        for part in range(3):
            image(root / f"kos{item:02d}/Part{part}.jpg")
            is_defective = (item, part) in ((2, 1), (8, 0))
            mask(root / f"kos{item:02d}/Part{part}_label.bmp", value=255 if is_defective else 0)
    return root


def dagm(root: Path) -> Path:
    """A class of the competition's data: Labels.txt begins with a byte-order mark and the class's number."""
    for split, first in (("Train", 1), ("Test", 576)):
        rows = ["1"]
        for number in range(first, first + 14):
            is_defective = number >= first + 12
            image(root / split / f"{number:04d}.PNG")
            label = f"{number:04d}_label.PNG" if is_defective else "0"
            rows.append(f"{number}\t{int(is_defective)}\t{number:04d}.PNG\t0\t{label}")
            if is_defective:
                mask(root / split / "Label" / label)
        (root / split / "Label/Labels.txt").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return root


def dagm_development(root: Path) -> Path:
    """A class of the development data: the folders Class1 and Class1_def; returns Class1."""
    for number in range(1, 17):
        image(root / f"Class1/{number}.png")
    for number in range(1, 4):
        image(root / f"Class1_def/{number}.png")
    rows = [
        "1\t 6.1\t 2.1\t 1.570796\t 8.0\t 12.0",
        "2\t 6.1\t 2.1\t 0.0\t 8.0\t 12.0",
        "3\t 3\t 3\t 0.3\t 15\t 23",
        "",
    ]
    (root / "Class1_def/labels.txt").write_text("\r\n".join(rows))
    return root / "Class1"


def aitex(root: Path) -> Path:
    """Fabrics in folders of their own, an image with two masks, and one with none."""
    for number in range(16):
        fabric = ("2306881-210020u", "2311694-1930c7u")[number % 2]
        image(root / f"NODefect_images/{fabric}/{number:04d}_000_0{number % 2}.png")
    for stem in ("0001_002_00", "0044_019_04", "0100_025_08"):
        image(root / f"Defect_images/{stem}.png")
    mask(root / "Mask_images/0001_002_00_mask.png")
    mask(root / "Mask_images/0044_019_04_mask1.png", left=0)
    mask(root / "Mask_images/0044_019_04_mask2.png", left=10)
    return root


def magnetic_tile(root: Path) -> Path:
    """As published: masks as .png beside the photographs, and a folder of papers."""
    for number in range(16):
        image(root / f"MT_Free/Imgs/exp1_num_{number}.jpg")
        mask(root / f"MT_Free/Imgs/exp1_num_{number}.png", value=0)
    for number in range(2):
        image(root / f"MT_Blowhole/Imgs/exp1_num_{number}.jpg")
        mask(root / f"MT_Blowhole/Imgs/exp1_num_{number}.png")
    (root / "papers").mkdir()
    return root


def folder(root: Path) -> Path:
    for number in range(12):
        image(root / f"{number}.png")
    return root


def manifest(root: Path) -> Path:
    rows = ["path,label,mask,split"]
    for number in range(14):
        image(root / f"{number}.png")
        rows.append(f"{number}.png,good,,{'train' if number < 12 else 'test'}")
    image(root / "bad.png")
    mask(root / "m/bad.png")
    rows.append("bad.png,scratch,m/bad.png,test")
    (root / "parts.csv").write_text("\n".join(rows) + "\n")
    return root / "parts.csv"


MINIATURES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mvtec": (mvtec, "mvtec"),
    "mpdd": (mpdd, "mvtec"),
    "mvtec-ad-2": (mvtec_ad_2, "mvtec-ad-2"),
    "mvtec-loco": (mvtec_loco, "mvtec-loco"),
    "btad": (btad, "btad"),
    "visa": (visa, "visa"),
    "ksdd": (ksdd, "ksdd"),
    "ksdd2": (ksdd2, "ksdd2"),
    "dagm": (dagm, "dagm"),
    "dagm-development": (dagm_development, "dagm"),
    "aitex": (aitex, "aitex"),
    "magnetic-tile": (magnetic_tile, "magnetic-tile"),
    "folder": (folder, "folder"),
    "csv": (manifest, "csv"),
}
"""By name: the function that makes it and returns the path to open, and its layout."""
