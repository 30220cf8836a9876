"""Helpers of all benchmarks: description of the machine for result files, timing, and output."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
RESULTS = Path(__file__).parent / "results"


def describe() -> dict[str, str | int]:
    """Processor, cores, threads, torch, commit and date."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    processor = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    commit = ""
    with suppress(OSError, subprocess.CalledProcessError):  # git is not installed, or this is a copy without history
        head = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "processor": f"{processor} ({', '.join(wide)})",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
        "date": date.today().isoformat(),
    }


def read(name: str) -> Any:
    """The content of a file in ``results/``."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median time of ``work`` in seconds, after one warm-up run."""
    times = []
    for _ in range(repeats + 1):
        start_s = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times[1:])


def peak_gflops(precision: str, device: torch.device, repeats: int = 5) -> dict[str, float]:
    """The rate of one large convolution and of one large matrix product, in 10^9 operations per second."""
    dtype, n_channels = DTYPES[precision], 256
    x = torch.rand(1, n_channels, 256, 256, device=device).to(dtype, memory_format=torch.channels_last)
    weight = torch.rand(n_channels, n_channels, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    square = torch.rand(4096, 4096, device=device).to(dtype)
    with torch.inference_mode():
        convolution_s = seconds(lambda: F.conv2d(x, weight, padding=1), repeats, device)
        product_s = seconds(lambda: square @ square, repeats, device)
    operations = 2 * 256 * 256 * 9 * n_channels**2
    return {
        "convolution": round(operations / convolution_s / 1e9, 1),
        "matrix_product": round(2 * 4096**3 / product_s / 1e9, 1),
    }


def of_peer(venv: Path, script: str, *words: object) -> dict[str, Any]:
    """The JSON line that a script in ``peers/`` prints, run in a virtual environment with anomalib."""
    command = [venv / "bin" / "python", "-W", "ignore", Path(__file__).parent / "peers" / script, *words]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def peak_memory_mb(device: torch.device) -> int:
    """Peak memory of this process in MiB: on a GPU, or on the host since its start."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20)
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with the same keys as a Markdown table."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row.get(name, "") for name in head] for row in rows)]
    return "\n".join("| " + " | ".join("" if cell is None else str(cell) for cell in line) + " |" for line in lines)


def write(out: Path, result: dict[str, Any]) -> None:
    """Write a result file that begins with the description of the machine."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": describe(), **result}, indent=2) + "\n")
