"""All measurements of speed, one after another: `make bench`. Leave the machine alone meanwhile.

    .venv/bin/python benchmarks/bench.py --peer .venv-anomalib

Operations of a training step, counted as for a GPU, training steps and their parts, inference in all ways at batch 1
and in those of torch at batch 32, SSAE also at 512 px, start-up and a folder of images, loading and decoding, the
metrics; beside anomalib and scikit-learn. The images are those of `blemish demo`, the textures are made on the spot.
About an hour on two cores; with --quick a third of it, for a look. Each part writes its own JSON into --out, and all
of their tables go into ``bench.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import torch

from blemish.data.demo_images import make_demo_images
from blemish.devices import resolve_precision
from blemish.synthesis.textures import TextureBank
from machine import RESULTS, describe, table

HERE = Path(__file__).parent


def part(name: str, out: Path, *words: object, note: str = "") -> str:
    """Run one of the scripts; returns the results that it wrote into ``out``, under a heading."""
    print(f"--- {name} {' '.join(map(str, words))}", flush=True)
    command = [sys.executable, "-W", "ignore", HERE / f"{name}.py", *words, "--out", out]
    subprocess.run(list(map(str, command)), check=True)
    result = json.loads(out.read_text())
    if "rows" in result:
        scalars = [
            {key: cell for key, cell in row.items() if not isinstance(cell, dict | list)} for row in result["rows"]
        ]
        text = table(scalars)
    else:
        figures = {key: value for key, value in result.items() if key != "machine"}
        text = f"```\n{json.dumps(figures, indent=2)}\n```"
    return f"## {name}{note}\n\n{text}\n"


def is_scalar(value: object) -> bool:
    """Whether a value fits into a cell of a table."""
    return not isinstance(value, dict | list)


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", type=Path, help="virtual environment with anomalib; made if it is not there")
    parser.add_argument("--quick", action="store_true", help="small numbers of repeats and images, no batch of 32")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    out, quick = arguments.out.resolve(), arguments.quick
    out.mkdir(parents=True, exist_ok=True)
    peer: list[object] = ["--peer", arguments.peer.resolve()] if arguments.peer else []
    if arguments.peer:
        subprocess.run([HERE / "peers" / "setup_anomalib.sh", arguments.peer], check=True)
    quickly: list[object] = ["--quick"] if quick else []
    texts = [part("operations", out / "operations.json", *quickly, note=", counted")]
    repeats: list[object] = ["--device", "cpu", "--repeats", 1 if quick else 5]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "textures").mkdir()
        for number, texture in enumerate(TextureBank.procedural((256, 256), n=60).images.numpy()):
            cv2.imwrite(str(folder / "textures" / f"{number:02}.png"), texture)
        make_demo_images(folder / "images")
        good = next(folder.rglob("good"))
        textures = ["--textures", folder / "textures"]
        words = ["--set", "iterations=60", *textures, "--out", folder / "run"]
        fit = [sys.executable, "-m", "blemish", "fit", good, *words]
        subprocess.run(list(map(str, fit)), check=True, stdout=subprocess.DEVNULL)
        detector = folder / "run" / "detector.blemish"
        large: list[object] = ["--methods", "ssae", "--size", 512, *repeats]
        texts += [
            part("training_step", out / "training-step-cpu.json", *textures, *repeats, *peer),
            part("inference", out / "inference-cpu.json", *repeats, *peer),
            part("inference", out / "inference-cpu-512.json", *large, note=" at 512x512"),
        ]
        if not quick:
            half = ["prepared bf16"] if resolve_precision("auto", torch.device("cpu")) == "bf16" else []
            words = ["--batches", 32, "--ways", "torch", "prepared", *half, "--device", "cpu"]
            words += ["--repeats", 2, *peer]
            texts.append(part("inference", out / "inference-cpu-batch-32.json", *words, note=" at batch 32"))
        n = 100 if quick else 1000
        texts.append(part("inspect_folder", out / "inspect-folder.json", detector, good, "--n", n))
        texts.append(part("loading", out / "loading.json", detector))
        python: list[object] = ["--peer", arguments.peer.resolve() / "bin" / "python"] if arguments.peer else []
        texts.append(part("metrics", out / "metrics.json", *python))
    head = ", ".join(f"{key} {value}" for key, value in describe().items())
    (out / "bench.md").write_text("\n".join([f"# Speed\n\n{head}\n", *texts]))
    print(out / "bench.md")


if __name__ == "__main__":
    main()
