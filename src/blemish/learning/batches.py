"""Random batches of images that are all at hand, in memory or in a memory-mapped file."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import drawn


def random_batch(
    images: Tensor, batch_size: int, side_px: int | None, generator: Generator, device: torch.device
) -> Tensor:
    """Draw images or crops with replacement, as the authors of DRÆM and DSR do.

    Parameters
    ----------
    images : (N, 3, H, W) uint8, on ``device``; or on the host, and then each batch is copied to it.
    side_px : of square crops; None for whole images.

    Returns
    -------
    (batch_size, 3, h, w) uint8, on ``device``.
    """
    height, width = images.shape[-2:]

    def indices(generator: Generator) -> tuple[Tensor, ...]:
        """Draw the indices of the images; for crops, also of channels, rows and columns."""
        index = torch.randint(len(images), (batch_size,), generator=generator)  # (B,)
        if side_px is None:
            return (index,)
        room = torch.tensor([height - min(side_px, height), width - min(side_px, width)])  # (2,)
        corner = (torch.rand(batch_size, 2, generator=generator) * (room + 1)).long()  # (B, 2)
        rows = corner[:, :1] + torch.arange(min(side_px, height))  # (B, h)
        columns = corner[:, 1:] + torch.arange(min(side_px, width))  # (B, w)
        channels = torch.arange(3).view(-1, 1, 1)  # (3, 1, 1)
        return index.view(-1, 1, 1, 1), channels, rows[:, None, :, None], columns[:, None, None, :]

    if images.device.type == device.type:
        return images[drawn(indices, generator, device)]
    return drawn(lambda generator: images[indices(generator)], generator, device)
