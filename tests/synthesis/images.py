"""Random images and generators for several tests."""

from __future__ import annotations

import torch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def textured(n: int, size_hw: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, *size_hw, generator=seeded(seed))
