"""Photographs of real defects with their masks, for supervised learning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.layouts import open_dataset
from blemish.data.layouts.samples import EllipseMask, Mask
from blemish.data.listing import list_with_notices
from blemish.data.loading import resize, to_tensor
from blemish.data.mask_files import find_masks
from blemish.data.masks import checked_mask_values
from blemish.data.reading import read_image
from blemish.errors import BlemishError, print_notices
from blemish.settings import Resizing


def load_defects(
    defects: str | Path,
    masks: str | Path | None,
    size_hw: tuple[int, int],
    bits: int = 16,
    mask_values: str = "auto",
    resizing: Resizing = "area",
    n: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Read images of defects, and their masks; prints a line to stderr about each mask that may be wrong.

    Parameters
    ----------
    defects : folder of images; without ``masks``, a dataset whose training images include defective ones.
    masks : folder with a mask for each image, named as ``mask_files`` says.
    bits : how many bits of 16-bit values are used; see ``reading.read_image``.
    mask_values : which pixels of the masks are defective; see ``masks.checked_mask_values``.
    resizing : of the images; see ``loading.resize``.
    n : read only so many, evenly spaced; None reads all.

    Returns
    -------
    (K, 3, H, W) uint8 images and (K, 1, H, W) uint8 masks of size ``size_hw``; 1 where the mask touches a pixel.

    Raises
    ------
    BlemishError
        With a line for each image that has no mask, or whose mask has another size, is empty or cannot be read; or if
        there are fewer than ``n``.
    """
    values, doubts = checked_mask_values(mask_values), list[str]()
    pairs: Sequence[tuple[Path, Mask | EllipseMask]]
    if masks is not None:
        pairs = _from_folders(Path(defects), Path(masks), values, doubts)
    else:
        pairs = _from_dataset(Path(defects), values, doubts)
    if n is not None:
        if n > len(pairs):
            raise BlemishError(
                f"{defects}: {len(pairs)} defects with masks, not {n} as n_defects says; ask for fewer"
            )
        pairs = [pairs[number * len(pairs) // n] for number in range(n)]
    images, masks_small, faults = [], [], []
    for path, mask_files in pairs:
        try:
            image = read_image(path, bits)
            mask = mask_files.read((image.shape[0], image.shape[1]))
            if not mask.any():
                raise BlemishError(f"{path}: its mask is empty; outline the defect in it, or leave the image out")
            if mask.all():
                raise BlemishError(f"{path}: its mask covers all of it; save masks white where the part is defective")
            doubts += mask_files.doubts(path, mask)
            images.append(resize(image, size_hw, resizing))
            masks_small.append(_resize_mask(mask, size_hw))
        except BlemishError as error:
            faults.append(str(error))
    if faults:
        raise BlemishError("\n".join(faults))
    print_notices(doubts)
    return to_tensor(images, size_hw), torch.from_numpy(np.stack(masks_small)[:, None])


def _resize_mask(mask: NDArray[np.bool_], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a mask to (H, W) uint8: a pixel that the mask touches becomes 1, so that no thin crack is lost."""
    return (resize(mask.astype(np.float32), size_hw) > 1e-6).astype(np.uint8)


def _from_folders(images: Path, masks: Path, values: str, doubts: list[str]) -> Sequence[tuple[Path, Mask]]:
    if images.resolve() == masks.resolve():
        raise BlemishError(f"{images}: holds defects and masks; put the masks into a folder of their own")
    files = find_masks(list_with_notices(images), images, masks)
    if masks.is_dir():
        list_with_notices(masks)
    if files.faults:
        raise BlemishError("\n".join(files.faults.values()))
    if not files.masks:
        raise BlemishError(f"{images}: no images of defects in it; give another folder, or leave out defects")
    doubts += [f"{path}: a mask of no image in {images}; rename or remove it" for path in files.unused]
    return [(image, Mask(paths, values)) for image, paths in files.masks.items()]


def _from_dataset(root: Path, values: str, doubts: list[str]) -> Sequence[tuple[Path, Mask | EllipseMask]]:
    samples = open_dataset(root, only="train", mask_values=values).train_defective
    pairs = [(sample.path, sample.mask) for sample in samples if sample.mask is not None]
    if not pairs:
        raise BlemishError(f"{root}: its training images include no defect with a mask; also give defect_masks")
    doubts += [f"{sample.path}: not learned from, as it has no mask" for sample in samples if sample.mask is None]
    return pairs
