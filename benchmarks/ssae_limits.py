"""How large SSAE's simulated damage may be: theorem 2, half the width, or no limit, judged on good images.

    .venv/bin/python benchmarks/ssae_limits.py magnetic-tile mvtec/pill mvtec/bottle --textures TEXTURES --steps 2500

Trains each of them on each dataset, and writes `results/ssae-limits.json`; a call with other data adds its rows.
What is compared is how well simulated damage of other kinds is found on good images that training has not seen; the
figures of the test images are written beside it, and decide nothing. Runs are kept in --runs and go on where they
were stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

from blemish.data.layouts import name_of
from blemish.detector import Detector
from blemish.evaluation.evaluate import evaluate
from blemish.learning.fit import fit, state_of
from blemish.synthesis.modified_patches import CorruptionSettings
from machine import RESULTS, write

LIMITS = get_args(get_type_hints(CorruptionSettings)["limit"])
METRICS = ("image_auroc", "pixel_auroc", "pixel_ap")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/ssae-limits"))
    parser.add_argument("--out", type=Path, default=RESULTS / "ssae-limits.json")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    for data in arguments.data:
        rows = [row for row in rows if row["data"] != name_of(data)]
        for limit in LIMITS:
            options: dict[str, Any] = {
                "method": "ssae", "recipe": "small", "textures": arguments.textures, "seed": arguments.seed,
                "device": "cpu", "settings": {"iterations": arguments.steps, "corruption": {"limit": limit}},
            }  # fmt: skip
            folder = arguments.runs / f"{name_of(data)}-{limit}"
            state = state_of(folder, data, **options)
            if state != "finished":
                fit(data, out=folder, resume=state == "started", **options)
            detector = Detector.load(folder)
            metrics = evaluate(detector, data).metrics
            rows.append(
                {"data": name_of(data), "limit": limit, "steps": arguments.steps, "seed": arguments.seed,
                 "validation": detector.provenance["validation"], **{name: metrics[name] for name in METRICS}}
            )  # fmt: skip
            print(rows[-1], flush=True)
            write(arguments.out, {"rows": rows})


if __name__ == "__main__":
    main()
