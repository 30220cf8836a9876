"""Simulated anomalies of DSR (paper section 3.6): codes of good images are replaced, or the image itself is damaged.

Zavrtanik, Kristan, Skočaj, ECCV 2022, https://arxiv.org/abs/2208.01521
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.methods.dsr.vq import MULTIPLE_PX, Codebook, VQAutoencoder
from blemish.synthesis.draw import coin, drawn, indices_to_process
from blemish.synthesis.pasted_textures import HALF_LEVEL, AnomalySettings, spoil
from blemish.synthesis.perlin import perlin_masks
from blemish.synthesis.replaced_codes import (
    LatentSettings,
    grid_mask,
    neighbour_table,
    replace_codes,
    replace_features,
)
from blemish.synthesis.textures import TextureBank


class Damaged(NamedTuple):
    """The quantized features of a batch of good images, and the same with simulated anomalies."""

    low: Tensor
    """Q_lo (B, D, H / 8, W / 8) float32."""
    high: Tensor
    """Q_hi (B, D, H / 4, W / 4) float32."""
    damaged_low: Tensor
    """Q_lo with anomalies, (B, D, H / 8, W / 8) float32."""
    damaged_high: Tensor
    """Q_hi with anomalies, (B, D, H / 4, W / 4) float32."""
    masks: Tensor
    """(B, 1, H, W) float, 1 where codes were replaced, as coarse as the codes of the damaged level; or where the
    image was damaged."""


def with_replaced_codes(
    vq: VQAutoencoder,
    images: Tensor,
    generator: Generator,
    probability: float,
    settings: LatentSettings,
    neighbours: dict[Codebook, Tensor],
) -> Damaged:
    """Replace codes of good images (B, 3, H, W) float32, each image with a ``probability`` (section 3.6).

    ``neighbours`` keeps the neighbour tables of both codebooks from call to call; missing ones are added.
    """
    early = vq.encoder_high(images)  # (B, D, H / 4, W / 4)
    features_low = vq.features_low(early)  # (B, D, H / 8, W / 8)
    low = vq.codebook_low(features_low)  # (B, H / 8, W / 8) int64
    quantized_low = vq.codebook_low.look_up(low)  # (B, D, H / 8, W / 8)
    features_high = vq.features_high(early, quantized_low)  # (B, D, H / 4, W / 4)
    high = vq.codebook_high(features_high)  # (B, H / 4, W / 4) int64
    quantized_high = vq.codebook_high.look_up(high)  # (B, D, H / 4, W / 4)

    def replace(codebook: Codebook, features: Tensor, indices: Tensor, mask: Tensor) -> Tensor:
        """Q of a level (B, D, h, w) of its features F (B, D, h, w) and codes, with others inside of a mask."""
        cells = grid_mask(mask, (indices.shape[-2], indices.shape[-1]))  # (B, 1, h, w)
        if settings.ranking == "features":
            new = replace_features(features, indices, cells, codebook.codes, generator, settings)
        else:
            if codebook not in neighbours:
                neighbours[codebook] = neighbour_table(codebook.codes)
            new = replace_codes(indices, cells, neighbours[codebook], generator, settings)
        return codebook.look_up(new)

    n, device = len(images), images.device
    is_spoiled, is_on_both, prefers_low = drawn(  # (B,) bool each
        lambda g: (coin(probability, n, g), coin(0.5, n, g), coin(0.5, n, g)), generator, device
    )
    on_low, on_high = is_spoiled & (is_on_both | prefers_low), is_spoiled & (is_on_both | ~prefers_low)
    mask = perlin_masks(n, (images.shape[-2], images.shape[-1]), generator, device)[:, None].float()
    mask_low, mask_high = (mask * on_level.view(-1, 1, 1, 1) for on_level in (on_low, on_high))  # (B, 1, H, W)
    damaged_low = replace(vq.codebook_low, features_low, low, mask_low)  # (B, D, H / 8, W / 8)
    on_both_levels = on_low & on_high
    both = indices_to_process(on_both_levels)  # (K,) int64
    if len(both):  # with both levels damaged, F_hi is computed from the damaged Q_lo
        is_both = on_both_levels[both].view(-1, 1, 1)  # (K, 1, 1); all True on a CPU
        new_features = vq.features_high(early[both], damaged_low[both])  # (K, D, H / 4, W / 4)
        new_high = torch.where(is_both, vq.codebook_high(new_features), high[both])  # (K, H / 4, W / 4) int64
        new_features = torch.where(is_both[:, None], new_features, features_high[both])
        high = high.index_copy(0, both, new_high)  # (B, H / 4, W / 4)
        features_high = features_high.index_copy(0, both, new_features)  # (B, D, H / 4, W / 4)
    damaged_high = replace(vq.codebook_high, features_high, high, mask_high)  # (B, D, H / 4, W / 4)
    is_low = on_low.view(-1, 1, 1, 1)
    masks = torch.where(is_low, coarse(mask_low, MULTIPLE_PX), coarse(mask_high, MULTIPLE_PX // 2))
    return Damaged(quantized_low, quantized_high, damaged_low, damaged_high, masks)


def with_spoiled_areas(
    vq: VQAutoencoder,
    images: Tensor,
    textures: TextureBank | None,
    generator: Generator,
    settings: AnomalySettings,
    *,
    keep_grey: bool = False,
) -> Damaged:
    """Paste textures or plain colours on good images (B, 3, H, W) float32, as DRÆM does. Masks are of pixels.

    With ``keep_grey``, those on grey photographs are grey.
    """
    damaged, masks = spoil(images, textures, generator, settings)  # (B, 3, H, W), (B, 1, H, W)
    if keep_grey:
        damaged = grey_where(images, damaged)
    low, high = vq.encode(images)  # (B, D, H / 8, W / 8), (B, D, H / 4, W / 4)
    changed = indices_to_process(masks.flatten(1).any(1))  # (K,) int64
    if not len(changed):
        return Damaged(low, high, low, high, masks)
    damaged_low, damaged_high = vq.encode(damaged[changed])  # (K, D, H / 8, W / 8), (K, D, H / 4, W / 4)
    return Damaged(
        low, high, low.index_copy(0, changed, damaged_low), high.index_copy(0, changed, damaged_high), masks
    )


def grey_where(images: Tensor, pictures: Tensor) -> Tensor:
    """``pictures`` (B, 3, H, W), as the mean over their channels where a whole image (B, 3, H, W) has no colour."""
    is_grey = (images.amax(1) - images.amin(1)).amax((1, 2)) < HALF_LEVEL  # (B,)
    return torch.where(is_grey.view(-1, 1, 1, 1), pictures.mean(1, keepdim=True), pictures)


def coarse(masks: Tensor, cell_px: int) -> Tensor:
    """Masks (B, 1, H, W) of whole cells: a cell is set if any of its pixels is set."""
    cells = F.max_pool2d(masks, cell_px)  # (B, 1, H / cell_px, W / cell_px)
    return F.interpolate(cells, scale_factor=float(cell_px), mode="nearest")  # (B, 1, H, W)
