"""Where networks run: memory that is kept between tensors."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back and takes it again")
def test_memory_of_a_large_tensor_is_kept_for_the_next() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("kept", "given back")
    }
    assert faults["kept"] < 0.7 * faults["given back"], "pages that the system had to clear"
