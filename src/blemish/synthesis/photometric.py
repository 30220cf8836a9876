"""The ten augmentations of texture images in DRÆM (paper section 3.3; the list of the authors' code).

Seven of the ten only map grey values: they are composed, in the drawn order, into one table (``tables.py``).
Rotation and sharpness come before it, hue and saturation after, whatever was drawn: that is the only point in
which the order differs from the authors'.

A texture shows through a mask, so it is worked out only at the ``Places`` that the mask leaves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import send, uniform
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
    flat = _worth(masks.flatten())
    n_pixels = masks[0].numel()
    return Places(flat.div(n_pixels, rounding_mode="floor"), flat % n_pixels)


def _worth(flags: Tensor) -> Tensor:
    """Indices of the True among (K,) flags; on other devices than the CPU all, since the count decides a shape."""
    if flags.device.type != "cpu":
        return torch.arange(len(flags), device=flags.device)
    return torch.from_numpy(np.flatnonzero(flags.numpy()))  # in half of torch's time


def augment(bank: TextureBank, drawn: Tensor, places: Places, generator: Generator, *, n_chosen: int = 3) -> Tensor:
    """Apply ``n_chosen`` different ones of the ten augmentations to each drawn texture, and read it at some places.

    Parameters
    ----------
    bank : the textures, of the size and on the device of the batch.
    drawn : (B,) int64 on the host, which texture each image of the batch shows.
    places : where, in the batch.
    generator : CPU generator.

    Returns
    -------
    (K, 3) float32 in [0, 1], one colour for each place.
    """
    chosen = torch.rand(len(drawn), len(AUGMENTATIONS), generator=generator).argsort(1)[:, :n_chosen]
    return apply_chosen(bank, drawn, chosen, places, generator)


def apply_chosen(bank: TextureBank, drawn: Tensor, chosen: Tensor, places: Places, generator: Generator) -> Tensor:
    """``augment`` with ``AUGMENTATIONS[chosen[b, i]]``, i = 0, 1, ..., for image b; (B, n) on the host."""
    device, n = bank.images.device, len(drawn)
    tables = send(_composed(bank, drawn, chosen, generator), device)

    def drawn_for(name: str) -> Tensor:
        return (chosen == AUGMENTATIONS.index(name)).any(1)

    # What an image was not drawn for does nothing to it: factor 1, angle 0, shift 0.
    factor = uniform(0.0, 2.0, (n,), generator).where(drawn_for("sharpness"), torch.ones(n))
    angle = torch.deg2rad(uniform(-45.0, 45.0, (n,), generator)) * drawn_for("rotate")
    shift = uniform(-50.0, 50.0, (n, 2), generator) * drawn_for("hue_saturation")[:, None]

    index = send(drawn, device)[places.image] * bank.images[0, ..., 0].numel() + places.pixel
    index, inside = _turned(index, places, send(angle, device), bank.images.shape)
    values = _sharpened(bank.images, index, send(factor, device)[places.image])
    entry = torch.arange(0, 768, 256, device=device) + places.image[:, None] * 768
    colours = tables.take(values.add_(entry))
    colours *= inside[:, None]  # what a rotation brings in from outside is black
    some = _worth(send(drawn_for("hue_saturation"), device)[places.image])
    shifted = _shifted_hue(colours.index_select(0, some), *send(shift, device)[places.image[some]].unbind(1))
    return colours.index_copy_(0, some, shifted).div_(255.0)


def _composed(bank: TextureBank, drawn: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """The table of each image: (B, 3, 256) float32 in 0..255, on the host."""
    draws = torch.rand((*chosen.shape, N_DRAWS), generator=generator).numpy()
    tables = []
    for texture, numbers, numbers_drawn in zip(drawn.tolist(), chosen.tolist(), draws, strict=True):
        names = [AUGMENTATIONS[number] for number in numbers]
        mappings = [pair for pair in zip(names, numbers_drawn, strict=True) if pair[0] in MAPPINGS]
        tables.append(compose_table(mappings, bank.histograms[texture]))
    return torch.from_numpy(np.stack(tables)).float()


def _turned(index: Tensor, places: Places, angles_rad: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Turn the textures about their centre: (K,) int64, the pixel among all textures that each place shows then.

    And (K,) bool, whether there is one; if not, it is the nearest on the border. ``index`` is the pixel before.
    """
    _, height, width, _ = shape
    angles = angles_rad[places.image]
    some = _worth(angles != 0)
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
    some = _worth(factor != 1)
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
