"""DRÆM's simulator of anomalies (paper section 3.3, eq. 4): a texture, shown through a noise mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from blemish.settings import CheckedSettings
from blemish.synthesis.draw import coin, send, uniform
from blemish.synthesis.perlin import perlin_masks
from blemish.synthesis.photometric import augment
from blemish.synthesis.rectangles import rectangle_masks
from blemish.synthesis.textures import TextureBank

HALF_LEVEL = 0.5 / 255.0  # less than half a grey level is no change that a camera could record


@dataclass(frozen=True)
class AnomalySettings(CheckedSettings):
    """What simulated anomalies look like. The defaults are those of DRÆM's authors' code."""

    probability: float = 0.5
    """How many of the samples are spoiled; the others stay clean and their mask is all zero."""
    shape: Literal["perlin", "rectangles"] = "perlin"
    """Shape of the mask; rectangles are the ablation DRÆM_rect (table 3)."""
    source: Literal["textures", "colours"] = "textures"
    """What is pasted; plain colours are the ablation DRÆM_color (table 3)."""
    augment_textures: bool = True
    """Three of ten photometric augmentations; off in DRÆM_no_aug (table 3)."""
    min_opacity: float = 0.2
    """Opacity is drawn from U[min_opacity, 1]. The paper says 0.1, the code 0.2; 1 switches it off."""


class Spoiled(NamedTuple):
    """A batch after the simulator."""

    images: Tensor
    """(B, 3, H, W) float in [0, 1]."""
    masks: Tensor
    """(B, 1, H, W) float, 1 where the image was changed, else 0."""


def spoil(images: Tensor, textures: TextureBank, generator: Generator, settings: AnomalySettings) -> Spoiled:
    """Damage a batch of good images: I_a = (1 - M) I + (1 - alpha) M I + alpha M A (eq. 4).

    Parameters
    ----------
    images : (B, 3, H, W) float in [0, 1], any device; not changed.
    textures : where A is drawn from.
    generator : CPU generator, the only source of randomness.

    Returns
    -------
    Spoiled
        A mask is 1 only where a pixel moved by at least half a grey level, so damage that happens to
        look like the image is not claimed.
    """
    device, size_hw = images.device, (images.shape[-2], images.shape[-1])
    masks = torch.zeros_like(images[:, :1])
    spoiled = coin(settings.probability, len(images), generator).nonzero().flatten()
    n = len(spoiled)
    if n == 0:
        return Spoiled(images, masks)
    draw_masks = perlin_masks if settings.shape == "perlin" else rectangle_masks
    mask = draw_masks(n, size_hw, generator, device)[:, None]
    opacity = send(uniform(settings.min_opacity, 1.0, (n, 1, 1, 1), generator), device)
    if settings.source == "colours":
        anomalies = send(uniform(0.0, 1.0, (n, 3, 1, 1), generator), device)
    else:
        drawn = textures.sample(n, size_hw, generator, device)
        anomalies = augment(drawn, generator) if settings.augment_textures else drawn.float() / 255.0

    index = send(spoiled, device)
    good = images[index]
    damaged = torch.lerp(good, anomalies.to(good.dtype), opacity * mask)
    changed = ((damaged - good).abs_().amax(1, keepdim=True) >= HALF_LEVEL) & mask
    return Spoiled(images.index_copy(0, index, damaged), masks.index_copy_(0, index, changed.to(masks.dtype)))
