"""What each kind of ``inspect --save`` takes: bytes on disk, and milliseconds of one core, for a photograph.

    .venv/bin/python benchmarks/saving.py DETECTOR PHOTOGRAPHS

The photographs are judged once; then each kind is written in turn, three times, and the median is taken. Most of the
photographs should be defective: masks, polygons and COCO of good ones are empty. Writes ``results/saving.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import blemish
from blemish.commands.results import Results, Saving, clear
from blemish.data.listing import list_images
from blemish.inspection.sources import photographs
from blemish.inspection.stream import Judgement, judge
from machine import RESULTS, describe

RUNS: dict[str, tuple[str, Any]] = {
    "none": ("none", "tiff"), "overlays": ("overlays", "tiff"), "maps": ("maps", "tiff"),
    "maps, tiff16": ("maps", "tiff16"), "maps, npy": ("maps", "npy"), "masks": ("masks", "tiff"),
    "contours": ("contours", "tiff"), "coco": ("coco", "tiff"), "parquet": ("parquet", "tiff"),
}  # fmt: skip
REPEATS = 3


def written(judgements: list[Judgement], out: Path, kind: str, map_format: Any) -> tuple[float, int]:
    """Seconds of a core, and bytes in the folder of results."""
    clear(out)
    began_s = time.process_time()
    with Results(out, Saving.named(kind, map_format)) as results:
        for judgement in judgements:
            results.take(results.record(judgement))
    return time.process_time() - began_s, sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("photographs", type=Path)
    arguments = parser.parse_args()
    detector = blemish.load(arguments.detector)
    judgements = list(judge(detector, photographs(list_images(arguments.photographs))))
    for judgement in judgements:
        assert judgement.finding.mask.shape == judgement.size_hw  # outlined once, as all kinds need it
    with tempfile.TemporaryDirectory() as name:
        measured = {
            kind: [written(judgements, Path(name), *options) for _ in range(REPEATS)]
            for kind, options in RUNS.items()
        }
    medians = {kind: statistics.median(seconds for seconds, _ in runs) for kind, runs in measured.items()}
    rows = [
        {
            "save": kind,
            "kb": round((measured[kind][0][1] - measured["none"][0][1]) / len(judgements) / 1000, 1),
            "ms": round(1000 * (medians[kind] - medians["none"]) / len(judgements), 1),
        }
        for kind in RUNS
        if kind != "none"
    ]
    height, width = judgements[0].size_hw
    content = {**describe(), "n": len(judgements), "size_wh": [width, height], "rows": rows}
    (RESULTS / "saving.json").write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
