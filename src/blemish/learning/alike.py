"""Do photographs show what a detector has learned? Asked before they set a threshold, or ranges of 8-bit numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.listing import shortened
from blemish.errors import BlemishError, print_notices
from blemish.inspection.likeness import Likeness


def are_alike(
    likeness: Likeness,
    size_hw: tuple[int, int],
    images: Tensor,
    paths: Sequence[Path],
    folder: object,
    whom: str,
    *,
    may_be_others: bool = False,
) -> NDArray[np.bool_]:
    """Whether each image is like those that were learned from, (N,); a line names those that are not.

    How tall and wide the photographs were does not count.

    Parameters
    ----------
    size_hw : height and width of the images that ``likeness`` was measured on, px.
    images, paths : (N, 3, H, W) uint8, and their files.
    folder, whom : what messages call the images, and those that were learned from.

    may_be_others : if most are not, they may still have been taken on purpose, in another light; then all count.

    Raises
    ------
    BlemishError
        If more than half of the images are not, and they may not be others.
    """
    resized = images
    if images.shape[2:] != size_hw:
        resized = F.interpolate(images.float(), size_hw, mode="area").round().byte()
    reasons = [likeness.reasons(image, None) for image in resized.permute(0, 2, 3, 1).contiguous().numpy()]
    unlike = [f"{path.name}: {texts[0]}" for path, texts in zip(paths, reasons, strict=True) if texts]
    said = f"{folder}: {len(unlike)} of {len(images)} photographs are unlike {whom} ({shortened(unlike)})"
    if may_be_others and 2 * len(unlike) > len(images):
        print_notices([f"{said}; all count all the same, so check that they show the same product"])
        return np.ones(len(images), np.bool_)
    if 2 * len(unlike) > len(images):
        raise BlemishError(f"{said}; give good photographs of the same product, taken as those were")
    print_notices([f"{said}; they are left out"] if unlike else [])
    return np.array([not texts for texts in reasons])
