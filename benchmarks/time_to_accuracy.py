"""What each method's recipe reaches in how many minutes of training: a curve, and what the paper reached in the end.

    .venv/bin/python benchmarks/time_to_accuracy.py runs/steps/*/*

Each point is a whole training run of its own length (`--set iterations=...`, made by ``accuracy.py``), as the rate
falls to zero at the end of each. Its minutes are its steps times the median step of this recipe on this machine,
measured here, so that runs made beside other work count the same. Writes ``results/time-to-accuracy.json`` and
``docs/time-to-accuracy.svg``.
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
    """Median seconds of a training step of a recipe: all that the loop does, but logging."""
    network = build(method, recipe)
    side_px = network.settings.image_size_px
    images = torch.randint(0, 256, (64, 3, side_px, side_px), dtype=torch.uint8)
    trainer = Trainer(network, images, ingredients_of(network), device="cpu")
    stage = network.stages()[0]
    objective, optimizer = trainer._begin(stage)

    def step() -> None:
        losses = objective(stage, trainer._draw(stage.batch_size, trainer._side(stage, 0.99)), trainer.generator)
        trainer.accelerator.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return seconds(step, 30, trainer.device)


def read(folder: Path, steps: dict[tuple[str, str], float]) -> dict[str, Any]:
    """A row for a run folder."""
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
    """What the paper prints, in [0, 1]."""
    known = named_test_set(data)
    figure = paper_figure(method, known.dataset, known.category, metric) if known else None
    return figure.value_percent / 100.0 if figure else None


def drawn(rows: list[dict[str, Any]]) -> str:
    """A panel for each dataset and metric."""
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
    named = {" ".join(key): round(one, 4) for key, one in steps.items()}
    write(arguments.out, {"step_s": named, "rows": rows})
    arguments.picture.write_text(drawn(rows))


if __name__ == "__main__":
    main()
