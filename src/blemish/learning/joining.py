"""The scale of each part of a joined detector, and the rule that joins them: from good images alone.

The rule is chosen by how well the joined maps and scores find simulated damage in good images other than those that
the scale was measured on. The damage is of four kinds that are equally important: foreign textures and plain colours,
as in DRÆM's training, and deformed and moved patches that keep the colours, as in SSAE's. So no part is preferred for
having been trained on the kind that it is measured by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.methods.base import Method
from blemish.methods.combined import CELLS, Combined, CombinedSettings, Rule, Scale, ScoreRule, joined, top_of
from blemish.metrics import auroc
from blemish.runtimes.torch import TorchRuntime, device_of
from blemish.synthesis.modified_patches import CorruptionSettings, Kind, corrupt
from blemish.synthesis.pasted_textures import AnomalySettings, spoil
from blemish.synthesis.textures import TextureBank

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
"""The pixel AUROC of more pixels is computed on evenly spaced ones."""
TIE = 3
"""Figures that are equal in so many decimals are equal: then the first choice counts."""


class Measured(NamedTuple):
    """What the parts say of N images: maps (N, P, H, W) and image scores (N, P), float32."""

    maps: Tensor
    scores: Tensor


class ScaleValues(NamedTuple):
    """The buffers of ``Combined`` by their names."""

    map_centre: Tensor
    map_spread: Tensor
    score_centre: Tensor
    score_spread: Tensor


@dataclass(frozen=True)
class Choice:
    """How the parts are joined, and how well each way finds simulated damage, in [0, 1]; empty without damage."""

    scale: Scale
    map_rule: Rule
    score_rule: ScoreRule
    pixel_auroc: dict[str, float]
    """By scale and rule, such as ``place geometric``."""
    image_auroc: dict[str, float]
    """By rule, with the chosen map."""


def fitted(methods: Mapping[str, Method], good: Tensor, seed: int) -> tuple[Choice, Combined]:
    """Join trained methods with a scale and a rule from good images (N, 3, S, S) uint8, S the largest part's size."""
    first = next(iter(methods.values())).settings
    described = {
        name: {"method": method.name, "settings": asdict(method.settings)} for name, method in methods.items()
    }
    settings = CombinedSettings(image_size_px=good.shape[-1], resizing=first.resizing, seed=seed, parts=described)
    network = TorchRuntime(Combined(settings, methods)).prepared
    assert isinstance(network, Combined)
    measured = _measured(network, good)
    numbers = torch.arange(min(len(good), MOST_DAMAGED)) * len(good) // min(len(good), MOST_DAMAGED)
    damaged = [(_measured(network, images), masks) for images, masks in damaged_copies(good[numbers], seed)]
    choice = chosen(measured, damaged, numbers)
    final = replace(settings, scale=choice.scale, map_rule=choice.map_rule, score_rule=choice.score_rule)
    method = Combined(final, methods)
    for name, values in scale_values(measured, choice.scale)._asdict().items():
        getattr(method, name).copy_(values)
    return choice, method.to(device_of(method.methods[next(iter(methods))]))


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


def damaged_copies(good: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (N, 3, S, S) uint8 with each kind of damage: (N, 3, S, S) float in [0, 1], masks (N, 1, S, S) bool.

    Damage is small and often faint, since what is large or bright is found by any rule.
    """
    images, generator = good.float() / 255.0, Generator().manual_seed(seed)
    textures = TextureBank.procedural((good.shape[-2], good.shape[-1]), seed=seed)
    for source in ("textures", "colours"):
        damage = AnomalySettings(
            probability=1.0, min_opacity=0.1, min_threshold=0.6, max_threshold=0.9, source=source
        )
        spoiled, masks = spoil(images, textures, generator, damage)
        yield spoiled, masks > 0
    kinds: tuple[Kind, ...] = ("elastic", "swap")
    for kind in kinds:
        patches = CorruptionSettings(kinds=(kind,), limit="none", min_side=0.05, max_side=0.2)
        corrupted, shapes = corrupt(images, None, generator, patches)
        yield corrupted, shapes > 0


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


def chosen(good: Measured, damaged: Sequence[tuple[Measured, Tensor]], numbers: Tensor) -> Choice:
    """Choose scale and rules by the mean AUROC over the kinds of damage.

    Each half of the images is judged on the scale of the other half.

    Parameters
    ----------
    damaged : for each kind, what the parts say of the damaged images, and their masks (n, 1, H, W) bool.
    numbers : (n,) int, which of the good images were damaged.
    """
    halves = [torch.arange(len(good.maps)) % 2 == half for half in (0, 1)]
    scales = [scale for scale in get_args(Scale) if scale == "image" or len(good.maps) >= MIN_PLACE]
    pixel_auroc, maps = dict[str, float](), dict[tuple[Scale, Rule], list[_Fold]]()
    for scale in scales:
        folds = [_fold(good, damaged, numbers, half, scale) for half in halves]
        for rule in get_args(Rule):
            figures = [_pixel_auroc(fold, rule, number) for fold in folds for number in range(len(damaged))]
            pixel_auroc[f"{scale} {rule}"] = _mean(figures)
            maps[scale, rule] = folds
    best_scale, best_rule = max(maps, key=lambda way: round(pixel_auroc[" ".join(way)], TIE))
    image_auroc = {
        rule: _mean(
            [
                _image_auroc(fold, rule, best_rule, number)
                for fold in maps[best_scale, best_rule]
                for number in range(len(damaged))
            ]
        )
        for rule in get_args(ScoreRule)
    }
    score_rule = max(image_auroc, key=lambda rule: round(image_auroc[rule], TIE))
    return Choice(best_scale, best_rule, score_rule, _known(pixel_auroc), _known(image_auroc))


@dataclass(frozen=True)
class _Fold:
    """z of one half of the images, on the scale of the other half; ``damaged`` and ``masks`` by kind."""

    good: Measured
    damaged: list[Measured]
    masks: list[Tensor]


def _fold(
    good: Measured, damaged: Sequence[tuple[Measured, Tensor]], numbers: Tensor, half: Tensor, scale: Scale
) -> _Fold:
    values = scale_values(Measured(good.maps[~half], good.scores[~half]), scale)
    size_hw = good.maps.shape[-2:]
    centre, spread = (
        F.interpolate(cells[None], size_hw, mode="bilinear", align_corners=False) for cells in values[:2]
    )

    def scaled(measured: Measured, is_kept: Tensor) -> Measured:
        maps = ((measured.maps[is_kept] - centre) / spread).clamp_min(0.0)
        scores = ((measured.scores[is_kept] - values.score_centre) / values.score_spread).clamp_min(0.0)
        return Measured(maps, scores)

    is_kept = half[numbers]
    return _Fold(
        scaled(good, half),
        [scaled(measured, is_kept) for measured, _ in damaged],
        [masks[is_kept] for _, masks in damaged],
    )


def _pixel_auroc(fold: _Fold, rule: Rule, kind: int) -> float:
    maps, masks = joined(fold.damaged[kind].maps, rule), fold.masks[kind]
    stride = max(1, -(-masks.numel() // MOST_PIXELS))
    return auroc(maps.flatten()[::stride], masks.flatten()[::stride])


def _image_auroc(fold: _Fold, rule: ScoreRule, map_rule: Rule, kind: int) -> float:
    def scores(measured: Measured) -> Tensor:
        if rule == "map":
            return top_of(joined(measured.maps, map_rule), measured.maps.shape[-1])
        return joined(measured.scores, rule)[:, 0]

    is_damaged = fold.masks[kind].flatten(1).any(1)  # invisible damage is none
    values = torch.cat([scores(fold.good), scores(fold.damaged[kind])[is_damaged]])
    labels = torch.arange(len(values)) >= len(fold.good.scores)
    return auroc(values, labels)


def _mean(figures: Sequence[float]) -> float:
    """The mean of the figures that are defined; 0 if none is."""
    known = [figure for figure in figures if not math.isnan(figure)]
    return sum(known) / len(known) if known else 0.0


def _known(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(figure, 4) for name, figure in figures.items()}
