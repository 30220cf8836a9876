"""The same detectors under our protocol and under those of the papers' authors.

    .venv/bin/python benchmarks/protocols.py runs/bottle-draem-small-0 runs/bottle-dsr-small-0 --data mvtec/bottle

Writes `results/protocols.json`, to which a further call with other data adds its rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from blemish.data.layouts import name_of
from blemish.detector import Detector
from blemish.evaluation.evaluate import evaluate
from machine import RESULTS, write

PROTOCOLS = ("256/1", "draem-authors/1", "dsr-authors/1")
METRICS = ("image_auroc", "pixel_auroc", "pixel_ap")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "protocols.json")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    for run in arguments.runs:
        detector = Detector.load(run)
        row: dict[str, Any] = {
            "data": name_of(arguments.data), "method": detector.method_name,
            "recipe": detector.provenance["recipe"], "seed": detector.provenance["seed"],
            "iterations": detector.provenance["iterations"],
        }  # fmt: skip
        key = dict(row)
        for protocol in PROTOCOLS:
            metrics = evaluate(detector, arguments.data, protocol=protocol).metrics
            row[protocol] = {name: metrics[name] for name in METRICS}
            print(row["data"], row["method"], protocol, row[protocol], flush=True)
        rows = [old for old in rows if {name: old[name] for name in key} != key] + [row]
        write(arguments.out, {"rows": rows})


if __name__ == "__main__":
    main()
