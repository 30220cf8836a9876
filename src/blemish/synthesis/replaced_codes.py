"""DSR's simulator of anomalies: codes of a quantized image are replaced by nearby codes (paper section 3.6).

In the paper, a vector of Q is replaced by its k-th nearest code. Q contains only codes, so the k-th nearest code is a
property of the codebook: a table of neighbours is computed once, and codes are looked up in it. In the authors' code
it is the code that is the k-th nearest to the feature F, before it was quantized. For this they sort the distances
from every feature of every image to all codes at every step. We select the k-th smallest distance without sorting,
and on a CPU only where codes are replaced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.devices import kernels_for
from blemish.errors import BlemishError
from blemish.settings import CheckedSettings
from blemish.synthesis.draw import drawn, indices_to_process, is_static, uniform

_ROWS = 512
_VECTORS, _GPU_VECTORS = 4096, 65536
"""Vectors that are ranked at a time, on a CPU and on a GPU: their distances to 4096 codes take 64 MB and 1 GB."""
BISECTIONS = 26
"""How often a GPU counts; a CPU stops when the distance is found."""


@dataclass(frozen=True)
class LatentSettings(CheckedSettings):
    """How codes are replaced by other codes. The defaults are those of the DSR authors' code."""

    sampling: Literal["near", "uniform"] = "near"
    """``uniform`` draws any code: the ablation DSR_random (table 6)."""
    ranking: Literal["codes", "features"] = "codes"
    """Near to what: to the code that is replaced (the paper's text), or to the feature that it stands for (the
    authors' code)."""
    similarity_bound: float = 0.05
    """Lambda_s: this share of the codes, the nearest ones, is never drawn (table 5)."""
    min_reach: float = 0.2
    """The reach n of an image, as a share of all codes, is drawn from U[min_reach, 1] (paper: U[lambda_s, 1]), and
    from U[lambda_s, 1] where lambda_s is larger."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("similarity_bound", "min_reach", least=0, most=1)
        if self.similarity_bound >= 1:
            raise BlemishError(f"setting similarity_bound: {self.similarity_bound} should be below 1")


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

    For each image a reach n ~ U[min_reach N, N] is drawn. Each masked position gets the k-th nearest code of its
    code, with k ~ U[lambda_s N, n].

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
    replacements = _draw(indices, len(table), generator, settings)  # (B, h, w)
    if settings.sampling == "near":
        replacements = table.view(-1)[indices * len(table) + replacements].long()
    return torch.where(mask[:, 0] > 0, replacements, indices)


def replace_features(
    features: Tensor, indices: Tensor, mask: Tensor, codes: Tensor, generator: Generator, settings: LatentSettings
) -> Tensor:
    """``replace_codes`` with the k-th nearest codes of features F (B, D, h, w) float32 instead of those of codes.

    Parameters
    ----------
    codes : (N, D) float32.
    """
    replacements = _draw(indices, len(codes), generator, settings)  # (B, h, w)
    if settings.sampling == "near":
        replaced = indices_to_process((mask[:, 0] > 0).flatten())  # (M,)
        vectors = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]).index_select(0, replaced)  # (M, D)
        ranks = replacements.flatten()  # (B h w,)
        n = _GPU_VECTORS if is_static(features.device) else _VECTORS
        parts = zip(torch.split(vectors, n), torch.split(ranks[replaced], n), strict=True)
        nearest = [nth_nearest_codes(part, codes, rank) for part, rank in parts]
        if nearest:
            ranks = ranks.index_copy(0, replaced, torch.cat(nearest))
        replacements = ranks.view_as(indices)
    return torch.where(mask[:, 0] > 0, replacements, indices)


def _draw(indices: Tensor, n_codes: int, generator: Generator, settings: LatentSettings) -> Tensor:
    """What replaces each of the codes ``indices`` (B, h, w): ranks k, or any codes if sampling is uniform; int64."""
    shape, batch, device = tuple(indices.shape), len(indices), indices.device
    share = drawn(lambda g: uniform(0.0, 1.0, shape, g), generator, device)  # (B, h, w)
    if settings.sampling == "uniform":
        return (share * n_codes).long().clamp_(max=n_codes - 1)
    n_excluded = int(settings.similarity_bound * n_codes)
    least = max(settings.min_reach, settings.similarity_bound)
    reach = drawn(lambda g: uniform(least, 1.0, (batch, 1, 1), g), generator, device)  # (B, 1, 1)
    reach = (reach * n_codes).long() + 1
    reach = reach.clamp_(n_excluded + 1, max(n_excluded + 1, n_codes - 1))  # ranks below the reach are drawn
    return (n_excluded + (share * (reach - n_excluded)).long()).minimum(reach - 1)


@torch.no_grad()
def nth_nearest_codes(vectors: Tensor, codes: Tensor, ranks: Tensor) -> Tensor:
    """For each vector, the code of a given rank among all codes, sorted by their distance to it.

    Parameters
    ----------
    vectors : (M, D) float32.
    codes : (N, D) float32.
    ranks : (M,) int64 in [0, N); 0 is the nearest code.

    Returns
    -------
    (M,) int64 in [0, N).
    """
    with torch.autocast(vectors.device.type, enabled=False):  # bf16 is too coarse to separate neighbours
        # |v - c|^2 / 2 without |v|^2 / 2, which is the same for all codes: |c|^2 / 2 - v.c
        distances = torch.addmm(codes.square().sum(1) / 2, vectors.float(), codes.T, alpha=-1)  # (M, N)
    kernels = kernels_for(distances)
    nth = kernels.nth_of_distances if kernels is not None else nth_of_distances
    index: Tensor = nth(distances, ranks, BISECTIONS)
    return index


def nth_of_distances(distances: Tensor, ranks: Tensor, n_bisections: int) -> Tensor:
    """The index of the distance of a given rank in each row, without sorting.

    It is found by bisection: how many distances are below a limit is counted, and the limit moved, until it lies
    between two of them. After ``n_bisections`` those that cannot be told apart differ by less than 2^-n of their
    range, and the largest of them is taken.

    Parameters
    ----------
    distances : (M, N) float32, finite.
    ranks : (M,) int64 in [0, N); 0 is the smallest.

    Returns
    -------
    (M,) int64 in [0, N).
    """
    low, high = distances.amin(1, keepdim=True), distances.amax(1, keepdim=True)  # (M, 1): of rank 0 and of N - 1
    n_wanted = ranks[:, None] + 1  # (M, 1): distances up to the wanted one
    n_up_to_high = torch.full_like(n_wanted, distances.shape[1])  # (M, 1)
    for _ in range(n_bisections):
        middle = (low + high) / 2
        count = (distances <= middle).sum(1, keepdim=True)  # (M, 1)
        is_enough = count >= n_wanted
        low, high = torch.where(is_enough, low, middle), torch.where(is_enough, middle, high)
        n_up_to_high = torch.where(is_enough, count, n_up_to_high)
        if not is_static(distances.device) and torch.equal(n_up_to_high, n_wanted):
            break
    return distances.where(distances <= high, -math.inf).argmax(1)  # the farthest of those up to the limit


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
