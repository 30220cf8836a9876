"""Time for one image through the full-size networks (recipe ``paper``), for each backend and precision.

    .venv/bin/python benchmarks/inference.py --peer PEER_VENV

The ways to run a network are those of ``backends.py``. The peer is anomalib's network of the same name, in the same
run (``peers/setup_anomalib.sh`` makes PEER_VENV). The table also has the number of operations in convolutions and
matrix products, and the rate as a share of what the machine reaches in one large convolution of the same precision
(for 8 bits: of its fastest other precision, so the share can exceed 1). Without --ways, bf16 is left out if the
hardware cannot multiply in it, because torch then takes minutes per image. Weights are random, which does not change
the time. Times are medians. Writes ``results/inference-<device>.json``.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from backends import ALL, HALF, TORCH, ways
from blemish.detector import Detector
from blemish.devices import resolve_device, resolve_precision
from blemish.methods import build
from machine import RESULTS, of_peer, peak_gflops, peak_memory_mb, seconds, table, write


def main() -> None:
    """Measure, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["draem", "dsr", "ssae"])
    parser.add_argument("--recipe", default="paper", help="a smaller recipe serves to try this script")
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--ways", nargs="+", help="default: all; on a GPU those of torch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--peer", type=Path, help="virtual environment with anomalib")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device, size_px = resolve_device(arguments.device), arguments.size
    fastest = resolve_precision("auto", device)
    possible = [name for name in (ALL if device.type == "cpu" else TORCH) if fastest == "bf16" or name not in HALF]
    names = tuple(arguments.ways or possible)
    peaks: dict[str, dict[str, float]] = {}
    out = arguments.out or RESULTS / f"inference-{device.type}.json"
    rows: list[dict[str, Any]] = []

    def add(method: str, way: str, precision: str, batch: int, image_s: float, gflop: float) -> None:
        peak_precision = fastest if precision == "int8" else precision
        if peak_precision not in peaks:
            peaks[peak_precision] = peak_gflops(peak_precision, device, min(5, arguments.repeats))
        peak = peaks[peak_precision]["convolution"]
        row = {"method": method, "way": way, "precision": precision, "batch": batch, "image_s": round(image_s, 5)}
        rows.append(row | {"gflop": round(gflop, 1), "share_of_peak": round(gflop / image_s / peak, 3)})
        write(out, {"size_px": size_px, "peak_gflops": peaks, "peak_memory_mb": peak_memory_mb(device), "rows": rows})

    for name in arguments.methods:
        method = build(name, arguments.recipe, settings={"image_size_px": size_px}).to(device)
        detector = Detector.uncalibrated(method, 0.5, 0.01)
        images = torch.rand(max(arguments.batches), 3, size_px, size_px, device=device)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            method(images[:1])
        gflop = counter.get_total_flops() / 1e9
        good = (images[:4].cpu() * 255).to(torch.uint8)
        for way, precision, run in ways(detector, good, names):
            for batch in arguments.batches:
                inputs = images[:batch].contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
                with torch.inference_mode():
                    image_s = seconds(partial(run, inputs), arguments.repeats, device) / batch
                add(name, way, precision, batch, image_s, gflop)
        if arguments.peer and name != "ssae":
            words = ["--models", name, "--batches", *arguments.batches, "--size", size_px]
            words += ["--repeats", arguments.repeats, "--device", device.type]
            peer = of_peer(arguments.peer, "anomalib_inference.py", *words)
            for batch in arguments.batches:
                add(name, f"anomalib {peer['version']}", "float32", batch, peer[name][str(batch)], gflop)
    print(table(rows))


if __name__ == "__main__":
    main()
