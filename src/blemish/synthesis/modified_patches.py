"""SSAE's modified images (section 3.2, figure 5): a patch of random size and place, changed and softly glued back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from blemish.errors import BlemishError
from blemish.settings import CheckedSettings
from blemish.synthesis.draw import coin, drawn, uniform, worth
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
MOST_SHAPES = 3  # of an occlusion


@dataclass(frozen=True)
class CorruptionSettings(CheckedSettings):
    """What modified images look like. Sizes and strengths are ours: the paper shows them in a figure only."""

    kinds: tuple[Kind, ...] = ("elastic",)
    """Each image gets one of these. ``elastic``: the patch deformed; ``cut-out``: set to zero; ``swap``: a patch of
    another image; ``occlusion``: up to three shapes of foreign texture (the paper adds it for cable, screw and
    transistor)."""
    min_side: float = 0.08
    max_side: float = 0.5
    """Range of a patch's sides, shares of the image's shorter one."""
    is_limited: bool = True
    """Keep |S| below 2 sigma^2 |S_rest| (theorem 2) by making patches smaller where they would be too large."""
    min_strength: float = 0.03
    max_strength: float = 0.2
    """Range of the root mean square displacement, shares of the patch's side."""
    min_smoothing: float = 0.04
    max_smoothing: float = 0.15
    """Range of the displacement's Gaussian, shares of the patch's side."""
    roughness: float = 0.35
    """How far shapes stray from an ellipse."""
    brightness_probability: float = 0.0
    """How often the modified patch is made lighter or darker, too."""
    max_brightness: float = 0.3
    rotation_probability: float = 0.0
    """How often the whole modified image is turned about its centre (the paper: for transistor)."""
    max_rotation_deg: float = 90.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kinds:
            raise BlemishError(f"setting kinds: none; give one or more of {', '.join(KINDS)}")
        self.check_range(
            "brightness_probability", "rotation_probability", "max_brightness", "roughness", least=0, most=1
        )
        self.check_range("max_rotation_deg", least=0, most=180)
        for name in ("side", "strength", "smoothing"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if not 0.0 < low <= high <= 1.0:
                raise BlemishError(f"settings min_{name}, max_{name}: {low}, {high} should rise, above 0 up to 1")


class Corrupted(NamedTuple):
    """A batch after the damage."""

    images: Tensor
    """(B, 3, H, W) float in [0, 1]."""
    masks: Tensor
    """(B, 1, H, W) float in [0, 1], the paper's real-valued M: above 0 exactly where the image was changed."""


def corrupt(
    images: Tensor, textures: TextureBank | None, generator: Generator, settings: CorruptionSettings
) -> Corrupted:
    """Modify a patch of each image: X^ = M Y + (1 - M) X, where Y is what the kind of damage puts there.

    Parameters
    ----------
    images : (B, 3, H, W) float in [0, 1], any device; not changed.
    textures : what ``occlusion`` shows; not needed without it.
    generator : CPU generator, the only source of randomness.

    Returns
    -------
    Corrupted
        M is 0 wherever a pixel moved by less than half a grey level. An image on which the damage does not
        show (an elastic deformation of a plain area) has a mask of zeros.

    Raises
    ------
    BlemishError
        If occlusion is asked for and there are no textures.
    """
    if "occlusion" in settings.kinds and textures is None:
        raise BlemishError("damage by occlusion needs textures; give a TextureBank, or take other kinds")
    with torch.autocast(images.device.type, enabled=False):  # coordinates do not fit into bf16
        return _corrupt(images.float(), textures, generator, settings)


def _corrupt(
    images: Tensor, textures: TextureBank | None, generator: Generator, settings: CorruptionSettings
) -> Corrupted:
    n, size_hw, device = len(images), (images.shape[-2], images.shape[-1]), images.device
    limit = largest_share(images) if settings.is_limited else None
    kind_of = drawn(lambda g: torch.randint(len(settings.kinds), (n,), generator=g), generator, device)
    masks, contents = torch.zeros_like(images[:, :1]), images.clone()
    for number, kind in enumerate(settings.kinds):
        is_kind = kind_of == number
        chosen = worth(is_kind)
        if len(chosen) == 0:
            continue
        n_shapes = MOST_SHAPES if kind == "occlusion" else 1
        patches = _patches(len(chosen) * n_shapes, size_hw, settings, generator, device)
        if limit is not None:
            patches = _limited(patches, limit / n_shapes * (size_hw[0] * size_hw[1]))
        grid = patch_grid(patches, size_hw)
        shapes = soft_shapes(grid, settings.roughness, generator).view(len(chosen), n_shapes, *size_hw)
        shown = _shown(len(chosen), n_shapes, generator, device)
        mask = (shapes * shown[..., None, None]).amax(1, keepdim=True)
        if kind == "elastic":
            content = _deformed(images[chosen], patches, grid, settings, generator)
        elif kind == "swap":
            content = _swapped(images, chosen, generator)
        elif kind == "occlusion" and textures is not None:
            content = _foreign(mask, textures, generator)
        else:  # cut-out
            content = torch.zeros_like(images[chosen])
        is_here = is_kind[chosen].view(-1, 1, 1, 1)
        masks[chosen] = torch.where(is_here, mask, masks[chosen])
        contents[chosen] = torch.where(is_here, content, contents[chosen])
    lit = drawn(
        lambda g: coin(settings.brightness_probability, n, g) * uniform(-1.0, 1.0, (n,), g) * settings.max_brightness,
        generator, device,
    )  # fmt: skip
    contents = contents + lit.view(-1, 1, 1, 1)
    changed = torch.lerp(images, contents.clamp_(0.0, 1.0), masks)
    changed, masks = _turned(changed, masks, settings, generator)
    shows = (changed - images).abs().amax(1, keepdim=True) >= HALF_LEVEL
    masks = masks * shows
    return Corrupted(torch.where(masks > 0, changed, images), masks)


def _patches(
    n: int, size_hw: tuple[int, int], settings: CorruptionSettings, generator: Generator, device: torch.device
) -> Patches:
    """Patches of random size and place on ``device``."""
    sides = settings.min_side, settings.max_side
    return Patches(*drawn(lambda g: tuple(random_patches(n, size_hw, sides, g)), generator, device))


def _shown(n: int, n_shapes: int, generator: Generator, device: torch.device) -> Tensor:
    """Which shapes of an image are shown, the first one always: (n, n_shapes) bool."""

    def shown(generator: Generator) -> Tensor:
        return torch.arange(n_shapes) < torch.randint(1, n_shapes + 1, (n, 1), generator=generator)

    return drawn(shown, generator, device)


def _turned(
    changed: Tensor, masks: Tensor, settings: CorruptionSettings, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Some images turned as a whole, with masks that are 1 everywhere."""
    n, most_deg = len(changed), settings.max_rotation_deg
    is_turned, angles_rad = drawn(
        lambda g: (
            coin(settings.rotation_probability, n, g), torch.deg2rad(uniform(-most_deg, most_deg, (n,), g))
        ),
        generator, changed.device,
    )  # fmt: skip
    index = worth(is_turned)
    if settings.rotation_probability == 0 or len(index) == 0:
        return changed, masks
    is_here = is_turned[index].view(-1, 1, 1, 1)
    turned = rotate(changed[index], angles_rad[index], padding_mode="border")
    changed[index] = torch.where(is_here, turned, changed[index])
    masks[index] = torch.where(is_here, 1.0, masks[index])
    return changed, masks


def largest_share(images: Tensor) -> Tensor:
    """Largest |S| / N for which good images are told apart by the rest of the image (theorem 2): a scalar.

    Sigma^2 is the variance of all pixels together: the theorem supposes that they have the same distribution, as in a
    texture. For aligned objects it does not hold, and this is no more than a bound on the size.

    |S| < 2 sigma^2 |S_rest| holds for values in an interval of length 1; for those of an interval of length r,
    sigma / r takes the place of sigma. Both are taken from the batch.

    Parameters
    ----------
    images : (B, C, H, W) float.
    """
    return allowed_share(images.var(), images.amax() - images.amin())


def allowed_share(variance: Tensor, spread: Tensor) -> Tensor:
    """The same from sigma^2 and r: in [0, 1/3], for no variance exceeds r^2 / 4."""
    ratio = 2.0 * variance / spread.square().clamp_min(1e-6)
    return ratio / (1.0 + ratio)


def _limited(patches: Patches, area_px: Tensor) -> Patches:
    """Patches shrunk about their centres to at most ``area_px``."""
    factor = (area_px / patches.side_yx.prod(1, keepdim=True)).sqrt().clamp(max=1.0)
    return Patches(patches.centre_yx, patches.side_yx * factor)


def _deformed(
    images: Tensor, patches: Patches, grid: Tensor, settings: CorruptionSettings, generator: Generator
) -> Tensor:
    """Each image, elastically deformed with a strength that suits its patch."""
    strength = (settings.min_strength, settings.max_strength)
    smoothing = (settings.min_smoothing, settings.max_smoothing)
    moved = displacement_px(patches, grid, strength, smoothing, generator)
    x, y = _pixels(images)
    return sample_px(images, x + moved[..., 0], y + moved[..., 1])


def _swapped(images: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """Another image of the batch (the same one, if it is alone), shifted at random, in place of each chosen one."""
    n, n_chosen, (height, width) = len(images), len(chosen), images.shape[-2:]
    steps, shift = drawn(
        lambda g: (
            torch.randint(1, max(n, 2), (n_chosen,), generator=g), uniform(-0.5, 0.5, (n_chosen, 2), g)
        ),
        generator, images.device,
    )  # fmt: skip
    x, y = _pixels(images)
    other = images[(chosen + steps) % n]
    return sample_px(other, x + width * shift[:, :1, None], y + height * shift[:, 1:, None])


def _foreign(mask: Tensor, textures: TextureBank, generator: Generator) -> Tensor:
    """Textures, augmented as DRÆM's are, where (B, 1, H, W) masks are above 0: (B, 3, H, W) float in [0, 1]."""
    n, size_hw = len(mask), (mask.shape[-2], mask.shape[-1])
    places = places_of(mask[:, 0] > 0)
    colours = augment(textures.at(size_hw, mask.device), n, places, generator)
    flat = torch.zeros(n * mask[0].numel(), 3, device=mask.device)
    flat.index_copy_(0, places.image * mask[0].numel() + places.pixel, colours)
    return flat.view(n, *size_hw, 3).permute(0, 3, 1, 2)


def _pixels(images: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (x, y) of the middles of the pixels: twice (1, H, W)."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) + 0.5
    y = torch.arange(height, device=images.device) + 0.5
    return x.expand(1, height, width), y[:, None].expand(1, height, width)
