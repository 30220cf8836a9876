"""Textures for simulated anomalies: from a folder of photographs, or generated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from blemish.data.bits import bits_in_use
from blemish.data.listing import list_with_notices
from blemish.data.loading import load_images
from blemish.errors import BlemishError
from blemish.settings import Resizing
from blemish.synthesis.draw import uniform
from blemish.synthesis.perlin import perlin_noise

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = torch.device("cpu")
N_PROCEDURAL = 240
MAX_TEXTURES = 6000  # DTD has 5640; figure 9 of the paper needs ten


class TextureBank:
    """Texture images of one size, as uint8, from which anomalies are drawn.

    Parameters
    ----------
    images : (N, H, W, 3) uint8 on the host.
    source : a description of the textures, for the record of a run.
    """

    def __init__(self, images: Tensor, source: str) -> None:
        self.images = images
        self.source = source
        self._counted = images
        self._histograms: NDArray[np.float64] | None = None
        self._resized: dict[tuple[tuple[int, int], torch.device], TextureBank] = {}
        self._spread: dict[int, TextureBank] = {}

    @classmethod
    def from_folder(cls, folder: str | Path, size_hw: tuple[int, int], resizing: Resizing = "area") -> TextureBank:
        """All images below ``folder`` (evenly spaced ones if there are more than 6000), resized by ``load_images``.

        Raises
        ------
        BlemishError
            If the folder contains no image, or an unreadable image.
        """
        paths = list_with_notices(folder)
        if not paths:
            raise BlemishError(
                f"{folder}: no texture image in it or below; give a folder of photographs, or leave textures out"
            )
        step = max(1.0, len(paths) / MAX_TEXTURES)
        kept = [paths[int(i * step)] for i in range(min(len(paths), MAX_TEXTURES))]
        return cls(
            load_images(kept, size_hw, bits_in_use(kept) or 16, resizing).permute(0, 2, 3, 1).contiguous(),
            source=f"{len(kept)} images of {Path(folder).name}",
        )

    @classmethod
    def procedural(cls, size_hw: tuple[int, int], n: int = N_PROCEDURAL, seed: int = 0) -> TextureBank:
        """``n`` textures generated from noise: clouds, grain, stripes, weaves, cells and blots in random colours."""
        generator = torch.Generator().manual_seed(seed)
        share = math.ceil(n / len(_PATTERNS))
        fields = torch.cat([pattern(share, size_hw, generator) for pattern in _PATTERNS])[:n]
        return cls(_colour(fields, generator), source=f"{n} procedural textures")

    def __len__(self) -> int:
        return len(self.images)

    def spread(self, n: int) -> TextureBank:
        """``n`` of the textures, evenly spaced; all of them for 0. Cached.

        Raises
        ------
        BlemishError
            If there are fewer.
        """
        if n == 0:
            return self
        if n > len(self):
            raise BlemishError(
                f"setting n_textures: {n}, but there are {len(self)} textures; give more, or a smaller n"
            )
        if n not in self._spread:
            chosen = torch.arange(n) * len(self) // n
            self._spread[n] = TextureBank(self.images[chosen], f"{n} of {self.source}")
        return self._spread[n]

    def at(self, size_hw: tuple[int, int], device: torch.device) -> TextureBank:
        """The same textures in the size and on the device of a batch; cached for each size and device."""
        if self.images.shape[1:3] == size_hw and device.type == "cpu":
            return self
        key = size_hw, device
        if key not in self._resized:
            images = self.images
            if images.shape[1:3] != size_hw:  # on the host: torch resizes uint8 with antialiasing only there
                resized = F.interpolate(images.permute(0, 3, 1, 2), size_hw, mode="bilinear", antialias=True)
                images = resized.permute(0, 2, 3, 1).contiguous()
            bank = TextureBank(images.to(device), self.source)
            bank._counted = images
            self._resized[key] = bank
        return self._resized[key]

    @property
    def histograms(self) -> NDArray[np.float64]:
        """Pixel counts of each value, per texture and channel: (N, 3, 256) float64; computed once, on the host."""
        if self._histograms is None:
            channels = 256 * torch.arange(3)
            counts = [torch.bincount((image + channels).flatten(), minlength=768) for image in self._counted]
            self._histograms = torch.stack(counts).view(-1, 3, 256).double().numpy()
        return self._histograms


# --- procedural patterns: n grey fields (n, H, W), any range ------------------------------------------------


def _clouds(n: int, size_hw: tuple[int, int], generator: Generator) -> Tensor:
    """Perlin noise summed over four octaves; a random persistence sets the roughness."""
    base = uniform(1.0, 8.0, (n, 2), generator)
    persistence = uniform(0.35, 0.95, (n, 1, 1), generator)
    octaves = (
        perlin_noise(base * 2.0**octave, size_hw, generator, HOST) * persistence**octave for octave in range(4)
    )
    return sum(octaves, start=torch.zeros(n, *size_hw))


def _grain(n: int, size_hw: tuple[int, int], generator: Generator) -> Tensor:
    """White noise enlarged 1 to 8 times along each axis: sand, sparkle, brushed metal."""
    fields = []
    for scale_y, scale_x in torch.randint(1, 9, (n, 2), generator=generator).tolist():
        coarse = torch.randn(1, 1, size_hw[0] // scale_y + 2, size_hw[1] // scale_x + 2, generator=generator)
        fields.append(F.interpolate(coarse, size_hw, mode="bicubic", align_corners=False)[0])
    return torch.cat(fields)


def _coordinates(n: int, size_hw: tuple[int, int], generator: Generator) -> tuple[Tensor, Tensor]:
    """Coordinates along two perpendicular axes, rotated and slightly warped: (n, H, W) each; the image side is 1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size_hw[0]), torch.linspace(0, 1, size_hw[1]), indexing="ij")
    angle = uniform(0.0, math.pi, (n, 1, 1), generator)
    bend = perlin_noise(uniform(1.0, 5.0, (n, 2), generator), size_hw, generator, HOST)
    bend = bend * uniform(0.0, 0.15, (n, 1, 1), generator)
    return x * angle.cos() + y * angle.sin() + bend, y * angle.cos() - x * angle.sin() + bend


def _stripes(n: int, size_hw: tuple[int, int], generator: Generator) -> Tensor:
    """Parallel stripes, from soft to sharp edges."""
    along, _ = _coordinates(n, size_hw, generator)
    steepness = uniform(0.5, 6.0, (n, 1, 1), generator)
    return torch.tanh(steepness * torch.sin(2 * math.pi * uniform(2.0, 30.0, (n, 1, 1), generator) * along))


def _weave(n: int, size_hw: tuple[int, int], generator: Generator) -> Tensor:
    """The product of waves along two perpendicular axes: fabric, mesh."""
    along, across = _coordinates(n, size_hw, generator)
    cycles = uniform(2.0, 20.0, (2, n, 1, 1), generator)
    waves = torch.sin(2 * math.pi * cycles[0] * along) * torch.sin(2 * math.pi * cycles[1] * across)
    return torch.tanh(uniform(0.5, 8.0, (n, 1, 1), generator) * waves)


def _cells(n: int, size_hw: tuple[int, int], generator: Generator) -> Tensor:
    """Distance to the nearest of 8 to 79 random points (Worley noise): scales, pebbles, foam."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size_hw[0]), torch.linspace(0, 1, size_hw[1]), indexing="ij")
    pixels = torch.stack([x, y], -1).view(-1, 2)
    fields = []
    for count in torch.randint(8, 80, (n,), generator=generator).tolist():
        nearest = torch.cdist(pixels, torch.rand(count, 2, generator=generator)).amin(1)
        fields.append(nearest.view(size_hw) * math.sqrt(count))
    return torch.stack(fields)


def _blots(n: int, size_hw: tuple[int, int], generator: Generator) -> Tensor:
    """Clouds mapped to a few levels with soft edges: stains, camouflage, marble."""
    clouds = _clouds(n, size_hw, generator)
    return torch.sin(clouds * uniform(3.0, 25.0, (n, 1, 1), generator))


_PATTERNS: tuple[Callable[[int, tuple[int, int], Generator], Tensor], ...] = (
    _clouds, _grain, _stripes, _weave, _cells, _blots,
)  # fmt: skip


def _colour(fields: Tensor, generator: Generator) -> Tensor:
    """Colour grey fields (n, H, W) with a ramp between three random colours and grain: (n, H, W, 3) uint8."""
    n = len(fields)
    low, high = fields.amin((1, 2), keepdim=True), fields.amax((1, 2), keepdim=True)
    t = ((fields - low) / (high - low).clamp_min(1e-6))[:, None]  # (n, 1, H, W) in [0, 1]
    colours = uniform(0.0, 1.0, (3, n, 3, 1, 1), generator)
    painted = torch.where(
        t < 0.5, torch.lerp(colours[0], colours[1], 2 * t), torch.lerp(colours[1], colours[2], 2 * t - 1)
    )
    grain = torch.randn(n, 1, *fields.shape[1:], generator=generator) * uniform(0.0, 0.06, (n, 1, 1, 1), generator)
    return ((painted + grain) * 255.0).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
