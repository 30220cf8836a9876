"""The effect of N real defects with masks in training on detection and localization (DSR's table 2).

    .venv/bin/python benchmarks/supervised.py magnetic-tile --method dsr --runs runs/supervised

53 random defective images are set aside, with equal numbers of each kind of defect. The first N of them are used in
training; none of the 53 is used for testing, for any N. Writes ``results/supervised-<method>.json``. Runs that are
already in --runs are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from accuracy import blemish
from blemish.data.layouts import open_dataset
from blemish.data.layouts.samples import Sample
from blemish.data.reading import read_image
from machine import describe

N_ASIDE = 53
COLUMNS = ("image_ap", "pixel_ap", "image_auroc", "pixel_auroc")


def set_aside(samples: Sequence[Sample], n: int) -> list[Sample]:
    """``n`` random samples, ordered so that the kinds of defects take turns."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
    rank: dict[str, int] = {}
    keys = []
    for number in order:
        kind = samples[number].defect
        rank[kind] = rank.get(kind, 0) + 1
        keys.append((rank[kind], kind, number))
    return [samples[number] for _, _, number in sorted(keys)[:n]]


def has_outline(sample: Sample) -> bool:
    """Whether the mask is not empty (four masks of magnetic tile are)."""
    assert sample.mask is not None
    image = read_image(sample.path)
    return bool(sample.mask.read((image.shape[0], image.shape[1])).any())


def link(samples: Sequence[Sample], folder: Path) -> tuple[Path, Path]:
    """Link the images and masks into two folders, which are returned."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(samples):
        assert sample.mask_path is not None
        for name, path in (("images", sample.path), ("masks", sample.mask_path)):
            target = folder / name / f"{number:03}{path.suffix}"
            target.unlink(missing_ok=True)
            target.symlink_to(path.resolve())
    return folder / "images", folder / "masks"


def write_manifest(samples: Sequence[Sample], path: Path) -> Path:
    """Write a CSV dataset of these samples."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "mask", "split"])
        for sample in samples:
            mask = sample.mask_path.resolve() if sample.mask_path is not None else ""
            writer.writerow([sample.path.resolve(), sample.defect, mask, sample.split])
    return path


def main() -> None:
    """Run all numbers and seeds, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--method", default="dsr")
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--numbers", type=int, nargs="+", default=[0, 5, 16, 53])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, default=Path("runs/supervised"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if max(arguments.numbers) > N_ASIDE:
        parser.error(f"--numbers: at most {N_ASIDE} are set aside")
    out = arguments.out or Path(__file__).parent / "results" / f"supervised-{arguments.method}.json"
    runs = arguments.runs / arguments.data.name
    runs.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(arguments.data)
    masked = [
        sample for sample in dataset.test if sample.is_defective and sample.mask is not None and has_outline(sample)
    ]
    aside = set_aside(masked, N_ASIDE)
    used = {sample.path for sample in aside}
    rest = [sample for sample in dataset.samples if sample.path not in used]
    manifest = write_manifest(rest, runs / f"{arguments.data.name}.csv")
    rows = []
    print("| N | seed |", " | ".join(COLUMNS), "|\n|---|---|" + "---|" * len(COLUMNS))
    for seed in arguments.seeds:
        for number in arguments.numbers:
            run = runs / f"{arguments.method}-{arguments.recipe}-{number}-{seed}"
            images, masks = link(aside[:number], runs / f"defects-{number}")
            options = ["--defects", images, "--defect-masks", masks] if number else []
            options += ["--textures", arguments.textures] if arguments.textures else []
            options += ["--resume"] if (run / "checkpoint.pt").exists() else []
            if not (run / "detector.blemish").exists():
                blemish(
                    "fit", manifest, "--method", arguments.method, "--recipe", arguments.recipe, "--seed", seed,
                    "--out", run, "--device", arguments.device, *options,
                )  # fmt: skip
            if not (run / "evaluation" / "metrics.json").exists():
                blemish(
                    "evaluate", run / "detector.blemish", manifest, "--out", run / "evaluation",
                    "--device", arguments.device,
                )  # fmt: skip
            metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
            summary = json.loads((run / "summary.json").read_text())
            assert summary["n_defects"] == number
            rows.append(
                {"data": dataset.root.name, "N": number, "seed": seed}
                | {name: metrics[name] for name in (*COLUMNS, "pixel_aupro", "n_good", "protocol")}
                | {name: summary[name] for name in ("n_defects", "training_s", "iterations", "precision")}
            )
            print(f"| {number} | {seed} |", " | ".join(f"{metrics[name]:.3f}" for name in COLUMNS), "|", flush=True)
            out.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
