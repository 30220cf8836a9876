"""Is the promised false-reject rate kept? Fit on some good images, count rejections among all other good images.

    .venv/bin/python benchmarks/false_rejects.py GOOD_IMAGES --textures TEXTURES --n-fit 200 --false-rejects 0.05

GOOD_IMAGES is a folder of good images, or a dataset, of which all good images are used. In an order drawn from the
seed, the first --n-fit images train and calibrate the detector, and it inspects the rest. Appends to
``results/false-rejects.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path

import torch

import blemish
from blemish.commands.progress import TrainingProgress
from blemish.data.layouts import open_dataset
from machine import describe


def main() -> None:
    """Fit, inspect the rest, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--method", default="draem")
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--n-fit", type=int, default=200)
    parser.add_argument("--false-rejects", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()

    paths = [sample.path.resolve() for sample in open_dataset(arguments.data).samples if not sample.is_defective]
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(arguments.seed)).tolist()
    chosen, rest = [paths[i] for i in order[: arguments.n_fit]], [paths[i] for i in order[arguments.n_fit :]]
    run = arguments.runs / f"false-rejects-{arguments.method}-{arguments.data.stem}-{arguments.seed}"
    run.mkdir(parents=True, exist_ok=True)
    with (run / "good.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((path, "good") for path in chosen)])
    with TrainingProgress() as progress:
        detector = blemish.fit(
            run / "good.csv", method=arguments.method, recipe=arguments.recipe, textures=arguments.textures, out=run,
            false_rejects=arguments.false_rejects, seed=arguments.seed, reporter=progress,
        )  # fmt: skip
    rejected = sum(detector.inspect(path).is_defective for path in rest)
    rate = rejected / len(rest)
    # The promise holds on average over random calibration images: with n of them, the rate of one detector scatters.
    n, k = (
        detector.threshold.n_calibration,
        max(1, math.floor((detector.threshold.n_calibration + 1) * arguments.false_rejects)),
    )
    spread = math.sqrt(k * (n + 1 - k) / ((n + 1) ** 2 * (n + 2)))
    result = {
        "machine": describe(), "data": arguments.data.stem, "method": arguments.method, "seed": arguments.seed,
        "recipe": arguments.recipe,
        "n_train": detector.provenance["n_train"], "n_calibration": n, "promised": arguments.false_rejects,
        "is_promised": detector.threshold.is_promised, "n_inspected": len(rest), "rejected": rejected,
        "measured": round(rate, 4), "standard_deviation_over_calibration_draws": round(spread, 4),
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    out = Path(__file__).parent / "results" / "false-rejects.json"
    out.parent.mkdir(exist_ok=True)
    rows = json.loads(out.read_text()) if out.exists() else []
    out.write_text(json.dumps([*rows, result], indent=2) + "\n")


if __name__ == "__main__":
    main()
