"""DSR's simulator of anomalies: codes of a quantized image are replaced by nearby codes (paper section 3.6).

At every step, the authors sort the distances from every feature of every image to all codes. But Q contains only
codes, so the k-th nearest code is a property of the codebook. We compute a table of neighbours once and look codes up
in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.errors import BlemishError
from blemish.settings import CheckedSettings
from blemish.synthesis.draw import drawn, uniform

_ROWS = 512


@dataclass(frozen=True)
class LatentSettings(CheckedSettings):
    """How codes are replaced by other codes. The defaults are those of the DSR authors' code."""

    sampling: Literal["near", "uniform"] = "near"
    """``uniform`` draws any code: the ablation DSR_random (table 6)."""
    similarity_bound: float = 0.05
    """Lambda_s: this share of the codes, the nearest ones, is never drawn (table 5)."""
    min_reach: float = 0.2
    """The reach n of an image, as a share of all codes, is drawn from U[min_reach, 1] (paper: U[lambda_s, 1])."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("similarity_bound", "min_reach", least=0, most=1)
        if self.similarity_bound >= 1 or self.min_reach < self.similarity_bound:
            raise BlemishError(
                f"settings similarity_bound, min_reach: {self.similarity_bound}, {self.min_reach}; the first "
                f"should be below 1, the second no less than the first"
            )


@torch.no_grad()
def neighbour_table(codes: Tensor) -> Tensor:
    """For each code, all codes sorted by their distance to it.

    Parameters
    ----------
    codes : (N, D) float32, N <= 32768.

    Returns
    -------
    (N, N) int16 on the same device: ``[c, k]`` is the k-th nearest code of code ``c``; ``[c, 0]`` is ``c`` itself, or
    an equal code. 32 MB for 4096 codes.
    """
    chunks = torch.split(codes.float(), _ROWS)  # (_ROWS, D)
    exact = "donot_use_mm_for_euclid_dist"  # with a matrix product, a code may seem nearer to another than to itself
    distances = (torch.cdist(chunk, codes.float(), compute_mode=exact) for chunk in chunks)  # (_ROWS, N)
    return torch.cat([rows.argsort(dim=1, stable=True).to(torch.int16) for rows in distances])


def replace_codes(
    indices: Tensor, mask: Tensor, table: Tensor, generator: Generator, settings: LatentSettings
) -> Tensor:
    """Damage a quantized map inside of a mask.

    For each image a reach n ~ U[min_reach N, N] is drawn. Each masked position gets its k-th nearest code, with
    k ~ U[lambda_s N, n].

    Parameters
    ----------
    indices : (B, h, w) int64, codes of good images; not changed.
    mask : (B, 1, h, w), above 0 where codes are replaced.
    table : (N, N) of ``neighbour_table``.
    generator : CPU generator, the only source of randomness.

    Returns
    -------
    (B, h, w) int64.
    """
    n_codes, batch, shape, device = len(table), len(indices), tuple(indices.shape), indices.device
    share = drawn(lambda g: uniform(0.0, 1.0, shape, g), generator, device)  # (B, h, w)
    if settings.sampling == "uniform":
        replacements = (share * n_codes).long().clamp_(max=n_codes - 1)  # (B, h, w)
    else:
        n_excluded = int(settings.similarity_bound * n_codes)
        reach = drawn(lambda g: uniform(settings.min_reach, 1.0, (batch, 1, 1), g), generator, device)  # (B, 1, 1)
        reach = (reach * n_codes).long() + 1
        reach = reach.clamp_(n_excluded + 1, max(n_excluded + 1, n_codes - 1))  # ranks below the reach are drawn
        rank = (n_excluded + (share * (reach - n_excluded)).long()).minimum(reach - 1)  # (B, h, w)
        replacements = table.view(-1)[indices * n_codes + rank].long()  # (B, h, w)
    return torch.where(mask[:, 0] > 0, replacements, indices)


def grid_mask(mask: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """A mask at the resolution of a map of codes: a cell is set if any of its pixels is set.

    Parameters
    ----------
    mask : (B, 1, H, W) float.
    size_hw : (h, w) that divide H and W.

    Returns
    -------
    (B, 1, h, w) float.
    """
    return F.max_pool2d(mask, (mask.shape[-2] // size_hw[0], mask.shape[-1] // size_hw[1]))
