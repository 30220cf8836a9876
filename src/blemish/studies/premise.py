"""SSAE's footnote 7: do pairs of good images violate the premise of theorem 2, |x_S - y_S| <= |x_rest - y_rest|?

The theorem says that they hardly do if |S| < 2 sigma^2 |S_rest|. The paper finds no violation on the textures of
MVTec AD at 512x512. S is a square at a random place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from blemish.synthesis.modified_patches import allowed_share

SHARES_OF_LIMIT = (0.25, 0.5, 0.75, 1.0)
"""Sizes |S|, as shares of the largest that the theorem allows."""
BEYOND = (0.2, 0.3, 0.4, 0.45, 0.5)
"""Larger sizes |S| / N, of which the theorem says nothing."""


@dataclass(frozen=True)
class Violations:
    """How many pairs of images violate the premise, for squares S of one size.

    Attributes
    ----------
    share : |S| / N.
    is_allowed : whether |S| < 2 sigma^2 |S_rest|.
    n_pairs : pairs of images, times the places of S.
    n_violating : of them.
    """

    share: float
    is_allowed: bool
    n_pairs: int
    n_violating: int

    @property
    def rate(self) -> float:
        """Share of the pairs that violate the premise."""
        return self.n_violating / self.n_pairs

    def row(self) -> dict[str, float | int | bool]:
        """A line of the CSV file."""
        return {
            "share": self.share, "is_allowed": self.is_allowed, "pairs": self.n_pairs, "violating": self.n_violating,
            "rate": self.rate,
        }  # fmt: skip


def violations(images: Tensor, n_places: int, seed: int) -> Iterator[Violations]:
    """Count violations for squares of growing size.

    Parameters
    ----------
    images : (N, 3, H, W) uint8, N >= 2 good images.
    n_places : random places of S for each size.
    """
    n, _, height, width = images.shape
    values = images.float() / 255.0
    limit = float(allowed_share(values.var(unbiased=False), torch.ones(())))
    whole = _squared_distances(values.flatten(1))  # (N, N)
    first, second = torch.triu_indices(n, n, offset=1)  # all pairs
    generator = Generator().manual_seed(seed)
    shares = [(limit * part, True) for part in SHARES_OF_LIMIT]
    shares += [(share, False) for share in BEYOND if share > limit]
    for share, is_allowed in shares:
        side = max(1, int((share * height * width) ** 0.5))  # rounded down: not above the limit
        n_violating = 0
        for _ in range(n_places):
            top = int(torch.randint(height - side + 1, (1,), generator=generator))
            left = int(torch.randint(width - side + 1, (1,), generator=generator))
            inside = _squared_distances(values[:, :, top : top + side, left : left + side].flatten(1))
            outside = whole - inside
            n_violating += int((inside[first, second] > outside[first, second]).sum())
        yield Violations(side**2 / (height * width), is_allowed, len(first) * n_places, n_violating)


def _squared_distances(vectors: Tensor) -> Tensor:
    """Between all pairs of rows: (N, D) float32 to (N, N) float64."""
    squares = vectors.square().sum(1, dtype=torch.float64)  # (N,)
    products = (vectors @ vectors.T).double()  # (N, N)
    return (squares[:, None] + squares[None] - 2.0 * products).clamp_min(0.0)
