"""The split of the good images into training, validation and calibration images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.bits import bits_of, of_other_bits, value_bits_of_files
from blemish.data.duplicates import Fingerprint
from blemish.data.layouts import Dataset, open_dataset
from blemish.data.loading import load_photographs, load_pieces
from blemish.data.looks import Looks
from blemish.errors import BlemishError, print_notices
from blemish.files import digest_of_file
from blemish.inspection.framing import Framing
from blemish.inspection.likeness import Likeness
from blemish.learning.alike import are_alike
from blemish.learning.copies import Apart, from_calibration, to_divide
from blemish.thresholds import MIN_HELD_OUT, MIN_IMAGES, n_held_out

SEEN_PX = 3.0
"""Diameter of a spot that is usually found, px of the network's image.

Of spots that are 80 grey levels darker or lighter, the demo's detector finds 15 of 21 that are 3 px wide, 10 that are
2 px wide, and none of 1 px; of lines of 1 px, all.
"""

MOST_TILES_BYTES = 2_000_000_000
"""Training sees about ten thousand tiles; more than these need not be kept."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class SplitImages:
    """Good images, (N, 3, H, W) uint8 each."""

    train: Tensor
    validation: Tensor
    """For choices during training; empty (N = 0) for a method without choices."""
    calibration: Tensor
    bits: int | None
    """How many bits of 16-bit values are used; None if no image has 16 bits, and none were asked for."""
    sizes_hw: list[tuple[int, int]]
    """Height and width of the photographs of all three, in this order, before they were resized, px."""
    copies: str = ""
    """What the user was told about copies of one photograph."""
    doubt: str = ""
    """Why the rate of false rejects cannot be promised; see ``thresholds.Threshold``."""
    n_good: int = 0
    """How many good images the data have, held-out ones included: the number that an epoch is made of."""
    looks: Looks | None = None
    """Of training and validation images; see ``data.looks``."""
    paths: tuple[Path, ...] = ()
    """Files of all three, in this order."""

    @property
    def seen(self) -> list[str]:
        """Digests of the files of training and validation images, sorted."""
        return sorted(digests_of_files(self.paths[: len(self.train) + len(self.validation)]))

    @property
    def sha256(self) -> str:
        """The digest of all three, by which a detector's provenance names its data."""
        return digest_of(self.train, self.validation, self.calibration)

    def smallest_blemish_px(self, framing: Framing) -> float:
        """Diameter of the smallest spot that is usually found, px of the median photograph."""
        shrunk = [framing.shrinking(size_hw) for size_hw in self.sizes_hw]
        return round(SEEN_PX * max(1.0, float(np.median(shrunk))), 1)

    def likeness(self) -> Likeness:
        """What the good photographs are like; see ``inspection.likeness``."""
        parts = (self.train, self.validation, self.calibration)
        arrays = [array for images in parts for array in images.permute(0, 2, 3, 1).numpy()]
        return Likeness.of(arrays, self.sizes_hw)


def split_images(
    data: str | Path,
    calibration: str | Path | None,  # "none" holds out nothing
    layout: str,
    framing: Framing,
    seed: int,
    validation_share: float = 0.0,
    bits: int | Literal["auto"] | None = "auto",
    *,
    is_quiet: bool = False,
) -> SplitImages:
    """Read the good training images; hold out calibration images, or read them from the folder ``calibration``.

    ``calibration`` = "none" holds out nothing and gives no calibration images.

    No photograph is both trained on and calibrated with, also if it was saved twice (``learning/copies.py``); or else
    there is a ``doubt``. The share ``validation_share`` of the good images (at least 2 images if it is above 0) is
    also held out. How many ``bits`` of 16-bit values are used is decided from all of them, unless it is given.
    ``is_quiet`` prints nothing about data that were told of before.
    """
    dataset = open_dataset(data, layout, only="train")
    print_notices([] if is_quiet else notices_of(dataset))
    paths = [sample.path for sample in dataset.train]
    if len(paths) < MIN_IMAGES:
        raise BlemishError(
            f"{data}: {len(paths)} good training image{'s' * (len(paths) != 1)}; at least {MIN_IMAGES} are needed, "
            f"50 to 500 are better"
        )
    held_out = _held_out_in(calibration)
    parts = _parts([[path] for path in paths], held_out, seed, validation_share)
    all_paths = [path for part in parts for path in part]
    used_bits = _bits(all_paths, held_out or ()) if bits == "auto" else bits
    loaded, sizes_hw = load_overviews(all_paths, framing, used_bits)
    fingerprints = fingerprints_of(all_paths, loaded)
    if calibration is None or held_out is None:
        apart = to_divide(data, paths, fingerprints)
    elif calibration == "none":
        apart = Apart([[path] for path in paths], [])
    else:
        apart = from_calibration(data, paths, calibration, held_out, fingerprints)
    if apart.notice:  # rare, so that reading once more does not matter
        print_notices([] if is_quiet else [apart.notice])
        parts = _parts(apart.groups, apart.calibration, seed, validation_share)
        all_paths = [path for part in parts for path in part]
        loaded, sizes_hw = load_overviews(all_paths, framing, used_bits)
    train, validation, calibrate = torch.split(loaded, [len(part) for part in parts])
    # Views: the images may be in a memory-mapped file.
    n_seen = len(train) + len(validation)
    n_good = len(paths) if calibration is None else n_seen
    looks = Looks.of([fingerprints[path] for path in all_paths[:n_seen]])
    images = SplitImages(
        train, validation, calibrate, used_bits, sizes_hw, apart.notice, apart.doubt, n_good, looks, tuple(all_paths)
    )
    return images if calibration in (None, "none") else _without_strays(images, calibration)


def load_overviews(paths: Sequence[Path], framing: Framing, bits: int | None) -> tuple[Tensor, list[tuple[int, int]]]:
    """Overviews (N, 3, h, w) uint8 of photographs, and the height and width of each photograph, px."""
    return load_photographs(paths, framing.tile_hw, bits or 16, overview=framing.overview)


def _held_out_in(calibration: str | Path | None) -> list[Path] | None:
    """The photographs of a folder to calibrate on; None if some good images are to be held out."""
    if calibration is None or calibration == "none":
        return None if calibration is None else []
    dataset = open_dataset(calibration, only="train")
    print_notices(notices_of(dataset))
    paths = [sample.path for sample in dataset.train]
    _check_number(calibration, len(paths))
    return paths


def _check_number(calibration: object, n: int) -> None:
    if n < MIN_HELD_OUT:
        raise BlemishError(f"{calibration}: {n} good images; at least {MIN_HELD_OUT} are needed to calibrate")


def _without_strays(images: SplitImages, calibration: object) -> SplitImages:
    """Leave out calibration images that show something else than the training images; see ``are_alike``."""
    n_seen, size_hw = len(images.train) + len(images.validation), (images.train.shape[2], images.train.shape[3])
    likeness, paths = replace(images, calibration=images.train[:0]).likeness(), images.paths[n_seen:]
    whom = "the training images"
    kept = are_alike(likeness, size_hw, images.calibration, paths, calibration, whom, may_be_others=True)
    if kept.all():
        return images
    _check_number(calibration, int(kept.sum()))
    return replace(
        images,
        calibration=images.calibration[torch.from_numpy(kept)],
        sizes_hw=[*images.sizes_hw[:n_seen], *compress(images.sizes_hw[n_seen:], kept)],
        paths=(*images.paths[:n_seen], *compress(paths, kept)),
    )


def tiles_of(images: SplitImages, framing: Framing) -> tuple[Tensor, Tensor]:
    """Tiles (N, 3, h, w) uint8 of the training and of the validation photographs; see ``MOST_TILES_BYTES``."""
    n_train, n_seen = len(images.train), len(images.train) + len(images.validation)
    most = MOST_TILES_BYTES / (3 * math.prod(framing.tile_hw))
    sizes_hw, bits = images.sizes_hw[:n_seen], images.bits or 16
    tiles, counts = load_tiles(images.paths[:n_seen], sizes_hw, framing, most, bits)
    n_train_tiles = sum(counts[:n_train])
    return tiles[:n_train_tiles], tiles[n_train_tiles:]


def load_tiles(
    paths: Sequence[Path], sizes_hw: Sequence[tuple[int, int]], framing: Framing, most: float, bits: int | None = 16
) -> tuple[Tensor, list[int]]:
    """Tiles (N, 3, h, w) uint8 of photographs of these sizes, and how many are of each photograph.

    If there are more than ``most``, every n-th tile is taken, another one of each photograph in turn, so that every
    place is seen.
    """
    counts = [framing.n_tiles(size_hw) for size_hw in sizes_hw]
    step = max(1, math.ceil(sum(counts) / most))
    taken = [range(-number % step, count, step) for number, count in enumerate(counts)]

    def cut(number: int, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        tiles = framing.cut(photograph)
        chosen = [tiles[place] for place in taken[number]]
        return np.array(chosen, np.uint8).reshape(-1, *framing.tile_hw, 3)  # none of a photograph of few tiles

    lengths = [*map(len, taken)]
    return load_pieces(paths, lengths, framing.tile_hw, cut, bits), lengths


def _bits(paths: Sequence[Path], calibration: Sequence[Path]) -> int | None:
    """How many bits the 16-bit images use; prints a line if some use far fewer, or the calibration images others."""
    values = value_bits_of_files(paths)
    if not values:
        return None
    bits = bits_of(values.values())
    line = of_other_bits(values, bits)
    theirs = [values[path] for path in dict.fromkeys(calibration) if path in values]
    ours = [values[path] for path in values.keys() - set(calibration)]
    if line is None and ours and theirs and bits_of(ours) != bits_of(theirs):
        line = (
            f"{calibration[0]}: the calibration images use {bits_of(theirs)} bits of 16, but the training images "
            f"{bits_of(ours)}; all are read as {bits}, which makes some darker than others: save all in the same way"
        )
    print_notices([line] if line else [])
    return bits


def notices_of(dataset: Dataset) -> list[str]:
    return [fault.text for fault in dataset.faults if fault.is_notice and fault.split in ("train", None)]


def _parts(
    groups: Sequence[Sequence[Path]], held_out: Sequence[Path] | None, seed: int, validation_share: float
) -> tuple[list[Path], list[Path], list[Path]]:
    """Divide groups of files of one photograph each into training, validation and calibration images."""
    if held_out is None:
        order = shuffled(groups, seed)
        n_calibration = n_held_out(len(groups))
        held_out = [group[0] for group in order[:n_calibration]]
        good = order[n_calibration:]
    else:
        good = [*groups]
    if validation_share:
        good = shuffled(good, seed + 1)
    n_validation = max(2, round(validation_share * len(groups))) if validation_share else 0
    train = [path for group in good[n_validation:] for path in group]
    return train, [group[0] for group in good[:n_validation]], [*held_out]


def digests_of_files(paths: Sequence[Path]) -> list[str]:
    """``files.digest_of_file`` of each file."""
    with ThreadPoolExecutor() as pool:
        return [*pool.map(digest_of_file, paths)]


def fingerprints_of(paths: Sequence[Path], images: Tensor) -> dict[Path, Fingerprint]:
    """Fingerprints of images (N, 3, H, W) uint8, by their files."""
    with ThreadPoolExecutor() as pool:
        fingerprints = pool.map(lambda image: Fingerprint.of(image.permute(1, 2, 0).numpy()), images)
        return dict(zip(paths, fingerprints, strict=True))


def shuffled(items: Sequence[Item], seed: int) -> list[Item]:
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    return [items[number] for number in order.tolist()]


def digest_of(*parts: Any) -> str:
    """The SHA-256 digest of tensors and texts."""
    digest = hashlib.sha256()
    for part in parts:
        is_tensor = isinstance(part, Tensor)
        digest.update(
            part.cpu().contiguous().view(-1).numpy() if is_tensor else str(part).encode()
        )  # no copy: it may be large
    return digest.hexdigest()
