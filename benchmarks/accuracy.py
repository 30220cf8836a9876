"""Train a recipe on datasets with several seeds through the command line, evaluate, and tabulate the results.

    .venv/bin/python benchmarks/accuracy.py --recipe small --textures TEXTURES --seeds 0 1 2 mvtec/bottle mvtec/pill

A run that is already in --runs is not repeated, so an interrupted table continues where it stopped. Writes
``results/accuracy-<method>-<recipe>.json``, with every seed's figures and what they were measured on, and makes the
tables of ``docs/results.md`` and ``README.md`` anew. Without data, only the tables. ``--method combined`` joins the
runs of the other methods in --runs; its minutes are theirs and its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemish.detector import Detector
from blemish.devices import Device, resolve_device
from blemish.evaluation.evaluate import evaluate
from blemish.runtimes.torch import TorchRuntime
from machine import RESULTS, describe
from results_page import update_pages

METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro", "false_rejects", "found", "n_good")
TRAINING = (
    "training_s", "iterations", "images_per_s", "n_train", "n_calibration", "parameters", "precision", "textures",
)  # fmt: skip
PARTS = ("draem", "dsr", "ssae", "patchcore")
"""The methods that ``combined`` joins."""


def blemish(*arguments: object) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "blemish", *map(str, arguments)], check=True)


def fit_and_evaluate(data: Path, recipe: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The row of one seed: trained and evaluated, or read from what an earlier call left."""
    run = run_of(data, arguments.method, recipe, seed, arguments)
    if arguments.method == "combined":
        combine(run, data, recipe, seed, arguments)
    elif not (run / "detector.blemish").exists():
        fit(run, data, recipe, seed, arguments)
    if not (run / "machine.json").exists():
        (run / "machine.json").write_text(json.dumps(describe(), indent=2) + "\n")
    if not (run / "evaluation" / "metrics.json").exists():
        blemish("evaluate", run / "detector.blemish", data, "--out", run / "evaluation", "--device", arguments.device)
    summary = json.loads((run / "summary.json").read_text())
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    trained_on = json.loads((run / "machine.json").read_text())
    row = {"data": data.stem, "seed": seed, "commit": trained_on["commit"], "processor": trained_on["processor"]}
    row |= {name: metrics.get(name) for name in METRICS} | {name: summary[name] for name in TRAINING}
    row |= {"protocol": metrics["protocol"], "set": arguments.set}
    if arguments.method == "ssae":
        row |= {"chosen": summary["chosen"], "validation": summary["validation"]}
        row |= both_scores(run, data, metrics["image_auroc"], arguments.device)
    return row


def run_of(data: Path, method: str, recipe: str, seed: int, arguments: argparse.Namespace) -> Path:
    """The folder of a run."""
    folder: Path = arguments.runs / f"{data.stem}-{method}-{recipe}-{seed}"
    return folder


def fit(run: Path, data: Path, recipe: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train, or go on where an interrupted training stopped."""
    options = ["--textures", arguments.textures] if arguments.textures else []
    options += [word for assignment in arguments.set for word in ("--set", assignment)]
    options += ["--resume"] if (run / "checkpoint.pt").exists() else []
    blemish(
        "fit", data, "--method", arguments.method, "--recipe", recipe, "--seed", seed, "--out", run,
        "--device", arguments.device, *options,
    )  # fmt: skip


def combine(run: Path, data: Path, recipe: str, seed: int, arguments: argparse.Namespace) -> None:
    """Join the runs of ``PARTS`` with the same seed; the summary has the sums of theirs."""
    if (run / "summary.json").exists():
        return
    runs = [run_of(data, part, recipe, seed, arguments) for part in PARTS]
    start_s, out = time.perf_counter(), run / "detector.blemish"
    run.mkdir(parents=True, exist_ok=True)
    blemish("combine", *runs, "--good", data, "--seed", seed, "--out", out, "--device", arguments.device)
    summaries = [json.loads((part / "summary.json").read_text()) for part in runs]
    provenance = Detector.load(out).provenance
    summary = dict.fromkeys(TRAINING) | {
        "training_s": time.perf_counter() - start_s + sum(part["training_s"] for part in summaries),
        "iterations": sum(part["iterations"] for part in summaries),
        "n_calibration": provenance["n_calibration"], "chosen": provenance["chosen"],
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def both_scores(run: Path, data: Path, image_auroc: float, device: Device) -> dict[str, float]:
    """Image AUROC of SSAE by the sum of the heatmap, as in the paper, and by its maximum; one of them is known."""
    detector = Detector.load(run / "detector.blemish", resolve_device(device))
    method, known = detector.method, detector.settings.image_score  # type: ignore[attr-defined]
    missing = "max" if known == "sum" else "sum"
    method.settings = replace(method.settings, image_score=missing)  # type: ignore[call-arg]
    detector.runtime = TorchRuntime(method)
    return {
        f"image_auroc_{known}": image_auroc,
        f"image_auroc_{missing}": evaluate(detector, data).metrics["image_auroc"],
    }


def main() -> None:
    """Run all, write the JSON and the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--method", default="draem")
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], help="as of `blemish fit`; use another --runs for it")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out or RESULTS / f"accuracy-{arguments.method}-{arguments.recipe}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in arguments.seeds:
        for data in arguments.data:
            rows.append(fit_and_evaluate(data, arguments.recipe, seed, arguments))
            print(*(f"{name}={rows[-1][name]}" for name in ("data", "seed", *METRICS)), flush=True)
            out.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=2) + "\n")
    for page in update_pages():
        print(page)


if __name__ == "__main__":
    main()
