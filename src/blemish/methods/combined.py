"""Several trained methods as one: each part's map on one scale, and weights that join them. Ours.

    blemish combine draem.blemish ssae.blemish --good parts/good --out both.blemish

Methods fail differently: what one overlooks, another may find. Their maps cannot be compared, since one is a
probability and another an error of some size. So each value is told as how far it is above what good images show:

    z = max(0, (value - centre) / spread)

``centre`` is the usual value of good images, ``spread`` how far beyond it few of them come; both are measured by
``learning/joining.py``, either the same for the whole image or place by place. The parts' z make one map:

    z = exp(sum of weight * log(1 + z of a part)) - 1

Where the tail of the scores of good images falls like a power, log(1 + z) is proportional to the logarithm of the
tail's probability; with the exponents of the parts' tails as weights the sum is Fisher's way to join p-values. Parts
that err at the same places share a vote. A part whose z is a hundred times as large as another's does not drown it.
The image score is the smoothed maximum of the joined map, as DRÆM scores its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from blemish.errors import BlemishError
from blemish.methods import NOT_TRAINED, method_type
from blemish.methods.base import SPEED_SETTINGS, Ingredients, Method, Settings, Stage
from blemish.scoring import smoothed_maximum
from blemish.settings import CheckedSettings

Scale = Literal["image", "place"]
CELLS = 32
"""Cells along each side of the image in which a scale ``place`` is measured."""
WINDOW_SHARE = 21 / 256
"""Side of the window of the image score, as a share of the image's side; as in DRÆM."""


@dataclass(frozen=True)
class PartSettings(CheckedSettings):
    """A part: the name of its method, and its settings."""

    method: str
    settings: Mapping[str, Any]

    def build(self) -> Settings:
        """The settings as the method's own dataclass."""
        return method_type(self.method).settings_type.from_dict(self.settings)


@dataclass(frozen=True)
class CombinedSettings(Settings):
    """Which parts are joined, and how."""

    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``PartSettings`` by the name of the part, in order."""
    scale: Scale = "image"
    """``place``: centre and spread of each place of the map, for objects that always lie alike."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "parts", _as_read(self.parts))

    def part(self, name: str) -> PartSettings:
        """The part of this name."""
        return PartSettings.from_dict(self.parts[name])

    def result_settings(self) -> dict[str, Any]:
        """Without the seeds and ``SPEED_SETTINGS`` of the parts, so that runs of other seeds have equal settings."""
        values = super().result_settings()
        left_out = ("seed", *SPEED_SETTINGS)
        values["parts"] = {
            name: {**part, "settings": {key: value for key, value in part["settings"].items() if key not in left_out}}
            for name, part in self.parts.items()
        }
        return values


def _as_read(value: Any) -> Any:
    """Nested settings as a file returns them, so that settings are equal before and after: lists, not tuples."""
    if isinstance(value, Mapping):
        return {key: _as_read(inner) for key, inner in value.items()}
    return [_as_read(inner) for inner in value] if isinstance(value, tuple | list) else value


def at_size(pictures: Tensor, images: Tensor) -> Tensor:
    """Maps or pictures (B, C, h, w) of a part at the size of images (B, C, H, W), interpolated."""
    size_hw = images.shape[-2:]
    same = pictures.shape[-2:] == size_hw
    return pictures if same else F.interpolate(pictures, size_hw, mode="bilinear", align_corners=False)


def scaled(maps: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    """z of the parts' maps: (B, P, H, W), by centre and spread (P, C, C) or (P, 1, 1), to (B, P, H, W)."""
    if centre.shape[-1] > 1:
        centre, spread = at_size(centre[None], maps), at_size(spread[None], maps)  # (1, P, H, W)
    return ((maps - centre) / spread).clamp_min(0.0)


def joined(z: Tensor, weights: Tensor) -> Tensor:
    """One value of the parts' z: (B, P, H, W) float >= 0, with weights (P,) adding up to 1, to (B, 1, H, W)."""
    logarithms = torch.log1p(z) * weights.view(1, -1, 1, 1)  # (B, P, H, W)
    return torch.expm1(logarithms.sum(1, keepdim=True))


class Combined(Method):
    """Trained methods that inspect together. Never trained itself.

    Parameters
    ----------
    parts : the trained methods by name, as ``settings.parts`` describes them; None makes them anew.
    """

    name = "combined"
    settings_type = CombinedSettings
    settings: CombinedSettings
    recipes: ClassVar[dict[str, Settings]] = {}
    centre: Tensor
    """(P, CELLS, CELLS), or (P, 1, 1) for the scale ``image``."""
    spread: Tensor
    """As ``centre``, above 0."""
    weight: Tensor
    """(P,), adding up to 1."""

    def __init__(self, settings: CombinedSettings | None = None, parts: Mapping[str, Method] | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        if parts is None:
            parts = {name: method_type(s.part(name).method).build(s.part(name).build()) for name in s.parts}
        if len(parts) < 2 or parts.keys() != s.parts.keys():
            raise BlemishError(
                f"setting parts: {', '.join(s.parts) or 'none'}; two trained methods or more are needed"
            )
        if s.size_hw != largest_hw([*parts.values()]):
            raise BlemishError(
                f"settings image_size_px, image_width_px: {s.size_hw} should be those of the largest part"
            )
        self.parts = nn.ModuleDict({**parts})
        self.exact = tuple(f"parts.{name}.{module}" for name, part in parts.items() for module in part.exact)
        self.exact_on_cpu = tuple(
            f"parts.{name}.{module}" for name, part in parts.items() for module in part.exact_on_cpu
        )
        n_cells = CELLS if s.scale == "place" else 1
        self.register_buffer("centre", torch.zeros(len(parts), n_cells, n_cells))
        self.register_buffer("spread", torch.ones(len(parts), n_cells, n_cells))
        self.register_buffer("weight", torch.full((len(parts),), 1.0 / len(parts)))

    @classmethod
    def restored(cls, settings: Settings, tensors: Mapping[str, Tensor]) -> Self:
        assert isinstance(settings, CombinedSettings)
        parts = {}
        for name in settings.parts:
            start, part = f"parts.{name}.", settings.part(name)
            own = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
            parts[name] = method_type(part.method).restored(part.build(), own)
        method = cls(settings, parts)
        method.load_state_dict(tensors)
        return method

    @property
    def methods(self) -> dict[str, Method]:
        """The parts by name."""
        return {name: part for name, part in self.parts.items() if isinstance(part, Method)}

    # --- inspection -------------------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        anomaly_map = joined(scaled(self.measured(images), self.centre, self.spread), self.weight)  # (B, 1, H, W)
        return anomaly_map, top_of(anomaly_map, self.settings.short_px)

    def measured(self, images: Tensor) -> Tensor:
        """Each part's own map, at the size of the images: (B, 3, H, W) to (B, P, H, W) float32."""
        maps = [
            at_size(part(self._seen_by(part, images))[0].float(), images)  # (B, 1, H, W)
            for part in self.parts.values()
        ]
        return torch.cat(maps, 1)

    def _seen_by(self, part: nn.Module, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) at the size of a part: pixels are averaged by area, as photographs are."""
        assert isinstance(part, Method)
        for axis, own_px, joint_px in zip((2, 3), part.settings.size_hw, self.settings.size_hw, strict=True):
            length = images.shape[axis]
            own_px = max(1, round(length * own_px / joint_px))
            if own_px != length:
                images = _averaged(images, axis, own_px)
        return images

    @torch.no_grad()
    def explain(self, images: Tensor) -> dict[str, Tensor]:
        """Each part's map as z / (1 + z), so that half is what few good images reach, and its own explanations."""
        z = scaled(self.measured(images), self.centre, self.spread)  # (B, P, H, W)
        pictures = {}
        for number, (name, part) in enumerate(self.methods.items()):
            share = z[:, number : number + 1] / (1.0 + z[:, number : number + 1])  # (B, 1, H, W)
            pictures[f"{name} map"] = share.expand(-1, 3, -1, -1)
            for heading, picture in part.explain(self._seen_by(part, images)).items():
                pictures[f"{name} {heading}"] = at_size(picture.float(), images)
        return pictures

    # --- never trained ----------------------------------------------------------------------------------------

    @property
    def uses_textures(self) -> bool:
        return False

    @property
    def pretrained(self) -> tuple[Tensor, ...]:
        return tuple(self.state_dict().values())

    def stages(self) -> tuple[Stage, ...]:
        return ()

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        raise BlemishError(NOT_TRAINED)


def largest_hw(methods: Sequence[Method]) -> tuple[int, int]:
    """Height and width of what the method that sees most pixels sees, px."""
    return max((method.settings.size_hw for method in methods), key=math.prod)


def top_of(anomaly_map: Tensor, short_px: int) -> Tensor:
    """The image score: smoothed maximum of the joined map, (B, 1, H, W) to (B,)."""
    return smoothed_maximum(anomaly_map, int(short_px * WINDOW_SHARE) // 2 * 2 + 1)


def _averaged(images: Tensor, axis: int, n_cells: int) -> Tensor:
    """Average an axis of (B, C, H, W) over ``n_cells`` equal lengths. A product of matrices: exports anywhere."""
    length = images.shape[axis]
    if length % n_cells == 0:
        ratio = length // n_cells
        return F.avg_pool2d(images, (ratio, 1) if axis == 2 else (1, ratio))
    start = torch.arange(n_cells, device=images.device)[:, None] * (length / n_cells)  # (n, 1)
    pixel = torch.arange(length, device=images.device)[None]  # (1, length)
    overlap = torch.minimum(start + length / n_cells, pixel + 1) - torch.maximum(start, pixel)  # (n, length)
    weights = (overlap.clamp_min(0.0) * (n_cells / length)).to(images.dtype)
    return torch.matmul(weights, images) if axis == 2 else torch.matmul(images, weights.T)


def restored_type(name: str) -> type[Method]:
    """The class of the method of a detector's file: also ``Combined``, which ``fit`` does not know.

    Raises
    ------
    BlemishError
        If there is no such method.
    """
    return Combined if name == Combined.name else method_type(name)
