"""Devices by name, the Triton kernels' fallback, and memory that is kept between tensors."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from blemish import devices
from blemish.devices import resolve_device
from blemish.errors import BlemishError

PROGRAM = """
import resource, sys, torch
from blemish.devices import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
    keep_freed_memory()
torch.ones(60_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_memory_of_a_large_tensor_is_kept_for_the_next() -> None:
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, check=True).stdout)
        for mode in ("kept", "returned")
    }
    assert faults["kept"] < 0.7 * faults["returned"], "page faults: pages that the system had to clear"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0"), ("cpu", "cpu"), ("meta", "meta")],
)
def test_a_device_is_named_as_its_tensors_name_it(monkeypatch: pytest.MonkeyPatch, name: str, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    for device in (name, torch.device(name)) if name != "auto" else (name,):
        assert resolve_device(device) == torch.device(expected)  # type: ignore[arg-type]


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(BlemishError, match="no CUDA device"):
            resolve_device(torch.device(name))


def test_without_triton_torch_does_the_work_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OnAGPU:
        is_cuda, device, dtype = True, torch.device("cpu"), torch.float32

    devices._kernels.cache_clear()
    devices._warn_once.cache_clear()
    monkeypatch.setitem(sys.modules, "blemish.kernels", None)
    for OnAGPU.dtype in (torch.float32, torch.float32, torch.bfloat16):
        assert devices.kernels_for(OnAGPU()) is None  # type: ignore[arg-type]
    message = capsys.readouterr().err
    assert message.count("continues without Triton's kernels") == message.count("\n") == 1
    assert devices.kernels_for(torch.zeros(1)) is None
    assert not capsys.readouterr().err
    devices._kernels.cache_clear()
    devices._warn_once.cache_clear()
