"""The device that a network runs on, and the precision it computes in."""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.settings import Device as Device
from blemish.settings import Precision as Precision


def resolve_device(device: Device | torch.device) -> torch.device:
    """The device behind a name: ``auto`` is CUDA if there is a CUDA device, ``cuda`` is the current card.

    Raises
    ------
    BlemishError
        If CUDA is requested and torch finds no CUDA device.
    """
    has_cuda = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if has_cuda else "cpu"
    resolved = torch.device(device)
    if resolved.type == "cuda" and not has_cuda:
        raise BlemishError("--device cuda: this machine has no CUDA device that torch can use; take --device cpu")
    return with_index(resolved)


def with_index(device: torch.device) -> torch.device:
    """``cuda`` as ``cuda:0`` (the index of the current card), so that it compares equal to the device of tensors."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """The precision behind ``auto``: bf16 if the hardware multiplies in bf16, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if fast else "float32"


def exactly(like: Tensor) -> AbstractContextManager[Any]:
    """A context in which the device of ``like`` computes in float32, also under autocast.

    An exported graph has no autocast. There the context is empty: torch would make its content a graph of its own,
    whose operations no longer tell which module they are of, and 8 bits would reach what has to stay in float.
    """
    return nullcontext() if torch.compiler.is_compiling() else torch.autocast(like.device.type, enabled=False)


def kernels_for(x: Tensor) -> ModuleType | None:
    """``blemish.kernels`` if they run on the device of ``x`` (a GPU) in its dtype; else None, and torch is used."""
    return _kernels(x.device, x.dtype) if x.is_cuda and not torch.compiler.is_compiling() else None


@functools.cache
def _kernels(device: torch.device, dtype: torch.dtype) -> ModuleType | None:
    """The kernels after a trial run, or None. The cache makes one trial for each device and dtype.

    Triton may be missing, it needs a C compiler, and a GPU may lack a dtype.
    """
    try:
        kernels = importlib.import_module("blemish.kernels")
        x = torch.zeros(1, 1, 2, 2, device=device, dtype=dtype)
        with torch.no_grad():
            kernels.add_bias(kernels.norm_relu(x, nn.InstanceNorm2d(1)), torch.zeros(1, device=device), True, dtype)
    except Exception as error:
        _warn_once((str(error).strip() or type(error).__name__).splitlines()[0])
        return None
    return kernels


@functools.cache
def _warn_once(reason: str) -> None:
    """Print a warning; the cache prints each reason only once."""
    print(f"blemish: continues without Triton's kernels, which is somewhat slower ({reason})", file=sys.stderr)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
KEPT_BYTES = 2**30


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library of this process keep up to 1 GB of freed memory for later allocations.

    By default it returns the memory of every large tensor to the system. The system then clears the pages again for
    the next tensor, which takes a third of a training step on a CPU. Except on Linux with glibc, this does nothing.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version()
        library.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
