"""How many bits of 16-bit values a camera uses: decided from all images of a set, never from one alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.reading import BITS, has_16_bits, read_values
from blemish.errors import BlemishError

_LOW_BITS = 15  # 12-bit values that were multiplied by 16 leave these at zero
_LEAST_LEFT_ALIGNED = 2**12  # smaller values are nearly black, wherever their bits are

_FEWER = 4  # by so many bits fewer, an image has less than a sixteenth of the brightness


def bits_in_use(paths: Sequence[Path]) -> int | None:
    """Return how many bits the 16-bit images use, as ``bits_of`` decides; None if no image has 16 bits."""
    values = value_bits_of_files(paths)
    return bits_of(values.values()) if values else None


def value_bits_of_files(paths: Sequence[Path]) -> dict[Path, int]:
    """Return ``value_bits`` of each image that has 16 bits.

    Images that cannot be read are left out: whoever loads them reports them.
    """
    with ThreadPoolExecutor() as pool:
        values = dict(zip(paths, pool.map(_value_bits_of_file, paths), strict=True))
    return {path: value for path, value in values.items() if value is not None}


def of_other_bits(value_bits: Mapping[Path, int], bits: int) -> str | None:
    """A line that names the images that use at least 4 bits fewer than ``bits``, and so are nearly black; or None.

    None, too, if there are images between these and those that use all bits: then it is the light that differs.
    """
    bits_by_path = {  # left-aligned values use all bits, however dark they are
        path: bits_of([values]) if values & _LOW_BITS else 16 for path, values in value_bits.items()
    }
    dim = [path for path, own in bits_by_path.items() if own <= bits - _FEWER]
    if not dim or len(dim) == len(bits_by_path) or any(bits - _FEWER < own < bits for own in bits_by_path.values()):
        return None
    largest = 2 ** max(bits_by_path[path] for path in dim) - 1
    files, use = (f"{dim[0]} and {len(dim) - 1} more", "use") if len(dim) > 1 else (f"{dim[0]}", "uses")
    return (
        f"{files}: {use} values up to {largest} only, unlike the other 16-bit images; read as {bits} bits, which all "
        f"are, that is nearly black: save all images with the same bits, or leave out dark ones"
    )


def bits_of(value_bits: Iterable[int]) -> int:
    """Return how many bits images use: the least of 8, 10, 12, 14 and 16 that holds their largest value.

    Values whose lowest 4 bits are always zero are left-aligned, which is 16 bits whatever the largest is; unless all
    are below 4096, where they would be nearly black. So are images that are black all over.

    Parameters
    ----------
    value_bits : of each 16-bit image, the bits that occur in its values (``value_bits``).
    """
    occurring = reduce(or_, value_bits, 0)
    if not occurring or (occurring >= _LEAST_LEFT_ALIGNED and not occurring & _LOW_BITS):
        return 16
    return next(bits for bits in BITS if occurring < 2**bits)


def value_bits(values: NDArray[Any]) -> int | None:
    """Return the bits that occur in an image's values: all uint16 values joined by "or"; None of another dtype."""
    return int(np.bitwise_or.reduce(values, axis=None)) if values.dtype == np.uint16 else None


def _value_bits_of_file(path: Path) -> int | None:
    try:
        return value_bits(read_values(path)) if has_16_bits(path) else None
    except BlemishError:
        return None
