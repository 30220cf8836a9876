"""The scale of each part of a joined detector, and the rule that joins them: from good images alone.

The rule is chosen by how well the joined maps and scores find simulated damage in good images other than those that
the scale was measured on: damage of kinds that no method trains on (``unknown_damage.py``), so that no part is
preferred for having been trained on the kind that it is measured by. Maps are compared by their average precision,
since outlines and scores come from the top of a map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.learning.unknown_damage import damaged_copies
from blemish.methods.base import Method
from blemish.methods.combined import CELLS, Combined, CombinedSettings, Rule, Scale, ScoreRule, joined, top_of
from blemish.metrics import auroc, average_precision
from blemish.runtimes.torch import TorchRuntime, device_of

BATCH = 8
FEW = 0.99
"""Quantile of good values that ``spread`` reaches from ``centre``: few come beyond it."""
FEW_SCORES = 0.95
"""The same of image scores, of which there are fewer."""
LEAST_SHARE = 0.25
"""Least spread of a place, as a share of that of the whole image: where good images show nothing, little is seen by
chance."""
LEAST = 1e-3
"""Least spread, as a share of the largest value of good images."""
MIN_PLACE = 20
"""Fewest good images from which each place gets a scale of its own."""
MOST_DAMAGED = 24
"""Good images that are damaged, at most; by each kind."""
MOST_PIXELS = 500_000
"""The average precision of more pixels is computed on evenly spaced ones."""
TIE = 3
"""Figures that are equal in so many decimals are equal: then the first choice counts."""


class Measured(NamedTuple):
    """What the parts say of N images: maps (N, P, H, W) and image scores (N, P), float32."""

    maps: Tensor
    scores: Tensor


class Damaged(NamedTuple):
    """The same of n damaged images, with masks (n, 1, H, W) bool."""

    maps: Tensor
    scores: Tensor
    masks: Tensor


class ScaleValues(NamedTuple):
    """Buffers of ``Combined`` by their names."""

    map_centre: Tensor
    map_spread: Tensor
    score_centre: Tensor
    score_spread: Tensor


@dataclass(frozen=True)
class Choice:
    """How the parts are joined, and how well each way finds simulated damage, in [0, 1]."""

    scale: Scale
    map_rule: Rule
    score_rule: ScoreRule
    pixel_ap: dict[str, float]
    """By scale and rule, such as ``place geometric``."""
    image_auroc: dict[str, float]
    """By rule, with the chosen map."""
    map_weight: Tensor
    """(P,) in proportion to the average precision of each part's own map."""
    score_weight: Tensor
    """(P,) in proportion to how far the AUROC of each part's own score is above chance."""


def fitted(methods: Mapping[str, Method], good: Tensor, seed: int) -> tuple[Choice, Combined]:
    """Join trained methods with a scale and a rule from good images (N, 3, S, S) uint8, S the largest part's size."""
    first = next(iter(methods.values()))
    described = {
        name: {"method": method.name, "settings": asdict(method.settings)} for name, method in methods.items()
    }
    settings = CombinedSettings(
        image_size_px=good.shape[-1], resizing=first.settings.resizing, seed=seed, parts=described
    )
    device = device_of(first)
    network = TorchRuntime(Combined(settings, methods).to(device)).prepared
    assert isinstance(network, Combined)
    measured = _measured(network, good)
    n = min(len(good), MOST_DAMAGED)
    numbers = torch.arange(n) * len(good) // n
    damaged = [Damaged(*_measured(network, images), masks) for images, masks in damaged_copies(good[numbers], seed)]
    choice = chosen(measured, damaged, numbers)
    final = replace(settings, scale=choice.scale, map_rule=choice.map_rule, score_rule=choice.score_rule)
    method = Combined(final, methods)
    for name, values in scale_values(measured, choice.scale)._asdict().items():
        getattr(method, name).copy_(values)
    method.map_weight.copy_(choice.map_weight)
    method.score_weight.copy_(choice.score_weight)
    return choice, method.to(device)


@torch.inference_mode()
def _measured(network: Combined, images: Tensor) -> Measured:
    """What the parts say of images (N, 3, S, S) uint8, or float in [0, 1]; on the host."""
    device = network.map_centre.device
    results = []
    for batch in torch.split(images, BATCH):
        values = batch.to(device).float() / (255.0 if batch.dtype == torch.uint8 else 1.0)
        maps, scores = network.measured(values.contiguous(memory_format=torch.channels_last))
        results.append((maps.cpu(), scores.cpu()))
    return Measured(*(torch.cat(values) for values in zip(*results, strict=True)))


def scale_values(measured: Measured, scale: Scale) -> ScaleValues:
    """Centre and spread of what the parts say of good images: of the whole image, or of each of its places.

    The centre is the median, or the mean of a place. From there the spread reaches the value that ``FEW`` of the
    cells of good images do not exceed, of a place those around it. It is smoothed over neighbours.
    """
    maps, scores = measured
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
    score_centre = scores.median(0).values
    few = torch.quantile(scores, FEW_SCORES, dim=0)
    least_score = (LEAST * scores.amax(0)).clamp_min(1e-6)
    return ScaleValues(centre, spread, score_centre, torch.maximum(few - score_centre, least_score))


def _smooth(cells: Tensor) -> Tensor:
    """The mean of each cell (P, C, C) and its neighbours."""
    return F.avg_pool2d(F.pad(cells[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]


def chosen(good: Measured, damaged: Sequence[Damaged], numbers: Tensor) -> Choice:
    """Choose scale and rules by the mean over the kinds of damage.

    Each half of the images is judged on the scale of the other half. Of ways that are equally good, the first one in
    the order of ``Scale`` and ``Rule`` is taken.

    Parameters
    ----------
    damaged : what the parts say of damaged images, for each kind of damage.
    numbers : (n,) int, which of the good images were damaged.
    """
    weights = Weights(*(_shares(figures) for figures in _skills(good, damaged)))
    halves = [torch.arange(len(good.maps)) % 2 == half for half in (0, 1)]
    pixel_ap, folds = dict[str, float](), dict[Scale, list[_Fold]]()
    ways = [
        (scale, rule)
        for scale in get_args(Scale) if scale == "image" or len(good.maps) >= MIN_PLACE
        for rule in get_args(Rule)
    ]  # fmt: skip
    for scale, rule in ways:
        if scale not in folds:
            folds[scale] = [_fold(good, damaged, numbers, half, scale) for half in halves]
        pixel_ap[f"{scale} {rule}"] = _mean(
            [
                _pixel_ap(joined(kind.maps, rule, weights.map_weight), kind.masks)
                for fold in folds[scale]
                for kind in fold.damaged
            ]
        )
    best_scale, best_rule = max(ways, key=lambda way: round(pixel_ap[" ".join(way)], TIE))
    image_auroc = {
        rule: _mean(
            [_found(fold.good, kind, rule, best_rule, weights) for fold in folds[best_scale] for kind in fold.damaged]
        )
        for rule in get_args(ScoreRule)
    }
    score_rule = max(image_auroc, key=lambda rule: round(image_auroc[rule], TIE))
    return Choice(best_scale, best_rule, score_rule, _rounded(pixel_ap), _rounded(image_auroc), *weights)


class Weights(NamedTuple):
    """The parts' weights (P,) in the rule ``weighted``."""

    map_weight: Tensor
    score_weight: Tensor


def _skills(good: Measured, damaged: Sequence[Damaged]) -> tuple[list[float], list[float]]:
    """How well each part finds the damage: average precision of its map, and AUROC above chance of its score."""
    parts = range(good.maps.shape[1])
    precisions = [_mean([_pixel_ap(kind.maps[:, part], kind.masks) for kind in damaged]) for part in parts]
    aurocs = [
        _mean([_image_auroc(good.scores[:, part], kind.scores[:, part], kind.masks) for kind in damaged])
        for part in parts
    ]
    return precisions, [2.0 * figure - 1.0 for figure in aurocs]


def _shares(skills: Sequence[float]) -> Tensor:
    """Weights (P,) in proportion to the skills; equal ones if there are none."""
    values = torch.tensor(skills).clamp_min(1e-3)
    return values / values.sum()


@dataclass(frozen=True)
class _Fold:
    """z of one half of the images, on the scale of the other half; damaged ones by kind."""

    good: Measured
    damaged: list[Damaged]


def _fold(good: Measured, damaged: Sequence[Damaged], numbers: Tensor, half: Tensor, scale: Scale) -> _Fold:
    values = scale_values(Measured(good.maps[~half], good.scores[~half]), scale)
    centre, spread = (
        F.interpolate(cells[None], good.maps.shape[-2:], mode="bilinear", align_corners=False)
        for cells in (values.map_centre, values.map_spread)
    )

    def scaled(maps: Tensor, scores: Tensor, is_kept: Tensor) -> Measured:
        z = ((maps[is_kept] - centre) / spread).clamp_min(0.0)
        return Measured(z, ((scores[is_kept] - values.score_centre) / values.score_spread).clamp_min(0.0))

    of_half = half[numbers]
    return _Fold(
        scaled(good.maps, good.scores, half),
        [Damaged(*scaled(kind.maps, kind.scores, of_half), kind.masks[of_half]) for kind in damaged],
    )


def _pixel_ap(maps: Tensor, masks: Tensor) -> float:
    stride = max(1, -(-masks.numel() // MOST_PIXELS))
    return average_precision(maps.flatten()[::stride], masks.flatten()[::stride])


def _found(good: Measured, damaged: Damaged, rule: ScoreRule, map_rule: Rule, weights: Weights) -> float:
    """Image AUROC of the joined scores of z."""

    def scores(images: Measured | Damaged) -> Tensor:
        if rule == "map":
            return top_of(joined(images.maps, map_rule, weights.map_weight), images.maps.shape[-1])
        return joined(images.scores, rule, weights.score_weight)[:, 0]

    return _image_auroc(scores(good), scores(damaged), damaged.masks)


def _image_auroc(good: Tensor, damaged: Tensor, masks: Tensor) -> float:
    """AUROC of the scores (N,) of good and (n,) of damaged images, without those where nothing changed."""
    values = torch.cat([good, damaged[masks.flatten(1).any(1)]])
    return auroc(values, torch.arange(len(values)) >= len(good))


def _mean(figures: Sequence[float]) -> float:
    """The mean of the figures that are defined; 0 if none is."""
    known = [figure for figure in figures if not math.isnan(figure)]
    return sum(known) / len(known) if known else 0.0


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(figure, 4) for name, figure in figures.items()}
