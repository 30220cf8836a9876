"""Seconds for one image through the full-size networks (recipe ``paper``), as they are and as detectors run them.

    .venv/bin/python benchmarks/inference.py --peer PEER_VENV

``plain`` is the method called as it stands, in float32; ``prepared`` is what `blemish inspect` runs
(``blemish.inference``). The peer is anomalib's network of the same name in the same run (``peers/setup_anomalib.sh``
makes PEER_VENV). Beside them: operations counted in convolutions and matrix products, and their share of what the
machine reaches in one large convolution of the same precision. Weights are random: nothing here branches on data.
Writes ``results/inference-<device>.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from blemish.devices import resolve_device, resolve_precision
from blemish.fitting import build
from blemish.inference import Prepared
from machine import describe, seconds

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def peak_gflops(dtype: torch.dtype, device: torch.device, repeats: int) -> dict[str, float]:
    """What the machine reaches in one large convolution and one large matrix product, 10^9 operations a second."""
    x = torch.rand(1, 256, 256, 256, device=device).to(dtype, memory_format=torch.channels_last)
    weight = torch.rand(256, 256, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    square = torch.rand(4096, 4096, device=device).to(dtype)
    convolution_s = seconds(lambda: F.conv2d(x, weight, padding=1), repeats, device)
    product_s = seconds(lambda: square @ square, repeats, device)
    operations = 2 * 256 * 256 * 9 * 256 * 256
    return {
        "convolution": round(operations / convolution_s / 1e9, 1),
        "matrix_product": round(2 * 4096**3 / product_s / 1e9, 1),
    }


def of_peer(venv: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds by method and batch size, as the peer's own process measures them."""
    script = Path(__file__).parent / "peers" / "anomalib_inference.py"
    sizes = [str(batch) for batch in arguments.batches]
    words = [venv / "bin" / "python", script, "--batches", *sizes, "--size", arguments.size]
    words += ["--repeats", arguments.repeats, "--device", arguments.device]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    """Measure, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["draem", "dsr", "ssae"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--peer", type=Path, help="virtual environment with anomalib")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    fast = resolve_precision("auto", device)
    peaks = {name: peak_gflops(DTYPES[name], device, arguments.repeats) for name in dict.fromkeys(("float32", fast))}
    theirs = of_peer(arguments.peer, arguments) if arguments.peer else {}
    rows: list[dict[str, Any]] = []

    def add(method: str, how: str, precision: str, batch: int, image_s: float, gflop: float) -> None:
        share = gflop / image_s / peaks[precision]["convolution"]
        row = {"method": method, "how": how, "precision": precision, "batch": batch, "image_s": round(image_s, 4)}
        rows.append(row | {"gflop": round(gflop, 1), "share_of_peak": round(share, 3)})
        print("|", " | ".join(map(str, rows[-1].values())), "|", flush=True)

    print("| method | how | precision | batch | s an image | GFLOP | share of peak |\n|---|---|---|---|---|---|---|")
    for name in arguments.methods:
        method = build(name, "paper", settings={"image_size_px": arguments.size}).eval().requires_grad_(False)
        method.to(device)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            method(torch.rand(1, 3, arguments.size, arguments.size, device=device))
        gflop = counter.get_total_flops() / 1e9
        ways: dict[tuple[str, str], Callable[[Tensor], object]] = {("plain", "float32"): method}
        ways |= {("prepared", precision): Prepared(method, precision) for precision in peaks}
        for batch in arguments.batches:
            images = torch.rand(batch, 3, arguments.size, arguments.size, device=device)
            images = images.contiguous(memory_format=torch.channels_last)
            for (how, precision), run in ways.items():
                with torch.inference_mode():
                    image_s = seconds(partial(run, images), arguments.repeats, device) / batch
                add(name, how, precision, batch, image_s, gflop)
            if name in theirs:
                add(name, f"anomalib {theirs['version']}", "float32", batch, theirs[name][str(batch)], gflop)
    out = arguments.out or Path(__file__).parent / "results" / f"inference-{device.type}.json"
    result = {"machine": describe(), "size_px": arguments.size, "peak_gflops": peaks}
    out.write_text(json.dumps(result | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
