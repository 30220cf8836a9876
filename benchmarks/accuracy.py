"""Train a recipe on datasets with several seeds through the command line, evaluate, and table what comes out.

    .venv/bin/python benchmarks/accuracy.py --recipe small --textures TEXTURES --seeds 0 1 2 mvtec/bottle mvtec/pill

A run that is already in --runs is not repeated, so an interrupted table goes on where it stopped. Writes
``results/accuracy-<recipe>.json``, with every seed's figures and what they were measured on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemish.detector import Detector
from blemish.devices import Device, resolve_device
from blemish.evaluation.evaluate import evaluate
from machine import describe

COLUMNS = (
    "image_auroc",
    "image_ap",
    "pixel_auroc",
    "pixel_ap",
    "pixel_aupro",
    "false_rejects",
    "found",
    "training_s",
)


def blemish(*arguments: object) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "blemish", *map(str, arguments)], check=True)


def one(data: Path, recipe: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit and evaluate one seed, or read what an earlier call left."""
    out = arguments.runs / f"{data.stem}-{arguments.method}-{recipe}-{seed}"
    options = ["--textures", arguments.textures] if arguments.textures else []
    options += [word for assignment in arguments.set for word in ("--set", assignment)]
    if not (out / "detector.blemish").exists():
        options += ["--resume"] if (out / "checkpoint.pt").exists() else []
        blemish(
            "fit", data, "--method", arguments.method, "--recipe", recipe, "--seed", seed, "--out", out,
            "--device", arguments.device, *options,
        )  # fmt: skip
    if not (out / "evaluation" / "metrics.json").exists():
        blemish("evaluate", out / "detector.blemish", data, "--out", out / "evaluation", "--device", arguments.device)
    summary = json.loads((out / "summary.json").read_text())
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    row = {
        "data": data.stem,
        "seed": seed,
        "commit": describe()["commit"],
        **{name: metrics.get(name) for name in COLUMNS},
    }
    wanted = (
        "training_s",
        "iterations",
        "images_per_s",
        "n_train",
        "n_calibration",
        "parameters",
        "precision",
        "textures",
    )
    row |= {name: summary[name] for name in wanted} | {"protocol": metrics["protocol"], "set": arguments.set}
    if arguments.method == "ssae":
        row |= {"chosen": summary["chosen"], "validation": summary["validation"]}
        row |= both_scores(out, data, metrics["image_auroc"], arguments.device)
    return row


def both_scores(run: Path, data: Path, image_auroc: float, device: Device) -> dict[str, float]:
    """Image AUROC of SSAE by the sum of the heatmap, as in the paper, and by its maximum; one of them is known."""
    detector = Detector.load(run / "detector.blemish", resolve_device(device))
    own = detector.method.settings.image_score  # type: ignore[attr-defined]
    other = "max" if own == "sum" else "sum"
    detector.method.settings = replace(detector.method.settings, image_score=other)  # type: ignore[call-arg]
    return {
        f"image_auroc_{own}": image_auroc,
        f"image_auroc_{other}": evaluate(detector, data).metrics["image_auroc"],
    }


def main() -> None:
    """Run all, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--method", default="draem")
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], help="as of `blemish fit`; use another --runs for it")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out or Path(__file__).parent / "results" / f"accuracy-{arguments.method}-{arguments.recipe}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in arguments.seeds:
        for data in arguments.data:
            rows.append(one(data, arguments.recipe, seed, arguments))
            out.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=2) + "\n")
    print("| data | seeds |", " | ".join(COLUMNS), "|")
    print("|---|---|" + "---|" * len(COLUMNS))
    for data in arguments.data:
        chosen = [row for row in rows if row["data"] == data.stem]
        values = [[row[name] for row in chosen if row[name] is not None] for name in COLUMNS]
        means = (f"{statistics.mean(one):.3f}" if one else "-" for one in values)
        print(f"| {data.stem} | {len(chosen)} |", " | ".join(means), "|")


if __name__ == "__main__":
    main()
