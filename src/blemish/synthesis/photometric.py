"""The ten augmentations of texture images in DRÆM (paper section 3.3; the list of the authors' code).

Seven of the ten only map grey values: they are composed, in the drawn order, into one table (``tables.py``).
Rotation and sharpness come before it, hue and saturation after, whatever was drawn: that is the only point in
which the order differs from the authors'.

A texture shows through a mask, so it is worked out only at the ``Places`` that the mask leaves.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import drawn, uniform, worth
from blemish.synthesis.tables import MAPPINGS, N_DRAWS, compose_table
from blemish.synthesis.textures import TextureBank

AUGMENTATIONS = (*MAPPINGS, "sharpness", "rotate", "hue_saturation")


class Places(NamedTuple):
    """Pixels of a batch."""

    image: Tensor
    """(K,) int64, which image of the batch."""
    pixel: Tensor
    """(K,) int64, row * width + column."""


def places_of(masks: Tensor) -> Places:
    """The pixels worth working on: those in (B, H, W) bool masks, or all where asking would make the host wait."""
    flat = worth(masks.flatten())
    n_pixels = masks[0].numel()
    return Places(flat.div(n_pixels, rounding_mode="floor"), flat % n_pixels)


class Augmentation(NamedTuple):
    """What was drawn for a batch of textures."""

    texture: Tensor
    """(B,) int64, which texture each image of the batch shows."""
    table: Tensor
    """(B, 3, 256) float32 in 0..255, what each grey value of each channel becomes."""
    sharpness: Tensor
    """(B,) float32, 1 leaves it."""
    angle_rad: Tensor
    """(B,) float32, 0 leaves it."""
    shift: Tensor
    """(B, 2) float32, of hue and of saturation, of 255."""
    is_shifted: Tensor
    """(B,) bool."""


def augment(bank: TextureBank, n: int, places: Places, generator: Generator, *, n_chosen: int = 3) -> Tensor:
    """Draw ``n`` textures, apply ``n_chosen`` different ones of the ten augmentations to each, read them at places.

    Parameters
    ----------
    bank : the textures, of the size and on the device of the batch.
    n : images of the batch.
    places : where, in the batch.
    generator : CPU generator.

    Returns
    -------
    (K, 3) float32 in [0, 1], one colour for each place.
    """

    def make(generator: Generator) -> Augmentation:
        texture = torch.randint(len(bank), (n,), generator=generator)
        chosen = torch.rand(n, len(AUGMENTATIONS), generator=generator).argsort(1)[:, :n_chosen]
        return draw_chosen(bank, texture, chosen, generator)

    return apply(Augmentation(*drawn(make, generator, bank.images.device)), bank, places)


def apply_chosen(bank: TextureBank, texture: Tensor, chosen: Tensor, places: Places, generator: Generator) -> Tensor:
    """``augment`` of given textures with ``AUGMENTATIONS[chosen[b, i]]``, i = 0, 1, ..., for image b.

    Both (B,) and (B, n) int64 on the host.
    """
    make = partial(draw_chosen, bank, texture, chosen)
    return apply(Augmentation(*drawn(make, generator, bank.images.device)), bank, places)


def draw_chosen(bank: TextureBank, texture: Tensor, chosen: Tensor, generator: Generator) -> Augmentation:
    """What is left to draw when textures and augmentations are chosen; on the host."""
    n, table = len(texture), _composed(bank, texture, chosen, generator)

    def is_chosen(name: str) -> Tensor:
        return (chosen == AUGMENTATIONS.index(name)).any(1)

    # What an image was not drawn for does nothing to it: factor 1, angle 0, shift 0.
    return Augmentation(
        texture,
        table,
        uniform(0.0, 2.0, (n,), generator).where(is_chosen("sharpness"), torch.ones(n)),
        torch.deg2rad(uniform(-45.0, 45.0, (n,), generator)) * is_chosen("rotate"),
        uniform(-50.0, 50.0, (n, 2), generator) * is_chosen("hue_saturation")[:, None],
        is_chosen("hue_saturation"),
    )


def apply(augmentation: Augmentation, bank: TextureBank, places: Places) -> Tensor:
    """Read augmented textures at some places: (K, 3) float32 in [0, 1]."""
    texture, table, sharpness, angle_rad, shift, is_shifted = augmentation
    index = texture[places.image] * bank.images[0, ..., 0].numel() + places.pixel
    index, inside = _turned(index, places, angle_rad, bank.images.shape)
    values = _sharpened(bank.images, index, sharpness[places.image])
    entry = torch.arange(0, 768, 256, device=index.device) + places.image[:, None] * 768
    colours = table.take(values.add_(entry))
    colours *= inside[:, None]  # what a rotation brings in from outside is black
    some = worth(is_shifted[places.image])
    shifted = _shifted_hue(colours.index_select(0, some), *shift[places.image[some]].unbind(1))
    return colours.index_copy_(0, some, shifted).div_(255.0)


def _composed(bank: TextureBank, texture: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """The table of each image: (B, 3, 256) float32 in 0..255, on the host."""
    draws = torch.rand((*chosen.shape, N_DRAWS), generator=generator).numpy()
    tables = []
    for number, numbers, numbers_drawn in zip(texture.tolist(), chosen.tolist(), draws, strict=True):
        names = [AUGMENTATIONS[choice] for choice in numbers]
        mappings = [pair for pair in zip(names, numbers_drawn, strict=True) if pair[0] in MAPPINGS]
        tables.append(compose_table(mappings, bank.histograms[number]))
    return torch.from_numpy(np.stack(tables)).float()


def _turned(index: Tensor, places: Places, angles_rad: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Turn the textures about their centre: (K,) int64, the pixel among all textures that each place shows then.

    And (K,) bool, whether there is one; if not, it is the nearest on the border. ``index`` is the pixel before.
    """
    _, height, width, _ = shape
    angles = angles_rad[places.image]
    some = worth(angles != 0)
    cos, sin, pixel = angles[some].cos(), angles[some].sin(), places.pixel[some]
    y = pixel.div(width, rounding_mode="floor") - (height - 1) / 2
    x = pixel % width - (width - 1) / 2
    row = (x * sin + y * cos + height / 2).floor_()  # the middle of pixel 0 is at 0.5
    column = (x * cos - y * sin + width / 2).floor_()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    shown = row.clamp_(0, height - 1).long() * width + column.clamp_(0, width - 1).long()
    everywhere = torch.ones_like(index, dtype=torch.bool).index_copy_(0, some, inside)
    return index.index_add(0, some, shown - pixel), everywhere


def _sharpened(textures: Tensor, index: Tensor, factor: Tensor) -> Tensor:
    """Values (K, 3) int64 of some pixels, blended with their smoothed surroundings (as in Pillow).

    A factor below 1 blurs, above 1 sharpens; the border stays.
    """
    _, height, width, _ = textures.shape
    pixels = textures.view(-1, 3)
    values = pixels.index_select(0, index).long()  # several times as fast as pixels[index], on a CPU
    some = worth(factor != 1)
    around = index[some]
    row, column = around.div(width, rounding_mode="floor") % height, around % width
    is_border = (row == 0) | (row == height - 1) | (column == 0) | (column == width - 1)
    middle, around = values.index_select(0, some).float(), around.clamp(width + 1, len(pixels) - width - 2)
    smooth = 4.0 * middle  # Pillow's SMOOTH: 5 in the middle, 1 around, over 13
    for down in (-width, 0, width):
        for right in (-1, 0, 1):
            smooth += pixels.index_select(0, around + (down + right))
    blended = torch.lerp(smooth.div_(13.0), middle, factor[some].masked_fill_(is_border, 1.0)[:, None])
    return values.index_copy_(0, some, blended.round_().clamp_(0, 255).long())


def _shifted_hue(colours: Tensor, shift: Tensor, gain: Tensor) -> Tensor:
    """Add ``shift`` of 255 to the hue circle and ``gain`` of 255 to the saturation of (K, 3) colours in 0..255."""
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
