"""DSR's simulator of anomalies: codes of a quantized image, replaced by near ones (paper section 3.6).

The authors sort the distances from every feature of every image to all codes, at every step. But Q holds nothing but
codes, so which code is the k-th nearest is a property of the codebook: one table, made once, and a gather.
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
    """Which codes take the place of others. The defaults are those of DSR's authors' code."""

    sampling: Literal["near", "uniform"] = "near"
    """``uniform`` draws any code: the ablation DSR_random (table 6)."""
    similarity_bound: float = 0.05
    """Lambda_s: this share of the codes, the nearest, is never drawn (table 5)."""
    min_reach: float = 0.2
    """The reach n of an image is drawn from U[min_reach, 1] of all codes. The paper says lambda_s."""

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
    """All codes in the order of their distance from each.

    Parameters
    ----------
    codes : (N, D) float32, N <= 32768.

    Returns
    -------
    (N, N) int16 on the same device: ``[c, k]`` is the k-th nearest code of code ``c``; ``[c, 0]`` is ``c``, or an
    equal one. 32 MB for 4096 codes.
    """
    parts = torch.split(codes.float(), _ROWS)
    exact = "donot_use_mm_for_euclid_dist"  # else a code may be found nearer to another than to itself
    distances = (torch.cdist(part, codes.float(), compute_mode=exact) for part in parts)
    return torch.cat([one.argsort(dim=1, stable=True).to(torch.int16) for one in distances])


def replace_codes(
    indices: Tensor, mask: Tensor, table: Tensor, generator: Generator, settings: LatentSettings
) -> Tensor:
    """Damage a quantized map where a mask says so.

    For each image a reach n ~ U[min_reach N, N] is drawn, and for each masked position the k-th nearest code with
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
    share = drawn(lambda g: uniform(0.0, 1.0, shape, g), generator, device)
    if settings.sampling == "uniform":
        others = (share * n_codes).long().clamp_(max=n_codes - 1)
    else:
        nearest = int(settings.similarity_bound * n_codes)
        reach = drawn(lambda g: uniform(settings.min_reach, 1.0, (batch, 1, 1), g), generator, device)
        reach = (reach * n_codes).long() + 1
        reach = reach.clamp_(nearest + 1, max(nearest + 1, n_codes - 1))  # how many codes, from the nearest on
        rank = (nearest + (share * (reach - nearest)).long()).minimum(reach - 1)
        others = table.view(-1)[indices * n_codes + rank].long()
    return torch.where(mask[:, 0] > 0, others, indices)


def grid_mask(mask: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """A mask at the resolution of a map of codes: what touches a cell fills it.

    Parameters
    ----------
    mask : (B, 1, H, W) float.
    size_hw : (h, w) that divide H and W.

    Returns
    -------
    (B, 1, h, w) float.
    """
    return F.max_pool2d(mask, (mask.shape[-2] // size_hw[0], mask.shape[-1] // size_hw[1]))
