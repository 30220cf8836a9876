"""The ten augmentations of texture images in DRÆM (paper section 3.3; the list of the authors' code).

Seven of the ten only map grey values. They are composed, in the drawn order, into one table (``tables.py``). Rotation
and sharpness always come before the table, hue and saturation after it. Only in this does the order differ from the
authors'.

A texture is visible only inside of a mask, so it is computed only at the pixels of the mask (``Places``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import drawn, indices_to_process, uniform
from blemish.synthesis.tables import MAPPINGS, N_DRAWS, compose_table
from blemish.synthesis.textures import TextureBank

AUGMENTATIONS = (*MAPPINGS, "sharpness", "rotate", "hue_saturation")


class Places(NamedTuple):
    """K pixels of a batch."""

    image: Tensor
    """(K,) int64, index of the image in the batch."""
    pixel: Tensor
    """(K,) int64, row * width + column."""


def places_of(masks: Tensor) -> Places:
    """The pixels in (B, H, W) bool masks; on a GPU all pixels, as ``indices_to_process`` returns them."""
    flat = indices_to_process(masks.flatten())  # (K,)
    n_pixels = masks[0].numel()
    return Places(flat.div(n_pixels, rounding_mode="floor"), flat % n_pixels)


class Augmentation(NamedTuple):
    """The random parameters of the augmentations of a batch."""

    texture: Tensor
    """(B,) int64, index of the texture of each image."""
    table: Tensor
    """(B, 3, 256) float32 in 0..255, the new value of each grey value of each channel."""
    sharpness: Tensor
    """(B,) float32, blending factor; 1 changes nothing."""
    angle_rad: Tensor
    """(B,) float32, rotation; 0 changes nothing."""
    shift: Tensor
    """(B, 2) float32, shifts of hue and saturation, where 255 is the full range; 0 changes nothing."""
    is_shifted: Tensor
    """(B,) bool, whether hue and saturation were chosen."""


def augment(
    bank: TextureBank,
    n: int,
    places: Places,
    generator: Generator,
    *,
    names: Sequence[str] = AUGMENTATIONS,
    n_chosen: int = 3,
) -> Tensor:
    """Draw ``n`` textures, apply ``n_chosen`` of the augmentations to each, and return the colours at ``places``.

    Parameters
    ----------
    bank : the textures, of the size and on the device of the batch.
    n : images of the batch.
    places : the K pixels of the batch to compute.
    generator : CPU generator.
    names : the augmentations to choose from, of ``AUGMENTATIONS``.

    Returns
    -------
    (K, 3) float32 in [0, 1], one colour for each place.
    """

    def make(generator: Generator) -> Augmentation:
        texture = torch.randint(len(bank), (n,), generator=generator)
        chosen = torch.rand(n, len(names), generator=generator).argsort(1)[:, :n_chosen]
        indices = torch.tensor([AUGMENTATIONS.index(name) for name in names])
        return draw_chosen(bank, texture, indices[chosen], generator)

    return apply(Augmentation(*drawn(make, generator, bank.images.device)), bank, places)


def draw_chosen(bank: TextureBank, texture: Tensor, chosen: Tensor, generator: Generator) -> Augmentation:
    """Draw the parameters of the augmentations ``chosen`` (B, n) of the textures ``texture`` (B,); on the host."""
    n, table = len(texture), _composed(bank, texture, chosen, generator)

    def is_chosen(name: str) -> Tensor:
        return (chosen == AUGMENTATIONS.index(name)).any(1)

    # An augmentation that was not chosen for an image gets a neutral parameter: factor 1, angle 0, shift 0.
    return Augmentation(
        texture,
        table,
        uniform(0.0, 2.0, (n,), generator).where(is_chosen("sharpness"), torch.ones(n)),
        torch.deg2rad(uniform(-45.0, 45.0, (n,), generator)) * is_chosen("rotate"),
        uniform(-50.0, 50.0, (n, 2), generator) * is_chosen("hue_saturation")[:, None],
        is_chosen("hue_saturation"),
    )


def apply(augmentation: Augmentation, bank: TextureBank, places: Places) -> Tensor:
    """Colours of the augmented textures at K places: (K, 3) float32 in [0, 1]."""
    texture, table, sharpness, angle_rad, shift, is_shifted = augmentation
    index = texture[places.image] * bank.images[0, ..., 0].numel() + places.pixel  # (K,), among all textures' pixels
    index, inside = _rotated(index, places, angle_rad, bank.images.shape)  # (K,), (K,)
    values = _sharpened(bank.images, index, sharpness[places.image])  # (K, 3) int64
    entry = torch.arange(0, 768, 256, device=index.device) + places.image[:, None] * 768  # (K, 3), tables' starts
    colours = table.take(values.add_(entry))  # (K, 3)
    colours *= inside[:, None]  # outside of a rotated texture it is black
    chosen = indices_to_process(is_shifted[places.image])
    shifted = _shifted_hue(colours.index_select(0, chosen), *shift[places.image[chosen]].unbind(1))
    return colours.index_copy_(0, chosen, shifted).div_(255.0)


def _composed(bank: TextureBank, texture: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """The table of grey values of each image: (B, 3, 256) float32 in 0..255, on the host."""
    draws = torch.rand((*chosen.shape, N_DRAWS), generator=generator).numpy()  # (B, n, 3)
    tables = []
    for texture_index, chosen_indices, image_draws in zip(texture.tolist(), chosen.tolist(), draws, strict=True):
        names = [AUGMENTATIONS[index] for index in chosen_indices]
        mappings = [pair for pair in zip(names, image_draws, strict=True) if pair[0] in MAPPINGS]
        tables.append(compose_table(mappings, bank.histograms[texture_index]))
    return torch.from_numpy(np.stack(tables)).float()


def _rotated(index: Tensor, places: Places, angles_rad: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Rotate the textures about their centre.

    Parameters
    ----------
    index : (K,) int64, the pixel among all textures at each place before the rotation.
    angles_rad : (B,) float.
    shape : (N, H, W, 3) of all textures.

    Returns
    -------
    (K,) int64, the pixel at each place after the rotation, and (K,) bool, False where it is outside of the texture
    (then the pixel is the nearest one of the border).
    """
    _, height, width, _ = shape
    angles = angles_rad[places.image]  # (K,)
    chosen = indices_to_process(angles != 0)
    cos, sin, pixel = angles[chosen].cos(), angles[chosen].sin(), places.pixel[chosen]
    y = pixel.div(width, rounding_mode="floor") - (height - 1) / 2
    x = pixel % width - (width - 1) / 2
    row = (x * sin + y * cos + height / 2).floor_()  # the centre of pixel 0 is at 0.5
    column = (x * cos - y * sin + width / 2).floor_()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    rotated = row.clamp_(0, height - 1).long() * width + column.clamp_(0, width - 1).long()
    all_inside = torch.ones_like(index, dtype=torch.bool).index_copy_(0, chosen, inside)  # (K,)
    return index.index_add(0, chosen, rotated - pixel), all_inside


def _sharpened(textures: Tensor, index: Tensor, factor: Tensor) -> Tensor:
    """Values (K, 3) int64 of K pixels, blended with a smoothed image (as in Pillow).

    A factor (K,) below 1 blurs, above 1 sharpens. Border pixels do not change.
    """
    _, height, width, _ = textures.shape
    pixels = textures.view(-1, 3)  # (N H W, 3)
    values = pixels.index_select(0, index).long()  # (K, 3); on a CPU several times as fast as pixels[index]
    chosen = indices_to_process(factor != 1)
    centre = index[chosen]
    row, column = centre.div(width, rounding_mode="floor") % height, centre % width
    is_border = (row == 0) | (row == height - 1) | (column == 0) | (column == width - 1)
    original = values.index_select(0, chosen).float()
    centre = centre.clamp(width + 1, len(pixels) - width - 2)  # neighbours exist; border pixels do not use them
    smooth = 4.0 * original  # Pillow's SMOOTH: weight 5 at the centre, 1 for the neighbours, over 13
    for down in (-width, 0, width):
        for right in (-1, 0, 1):
            smooth += pixels.index_select(0, centre + (down + right))
    blended = torch.lerp(smooth.div_(13.0), original, factor[chosen].masked_fill_(is_border, 1.0)[:, None])
    return values.index_copy_(0, chosen, blended.round_().clamp_(0, 255).long())


def _shifted_hue(colours: Tensor, shift: Tensor, gain: Tensor) -> Tensor:
    """Add ``shift`` to the hue and ``gain`` to the saturation of (K, 3) colours in 0..255; 255 is the full range."""
    red, green, blue = colours.unbind(1)
    value, low = colours.amax(1), colours.amin(1)
    chroma = value - low
    is_red, is_green = value == red, value == green
    hue = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green)) / chroma.clamp_min(1e-6)
    hue = hue + torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0)) + shift * (6.0 / 255.0)
    hue = hue.remainder_(6.0)
    chroma = torch.minimum((chroma + value * (gain / 255.0)).clamp_min_(0.0), value)
    lit = torch.stack([(hue - 3).abs_() - 1, 2 - (hue - 2).abs_(), 2 - (hue - 4).abs_()], 1).clamp_(0, 1)
    return ((value - chroma)[:, None] + lit * chroma[:, None]).round_().clamp_(0, 255)
