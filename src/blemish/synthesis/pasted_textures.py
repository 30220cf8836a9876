"""DRÆM's simulator of anomalies (paper section 3.3, eq. 4): a texture is pasted where a noise mask is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from blemish.errors import BlemishError
from blemish.settings import CheckedSettings
from blemish.synthesis.draw import coin, drawn, indices_to_process, uniform
from blemish.synthesis.perlin import perlin_masks
from blemish.synthesis.photometric import AUGMENTATIONS, Places, augment, places_of
from blemish.synthesis.rectangles import rectangle_masks
from blemish.synthesis.textures import TextureBank

HALF_LEVEL = 0.5 / 255.0  # half a grey level; a camera does not record smaller changes


PAPER_AUGMENTATIONS = (
    "posterize", "sharpness", "solarize", "equalize", "brightness", "hue_saturation", "autocontrast"
)  # fmt: skip
"""The augmentations in the text of DRÆM's paper (section 3.3)."""
N_CHOSEN = 3


@dataclass(frozen=True)
class AnomalySettings(CheckedSettings):
    """Appearance of simulated anomalies. The defaults are those of the DRÆM authors' code."""

    probability: float = 0.5
    """Share of the samples that get an anomaly; the rest stay clean, and their mask is all zero."""
    shape: Literal["perlin", "rectangles"] = "perlin"
    """Shape of the mask; rectangles are the ablation DRÆM_rect (table 3)."""
    source: Literal["textures", "colours"] = "textures"
    """Content of the anomaly; plain colours are the ablation DRÆM_color (table 3)."""
    augment_textures: bool = True
    """Apply three photometric augmentations; off in DRÆM_no_aug (table 3)."""
    augmentations: tuple[str, ...] = AUGMENTATIONS
    """Those that the three are chosen from: ten in the code, seven (``PAPER_AUGMENTATIONS``) in the paper."""
    n_textures: int = 0
    """Use only so many of the textures, evenly spaced (figure 9); 0 uses all."""
    min_threshold: float = 0.5
    max_threshold: float = 0.5
    """The noise is cut at U[min_threshold, max_threshold] (paper: at random; code: 0.5). It lies in [-1, 1]."""
    min_opacity: float = 0.2
    """Opacity is drawn from U[min_opacity, 1]. The paper says 0.1, the code 0.2; with 1 all anomalies are opaque."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("probability", "min_opacity", least=0, most=1)
        self.check_range("n_textures", least=0)
        self.check_range("min_threshold", "max_threshold", least=-1, most=1)
        if self.min_threshold > self.max_threshold:
            raise BlemishError(
                f"settings min_threshold, max_threshold: {self.min_threshold}, {self.max_threshold} should not fall"
            )
        unknown = sorted({*self.augmentations} - {*AUGMENTATIONS})
        if unknown or len({*self.augmentations}) < N_CHOSEN:
            problem = f"unknown {', '.join(unknown)}" if unknown else f"fewer than {N_CHOSEN}"
            raise BlemishError(f"setting augmentations: {problem}; there are: {', '.join(AUGMENTATIONS)}")


class Spoiled(NamedTuple):
    """A batch with simulated or real damage."""

    images: Tensor
    """(B, 3, H, W) float in [0, 1]."""
    masks: Tensor
    """(B, 1, H, W) float, 1 where the image was changed, else 0."""


def spoil(images: Tensor, textures: TextureBank | None, generator: Generator, settings: AnomalySettings) -> Spoiled:
    """Damage a batch of good images: I_a = (1 - M) I + (1 - alpha) M I + alpha M A (eq. 4).

    Parameters
    ----------
    images : (B, 3, H, W) float in [0, 1], any device; not changed.
    textures : A is drawn from these; not needed for plain colours.
    generator : CPU generator, the only source of randomness.

    Returns
    -------
    Spoiled
        The mask is 1 only where a pixel changed by at least half a grey level. Damage that looks like the image is
        not marked.

    Raises
    ------
    BlemishError
        If the settings need textures and there are none.
    """
    with torch.autocast(images.device.type, enabled=False):  # bf16 is too coarse for coordinates
        return _spoil(images, textures, generator, settings)


def _spoil(images: Tensor, textures: TextureBank | None, generator: Generator, settings: AnomalySettings) -> Spoiled:
    device, size_hw = images.device, (images.shape[-2], images.shape[-1])
    damaged = images.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)  # (B, H, W, 3): rows of pixels
    masks = torch.zeros_like(damaged[..., 0])  # (B, H, W)
    is_spoiled = drawn(lambda g: coin(settings.probability, len(images), g), generator, device)  # (B,)
    spoiled = indices_to_process(is_spoiled)  # (n,)
    n = len(spoiled)
    if n:
        if settings.shape == "perlin":
            thresholds = (settings.min_threshold, settings.max_threshold)
            mask = perlin_masks(n, size_hw, generator, device, thresholds=thresholds)  # (n, H, W)
        else:
            mask = rectangle_masks(n, size_hw, generator, device)  # (n, H, W)
        mask &= is_spoiled[spoiled].view(-1, 1, 1)  # (n, H, W)
        places = places_of(mask)  # K pixels of the n images
        opacity = drawn(lambda g: uniform(settings.min_opacity, 1.0, (n,), g), generator, device)[places.image]
        opacity = opacity * mask.view(-1)[places.image * mask[0].numel() + places.pixel]  # (K,), 0 outside
        pixels = spoiled[places.image] * mask[0].numel() + places.pixel  # (K,), index into all pixels of the batch
        good = damaged.view(-1, 3).index_select(0, pixels)  # (K, 3)
        anomaly = _anomaly(n, places, size_hw, textures, generator, settings, device)  # (K, 3)
        change = (anomaly - good).mul_(opacity[:, None])  # (K, 3)
        is_changed = change.abs().amax(1) >= HALF_LEVEL  # (K,)
        damaged.view(-1, 3).index_copy_(0, pixels, change.add_(good).clamp_(0.0, 1.0))
        masks.view(-1).scatter_(0, pixels, is_changed.to(masks.dtype))
    return Spoiled(damaged.permute(0, 3, 1, 2), masks[:, None])  # (B, 3, H, W), (B, 1, H, W)


def _anomaly(
    n: int,
    places: Places,
    size_hw: tuple[int, int],
    textures: TextureBank | None,
    generator: Generator,
    settings: AnomalySettings,
    device: torch.device,
) -> Tensor:
    """The colours of ``n`` anomalies at these places: (K, 3) float in [0, 1]."""
    if settings.source == "colours":
        return drawn(lambda g: uniform(0.0, 1.0, (n, 3), g), generator, device)[places.image]
    if textures is None:
        raise BlemishError("simulated damage needs textures; give the method textures=TextureBank...")
    bank = textures.spread(settings.n_textures).at(size_hw, device)
    if settings.augment_textures:
        return augment(bank, n, places, generator, names=settings.augmentations, n_chosen=N_CHOSEN)
    texture = drawn(lambda g: torch.randint(len(bank), (n,), generator=g), generator, device)  # (n,)
    pixels = texture[places.image] * (size_hw[0] * size_hw[1]) + places.pixel  # (K,)
    return bank.images.view(-1, 3).index_select(0, pixels).float() / 255.0
