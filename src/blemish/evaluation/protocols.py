"""How maps and masks are brought together before they are compared: named, so that a figure can tell it.

The same detector has other figures at another resolution or under another crop. A protocol's name ends in its
version, which changes when its meaning does; figures of two protocols belong into two columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts import Split
from blemish.data.loading import resize
from blemish.errors import BlemishError


@dataclass(frozen=True)
class Protocol:
    """One way to compare anomaly maps with masks.

    Attributes
    ----------
    name : with its version, such as "256/1".
    resolution : side of the square that maps and masks are resized to, px; or the network's, or each image's own.
    crop_px : side of the square that is cut from the middle afterwards; None keeps all. The image score is that of
        the whole image all the same.
    mask_rule : where a mask shrinks, a pixel is defective if at least half of it was, or if any of it was.
    split : which samples are taken.
    """

    name: str
    resolution: int | Literal["network", "original"]
    crop_px: int | None = None
    mask_rule: Literal["half", "any"] = "half"
    split: Split = "test"

    @property
    def description(self) -> str:
        """The protocol in a sentence, for headers and files."""
        at = {"network": "the network's resolution", "original": "each image's own resolution"}
        where = at.get(str(self.resolution), f"{self.resolution}x{self.resolution}")
        crop = f"{self.crop_px}x{self.crop_px} centre crop" if self.crop_px else "no crop"
        rule = "cut at half" if self.mask_rule == "half" else "defective where any part is"
        return (
            f"{where}, {crop}, {self.split} images; masks resized by area and {rule}, maps bilinear; 8-connected "
            f"regions; AUPRO up to FPR 0.3 (aupro_05: 0.05); AUPIMO over FPR 1e-5 to 1e-4 of good images"
        )

    def of_map(self, anomaly_map: NDArray[Any], original_hw: tuple[int, int]) -> NDArray[Any]:
        """The part of an anomaly map that counts.

        Parameters
        ----------
        anomaly_map : (H, W) float, at the network's size.
        original_hw : height and width of the image it belongs to, px.
        """
        return self._cropped(resize(anomaly_map, self._size_hw(anomaly_map.shape, original_hw)))

    def of_mask(self, mask: NDArray[np.bool_], network_hw: tuple[int, int]) -> NDArray[np.bool_]:
        """The part of a mask that counts, of the size of `of_map`.

        Parameters
        ----------
        mask : (H, W) bool, at the image's own size.
        network_hw : height and width of the anomaly map as the network gives it, px.
        """
        share = resize(mask.astype(np.float32), self._size_hw(network_hw, mask.shape))
        return self._cropped(share >= 0.5 if self.mask_rule == "half" else share > 1e-6)

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
    one.name: one
    for one in (
        Protocol("256/1", 256),  # DRÆM
        Protocol("256-crop224/1", 256, crop_px=224),  # DSR
        Protocol("network/1", "network"),
        Protocol("original/1", "original"),
    )
}
DEFAULT_PROTOCOL = "256/1"


def protocol_named(name: str) -> Protocol:
    """The protocol of a name, or a line that lists them."""
    if name not in PROTOCOLS:
        raise BlemishError(f"unknown protocol {name!r}; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
