"""The scale of each part of a joined detector, and the parts' weights: from good images alone.

The weights are the exponents of the tails of good images' scores, Fisher's way to join p-values, and parts that err
at the same places share a vote. Simulated damage does not weigh the parts: it ranks settings of one method, but not
methods, as it is nearer to what one of them has learned. It only decides whether each place gets a scale of its own,
by how well the joined maps find it in good images other than those that the scale was measured on. It is of kinds
that no method trains on (``unknown_damage.py``). Maps are compared by their average precision, since outlines and
scores come from the top of a map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import BlemishError
from blemish.learning.unknown_damage import damaged_copies
from blemish.methods.base import Method
from blemish.methods.combined import CELLS, Combined, CombinedSettings, Scale, joined, scaled, top_of
from blemish.metrics import auroc, average_precision
from blemish.runtimes.torch import TorchRuntime, device_of

BATCH = 8
FEW = 0.99
"""Quantile of good values that ``spread`` reaches from ``centre``: few come beyond it."""
LEAST_EXCESS = 0.25
"""Least length of a part's tail, as a share of the parts' mean: one without any tail shall not decide alone."""
SHRINKAGE = 0.1
"""Added to the diagonal of the parts' correlations: two parts that are nearly equal shall not be set against each
other."""
LEAST_SHARE = 0.25
"""Least spread of a place, as a share of that of the whole image: where good images show nothing, little is seen by
chance."""
LEAST = 1e-2
"""Least spread, as a share of the largest value of good images: less would raise the last digits of a probability."""
MIN_PLACE = 20
"""Fewest good images from which each place gets a scale of its own."""
MOST_DAMAGED = 24
"""Good images that are damaged, at most; by each kind."""
MOST_PIXELS = 500_000
"""The average precision of more pixels is computed on evenly spaced ones."""
TIE = 3
"""Figures that are equal in so many decimals are equal: then the first choice counts."""


class Damaged(NamedTuple):
    """Maps (n, P, H, W) of n damaged images, of P parts or joined to one, with masks (n, 1, H, W) bool."""

    maps: Tensor
    masks: Tensor


class ScaleValues(NamedTuple):
    """Buffers of ``Combined`` by their names."""

    centre: Tensor
    spread: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Choice:
    """The scale, and how well the joined maps find simulated damage, in [0, 1]."""

    scale: Scale
    pixel_ap: dict[Scale, float]
    """By scale."""
    image_auroc: float
    """With the chosen scale."""


def fitted(
    methods: Mapping[str, Method], good: Tensor, seed: int, sources: Sequence[str] = ()
) -> tuple[Choice, Combined]:
    """Join trained methods by good images (N, 3, H, W) uint8, of the largest part's size.

    Raises
    ------
    BlemishError
        If a part answers nothing; it is called by its file, of ``sources``, or by its name.
    """
    first = next(iter(methods.values()))
    described = {
        name: {"method": method.name, "settings": asdict(method.settings)} for name, method in methods.items()
    }
    height, width = good.shape[2:]
    settings = CombinedSettings(
        image_size_px=height, image_width_px=None if width == height else width,
        resizing=first.settings.resizing, seed=seed, parts=described,
    )  # fmt: skip
    device = device_of(first)
    network = TorchRuntime(Combined(settings, methods).to(device)).prepared
    assert isinstance(network, Combined)
    maps = _measured(network, good)
    for name, part_maps in zip(sources or methods, maps.unbind(1), strict=True):
        if part_maps.amin() == part_maps.amax():  # it is never wrong, so it would weigh most
            raise BlemishError(f"{name}: its map is the same for all good images; leave it out, or train it again")
    n = min(len(good), MOST_DAMAGED)
    numbers = torch.arange(n) * len(good) // n
    damaged = [Damaged(_measured(network, images), masks) for images, masks in damaged_copies(good[numbers], seed)]
    choice = chosen(maps, damaged, numbers)
    method = Combined(replace(settings, scale=choice.scale), methods)
    for name, values in scale_values(maps, choice.scale)._asdict().items():
        getattr(method, name).copy_(values)
    return choice, method.to(device)


@torch.inference_mode()
def _measured(network: Combined, images: Tensor) -> Tensor:
    """The parts' maps (N, P, H, W) of images (N, 3, H, W) uint8, or float in [0, 1]; on the host."""
    device = network.weight.device
    results = []
    for batch in torch.split(images, BATCH):
        values = batch.to(device).float() / (255.0 if batch.dtype == torch.uint8 else 1.0)
        results.append(network.measured(values.contiguous(memory_format=torch.channels_last)).cpu())
    return torch.cat(results)


def scale_values(maps: Tensor, scale: Scale) -> ScaleValues:
    """Centre and spread of the parts' maps (N, P, H, W) of good images, of the whole image or of each of its places,
    and the parts' weights.

    The centre is the median, or the mean of a place. From there the spread reaches the value that ``FEW`` of the
    cells of good images do not exceed, of a place those around it. It is smoothed over neighbours.
    """
    n_parts = maps.shape[1]
    tops = F.adaptive_max_pool2d(maps, CELLS)  # (N, P, C, C)
    centre = maps.transpose(0, 1).flatten(1).median(1).values.view(-1, 1, 1)  # (P, 1, 1)
    least = (LEAST * maps.transpose(0, 1).flatten(1).amax(1)).clamp_min(1e-6).view(-1, 1, 1)
    few = torch.quantile(tops.transpose(0, 1).flatten(1), FEW, dim=1).view(-1, 1, 1)
    spread = torch.maximum(few - centre, least)
    if scale == "place":
        means = F.adaptive_avg_pool2d(maps, CELLS).mean(0)  # (P, C, C)
        around = F.unfold(F.pad(tops, (1, 1, 1, 1), mode="replicate"), 3)  # (N, P * 9, C * C)
        around = around.view(len(tops), n_parts, 9, -1).permute(1, 3, 0, 2).flatten(2)  # (P, C * C, N * 9)
        few = torch.quantile(around, FEW, dim=2).view(n_parts, CELLS, CELLS)
        centre, least = _smooth(means), torch.maximum(least, LEAST_SHARE * spread)
        spread = torch.maximum(_smooth(few) - centre, least)
    z = scaled(maps, centre, spread)
    weight = tail_exponents(z) * votes(z)  # (P,)
    return ScaleValues(centre, spread, weight / weight.sum())


def _smooth(cells: Tensor) -> Tensor:
    """The mean of each cell (P, C, C) and its neighbours."""
    return F.avg_pool2d(F.pad(cells[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]


def tail_exponents(z: Tensor) -> Tensor:
    """How steeply the tails of the parts' z (N, P, H, W) of good images fall: (P,), the alpha of (1 + z)^-alpha.

    Hill's estimate (Annals of Statistics, 1975): the inverse of how far, in the mean, log(1 + z) of those above a
    quantile is above that quantile. Here of the scores that a part would give the images, since the cells of one
    image do not vary each on its own, and above their median: a few dozen images tell nothing of a farther tail.
    """
    scores = top_of(z.flatten(0, 1)[:, None], min(z.shape[-2:])).view(z.shape[:2])  # (N, P)
    upper = torch.log1p(scores).sort(0).values[len(z) // 2 :]
    excess = (upper - upper[0]).mean(0)  # (P,)
    return 1.0 / excess.clamp_min(max(LEAST_EXCESS * float(excess.mean()), 1e-6))


def votes(z: Tensor) -> Tensor:
    """What each part says that others do not: (P,) at least 0, of the parts' z (N, P, H, W) of good images.

    Parts that err at the same places share a vote. These are the weights of the least variance (generalized least
    squares), R^-1 1 of the correlations R (P, P) of log(1 + z) over the cells of good images.
    """
    cells = torch.log1p(F.adaptive_max_pool2d(z, CELLS)).transpose(0, 1).flatten(1)  # (P, N * C * C)
    of_two = torch.corrcoef(cells).view(len(cells), len(cells)).nan_to_num(0.0)
    shares: Tensor = torch.linalg.solve(of_two.fill_diagonal_(1.0 + SHRINKAGE), torch.ones(len(cells)))
    return shares.clamp_min(0.0)


def chosen(good: Tensor, damaged: Sequence[Damaged], numbers: Tensor) -> Choice:
    """Choose the scale by the mean over the kinds of damage; of equally good ones, ``image``.

    Each half of the images is judged on the scale of the other half.

    Parameters
    ----------
    good : (N, P, H, W), the parts' maps of good images.
    damaged : the same of damaged images, for each kind of damage.
    numbers : (n,) int, which of the good images were damaged.
    """
    halves = [torch.arange(len(good)) % 2 == half for half in (0, 1)]
    pixel_ap, image_auroc = dict[Scale, float](), dict[Scale, float]()
    for scale in get_args(Scale):
        if scale == "place" and len(good) < MIN_PLACE:
            continue
        folds = [_fold(good, damaged, numbers, half, scale) for half in halves]
        pixel_ap[scale] = _mean([_pixel_ap(kind.maps, kind.masks) for fold in folds for kind in fold.damaged])
        image_auroc[scale] = _mean([_found(fold.good, kind) for fold in folds for kind in fold.damaged])
    best = max(pixel_ap, key=lambda scale: round(pixel_ap[scale], TIE))
    return Choice(best, {scale: round(pixel_ap[scale], 4) for scale in pixel_ap}, round(image_auroc[best], 4))


@dataclass(frozen=True)
class _Fold:
    """Joined maps (N, 1, H, W) of one half of the images, by scale and weights of the other half; damaged by kind."""

    good: Tensor
    damaged: list[Damaged]


def _fold(good: Tensor, damaged: Sequence[Damaged], numbers: Tensor, half: Tensor, scale: Scale) -> _Fold:
    centre, spread, weight = scale_values(good[~half], scale)
    of_half = half[numbers]

    def maps(of_parts: Tensor) -> Tensor:
        return joined(scaled(of_parts, centre, spread), weight)

    return _Fold(maps(good[half]), [Damaged(maps(kind.maps[of_half]), kind.masks[of_half]) for kind in damaged])


def _pixel_ap(maps: Tensor, masks: Tensor) -> float:
    stride = max(1, -(-masks.numel() // MOST_PIXELS))
    return average_precision(maps.flatten()[::stride], masks.flatten()[::stride])


def _found(good: Tensor, damaged: Damaged) -> float:
    """Image AUROC of joined maps (N, 1, H, W), without damaged images where nothing changed."""
    changed = damaged.maps[damaged.masks.flatten(1).any(1)]
    scores = torch.cat([top_of(maps, min(maps.shape[-2:])) for maps in (good, changed)])
    return auroc(scores, torch.arange(len(scores)) >= len(good))


def _mean(figures: Sequence[float]) -> float:
    """The mean of the figures that are defined; 0 if none is."""
    known = [figure for figure in figures if not math.isnan(figure)]
    return sum(known) / len(known) if known else 0.0
