"""Many images as one uint8 tensor: decoded and resized once, in memory or, if memory is short, in a file."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.reading import read_image
from blemish.errors import BlemishError
from blemish.settings import Resizing


def resize(image: np.ndarray, size_hw: tuple[int, int], resizing: Resizing = "area") -> np.ndarray:
    """Resize (H, W) or (H, W, 3).

    Parameters
    ----------
    resizing : ``area`` averages an axis that shrinks, so thin lines survive; an axis that grows is interpolated.
        ``bilinear`` interpolates both, as the authors of DRÆM and DSR do: it takes every n-th pixel of a large image.
    """
    if resizing == "bilinear":
        return np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_LINEAR))
    shrunk_hw = min(image.shape[0], size_hw[0]), min(image.shape[1], size_hw[1])
    for (height, width), interpolation in ((shrunk_hw, cv2.INTER_AREA), (size_hw, cv2.INTER_LINEAR)):
        if image.shape[:2] != (height, width):
            image = np.asarray(cv2.resize(image, (width, height), interpolation=interpolation))
    return image


def to_tensor(images: Sequence[np.ndarray], size_hw: tuple[int, int]) -> Tensor:
    """Resize and stack (H, W, 3) uint8 arrays of any sizes: (N, 3, height, width) uint8."""
    stacked = np.stack([resize(image, size_hw) for image in images])  # (N, height, width, 3)
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


MEMORY_SHARE = 0.5
"""Share of the free memory that images may take; larger sets are kept in a file."""


def load_images(
    paths: Iterable[Path], size_hw: tuple[int, int], bits: int | None = 16, resizing: Resizing = "area"
) -> Tensor:
    """Read and resize images in parallel: (N, 3, height, width) uint8. See ``load_photographs``."""
    return load_photographs(paths, size_hw, bits, resizing)[0]


def load_photographs(
    paths: Iterable[Path],
    size_hw: tuple[int, int],
    bits: int | None = 16,
    resizing: Resizing = "area",
    overview: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Read and resize images in parallel: (N, 3, height, width) uint8, and the height and width of each file, px.

    How they are resized, ``resize`` explains; or ``overview`` makes (height, width, 3) of a photograph (H, W, 3).

    If they need more than half of the free memory, the tensor is mapped to a file in the folder for temporary files
    (``TMPDIR``), and the parts in use are read from there. Its disk space is released with the tensor. Of 16-bit
    values ``bits`` bits are used (``reading.read_image``).

    Raises
    ------
    BlemishError
        With a line for every file that cannot be read; or if there is no space for the images.
    """
    paths, sizes_hw = [*paths], dict[int, tuple[int, int]]()

    def whole(number: int, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        sizes_hw[number] = photograph.shape[0], photograph.shape[1]
        return (resize(photograph, size_hw, resizing) if overview is None else overview(photograph))[None]

    images = load_pieces(paths, [1] * len(paths), size_hw, whole, bits)
    return images, [sizes_hw[number] for number in range(len(paths))]


def load_pieces(
    paths: Sequence[Path],
    counts: Sequence[int],
    size_hw: tuple[int, int],
    cut: Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]],
    bits: int | None = 16,
) -> Tensor:
    """Read images in parallel, and cut each into pieces: (N, 3, height, width) uint8 of all of them.

    Where they are kept, and what is raised, ``load_photographs`` says.

    Parameters
    ----------
    counts : how many pieces each image gives.
    cut : makes (n, height, width, 3) of the number of an image and of its pixels (H, W, 3).
    """
    pieces = _allocate((sum(counts), 3, *size_hw))  # (N, 3, height, width)
    ends = np.cumsum(counts)

    def load(number: int) -> str | None:
        try:
            photograph = read_image(paths[number], bits)  # (H, W, 3)
        except BlemishError as error:
            return str(error)
        try:
            own = torch.from_numpy(cut(number, photograph)).permute(0, 3, 1, 2)
        except BlemishError as error:  # says what is wrong with it, not where it is
            return f"{paths[number]}: {error}"
        pieces[ends[number] - counts[number] : ends[number]] = own
        return None

    with ThreadPoolExecutor() as pool:
        errors = [error for error in pool.map(load, range(len(paths))) if error is not None]
    if errors:
        raise BlemishError("\n".join([f"{len(errors)} of {len(paths)} images cannot be used:", *errors]))
    return pieces


def _allocate(shape: tuple[int, ...]) -> Tensor:
    """An uninitialized uint8 tensor, in memory or mapped to a temporary file."""
    n_bytes = math.prod(shape)
    if n_bytes <= MEMORY_SHARE * free_memory():
        return torch.empty(shape, dtype=torch.uint8)
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < n_bytes:
        raise BlemishError(
            f"{folder}: {n_bytes / 1e9:.1f} GB for {shape[0]} images fit neither into memory nor on this disk; set "
            f"TMPDIR to a folder on a larger disk, or reduce image_size_px"
        )
    with tempfile.NamedTemporaryFile(dir=folder) as file:  # the mapping stays valid after the name is gone
        if hasattr(os, "posix_fallocate"):  # else a disk that fills up later would kill the process without a message
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        return torch.from_file(file.name, shared=True, size=n_bytes, dtype=torch.uint8).view(shape)


def free_memory() -> float:
    """Bytes available without swapping; infinite where the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return math.inf
