"""SSAE's modified images (section 3.2, figure 5): a patch of random size and position is changed and blended in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, get_args

import torch
from torch import Generator, Tensor

from blemish.errors import BlemishError
from blemish.settings import CheckedSettings
from blemish.synthesis.draw import coin, drawn, indices_to_process, uniform
from blemish.synthesis.elastic import (
    Patches,
    displacement_px,
    patch_grid,
    random_patches,
    sample_px,
    soft_shapes,
)  # fmt: skip
from blemish.synthesis.geometry import rotate
from blemish.synthesis.pasted_textures import HALF_LEVEL
from blemish.synthesis.photometric import augment, places_of
from blemish.synthesis.textures import TextureBank

Kind = Literal["elastic", "cut-out", "swap", "occlusion"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_SHAPES = 3  # at most this many shapes occlude an image
HALF_WIDTH = 0.25
"""|S| / N of a square patch of half the image's width."""
QUANTILES = (0.01, 0.99)
"""The range of the good images' values, for theorem 2."""


@dataclass(frozen=True)
class CorruptionSettings(CheckedSettings):
    """Appearance of modified images. Sizes and strengths are ours: the paper only shows them in a figure."""

    kinds: tuple[Kind, ...] = ("elastic",)
    """Each image gets one of these. ``elastic``: the patch is deformed; ``cut-out``: it is set to zero; ``swap``: it
    is replaced by a patch of another image; ``occlusion``: up to three shapes of a foreign texture cover the image
    (the paper adds this for cable, screw and transistor)."""
    min_side: float = 0.08
    max_side: float = 0.5
    """Range of a patch's sides, as shares of the image's shorter side."""
    limit: Literal["theorem", "half-width", "none"] = "half-width"
    """Patches that are too large are shrunk. ``theorem``: |S| is kept below 2 sigma^2 |S_rest| (theorem 2);
    ``half-width``: all patches of an image together are at most a square of half its width, up to which figure 9
    finds what the theorem states; ``none``: they are as large as they are drawn."""
    min_strength: float = 0.03
    max_strength: float = 0.2
    """Range of the root mean square displacement, as shares of the patch's side."""
    min_smoothing: float = 0.04
    max_smoothing: float = 0.15
    """Range of sigma of the displacement's Gaussian, as shares of the patch's side."""
    roughness: float = 0.35
    """How much shapes deviate from an ellipse."""
    brightness_probability: float = 0.0
    """Probability that the modified patch is also made lighter or darker."""
    max_brightness: float = 0.3
    """Largest change of brightness, for values in [0, 1]."""
    rotation_probability: float = 0.0
    """Probability that the whole modified image is rotated about its centre (in the paper: for transistor)."""
    max_rotation_deg: float = 90.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kinds:
            raise BlemishError(f"setting kinds: none; give at least one of {', '.join(KINDS)}")
        self.check_range(
            "brightness_probability", "rotation_probability", "max_brightness", "roughness", least=0, most=1
        )
        self.check_range("max_rotation_deg", least=0, most=180)
        for name in ("side", "strength", "smoothing"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if not 0.0 < low <= high <= 1.0:
                raise BlemishError(f"settings min_{name}, max_{name}: {low}, {high} should rise, above 0 up to 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Settings from names and values; ``is_limited`` of versions up to 0.2 is taken as ``limit``."""
        values = dict(values)
        if (is_limited := values.pop("is_limited", None)) is not None:
            values.setdefault("limit", "theorem" if is_limited else "none")
        return super().from_dict(values)


class Corrupted(NamedTuple):
    """A batch with simulated damage."""

    images: Tensor
    """(B, 3, H, W) float in [0, 1]."""
    masks: Tensor
    """(B, 1, H, W) float in [0, 1], the paper's real-valued M: above 0 exactly where the image was changed."""


def corrupt(
    images: Tensor,
    textures: TextureBank | None,
    generator: Generator,
    settings: CorruptionSettings,
    largest_share: float | None = None,
) -> Corrupted:
    """Modify a patch of each image: X^ = M Y + (1 - M) X, where Y depends on the kind of damage.

    Parameters
    ----------
    images : (B, 3, H, W) float in [0, 1], any device; not changed.
    textures : the textures of ``occlusion``; not needed without it.
    generator : CPU generator, the only source of randomness.
    largest_share : ``largest_share`` of all good images, for the limit ``theorem``.

    Returns
    -------
    Corrupted
        M is 0 where a pixel changed by less than half a grey level. If the damage is not visible at all (an elastic
        deformation of a plain area), the whole mask is 0.

    Raises
    ------
    BlemishError
        If the settings include occlusion and there are no textures, or ``theorem`` and there is no ``largest_share``.
    """
    if "occlusion" in settings.kinds and textures is None:
        raise BlemishError("damage by occlusion needs textures; give a TextureBank, or take other kinds")
    if settings.limit == "theorem" and largest_share is None:
        raise BlemishError("damage limited by theorem 2 needs largest_share(images) of all good images")
    limits = {"theorem": largest_share, "half-width": HALF_WIDTH, "none": None}
    with torch.autocast(images.device.type, enabled=False):  # bf16 is too coarse for coordinates
        return _corrupt(images.float(), textures, generator, settings, limits[settings.limit])


def _corrupt(
    images: Tensor,
    textures: TextureBank | None,
    generator: Generator,
    settings: CorruptionSettings,
    limit: float | None,
) -> Corrupted:
    n, size_hw, device = len(images), (images.shape[-2], images.shape[-1]), images.device
    kind_indices = drawn(lambda g: torch.randint(len(settings.kinds), (n,), generator=g), generator, device)  # (B,)
    masks, contents = torch.zeros_like(images[:, :1]), images.clone()  # (B, 1, H, W), (B, 3, H, W): M and Y
    for number, kind in enumerate(settings.kinds):
        is_kind = kind_indices == number  # (B,)
        chosen = indices_to_process(is_kind)  # (K,)
        if len(chosen) == 0:
            continue
        n_shapes = MAX_SHAPES if kind == "occlusion" else 1
        patches = _patches(len(chosen) * n_shapes, size_hw, settings, generator, device)
        if limit is not None:
            patches = _limited(patches, limit / n_shapes * size_hw[0] * size_hw[1])
        grid = patch_grid(patches, size_hw)  # (K n_shapes, H, W, 2)
        shapes = soft_shapes(grid, settings.roughness, generator).view(len(chosen), n_shapes, *size_hw)
        is_shown = _shown(len(chosen), n_shapes, generator, device)  # (K, n_shapes)
        mask = (shapes * is_shown[..., None, None]).amax(1, keepdim=True)  # (K, 1, H, W)
        if kind == "elastic":  # content: (K, 3, H, W)
            content = _deformed(images[chosen], patches, grid, settings, generator)
        elif kind == "swap":
            content = _swapped(images, chosen, generator)
        elif kind == "occlusion" and textures is not None:
            content = _foreign(mask, textures, generator)
        else:  # cut-out
            content = torch.zeros_like(images[chosen])
        is_chosen = is_kind[chosen].view(-1, 1, 1, 1)  # (K, 1, 1, 1); all True on a CPU
        masks[chosen] = torch.where(is_chosen, mask, masks[chosen])
        contents[chosen] = torch.where(is_chosen, content, contents[chosen])
    brightness = drawn(
        lambda g: coin(settings.brightness_probability, n, g) * uniform(-1.0, 1.0, (n,), g) * settings.max_brightness,
        generator, device,
    )  # fmt: skip
    contents = contents + brightness.view(-1, 1, 1, 1)
    changed = torch.lerp(images, contents.clamp_(0.0, 1.0), masks)  # (B, 3, H, W)
    changed, masks = _randomly_rotated(changed, masks, settings, generator)
    is_visible = (changed - images).abs().amax(1, keepdim=True) >= HALF_LEVEL  # (B, 1, H, W)
    masks = masks * is_visible
    return Corrupted(torch.where(masks > 0, changed, images), masks)


def _patches(
    n: int, size_hw: tuple[int, int], settings: CorruptionSettings, generator: Generator, device: torch.device
) -> Patches:
    """``n`` patches of random size and position on ``device``."""
    sides = settings.min_side, settings.max_side
    return Patches(*drawn(lambda g: tuple(random_patches(n, size_hw, sides, g)), generator, device))


def _shown(n: int, n_shapes: int, generator: Generator, device: torch.device) -> Tensor:
    """Which shapes of each image are shown, at least the first: (n, n_shapes) bool."""

    def make(generator: Generator) -> Tensor:
        return torch.arange(n_shapes) < torch.randint(1, n_shapes + 1, (n, 1), generator=generator)

    return drawn(make, generator, device)


def _randomly_rotated(
    changed: Tensor, masks: Tensor, settings: CorruptionSettings, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Rotate some images as a whole; their masks become 1 everywhere. (B, 3, H, W) and (B, 1, H, W), in place."""
    n, max_deg = len(changed), settings.max_rotation_deg
    is_rotated, angles_rad = drawn(
        lambda g: (
            coin(settings.rotation_probability, n, g), torch.deg2rad(uniform(-max_deg, max_deg, (n,), g))
        ),
        generator, changed.device,
    )  # fmt: skip
    index = indices_to_process(is_rotated)  # (K,)
    if settings.rotation_probability == 0 or len(index) == 0:
        return changed, masks
    is_chosen = is_rotated[index].view(-1, 1, 1, 1)
    rotated = rotate(changed[index], angles_rad[index], padding_mode="border")  # (K, 3, H, W)
    changed[index] = torch.where(is_chosen, rotated, changed[index])
    masks[index] = torch.where(is_chosen, 1.0, masks[index])
    return changed, masks


def largest_share(images: Tensor) -> float:
    """Largest |S| / N for which the unmodified rest still distinguishes good images (theorem 2), in [0, 1/3].

    |S| < 2 sigma^2 |S_rest| holds for values in an interval of length 1. For an interval of length r, sigma / r
    replaces sigma. The interval reaches from the 1 % to the 99 % quantile of all values, and sigma^2 is the variance
    of the values cut off at its ends: the extremes themselves are those of a few hot or dead pixels.

    The theorem assumes that all pixels have the same distribution, as in a texture. This does not hold for aligned
    objects; for them the result is only a bound on the size.

    Parameters
    ----------
    images : (N, C, H, W) uint8, all good images of the training.
    """
    counts = sum(torch.bincount(image.flatten().long(), minlength=256) for image in images.cpu())
    assert isinstance(counts, Tensor)
    shares = (counts / counts.sum()).double().cumsum(0)  # (256,)
    low, high = (int((shares < quantile).sum()) for quantile in QUANTILES)
    values = torch.arange(256, dtype=torch.float64).clamp(low, high)
    mean = (counts * values).sum() / counts.sum()
    variance = (counts * (values - mean).square()).sum() / counts.sum()
    return float(allowed_share(variance, torch.tensor(float(high - low))))


def allowed_share(variance: Tensor, spread: Tensor) -> Tensor:
    """``largest_share`` from sigma^2 and r: in [0, 1/3], because the variance is at most r^2 / 4."""
    ratio = 2.0 * variance / spread.square().clamp_min(1e-6)
    return ratio / (1.0 + ratio)


def _limited(patches: Patches, area_px: float) -> Patches:
    """Patches shrunk about their centres to at most ``area_px``."""
    factor = (area_px / patches.side_yx.prod(1, keepdim=True)).sqrt().clamp(max=1.0)  # (B, 1)
    return Patches(patches.centre_yx, patches.side_yx * factor)


def _deformed(
    images: Tensor, patches: Patches, grid: Tensor, settings: CorruptionSettings, generator: Generator
) -> Tensor:
    """Each image (B, 3, H, W), elastically deformed with a strength in proportion to its patch."""
    strength = (settings.min_strength, settings.max_strength)
    smoothing = (settings.min_smoothing, settings.max_smoothing)
    offset_px = displacement_px(patches, grid, strength, smoothing, generator)  # (B, H, W, 2)
    x, y = _pixel_centres(images)
    return sample_px(images, x + offset_px[..., 0], y + offset_px[..., 1])


def _swapped(images: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """For each chosen image another image of the batch, shifted at random: (K, 3, H, W).

    In a batch of a single image it is that image.
    """
    n, n_chosen, (height, width) = len(images), len(chosen), images.shape[-2:]
    steps, shift = drawn(  # (K,), (K, 2)
        lambda g: (
            torch.randint(1, max(n, 2), (n_chosen,), generator=g), uniform(-0.5, 0.5, (n_chosen, 2), g)
        ),
        generator, images.device,
    )  # fmt: skip
    x, y = _pixel_centres(images)
    partners = images[(chosen + steps) % n]  # (K, 3, H, W)
    return sample_px(partners, x + width * shift[:, :1, None], y + height * shift[:, 1:, None])


def _foreign(mask: Tensor, textures: TextureBank, generator: Generator) -> Tensor:
    """Textures, augmented as in DRÆM, where the mask (B, 1, H, W) is above 0: (B, 3, H, W) float in [0, 1]."""
    n, size_hw = len(mask), (mask.shape[-2], mask.shape[-1])
    places = places_of(mask[:, 0] > 0)  # P pixels
    colours = augment(textures.at(size_hw, mask.device), n, places, generator)  # (P, 3)
    flat = torch.zeros(n * mask[0].numel(), 3, device=mask.device)  # (B H W, 3)
    flat.index_copy_(0, places.image * mask[0].numel() + places.pixel, colours)
    return flat.view(n, *size_hw, 3).permute(0, 3, 1, 2)  # (B, 3, H, W)


def _pixel_centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates x and y of the centres of the pixels: (1, H, W) each."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) + 0.5
    y = torch.arange(height, device=images.device) + 0.5
    return x.expand(1, height, width), y[:, None].expand(1, height, width)
