"""Speed, image AUROC, pixel AP and changed verdicts of trained detectors, for each backend and precision.

    .venv/bin/python benchmarks/verdicts.py DETECTOR mvtec/bottle [DETECTOR DATA ...]

The ways to run a network are those of ``backends.py``; each is compared with torch in float32. 8-bit networks learn
their ranges from the good training images. Times are those of a single image of the detector's size, medians of 25.
Writes ``results/verdicts.json``.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backends import ALL, Run, ways
from blemish.data.layouts import open_dataset
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.evaluation.evaluate import evaluate
from blemish.runtimes.base import Runtime
from machine import RESULTS, seconds, table, write

REPEATS = 25


class Way(Runtime):
    """Lets a detector inspect by any function from images to maps and scores, on the CPU."""

    name = "benchmark"
    device = torch.device("cpu")

    def __init__(self, detector: Detector, run: Run) -> None:
        super().__init__(detector.method_name, detector.settings)
        self.run = run

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.run(images)

    def tensors(self) -> dict[str, Tensor]:
        return {}


def compared(detector: Detector, data: Path, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row for each way to run the network."""
    good = load_images([sample.path for sample in open_dataset(data).train], detector.size_hw)
    image = good[:1].float() / 255.0  # (1, 3, H, W)
    rows: list[dict[str, Any]] = []
    reference, threshold = None, detector.threshold.value
    for way, precision, run in ways(detector, good, names):
        with torch.inference_mode():
            image_s = seconds(partial(run, image), REPEATS, torch.device("cpu"))
            way_detector = Detector(Way(detector, run), detector.threshold, detector.pixel_threshold)
            evaluation = evaluate(way_detector, data)
        reference = reference or evaluation
        changed = [
            f"{sample.path.parent.name}/{sample.path.name}"
            for sample, old, new in zip(
                evaluation.samples, reference.scores.tolist(), evaluation.scores.tolist(), strict=True
            )
            if (old > threshold) != (new > threshold)
        ]
        row = {"method": detector.method.name, "data": data.name, "way": way, "precision": precision}
        row |= {"image_ms": round(1e3 * image_s, 2), "n_images": len(evaluation.samples)}
        row |= {name: round(evaluation.metrics[name], 4) for name in ("image_auroc", "pixel_ap")}
        row |= {
            "largest_change": round(float(abs(evaluation.scores - reference.scores).max()), 4),
            "threshold": round(threshold, 4),
        }
        rows.append(row | {"n_changed": len(changed), "changed": changed})
        print({**row, "n_changed": len(changed)}, flush=True)
    return rows


def main() -> None:
    """Compare, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pairs", type=Path, nargs="+", help="detectors and datasets in turn")
    parser.add_argument("--ways", nargs="+", default=ALL)
    parser.add_argument("--out", type=Path, default=RESULTS / "verdicts.json")
    arguments = parser.parse_args()
    rows = []
    for path, data in zip(arguments.pairs[::2], arguments.pairs[1::2], strict=True):
        rows += compared(Detector.load(path), data, tuple(arguments.ways))
        write(arguments.out, {"rows": rows})
    print(table([{name: value for name, value in row.items() if name != "changed"} for row in rows]))


if __name__ == "__main__":
    main()
