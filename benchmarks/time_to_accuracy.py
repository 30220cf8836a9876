"""Accuracy of each method over minutes of training as a curve, with the paper's final figure.

    .venv/bin/python benchmarks/time_to_accuracy.py runs/steps/*/*

Each point is a complete training run of its own length (`--set iterations=...`, made by ``accuracy.py``), because the
learning rate falls to zero at the end of each run. Its minutes are its steps times the median time of a step of this
recipe, measured here on this machine, so that other load during a run does not matter. Writes
``results/time-to-accuracy.json`` and ``docs/time-to-accuracy.svg``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from blemish.compare.papers import named_test_set, paper_figure
from blemish.learning.ingredients import ingredients_of
from blemish.learning.training import Trainer
from blemish.methods import build
from machine import RESULTS, seconds, table, write

METRICS = {"image_auroc": "image AUROC", "pixel_ap": "pixel AP"}
COLOURS = {"draem": "#0072b2", "dsr": "#d55e00", "ssae": "#009e73"}
NAMES = {"draem": "DRÆM", "dsr": "DSR", "ssae": "SSAE"}
WIDTH, HEIGHT, LEFT, TOP = 330, 230, 50, 30


def step_s(method: str, recipe: str) -> float:
    """Median seconds of a training step of a recipe: everything that the training loop does, except logging."""
    model = build(method, recipe)
    side_px = model.settings.image_size_px
    images = torch.randint(0, 256, (64, 3, side_px, side_px), dtype=torch.uint8)
    trainer = Trainer(model, images, ingredients_of(model, good_images=images), device="cpu")
    stage = model.stages()[0]
    objective, optimizer = trainer._begin(stage)

    def step() -> None:
        losses = objective(stage, trainer._draw(stage.batch_size, trainer._side_px(stage, 0.99)), trainer.generator)
        trainer.accelerator.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return seconds(step, 30, trainer.device)


def read(folder: Path, steps: dict[tuple[str, str], float]) -> dict[str, Any]:
    """The row of a run folder; ``steps`` caches the time of a step by method and recipe."""
    summary = json.loads((folder / "summary.json").read_text())
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
    key = summary["method"], summary["recipe"]
    if key not in steps:
        steps[key] = step_s(*key)
    row = {"data": metrics["data"], "method": key[0], "recipe": key[1], "seed": summary["seed"]}
    row |= {"steps": summary["iterations"], "minutes": round(summary["iterations"] * steps[key] / 60, 2)}
    row |= {name: round(metrics[name], 4) for name in METRICS}
    return row | {f"{name}_paper": paper_reached(key[0], metrics["data"], name) for name in METRICS}


def paper_reached(method: str, data: str, metric: str) -> float | None:
    """The paper's figure in [0, 1]; None if there is none."""
    test_set = named_test_set(data)
    figure = paper_figure(method, test_set.dataset, test_set.category, metric) if test_set else None
    return figure.value_percent / 100.0 if figure else None


def chart_svg(rows: list[dict[str, Any]]) -> str:
    """The SVG picture: one panel for each dataset and metric."""
    datasets = sorted({row["data"] for row in rows})
    longest = max(row["minutes"] for row in rows) * 1.05
    parts = []
    for line, data in enumerate(datasets):
        for column, (metric, title) in enumerate(METRICS.items()):
            parts.append(f'<g transform="translate({LEFT + column * (WIDTH + 70)} {TOP + line * (HEIGHT + 70)})">')
            parts.append(f'<text x="0" y="-10" font-weight="bold">{data}: {title}</text>')
            for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
                y = (1.0 - tick) * HEIGHT
                parts.append(f'<path d="M0 {y:.1f}H{WIDTH}" stroke="#ddd"/>')
                parts.append(f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{tick:.1f}</text>')
            for minute in range(0, int(longest) + 1, 2):
                x = minute / longest * WIDTH
                parts.append(f'<text x="{x:.1f}" y="{HEIGHT + 18}" text-anchor="middle">{minute}</text>')
            parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT + 36}" text-anchor="middle">minutes of training</text>')
            for method, colour in COLOURS.items():
                chosen = sorted(
                    (row["minutes"], row[metric]) for row in rows if (row["data"], row["method"]) == (data, method)
                )
                points = [(x / longest * WIDTH, (1.0 - y) * HEIGHT) for x, y in chosen]
                joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
                parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
                parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
                if (end := paper_reached(method, data, metric)) is not None:
                    y = (1.0 - end) * HEIGHT
                    parts.append(f'<path d="M0 {y:.1f}H{WIDTH}" stroke="{colour}" stroke-dasharray="5 4"/>')
            parts.append("</g>")
    total_w, total_h = LEFT + 2 * (WIDTH + 70), TOP + len(datasets) * (HEIGHT + 70) + 20
    for number, (method, colour) in enumerate(COLOURS.items()):
        x = LEFT + 110 * number
        parts.append(f'<circle cx="{x}" cy="{total_h - 14}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 10}" y="{total_h - 10}">{NAMES[method]}</text>')
    parts.append(
        f'<text x="{LEFT + 340}" y="{total_h - 10}">dashed: the paper, full network, trained to the end</text>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_w} {total_h}" font-family="sans-serif" '
    return head + f'font-size="13"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'


def main() -> None:
    """Read the runs, print a Markdown table, write the JSON and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=RESULTS / "time-to-accuracy.json")
    parser.add_argument("--picture", type=Path, default=RESULTS.parents[1] / "docs" / "time-to-accuracy.svg")
    arguments = parser.parse_args()
    steps: dict[tuple[str, str], float] = {}
    rows = [read(folder, steps) for folder in arguments.runs if (folder / "evaluation" / "metrics.json").exists()]
    rows.sort(key=lambda row: (row["data"], row["method"], row["steps"]))
    print(table(rows))
    steps_s = {" ".join(key): round(median_s, 4) for key, median_s in steps.items()}
    write(arguments.out, {"step_s": steps_s, "rows": rows})
    arguments.picture.write_text(chart_svg(rows))


if __name__ == "__main__":
    main()
