"""A sheet of images next to their reconstructions by an autoencoder."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.learning.pretraining import reconstructions
from blemish.methods.dsr.vq import VQAutoencoder

N_SHOWN = 12
N_COLUMNS = 3
GAP_PX = 8


@torch.inference_mode()
def draw_reconstructions(network: VQAutoencoder, images: Tensor) -> NDArray[np.uint8]:
    """Pairs of image and reconstruction for the first 12 images, in three columns.

    Parameters
    ----------
    images : (N, 3, H, W) uint8, N >= 1; H and W are multiples of 8 px.

    Returns
    -------
    (height, width, 3) uint8.
    """
    batches = [
        torch.cat([originals, reconstructed], 3)  # (B, 3, H, 2 W)
        for reconstructed, originals in reconstructions(network, images[:N_SHOWN])
    ]
    pairs = list(torch.cat(batches).mul(255.0).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    pairs += [np.full_like(pairs[0], 255)] * (-len(pairs) % N_COLUMNS)
    framed = [np.pad(pair, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255) for pair in pairs]
    rows = [np.hstack(framed[first : first + N_COLUMNS]) for first in range(0, len(framed), N_COLUMNS)]
    return np.vstack(rows)[:-GAP_PX, :-GAP_PX]
