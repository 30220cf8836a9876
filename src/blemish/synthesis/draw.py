"""Random numbers for the simulators: drawn on the host, sent to where the images are."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Float32 numbers from U[low, high) in ``shape``, on the host."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def coin(probability: float, n: int, generator: Generator) -> Tensor:
    """(n,) bool on the host, each True with ``probability``."""
    return torch.rand(n, generator=generator) < probability


def send(host: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to ``device`` without making the host wait for it."""
    if device.type == "cuda":
        return host.pin_memory().to(device, non_blocking=True)
    return host.to(device)
