"""Where a network runs, and in which numbers."""

from __future__ import annotations

from typing import Literal

import torch

from blemish.errors import BlemishError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bf16"]


def resolve_device(device: Device) -> torch.device:
    """What ``auto`` means: CUDA if there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BlemishError("--device cuda: this machine has no CUDA device that torch can use; take --device cpu")
    return torch.device("cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda")


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """What ``auto`` means: bf16 where the hardware multiplies in it, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if fast else "float32"
