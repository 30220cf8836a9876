"""Time and value of anomalib's AUPRO for maps from a file, on CPU.

    benchmarks/peers/setup_anomalib.sh DIR
    DIR/bin/python benchmarks/peers/anomalib_aupro.py MAPS.npz --threads 2

MAPS.npz holds `maps` (N, H, W) float32 in [0, 1] and `masks` (N, H, W) bool. `update` and `compute` of the metric
that `anomalib.metrics.AUPRO` wraps are timed, on tensors in memory. With `--aupimo` its AUPIMO is computed, too, to
compare values, not times; this takes a minute and several GB. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

# Needed for the CUDA build of torchvision with CPU torch: see anomalib_synthesis.py.
if torch.version.cuda is None:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float iou) -> Tensor")

from anomalib.metrics.aupro import _AUPRO
from anomalib.metrics.pimo.functional import aupimo_scores


def peak_process_mib() -> float:
    """Peak memory of this process. (`getrusage` would report that of the parent process if it is larger.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def timed_aupro(maps: torch.Tensor, masks: torch.Tensor) -> tuple[float, float]:
    """Seconds and value of one run with a fresh metric."""
    start_s = time.perf_counter()
    metric = _AUPRO(fpr_limit=0.3)
    metric.update(maps, masks)
    value = metric.compute().item()
    return time.perf_counter() - start_s, value


def main() -> None:
    """Time the metric and print the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--aupimo", action="store_true", help="compare AUPIMO, too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with np.load(arguments.maps) as file:
        maps, masks = torch.from_numpy(file["maps"]), torch.from_numpy(file["masks"]).int()
    before_mib = peak_process_mib()
    runs = [timed_aupro(maps, masks) for _ in range(arguments.repeats)]
    result = {
        "seconds": round(statistics.median(seconds for seconds, _ in runs), 4),
        "seconds_repeats": [round(seconds, 4) for seconds, _ in runs],
        "aupro": runs[0][1],
        "peak_mib": round(peak_process_mib() - before_mib, 1),
        "anomalib": version("anomalib"),
        "torch": torch.__version__,
        "threads": arguments.threads,
    }
    if arguments.aupimo:
        scores = aupimo_scores(maps, masks)[4]
        result["aupimo"] = scores[~torch.isnan(scores)].mean().item()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
