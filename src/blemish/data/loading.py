"""Many images as one uint8 tensor: decoded and resized once, kept where training wants them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from blemish.data.reading import read_image
from blemish.errors import BlemishError


def resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize (H, W) or (H, W, 3): an axis that shrinks is averaged, so nothing thin is skipped; else bilinear."""
    shrunk_hw = min(image.shape[0], size_hw[0]), min(image.shape[1], size_hw[1])
    for (height, width), how in ((shrunk_hw, cv2.INTER_AREA), (size_hw, cv2.INTER_LINEAR)):
        if image.shape[:2] != (height, width):
            image = np.asarray(cv2.resize(image, (width, height), interpolation=how))
    return image


def to_tensor(images: Sequence[np.ndarray], size_hw: tuple[int, int]) -> Tensor:
    """Resize and stack (H, W, 3) uint8 arrays of any sizes: (N, 3, height, width) uint8."""
    stacked = np.stack([resize(image, size_hw) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


def load_images(paths: Iterable[Path], size_hw: tuple[int, int]) -> Tensor:
    """Read and resize images in parallel: (N, 3, height, width) uint8.

    Raises
    ------
    BlemishError
        Naming every file that could not be read, not only the first.
    """

    def load(path: Path) -> np.ndarray | BlemishError:
        try:
            return resize(read_image(path), size_hw)
        except BlemishError as error:
            return error

    paths = list(paths)
    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(load, paths))
    errors = [str(one) for one in loaded if isinstance(one, BlemishError)]
    if errors:
        raise BlemishError("\n".join([f"{len(errors)} of {len(paths)} images cannot be read:", *errors]))
    return to_tensor([one for one in loaded if isinstance(one, np.ndarray)], size_hw)
