"""MVTec LOCO AD, and datasets with its layout, such as AutoVI: several masks for each image, each of one defect.

The masks of `test/<kind>/000.png` lie in the folder `ground_truth/<kind>/000`: `000.png`, `001.png` and so on. The
value of a mask's pixels says which type of defect it shows, and `defects_config.json` says which area of each type
is enough to find it, for the metric AUsPRO. The kinds are `logical_anomalies` and `structural_anomalies`.

Source: P. Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and
Localization", IJCV 2022.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts.mvtec import LOCO_CONFIG, good_images, labelled_images, loco_sign
from blemish.data.layouts.samples import Fault, Layout, Mask, Sample, good, optional_images
from blemish.data.listing import shortened
from blemish.data.mask_files import MaskFiles
from blemish.data.masks import as_mask
from blemish.data.reading import read_values


@dataclass(frozen=True)
class Saturation:
    """Which area of a defect of one type is enough to find it: a share of its own area, or pixels."""

    threshold: float
    is_relative: bool

    def area_px(self, defect_px: int) -> float:
        """The saturation area of a defect: of its own area at most, and rounded down to whole pixels if relative.

        It is one pixel at least, where a share is less than that.
        """
        return max(int(self.threshold * defect_px), 1) if self.is_relative else min(self.threshold, defect_px)


@dataclass(frozen=True, eq=False)
class Saturations:
    """What `defects_config.json` says: by the value of the pixels in masks, the saturation of that type of defect."""

    path: Path
    by_value: Mapping[int, Saturation]


class Defect(NamedTuple):
    """One mask of an image, as it was read."""

    mask: NDArray[np.bool_]
    """(H, W), true on the defect."""
    saturation_px: float | None
    """The area that is enough to find it; None if that is not known."""
    doubt: str = ""
    """One line about a mask of which that is not known, although it is of others."""


@dataclass(frozen=True)
class DefectMasks(Mask):
    """The masks of an image, each of one defect; united they are its `Mask`."""

    saturations: Saturations | None = None
    """None if they are not known of any defect."""

    def defects(self, size_hw: tuple[int, int]) -> list[Defect]:
        """Read each mask once. Raises BlemishError as `read`."""
        return [self._defect(path, size_hw) for path in self.paths]

    def _defect(self, path: Path, size_hw: tuple[int, int]) -> Defect:
        raw = read_values(path)  # (H, W) or (H, W, 3)
        mask = as_mask(raw, path, size_hw, self.values)
        if self.saturations is None:
            return Defect(mask, None)
        values, listed = np.unique(raw[mask]).tolist(), self.saturations.by_value
        if not values:  # if it is the only one, `doubts` says so
            is_one_of_several = len(self.paths) > 1
            return Defect(mask, None, f"{path}: the mask is empty; draw the defect, or remove it" * is_one_of_several)
        if len(values) > 1:
            doubt = f"{path}: holds several values ({shortened([str(value) for value in values])}), which name "
            return Defect(mask, None, f"{doubt}no type of defect, so there is no AUsPRO; save a mask for each defect")
        if values[0] not in listed:
            doubt = f"{path}: its value {values[0]} is not in {self.saturations.path} (there are: "
            doubt += f"{', '.join(map(str, listed))}), so there is no AUsPRO"
            return Defect(mask, None, f"{doubt}; correct the mask, or add its type of defect there")
        return Defect(mask, listed[values[0]].area_px(int(np.count_nonzero(mask))))


def _lacks(root: Path) -> str | None:
    if (root / "train").exists() and not (root / "train" / "good").is_dir():
        return "train/good is missing"
    return None if loco_sign(root) else f"{LOCO_CONFIG} and test/logical_anomalies are missing"


def _samples(root: Path, faults: list[Fault]) -> list[Sample]:
    samples = good_images(root / "train" / "good", "train", faults)
    samples += [good(image, "validation") for image in optional_images(root / "validation" / "good")]
    saturations = _saturations(root / LOCO_CONFIG, faults)

    def masks_of(image: Path, files: MaskFiles, masks: Path, faults: list[Fault]) -> Mask | None:
        if image in files.masks:
            return DefectMasks(files.masks[image], "nonzero", saturations)
        if image in files.contradicting:
            faults.append(Fault(files.faults[image], image, "test"))
            return None
        folder = masks / image.stem
        lack = "holds no masks" if folder.is_dir() else "is missing"
        text = f"{image}: the folder of its masks {folder} {lack}; save one there for each defect: 000.png, 001.png"
        faults.append(Fault(text, image, "test", "mask"))
        return None

    return samples + labelled_images(root / "test", root, faults, masks_of)


def _saturations(path: Path, faults: list[Fault]) -> Saturations | None:
    """Read `defects_config.json`; what is wrong with it is a fault that costs only AUsPRO."""
    remedy = "so there is no AUsPRO; copy it from the dataset again"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not rows:
            raise ValueError("it should be a list of the types of defects")
        by_value: dict[int, Saturation] = {}
        for number, row in enumerate(rows, 1):
            value, saturation = _row(number, row)
            if value in by_value:
                raise ValueError(f"the pixel_value {value} is in it twice")
            by_value[value] = saturation
    except FileNotFoundError:
        faults.append(Fault(f"{path}: is missing, {remedy}", path, "test", "doubt"))
    except OSError as error:
        faults.append(Fault(f"{path}: cannot be read ({error.strerror}), {remedy}", path, "test", "doubt"))
    except ValueError as error:  # JSON and UTF-8 raise subclasses of it
        faults.append(Fault(f"{path}: is not valid ({error}), {remedy}", path, "test", "doubt"))
    else:
        return Saturations(path, by_value)
    return None


def _row(number: int, row: Any) -> tuple[int, Saturation]:
    """The value of a type of defect, and its saturation. Raises ValueError if the row is not valid."""
    entry: dict[str, Any] = row if isinstance(row, dict) else {}
    value: Any = entry.get("pixel_value")
    threshold: Any = entry.get("saturation_threshold")
    is_relative: Any = entry.get("relative_saturation")
    if type(value) is not int or value < 1:
        raise ValueError(f"entry {number} has the pixel_value {value!r}, not an integer above 0")
    if type(is_relative) is not bool:
        raise ValueError(f"entry {number} has relative_saturation {is_relative!r}, not true or false")
    limit = 1.0 if is_relative else sys.float_info.max
    if type(threshold) not in (int, float) or not 0 < threshold <= limit:
        kind = "share in (0, 1]" if is_relative else "number of pixels above 0"
        raise ValueError(f"entry {number} has the saturation_threshold {threshold!r}, not a {kind}")
    return value, Saturation(threshold, is_relative)


MVTEC_LOCO = Layout(
    "mvtec-loco",
    "train/good with test/logical_anomalies, ground_truth/logical_anomalies/<stem>/000.png and defects_config.json",
    _lacks,
    _samples,
)
