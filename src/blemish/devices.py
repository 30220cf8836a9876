"""Where a network runs, and in which numbers."""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys
from contextlib import suppress
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.settings import Device as Device
from blemish.settings import Precision as Precision


def resolve_device(device: Device | torch.device) -> torch.device:
    """The device that is meant: ``auto`` is CUDA if there is one, and ``cuda`` the card that is current.

    Raises
    ------
    BlemishError
        If it is CUDA and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if has_cuda else "cpu"
    where = torch.device(device)
    if where.type == "cuda" and not has_cuda:
        raise BlemishError("--device cuda: this machine has no CUDA device that torch can use; take --device cpu")
    return with_index(where)


def with_index(device: torch.device) -> torch.device:
    """``cuda`` as ``cuda:0`` (or whichever card is current), as tensors name it: without, it is equal to none."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """What ``auto`` means: bf16 where the hardware multiplies in it, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if fast else "float32"


def kernels_for(x: Tensor) -> ModuleType | None:
    """``blemish.kernels``, if ``x`` is on a GPU where they run in its precision; None where torch does the work."""
    return _kernels(x.device, x.dtype) if x.is_cuda and not torch.compiler.is_compiling() else None


@functools.cache
def _kernels(device: torch.device, dtype: torch.dtype) -> ModuleType | None:
    """Tried once: Triton is not everywhere, needs a C compiler, and not every GPU has every precision."""
    try:
        kernels = importlib.import_module("blemish.kernels")
        x = torch.zeros(1, 1, 2, 2, device=device, dtype=dtype)
        with torch.no_grad():
            kernels.add_bias(kernels.norm_relu(x, nn.InstanceNorm2d(1)), torch.zeros(1, device=device), True, dtype)
    except Exception as error:
        _tell_once((str(error).strip() or type(error).__name__).splitlines()[0])
        return None
    return kernels


@functools.cache
def _tell_once(reason: str) -> None:
    print(f"blemish: goes on without Triton's kernels, somewhat slower ({reason})", file=sys.stderr)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
KEPT_BYTES = 2**30


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep up to a GB that is freed for what is asked for next, in this process.

    By itself it gives the memory of every large tensor back to the system, which clears it page by page when the next
    one is made: a third of a training step on a CPU. Elsewhere than on Linux with glibc, nothing is changed.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version()
        library.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
