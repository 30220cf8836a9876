"""Photographs of 500x1250 px squeezed to a square, in their own shape, and by tiles; and small ones by tiles.

    .venv/bin/python benchmarks/rectangles.py mvtec/bottle mvtec/pill --texture PHOTOGRAPH --textures TEXTURES

The first table is of photographs of 500x1250 px with thin cracks, which ``rectangle_photographs.py`` makes after
KolektorSDD; all are compared at the photographs' own resolution. The second is of the datasets named, whole and by
tiles, at 256x256. A row that an earlier call left in --runs is not measured again. Writes
``results/rectangles.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from machine import RESULTS, describe, write
from rectangle_photographs import make_dataset

SIZES = {
    "squeezed to a square": [],
    "--image-size auto": ["--image-size", "auto"],
    "--tile 256": ["--tile", "256"],
}
"""What the network sees of a photograph: a name, and the options of `fit`."""
MVTEC_SIZES = ("--tile 256", "squeezed to a square")
PROTOCOL, MVTEC_PROTOCOL = "original/1", "256/1"
"""A crack of 2 px is lost in a mask that is shrunk to 256x256. Those of MVTec AD are compared as everywhere else."""
METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro", "false_rejects", "found")
N_INSPECTED = 16
"""Photographs that are inspected to take the time of one."""


def blemish(*words: object) -> tuple[float, str]:
    """Seconds of the processor that `blemish` takes with these arguments, and its output."""
    start_s = processor_s()
    done = subprocess.run(
        [sys.executable, "-m", "blemish", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"blemish {' '.join(map(str, words))}\n{done.stdout}")
    return processor_s() - start_s, done.stdout


def processor_s() -> float:
    """Seconds of the processor that all commands have taken so far: the same beside other work."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measured(data: Path, method: str, size: str, protocol: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The row of one run: fit, evaluate, inspect; or as an earlier call left it."""
    run = arguments.runs / f"{data.name}-{method}-{size.removeprefix('--').replace(' ', '-')}-{arguments.seed}"
    if (run / "row.json").exists():
        return json.loads((run / "row.json").read_text())  # type: ignore[no-any-return]
    textures = ["--textures", arguments.textures] if method in ("draem", "ssae") and arguments.textures else []
    machine = describe()
    fit_s, fit_said = blemish(
        "fit", data, "--method", method, "--recipe", "small", "--seed", arguments.seed, "--out", run, "--overwrite",
        *SIZES[size], *textures,
    )  # fmt: skip
    evaluate_s, evaluate_said = blemish("evaluate", run, data, "--out", run / "evaluation", "--protocol", protocol)
    photographs = sorted((data / "test" / "good").iterdir())[: N_INSPECTED + 1]
    first_s, _ = blemish("inspect", run, photographs[0], "--out", run / "first")
    all_s, _ = blemish("inspect", run, *photographs, "--out", run / "all")
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    row = {"data": data.name, "method": method, "size": size, "seed": arguments.seed, "protocol": metrics["protocol"]}
    row |= {name: metrics[name] for name in (*METRICS, "n_good", "n_defective")}
    row |= {"error_bounds": metrics.get("error_bounds"), "iterations": summary["iterations"]}
    row |= {
        "network_hw": network_hw(run),
        "fit_cpu_s": round(fit_s, 1),
        "training_s": round(summary["training_s"], 1),
    }
    row |= {
        "evaluate_cpu_s": round(evaluate_s, 1),
        "inspect_cpu_s": round((all_s - first_s) / (len(photographs) - 1), 3),
    }
    row |= {"said": [line for line in (fit_said + evaluate_said).splitlines() if " px" in line]}
    row |= {"commit": machine["commit"]}
    (run / "said.txt").write_text(fit_said + evaluate_said)
    (run / "row.json").write_text(json.dumps(row, indent=2) + "\n")
    return row


def network_hw(run: Path) -> tuple[int, int]:
    """Height and width of what the network of a run sees, px."""
    from blemish.detector import Detector

    return Detector.load(run / "detector.blemish").size_hw


def main() -> None:
    """Make the photographs, measure all, print, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="*", help="datasets of square photographs in MVTec AD's layout")
    parser.add_argument("--texture", type=Path, required=True, help="a photograph of a grainy surface")
    parser.add_argument("--textures", type=Path, help="as of `blemish fit`")
    parser.add_argument("--methods", nargs="+", default=["patchcore", "draem"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/rectangles"))
    parser.add_argument("--out", type=Path, default=RESULTS / "rectangles.json")
    arguments = parser.parse_args()
    cracks = arguments.runs / "cracks"
    if not cracks.exists():
        texture = np.asarray(cv2.imread(str(arguments.texture), cv2.IMREAD_GRAYSCALE))
        partial = cracks.with_name(f"cracks-{os.getpid()}")
        make_dataset(texture, partial, arguments.seed)
        partial.rename(cracks)
    wanted = [(cracks, method, size, PROTOCOL) for method in arguments.methods for size in SIZES]
    wanted += [
        (data, method, size, MVTEC_PROTOCOL)
        for size in MVTEC_SIZES
        for method in arguments.methods
        for data in arguments.data
    ]
    rows = []
    for data, method, size, protocol in wanted:
        rows.append(measured(data, method, size, protocol, arguments))
        print(json.dumps(rows[-1], indent=2), flush=True)
        write(arguments.out, {"texture": arguments.texture.name, "rows": rows})


if __name__ == "__main__":
    main()
