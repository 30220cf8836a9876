"""The ten augmentations of texture images in DRÆM (paper section 3.3; the list of the authors' code).

Seven of the ten only map grey values: gamma, brightness, solarize, posterize, invert, autocontrast, equalize.
They are composed, in the drawn order, into one 256-entry table per image and channel that is applied once.
The three others follow: sharpness, rotation, hue and saturation. That they come last, whatever was drawn, is
the only point in which the order differs from the authors'.

A texture shows through a mask, so it is worked out only at the ``Places`` that the mask leaves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import coin, send, uniform

AUGMENTATIONS = (
    "gamma", "brightness", "solarize", "posterize", "invert", "autocontrast", "equalize",
    "sharpness", "rotate", "hue_saturation",
)  # fmt: skip
_TABLES = AUGMENTATIONS[:7]


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
    return flags.nonzero()[:, 0] if flags.device.type == "cpu" else torch.arange(len(flags), device=flags.device)


def augment(textures: Tensor, drawn: Tensor, places: Places, generator: Generator, *, n_chosen: int = 3) -> Tensor:
    """Apply ``n_chosen`` different ones of the ten augmentations to each drawn texture, and read it at some places.

    Parameters
    ----------
    textures : (N, H, W, 3) uint8.
    drawn : (B,) int64 on the host, which texture each image of the batch shows.
    places : where, in the batch.
    generator : CPU generator.

    Returns
    -------
    (K, 3) float32 in [0, 1], one colour for each place.
    """
    chosen = torch.rand(len(drawn), len(AUGMENTATIONS), generator=generator).argsort(1)[:, :n_chosen]
    return apply_chosen(textures, drawn, chosen, places, generator)


def apply_chosen(textures: Tensor, drawn: Tensor, chosen: Tensor, places: Places, generator: Generator) -> Tensor:
    """``augment`` with ``AUGMENTATIONS[chosen[b, i]]``, i = 0, 1, ..., for image b; (B, n) on the host."""
    device, n = textures.device, len(drawn)
    tables = _compose_tables(textures, drawn, chosen, generator)

    def drawn_for(name: str) -> Tensor:
        return (chosen == AUGMENTATIONS.index(name)).any(1)

    # What an image was not drawn for does nothing to it: factor 1, angle 0, shift 0.
    factor = uniform(0.0, 2.0, (n,), generator).where(drawn_for("sharpness"), torch.ones(n))
    angle = torch.deg2rad(uniform(-45.0, 45.0, (n,), generator)) * drawn_for("rotate")
    shift = uniform(-50.0, 50.0, (n, 2), generator) * drawn_for("hue_saturation")[:, None]

    source = _Source(textures, send(drawn, device)[places.image], tables, places.image)
    row, column, inside = _turned(places, send(angle, device), source)
    colours = _sharpened(source, row, column, send(factor, device)[places.image])
    colours *= inside[:, None]  # what a rotation brings in from outside is black
    some = _worth(send(drawn_for("hue_saturation"), device)[places.image])
    shifted = _shifted_hue(colours[some], *send(shift, device)[places.image[some]].unbind(1))
    return colours.index_copy_(0, some, shifted).div_(255.0)


class _Source(NamedTuple):
    """The textures as the tables map them, read at a row and column for each place."""

    textures: Tensor
    texture: Tensor
    tables: Tensor
    image: Tensor

    def at(self, row: Tensor, column: Tensor, some: Tensor | slice = slice(None)) -> Tensor:
        """(K, 3) float32 in 0..255."""
        _, height, width, _ = self.textures.shape
        values = self.textures.view(-1, 3)[(self.texture[some] * height + row) * width + column]
        entry = torch.arange(0, 768, 256, device=values.device) + self.image[some, None] * 768
        return self.tables.view(-1)[entry + values]


def _turned(places: Places, angles_rad: Tensor, source: _Source) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column (K,) int64 that each place shows after rotation about the centre, and whether they are inside."""
    _, height, width, _ = source.textures.shape
    cos, sin = angles_rad.cos()[places.image], angles_rad.sin()[places.image]
    y = places.pixel.div(width, rounding_mode="floor") - (height - 1) / 2
    x = places.pixel % width - (width - 1) / 2
    row = (x * sin + y * cos + height / 2).floor_()  # the middle of pixel 0 is at 0.5
    column = (x * cos - y * sin + width / 2).floor_()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return row.clamp_(0, height - 1).long(), column.clamp_(0, width - 1).long(), inside


def _sharpened(source: _Source, row: Tensor, column: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed copy: a factor below 1 blurs, above 1 sharpens; the border stays (as in Pillow)."""
    colours = source.at(row, column)
    _, height, width, _ = source.textures.shape
    border = (row == 0) | (row == height - 1) | (column == 0) | (column == width - 1)
    factor = factor.where(~border, torch.ones_like(factor))
    some = _worth(factor != 1)
    row, column = row[some].clamp(1, height - 2), column[some].clamp(1, width - 2)
    middle = colours[some]
    smooth = 4.0 * middle  # Pillow's SMOOTH: 5 in the middle, 1 around, over 13
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            smooth += source.at(row + down, column + right, some)
    blended = torch.lerp(smooth.div_(13.0), middle, factor[some, None]).round_().clamp_(0, 255)
    return colours.index_copy_(0, some, blended)


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


# --- the seven tables: (B, 3, 256) float grey values in 0..255 -----------------------------------------------


def _compose_tables(textures: Tensor, drawn: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """One table (B, 3, 256) for each image: the chosen value mappings, one after the other."""
    device, n = textures.device, len(drawn)
    ramp = torch.arange(256.0, device=device)
    table = ramp.expand(n, 3, 256)
    statistical = [_TABLES.index("autocontrast"), _TABLES.index("equalize")]
    counted = torch.isin(chosen, torch.tensor(statistical)).any(1)
    histogram = _histogram(textures, drawn, counted) if bool(counted.any()) else None
    for step in chosen.unbind(1):
        gamma = send(uniform(0.5, 2.0, (n, 3, 1), generator), device)
        gain = send(uniform(0.8, 1.2, (n, 1, 1), generator), device)
        bias = send(uniform(-30.0, 30.0, (n, 1, 1), generator), device)
        edge = uniform(32.0, 128.0, (n, 1, 1), generator)
        edge[~coin(0.5, n, generator)] = 256.0  # solarizes only half of the images it is drawn for
        bits = send(torch.randint(1, 9, (n, 1, 1), generator=generator).float(), device)
        cutoff = send(torch.randint(0, 21, (n, 1, 1), generator=generator) / 100.0, device)
        level = 2.0 ** (8.0 - bits)
        candidates = [
            255.0 * (table / 255.0) ** gamma,
            table * gain + bias,
            torch.where(table > send(edge, device), 255.0 - table, table),
            (table / level).floor() * level,
            255.0 - table,
        ]
        if histogram is not None:
            now = torch.zeros_like(histogram).scatter_add_(2, table.long(), histogram)  # of the mapped image
            stretched, equalized = _autocontrast(now, cutoff), _equalize(now)
            candidates += [stretched.gather(2, table.long()), equalized.gather(2, table.long())]
        pick = send(step, device).view(n, 1, 1)
        for number, candidate in enumerate(candidates):
            table = torch.where(pick == number, candidate.round().clamp(0, 255), table)
    return table.contiguous()


def _histogram(textures: Tensor, drawn: Tensor, counted: Tensor) -> Tensor:
    """(B, 3, 256) float: how often each value occurs, from every second row and column, each pixel for four.

    Images that are not ``counted``, (B,) bool on the host, get ones.
    """
    device = textures.device
    index = send(counted.nonzero()[:, 0], device)
    values = (
        textures[send(drawn[counted], device)][:, ::2, ::2].flatten(1, 2).transpose(1, 2).long()
    )  # (n, 3, pixels)
    four = torch.full((), 4.0, device=device).expand(values.shape)
    counts = torch.zeros(len(index), 3, 256, device=device).scatter_add_(2, values, four)
    return torch.ones(len(drawn), 3, 256, device=device).index_copy_(0, index, counts)


def _autocontrast(histogram: Tensor, cutoff: Tensor) -> Tensor:
    """Stretch to 0..255 what is left when the fraction ``cutoff`` is ignored at either end."""
    below = histogram.cumsum(2)
    ignored = cutoff * below[..., -1:]
    low = (below <= ignored).sum(2, keepdim=True).float()
    high = 255.0 - (histogram.flip(2).cumsum(2) <= ignored).sum(2, keepdim=True).float()
    ramp = torch.arange(256.0, device=histogram.device)
    return torch.where(high > low, (ramp - low) * 255.0 / (high - low).clamp_min(1.0), ramp)


def _equalize(histogram: Tensor) -> Tensor:
    """Spread the values so that each is about as frequent: the scaled cumulative histogram (as in Pillow)."""
    below = histogram.cumsum(2)
    last = histogram.gather(2, (histogram > 0).float().cumsum(2).argmax(2, keepdim=True))  # highest value present
    step = ((below[..., -1:] - last) / 255.0).floor()
    ramp = torch.arange(256.0, device=histogram.device)
    return torch.where(step > 0, ((below - histogram + (step / 2).floor()) / step.clamp_min(1.0)).floor(), ramp)
