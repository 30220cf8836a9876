"""Time and memory of the metrics, compared with scikit-learn and anomalib, and of the streaming metrics.

    benchmarks/peers/setup_anomalib.sh .venv-anomalib
    .venv/bin/python benchmarks/metrics.py --peer .venv-anomalib/bin/python

First, on the same 80 maps of 256x256 in the same run: all metrics of `evaluate_maps` in one call, compared with
scikit-learn's pixel AUROC and AP and with anomalib's AUPRO. Then `StreamingMetrics` over 200 and over 2,000 maps of
512x512, each in its own process; their peak memory must differ only by the scores of the images. The maps are noise
with partly visible defects; making them is not timed. Times are medians of the repeats. AUPIMO differs from
anomalib's (``--aupimo``) because the bounds are defined differently: see ``blemish.metrics.pimo``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from blemish.metrics import StreamingMetrics, evaluate_maps

N_MAPS, SIDE_PX, REPEATS = 80, 256, 5
STREAM_SIDE_PX, STREAM_BATCH, STREAM_MAPS = 512, 10, (200, 2000)


def make_maps(n: int, side_px: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, side, side) float32 in [0, 1] and bool masks; every second one has one to three elliptical defects."""
    rng = np.random.default_rng(seed)
    maps = np.empty((n, side_px, side_px), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=np.uint8)
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        noise = cv2.GaussianBlur(rng.standard_normal(mask.shape, dtype=np.float32), (0, 0), 2)
        for _ in range(int(rng.integers(1, 4)) if index % 2 else 0):
            centre = rng.integers(0, side_px, 2).tolist()
            axes = rng.integers(side_px // 64, side_px // 8, 2).tolist()
            cv2.ellipse(mask, centre, axes, int(rng.integers(180)), 0, 360, 1, thickness=-1)
        lift = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3) * float(rng.uniform(2, 6))
        anomaly_map[:] = 1 / (1 + np.exp(3 - 5 * noise - lift))
    return maps, masks.astype(bool)


def measured(call: Callable[[], Any], repeats: int) -> tuple[Any, dict[str, Any]]:
    """The result of the call, its times, and its peak memory without its arguments (from an untimed run)."""
    times_s = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        result = call()
        times_s.append(time.perf_counter() - start_s)
    tracemalloc.start()
    call()
    peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    repeats_s = [round(time_s, 4) for time_s in times_s]
    row = {"seconds": round(statistics.median(times_s), 4), "seconds_repeats": repeats_s}
    return result, row | {"peak_mib": round(peak_mib, 1)}


def peak_process_mib() -> float:
    """Peak memory of this process. (`getrusage` would report that of the parent process if it is larger.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


def sklearn_pixels(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """scikit-learn's pixel AUROC and AP."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    flat = masks.ravel(), maps.ravel()
    return {"pixel_auroc": float(roc_auc_score(*flat)), "pixel_ap": float(average_precision_score(*flat))}


def streamed(maps: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    """The streaming metrics over maps in memory."""
    metrics = StreamingMetrics()
    metrics.update(maps, masks)
    return metrics.compute()


def stream(n_maps: int) -> dict[str, Any]:
    """The streaming metrics over maps made batch by batch, with the peak memory of this process."""
    metrics, update_s, before_mib = StreamingMetrics(), 0.0, peak_process_mib()
    for start in range(0, n_maps, STREAM_BATCH):
        maps, masks = make_maps(STREAM_BATCH, STREAM_SIDE_PX, seed=start)
        start_s = time.perf_counter()
        metrics.update(maps, masks)
        update_s += time.perf_counter() - start_s
    start_s = time.perf_counter()
    result = metrics.compute()
    return {
        "maps": n_maps,
        "side_px": STREAM_SIDE_PX,
        "batch": STREAM_BATCH,
        "update_s": round(update_s, 2),
        "compute_s": round(time.perf_counter() - start_s, 3),
        "maps_per_s": round(n_maps / update_s, 1),
        "peak_process_mib": peak_process_mib(),
        "of_which_imports_mib": before_mib,
        "all_maps_would_be_mib": n_maps * STREAM_SIDE_PX**2 * 5 // 2**20,
        "metrics": {name: value for name, value in result.items() if name.startswith("pixel")},
        "error_bounds": result["error_bounds"],
    }


def anomalib(python: Path, maps: np.ndarray, masks: np.ndarray, threads: int, aupimo: bool) -> dict[str, Any]:
    """The output of ``peers/anomalib_aupro.py``."""
    script = Path(__file__).parent / "peers" / "anomalib_aupro.py"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "maps.npz"
        np.savez(file, maps=maps, masks=masks)
        options = ["--repeats", str(REPEATS), "--threads", str(threads), *(["--aupimo"] if aupimo else [])]
        done = subprocess.run(
            [str(python), str(script), str(file), *options], check=True, capture_output=True, text=True
        )
    peer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return peer


def compare(python: Path | None, threads: int, aupimo: bool) -> dict[str, Any]:
    """All metrics in one call, compared with the peers on the same maps."""
    maps, masks = make_maps(N_MAPS, SIDE_PX, seed=0)
    metrics, ours = measured(lambda: evaluate_maps(maps, masks, threshold=0.5), REPEATS)
    ours |= {"metrics": metrics, "arguments_mib": round((maps.nbytes + masks.nbytes) / 2**20, 1)}
    approximate, streaming = measured(lambda: streamed(maps, masks), REPEATS)
    streaming["error_bounds"] = approximate["error_bounds"]
    streaming["errors"] = {name: abs(approximate[name] - metrics[name]) for name in approximate["error_bounds"]}
    expected, sklearn = measured(lambda: sklearn_pixels(maps, masks), REPEATS)
    sklearn |= {"metrics": expected, "difference": max(abs(metrics[name] - expected[name]) for name in expected)}
    result = {"maps": N_MAPS, "side_px": SIDE_PX, "blemish": ours, "blemish_streaming": streaming, "sklearn": sklearn}
    if python:
        peer = anomalib(python, maps, masks, threads, aupimo)
        peer["difference"] = abs(metrics["pixel_aupro"] - peer["aupro"])
        if aupimo:
            peer["aupimo_difference"] = abs(metrics["pixel_aupimo"] - peer["aupimo"])
        result["anomalib"] = peer
        result["times_faster"] = round((sklearn["seconds"] + peer["seconds"]) / ours["seconds"], 1)
    return result


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", type=Path, help="Python of the environment with anomalib")
    parser.add_argument(
        "--aupimo", action="store_true", help="compare the value of anomalib's AUPIMO, too (a minute, several GB)"
    )
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="threads of anomalib; numpy and scikit-learn sort on one"
    )
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "metrics.json")
    arguments = parser.parse_args()
    if arguments.stream:
        print(json.dumps(stream(arguments.stream)))
        return

    comparison = compare(arguments.peer, arguments.threads, arguments.aupimo)
    print(f"{N_MAPS} maps of {SIDE_PX}x{SIDE_PX}{'s':>19} {'MiB':>8}")
    rows = {"blemish": "all metrics", "blemish_streaming": "all", "sklearn": "AUROC, AP", "anomalib": "AUPRO"}
    for name in filter(comparison.__contains__, rows):
        row = comparison[name]
        print(f"{name + ' (' + rows[name] + ')':32s} {row['seconds']:8.3f} {row['peak_mib']:8.1f}", flush=True)
    print(f"times faster than their sum: {comparison.get('times_faster', 'give --peer')}")
    streams = []
    for n_maps in STREAM_MAPS:
        words = [sys.executable, __file__, "--stream", str(n_maps)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        streams.append(json.loads(done.stdout))
        print(
            "{maps} maps of {side_px}x{side_px} streamed: {update_s} s, {peak_process_mib} MiB".format(**streams[-1])
        )

    from machine import describe  # imports torch, whose memory must not count above

    result = {"machine": describe(), "one_call": comparison, "streaming": streams}
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
