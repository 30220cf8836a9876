"""Many images as one uint8 tensor: decoded and resized once, in memory or, if there are too many, in a file."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
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


MEMORY_SHARE = 0.5
"""Of the memory that is free; images that take more of it are kept in a file."""


def load_images(paths: Iterable[Path], size_hw: tuple[int, int]) -> Tensor:
    """Read and resize images in parallel: (N, 3, height, width) uint8.

    Those that take more than half of the free memory lie in a file in the folder of temporary files (``TMPDIR``),
    from which what is looked at is read; it goes with the tensor.

    Raises
    ------
    BlemishError
        Naming every file that could not be read, not only the first; or if there is no room for them.
    """
    paths = list(paths)
    images = _room((len(paths), 3, *size_hw))

    def load(number: int) -> str | None:
        try:
            image = resize(read_image(paths[number]), size_hw)
        except BlemishError as error:
            return str(error)
        images[number] = torch.from_numpy(image).permute(2, 0, 1)
        return None

    with ThreadPoolExecutor() as pool:
        errors = [error for error in pool.map(load, range(len(paths))) if error is not None]
    if errors:
        raise BlemishError("\n".join([f"{len(errors)} of {len(paths)} images cannot be read:", *errors]))
    return images


def _room(shape: tuple[int, ...]) -> Tensor:
    """A uint8 tensor to be filled."""
    n_bytes = math.prod(shape)
    if n_bytes <= MEMORY_SHARE * _free_memory():
        return torch.empty(shape, dtype=torch.uint8)
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < n_bytes:
        raise BlemishError(
            f"{folder}: {n_bytes / 1e9:.1f} GB for {shape[0]} images fit neither into memory nor here; set TMPDIR to "
            f"a folder on a larger disk, or lower image_size_px"
        )
    with tempfile.NamedTemporaryFile(dir=folder) as file:  # once mapped, it needs no name
        if hasattr(os, "posix_fallocate"):  # else a disk that fills up later would end the process without a word
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        return torch.from_file(file.name, shared=True, size=n_bytes, dtype=torch.uint8).view(shape)


def _free_memory() -> float:
    """Bytes that can be had without swapping; without end where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return math.inf
