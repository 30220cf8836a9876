"""Evaluations to compare: hand-made runs in memory, and files as `blemish evaluate` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blemish.compare.papers import test_sets as published_test_sets
from blemish.compare.runs import METRICS, Run

AUTHORS = "draem-authors/1"
COUNTS = {test_set.category: (test_set.n_good, test_set.n_defective) for test_set in published_test_sets()}


def run(data: str = "bottle", seed: int | None = 0, auroc: float | None = 0.9, **changes: Any) -> Run:
    n_good, n_defective = COUNTS.get(data, (5, 7))
    fields = {
        "path": Path(f"{data}-{seed}"), "method": "draem", "recipe": "small", "seed": seed,
        "options": {}, "conditions": {}, "data": data,
        "n_good": n_good, "n_defective": n_defective, "protocol": AUTHORS,
        "metrics": dict.fromkeys(METRICS) | {"image_auroc": auroc},
    }  # fmt: skip
    return Run(**{**fields, **changes})


FIGURES = {"image_auroc": 0.9, "image_ap": 0.8, "pixel_auroc": 0.7, "pixel_ap": 0.6, "pixel_aupro": None}
OLD = {**FIGURES, "n_good": 20, "n_defective": 63, "protocol": "256x256"}
DETECTOR = {
    "method": "draem", "recipe": "small", "seed": 3, "textures": "600 images of dtd", "n_train": 188,
    "settings": {"seed": 3, "widths": [4, 8], "anomalies": {"shape": "perlin"}},
}  # fmt: skip


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def evaluation(folder: Path, **changes: Any) -> Path:
    return write(folder / "metrics.json", {**OLD, "data": "bottle", "detector": DETECTOR, **changes})


def run_folder(folder: Path, data: str) -> Path:
    """A run folder of an older version: the evaluation itself does not name its detector and data."""
    write(
        folder / "summary.json",
        {name: DETECTOR[name] for name in ("method", "recipe", "seed", "textures", "n_train")},
    )
    write(
        folder / "config.yaml",
        f"data: {data}\nsettings:\n  seed: 3\n  widths: [4, 8]\n  anomalies: {{shape: perlin}}\n",
    )
    (folder / "detector.blemish").touch()
    return write(folder / "evaluation" / "metrics.json", OLD)
