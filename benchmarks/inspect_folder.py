"""Start-up time of `blemish`, and speed and memory of `blemish inspect` compared with the bare network.

    .venv/bin/python benchmarks/inspect_folder.py DETECTOR IMAGES --n 1000

Each command runs in a new process; figures are medians of 5 runs. The folder has --n links to IMAGES, repeated as
needed; its rate does not include the time of a run on a single image. After each run on the folder, the bare network
runs on the first 200 images, read and resized beforehand. Memory is the peak of the process: for one image, for the
folder, and for one image of 20 megapixels. Writes ``results/inspect-folder.json``.
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
from pathlib import Path

import cv2
import torch

from blemish.data.listing import list_images
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.inspection.stream import inspected
from machine import describe, seconds

REPEATS = 5


def command(*words: object) -> tuple[float, float]:
    """Seconds and peak memory in MB of `blemish` with these arguments."""
    start_s = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "blemish", *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, words
    return time.perf_counter() - start_s, usage.ru_maxrss / 1024


def median(*words: object) -> tuple[float, float]:
    """Median seconds and median peak memory in MB of `blemish` with these arguments."""
    runs = [command(*words) for _ in range(REPEATS)]
    return statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs)


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detector", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "inspect-folder.json")
    arguments = parser.parse_args()
    paths = list_images(arguments.images, recursive=True)
    detector = Detector.load(arguments.detector)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "many").mkdir()
        for number in range(arguments.n):
            path = paths[number % len(paths)]
            (folder / "many" / f"{number:06}{path.suffix}").symlink_to(path.resolve())
        large = cv2.resize(cv2.imread(str(paths[0])), (5472, 3648))
        cv2.imwrite(str(folder / "large.png"), large)
        help_s, _ = median("--help")
        single_s, single_mb = median("inspect", arguments.detector, paths[0], "--out", folder / "one")
        small = list(load_images(paths[:200], detector.size_hw).permute(0, 2, 3, 1).contiguous().numpy())
        folders, networks = [], []
        for _ in range(REPEATS):
            folders.append(command("inspect", arguments.detector, folder / "many", "--out", folder / "out"))
            networks.append(
                seconds(lambda: list(inspected(detector.runtime, small)), 1, torch.device("cpu")) / len(small)
            )
        large_s, large_mb = median("inspect", arguments.detector, folder / "large.png", "--out", folder / "large")
    image_s = (statistics.median(many_s for many_s, _ in folders) - single_s) / (arguments.n - 1)
    network_s = statistics.median(networks)
    row = {
        "method": detector.method_name, "recipe": detector.provenance.get("recipe"), "n_images": arguments.n,
        "help_s": round(help_s, 3), "one_image_s": round(single_s, 3), "one_image_mb": round(single_mb),
        "images_per_s": round(1 / image_s, 2), "network_images_per_s": round(1 / network_s, 2),
        "share_of_network": round(network_s / image_s, 3), "folder_mb": round(max(many_mb for _, many_mb in folders)),
        "20_megapixels_s": round(large_s, 2), "20_megapixels_mb": round(large_mb),
    }  # fmt: skip
    print(json.dumps(row, indent=2))
    arguments.out.write_text(json.dumps({"machine": describe(), **row}, indent=2) + "\n")


if __name__ == "__main__":
    main()
