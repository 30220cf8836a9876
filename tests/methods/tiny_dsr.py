"""A small DSR for tests."""

from __future__ import annotations

import torch
from contract import INGREDIENTS

from blemish.methods.dsr import DSR, DSRSettings
from blemish.methods.dsr.damage import Damaged
from blemish.methods.dsr.vq import VQAutoencoder

TINY = DSRSettings(
    image_size_px=32,
    batch_size=4,
    restriction_widths=(8, 8),
    decoder_widths=(8, 8, 8),
    detection_widths=(4, 8),
    iterations=22,  # a checkpoint is written after 20: it is resumed within the stage
    upsampling_iterations=6,
    learning_rate=1e-3,
    schedule="cosine",
    ema_decay=0.9,
)


def codebook(seed: int = 0) -> VQAutoencoder:
    """A small VQ autoencoder with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return VQAutoencoder(n_codes=40, n_features=8, n_hidden=4, n_layers=1)


def dsr(settings: DSRSettings = TINY) -> DSR:
    return DSR(settings, codebook())


def damaged(settings: DSRSettings, n: int = 64) -> tuple[DSR, torch.Tensor, Damaged]:
    """A method, n images of noise, and their simulated anomalies."""
    method, images = dsr(settings), torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return method, images, method._damage(images, INGREDIENTS.textures, torch.Generator().manual_seed(2))
