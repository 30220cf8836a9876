"""The effect of each kind of SSAE's simulated damage: one recipe trained with single kinds and with mixtures.

    .venv/bin/python benchmarks/ssae_damage.py mvtec/bottle --textures TEXTURES --set iterations=3000

Runs that are already in --runs are not repeated. Writes ``results/ssae-damage.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from accuracy import fit_and_evaluate
from machine import describe

DAMAGE = {
    "elastic": ["corruption.kinds=[elastic]"],
    "elastic, lighter or darker": ["corruption.kinds=[elastic]", "corruption.brightness_probability=0.5"],
    "cut-out": ["corruption.kinds=[cut-out]"],
    "swap": ["corruption.kinds=[swap]"],
    "occlusion": ["corruption.kinds=[occlusion]"],
    "elastic and occlusion": ["corruption.kinds=[elastic, occlusion]"],
    "all four": ["corruption.kinds=[elastic, cut-out, swap, occlusion]"],
}
COLUMNS = ("image_auroc_max", "image_auroc_sum", "pixel_auroc", "pixel_ap", "pixel_aupro", "validation")


def main() -> None:
    """Run all kinds, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", nargs="+", default=list(DAMAGE), choices=list(DAMAGE))
    parser.add_argument("--set", action="append", default=[], help="as for `blemish fit`, for all runs")
    parser.add_argument("--runs", type=Path, default=Path("runs/ssae-damage"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ssae-damage.json")
    arguments = parser.parse_args()
    arguments.method, shared, runs, rows = "ssae", arguments.set, arguments.runs, []
    print("| damage |", " | ".join(COLUMNS), "|")
    print("|---|" + "---|" * len(COLUMNS))
    for name in arguments.only:
        arguments.set, arguments.runs = [*shared, *DAMAGE[name]], runs / name.replace(", ", "-").replace(" ", "-")
        rows.append({"damage": name, **fit_and_evaluate(arguments.data, arguments.recipe, arguments.seed, arguments)})
        print(f"| {name} |", " | ".join(f"{rows[-1][column]:.3f}" for column in COLUMNS), "|", flush=True)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
