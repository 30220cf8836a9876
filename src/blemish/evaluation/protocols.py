"""Protocols: how maps and masks are resized and cropped before they are compared. Each has a name to cite.

The figures of a detector depend on resolution and crop. The name of a protocol ends in its version, which changes
when its meaning changes; figures of different protocols must not be mixed in one column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts import Split
from blemish.data.loading import resize
from blemish.errors import BlemishError
from blemish.metrics import Region
from blemish.settings import Resizing


@dataclass(frozen=True)
class Protocol:
    """One way to compare anomaly maps with masks.

    Attributes
    ----------
    name : name with version, such as "256/1".
    resolution : side of the square that maps and masks are resized to, px; or "network" for the resolution of the
        network, or "original" for that of each image.
    crop_px : side of the square that is then cut from the centre; None for no crop. The image score is always that
        of the whole image.
    mask_rule : when a mask is resized, a pixel is defective if at least half ("half") or any part ("any") of its area
        was; or, as in the code of DRÆM's and DSR's authors, if all pixels that bilinear interpolation makes it of
        were ("all").
    images : how photographs are resized for the network; None resizes them as the detector does.
    split : split of the samples to evaluate.
    """

    name: str
    resolution: int | Literal["network", "original"]
    crop_px: int | None = None
    mask_rule: Literal["half", "any", "all"] = "half"
    images: Resizing | None = None
    split: Split = "test"

    @property
    def description(self) -> str:
        """Description in one sentence, for headers and files."""
        named = {"network": "the network's resolution", "original": "each image's own resolution"}
        resolution = named.get(str(self.resolution), f"{self.resolution}x{self.resolution}")
        crop = f"{self.crop_px}x{self.crop_px} centre crop" if self.crop_px else "no crop"
        rules = {
            "half": "by area and cut at half",
            "any": "by area and defective where any part is",
            "all": "bilinearly and defective only where all of a pixel is",
        }
        images = "" if self.images is None else f" resized to the network's size ({self.images})"
        return (
            f"{resolution}, {crop}, {self.split} images{images}; masks resized {rules[self.mask_rule]}, maps "
            "bilinearly; 8-connected regions; AUPRO up to FPR 0.3 (aupro_05: 0.05); AUPIMO over FPR 1e-5 to 1e-4 of "
            "good images"
        )

    def of_map(self, anomaly_map: NDArray[Any], original_hw: tuple[int, int]) -> NDArray[Any]:
        """Return the part of an anomaly map to evaluate, resized and cropped.

        Parameters
        ----------
        anomaly_map : (H, W) float, in the size of the network.
        original_hw : height and width of the photograph, px.
        """
        return self._cropped(resize(anomaly_map, self._size_hw(anomaly_map.shape, original_hw)))

    def of_mask(self, mask: NDArray[np.bool_], network_hw: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the part of a mask to evaluate, in the size of the result of `of_map`.

        Parameters
        ----------
        mask : (H, W) bool, in the size of the photograph.
        network_hw : height and width of the network's anomaly map, px.
        """
        size_hw = self._size_hw(network_hw, mask.shape)
        if self.mask_rule == "all":  # in grey levels, as the authors' code does, where 255 is 1.0 and the rest is 0
            return self._cropped(resize(mask.astype(np.uint8) * 255, size_hw, "bilinear") == 255)
        share = resize(mask.astype(np.float32), size_hw)
        return self._cropped(share >= 0.5 if self.mask_rule == "half" else share > 1e-6)

    def of_region(self, region: Region, mask: NDArray[np.bool_], network_hw: tuple[int, int]) -> Region:
        """Return the part of an annotated defect to evaluate: its mask as by `of_mask`, and its saturation area.

        The saturation area stays the same share of the defect's area: of a defect that has 400 pixels in the size of
        the photograph, and 100 here, a saturation area of 60 pixels becomes 15. Where nothing is resized and cropped
        ("original") it stays as it is. A defect may have no pixel left.

        Parameters
        ----------
        region : in the size of the photograph; not empty.
        mask : (H, W) bool, the result of `of_mask` for all defects of the image, of which a part is returned.
        network_hw : as for `of_mask`.
        """
        part = self.of_mask(region.mask, network_hw) & mask
        # In this order, the area is exactly the same where that of the mask is.
        return Region(part, region.saturation_px * np.count_nonzero(part) / np.count_nonzero(region.mask))

    def _size_hw(self, network_hw: tuple[int, ...], original_hw: tuple[int, ...]) -> tuple[int, int]:
        if isinstance(self.resolution, int):
            return self.resolution, self.resolution
        height, width = network_hw if self.resolution == "network" else original_hw
        return height, width

    def _cropped(self, picture: NDArray[Any]) -> NDArray[Any]:
        if self.crop_px is None:
            return picture
        top, left = ((side - self.crop_px) // 2 for side in picture.shape)
        return picture[top : top + self.crop_px, left : left + self.crop_px]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("256/1", 256),
        Protocol("256-crop224/1", 256, crop_px=224),
        Protocol("draem-authors/1", 256, mask_rule="all", images="bilinear"),  # their test_DRAEM.py
        Protocol("dsr-authors/1", 256, crop_px=224, mask_rule="all", images="bilinear"),  # their test_dsr.py
        Protocol("network/1", "network"),
        Protocol("original/1", "original"),
    )
}
DEFAULT_PROTOCOL = "256/1"


def protocol_named(name: str) -> Protocol:
    """Return the protocol with this name; an unknown name raises an error that lists the names."""
    if name not in PROTOCOLS:
        raise BlemishError(f"unknown protocol {name!r}; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
