"""The seven of DRÆM's ten augmentations that only map grey values: gamma, brightness, solarize, posterize,
invert, autocontrast, equalize.

Any combination of them is a single table of 256 entries for each channel of an image. The table is computed on the
host from the histogram of the texture, which is known in advance, and applied once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.uint8]
"""(3, 256), the new value of each grey value of each channel."""
Counts = NDArray[np.float64]
"""(3, 256), the number of pixels of each grey value."""
Draws = NDArray[np.float32]
"""(3,) random numbers from U[0, 1)."""

Values = NDArray[np.floating[Any]]
"""(3, 256), a table before rounding, within 0..255."""

_VALUES = np.arange(256, dtype=np.float32)
_EACH = np.arange(3)
_CHANNELS = 256 * _EACH[:, None]
N_DRAWS = 3


def _gamma(table: Table, counts: Counts, draws: Draws) -> Values:
    exponents = 0.5 + 1.5 * draws[:, None]
    shares: Values = table / np.float32(255.0)
    return np.asarray(np.power(shares, exponents) * np.float32(255.0))


def _brightness(table: Table, counts: Counts, draws: Draws) -> Values:
    gain, bias = 0.8 + 0.4 * float(draws[0]), 60.0 * float(draws[1]) - 30.0
    return np.asarray(np.minimum(np.maximum(table * np.float32(gain) + np.float32(bias), 0.0), 255.0))


def _solarize(table: Table, counts: Counts, draws: Draws) -> Table:
    """With probability 1/2, invert the values above a random threshold."""
    is_above = (table > 32.0 + 96.0 * draws[0]) & (draws[1] < 0.5)
    return np.where(is_above, 255 - table, table)


def _posterize(table: Table, counts: Counts, draws: Draws) -> Table:
    """Keep the upper 1 to 8 bits."""
    n_bits = 1 + int(8 * draws[0])
    return table & np.uint8(256 - 2 ** (8 - n_bits))


def _invert(table: Table, counts: Counts, draws: Draws) -> Table:
    return 255 - table


def _autocontrast(table: Table, counts: Counts, draws: Draws) -> Values:
    """Stretch the values to 0..255, ignoring 0 to 20 % of the pixels at each end."""
    below = _mapped(table, counts).cumsum(1)
    ignored = int(21 * draws[0]) / 100.0 * below[:, -1:]
    low = (below <= ignored).sum(1, keepdims=True)
    high = 256 - (below >= below[:, -1:] - ignored).sum(1, keepdims=True)
    stretched = np.minimum(np.maximum((table - low) * (255.0 / np.maximum(high - low, 1)), 0.0), 255.0)
    return np.where(high > low, stretched, table)


def _equalize(table: Table, counts: Counts, draws: Draws) -> Values:
    """Map the values so that all are about equally frequent: the scaled cumulative histogram (as in Pillow)."""
    current = _mapped(table, counts)  # (3, 256)
    below = current.cumsum(1)
    highest = 255 - (current[:, ::-1] > 0).argmax(1)  # (3,), the highest value that occurs
    step = (below[:, -1] - current[_EACH, highest])[:, None] // 255
    spread = np.minimum((below - current + step // 2) // np.maximum(step, 1), 255)
    return np.asarray(np.where(step > 0, spread, _VALUES).ravel()[table + _CHANNELS])


def _mapped(table: Table, counts: Counts) -> Counts:
    """The counts after applying a table."""
    mapped = np.bincount((table + _CHANNELS).ravel(), counts.ravel(), minlength=768)
    return np.asarray(mapped.reshape(3, 256), np.float64)


MAPPINGS: dict[str, Callable[[Table, Counts, Draws], Table | Values]] = {
    "gamma": _gamma, "brightness": _brightness, "solarize": _solarize, "posterize": _posterize,
    "invert": _invert, "autocontrast": _autocontrast, "equalize": _equalize,
}  # fmt: skip


def compose_table(mappings: Sequence[tuple[str, Draws]], counts: Counts) -> Table:
    """A single table that applies several mappings in turn.

    Parameters
    ----------
    mappings : name in `MAPPINGS` and random numbers (3,) float32 from U[0, 1) of each mapping.
    counts : (3, 256) float64, histogram of the texture before all mappings.

    Returns
    -------
    (3, 256) uint8
    """
    table = np.tile(_VALUES.astype(np.uint8), (3, 1))
    for name, draws in mappings:
        mapped = MAPPINGS[name](table, counts, draws)
        table = np.rint(mapped).astype(np.uint8) if mapped.dtype != np.uint8 else mapped  # type: ignore[assignment]
    return table
