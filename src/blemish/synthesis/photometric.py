"""The ten augmentations of texture images in DRÆM (paper section 3.3; the list of the authors' code).

Seven of the ten only map grey values: gamma, brightness, solarize, posterize, invert, autocontrast, equalize.
They are composed, in the drawn order, into one 256-entry table per image and channel that is applied once.
The three others (rotate, sharpness, hue and saturation) come before the table, whatever was drawn: the
only point in which the order differs from the authors'.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import coin, send, uniform
from blemish.synthesis.geometry import rotate_nearest

AUGMENTATIONS = (
    "gamma", "brightness", "solarize", "posterize", "invert", "autocontrast", "equalize",
    "sharpness", "hue_saturation", "rotate",
)  # fmt: skip
_TABLES = AUGMENTATIONS[:7]


def augment(textures: Tensor, generator: Generator, *, n_chosen: int = 3) -> Tensor:
    """Apply ``n_chosen`` different ones of the ten augmentations to each image.

    Parameters
    ----------
    textures : (B, 3, H, W) uint8.
    generator : CPU generator.

    Returns
    -------
    (B, 3, H, W) float32 in [0, 1].
    """
    chosen = torch.rand(len(textures), len(AUGMENTATIONS), generator=generator).argsort(1)[:, :n_chosen]
    return apply_chosen(textures, chosen, generator)


def apply_chosen(textures: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """Apply to image b the augmentations ``AUGMENTATIONS[chosen[b, i]]``, i = 0, 1, ...

    Parameters
    ----------
    textures : (B, 3, H, W) uint8.
    chosen : (B, n) int64 on the host.

    Returns
    -------
    (B, 3, H, W) float32 in [0, 1].
    """
    device = textures.device
    for name, change in (("rotate", _rotate), ("sharpness", _sharpen), ("hue_saturation", _shift_hue)):
        where = (chosen == AUGMENTATIONS.index(name)).any(1).nonzero().flatten()
        if len(where):
            index = send(where, device)
            textures = textures.index_copy(0, index, change(textures[index], generator))
    table = _compose_tables(textures, chosen, generator) / 255.0  # (B, 3, 256)
    batch, channels, height, width = textures.shape
    values = textures.reshape(batch * channels, -1).long()
    return table.view(batch * channels, 256).gather(1, values).view(batch, channels, height, width)


# --- the three that are more than a table: (B, 3, H, W) uint8 to the same ------------------------------------


def _rotate(images: Tensor, generator: Generator) -> Tensor:
    angles_rad = torch.deg2rad(uniform(-45.0, 45.0, (len(images),), generator))
    return rotate_nearest(images, send(angles_rad, images.device), (images.shape[-2], images.shape[-1]))


def _sharpen(images: Tensor, generator: Generator) -> Tensor:
    """Blend with a smoothed copy: a factor below 1 blurs, above 1 sharpens; the border stays (as in Pillow)."""
    factor = send(uniform(0.1, 1.9, (len(images), 1, 1, 1), generator), images.device)
    inner = images[..., 1:-1, 1:-1]
    rows = images.short()
    rows = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = box.add_(inner, alpha=4).float().div_(13.0)  # Pillow's SMOOTH: 5 in the middle, 1 around, over 13
    images = images.clone()
    images[..., 1:-1, 1:-1] = _to_uint8(smooth.lerp_(inner.float(), factor))
    return images


def _shift_hue(images: Tensor, generator: Generator) -> Tensor:
    """Add U[-50, 50] of 255 to the hue circle and, independently, to the saturation."""
    shift, gain = send(uniform(-50.0, 50.0, (2, len(images), 1, 1), generator), images.device)
    red, green, blue = images.float().unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    is_red, is_green = value == red, value == green
    hue = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    hue = hue.div_(chroma.clamp_min(1e-6)).add_(torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0)))
    hue = hue.add_(shift * (6.0 / 255.0)).remainder_(6.0)
    chroma = torch.minimum(chroma.add_(value * (gain / 255.0)).clamp_min_(0.0), value)
    value.sub_(chroma)  # the grey part; what is above it is the hue's
    lit = ((hue - 3).abs_().sub_(1), 2 - (hue - 2).abs_(), 2 - (hue - 4).abs_())
    return torch.stack([_to_uint8(value + channel.clamp_(0, 1).mul_(chroma)) for channel in lit], 1)


def _to_uint8(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)


# --- the seven tables: (B, 3, 256) float grey values in 0..255 -----------------------------------------------


def _compose_tables(textures: Tensor, chosen: Tensor, generator: Generator) -> Tensor:
    """One table (B, 3, 256) for each image: the chosen value mappings, one after the other."""
    device, n = textures.device, len(textures)
    ramp = torch.arange(256.0, device=device)
    table = ramp.expand(n, 3, 256)
    statistical = [_TABLES.index("autocontrast"), _TABLES.index("equalize")]
    counted = torch.isin(chosen, torch.tensor(statistical)).any(1)
    histogram = _histogram(textures, send(counted.nonzero().flatten(), device)) if bool(counted.any()) else None
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
    return table


def _histogram(textures: Tensor, index: Tensor) -> Tensor:
    """(B, 3, 256) float: how often each value occurs, counted on every second row and column, each pixel for four.

    Images that are not in ``index`` get ones.
    """
    counts = torch.ones(len(textures), 3, 256, device=textures.device)
    values = textures[index, :, ::2, ::2].flatten(2).long()
    four = torch.full((), 4.0, device=textures.device).expand(values.shape)
    return counts.index_copy_(0, index, torch.zeros_like(counts[index]).scatter_add_(2, values, four))


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
