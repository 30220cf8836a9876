"""Photographs of real defects with their masks, for supervised learning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.layouts import open_dataset
from blemish.data.layouts.samples import EllipseMask, Mask
from blemish.data.loading import resize, to_tensor
from blemish.data.reading import list_images, read_image
from blemish.errors import BlemishError

SUFFIXES = ("", "_mask", "_GT", "_gt", "_label")


def load_defects(
    defects: str | Path, masks: str | Path | None, size_hw: tuple[int, int], bits: int = 16
) -> tuple[Tensor, Tensor]:
    """Read images of defects, and their masks.

    Parameters
    ----------
    defects : folder of images; without ``masks``, a dataset whose training images include defective ones.
    masks : folder with a mask for each image, named as the image, or with ``_mask``, ``_GT`` or ``_label`` appended.
    bits : how many bits of 16-bit values are used; see ``reading.read_image``.

    Returns
    -------
    (K, 3, H, W) uint8 images and (K, 1, H, W) uint8 masks of size ``size_hw``; 1 where the mask touches a pixel.

    Raises
    ------
    BlemishError
        With a line for each image that has no mask, or whose mask has another size or is empty.
    """
    pairs = _from_folders(Path(defects), Path(masks)) if masks is not None else _from_dataset(Path(defects))
    images, masks_small, faults = [], [], []
    for path, mask_files in pairs:
        try:
            image = read_image(path, bits)
            mask = mask_files.read((image.shape[0], image.shape[1]))
            if not mask.any():
                raise BlemishError(f"{path}: its mask is empty; outline the defect in it, or leave the image out")
            if mask.all():
                raise BlemishError(f"{path}: its mask covers all of it; save masks white where the part is defective")
            images.append(resize(image, size_hw))
            masks_small.append(_resize_mask(mask, size_hw))
        except BlemishError as error:
            faults.append(str(error))
    if faults:
        raise BlemishError("\n".join(faults))
    return to_tensor(images, size_hw), torch.from_numpy(np.stack(masks_small)[:, None])


def _resize_mask(mask: NDArray[np.bool_], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a mask to (H, W) uint8: a pixel that the mask touches becomes 1, so that no thin crack is lost."""
    return (resize(mask.astype(np.float32), size_hw) > 1e-6).astype(np.uint8)


def _from_folders(images: Path, masks: Path) -> Sequence[tuple[Path, Mask]]:
    if images.resolve() == masks.resolve():
        raise BlemishError(f"{images}: holds defects and masks; put the masks into a folder of their own")
    masks_by_stem = defaultdict(list)
    for path in list_images(masks):
        masks_by_stem[path.stem].append(path)
    pairs, faults = [], []
    for image in list_images(images):
        matches = [path for suffix in SUFFIXES for path in masks_by_stem[image.stem + suffix]]
        if len(matches) == 1:
            pairs.append((image, Mask((matches[0],))))
        elif matches:
            names = ", ".join(path.name for path in matches)
            faults.append(f"{image}: {len(matches)} masks for it in {masks} ({names}); keep only one of them")
        else:
            faults.append(f"{image}: no mask for it in {masks}; save one as {image.stem}.png there")
    if faults:
        raise BlemishError("\n".join(faults))
    if not pairs:
        raise BlemishError(f"{images}: no images of defects in it; give another folder, or leave out defects")
    return pairs


def _from_dataset(root: Path) -> Sequence[tuple[Path, Mask | EllipseMask]]:
    samples = open_dataset(root).train_defective
    pairs = [(sample.path, sample.mask) for sample in samples if sample.mask is not None]
    if not pairs:
        raise BlemishError(f"{root}: its training images include no defect with a mask; also give defect_masks")
    return pairs
