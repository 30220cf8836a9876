"""All measurements of speed in turn: `make bench`. Do not use the machine for other work meanwhile.

    .venv/bin/python benchmarks/bench.py --peer .venv-anomalib

Measured are: the operations of a training step, counted as for a GPU; training steps and their parts; inference with
all backends at batch 1 and with torch at batch 32, for SSAE also at 512 px; start-up and a folder of images; loading
and decoding; the metrics. anomalib and scikit-learn are measured for comparison. The images are those of
`blemish demo`; the textures are generated. Takes about an hour on two cores, with --quick a third of it. Each part
writes its own JSON into --out, and ``bench.md`` has the tables of all parts.
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
    """Run one script, which writes its results into ``out``; returns them as text under a heading."""
    print(f"--- {name} {' '.join(map(str, words))}", flush=True)
    command = [sys.executable, "-W", "ignore", HERE / f"{name}.py", *words, "--out", out]
    subprocess.run(list(map(str, command)), check=True)
    result = json.loads(out.read_text())
    if "rows" in result:
        scalars = [{key: cell for key, cell in row.items() if is_scalar(cell)} for row in result["rows"]]
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
    parser.add_argument("--peer", type=Path, help="virtual environment with anomalib; made if it does not exist")
    parser.add_argument("--quick", action="store_true", help="few repeats and images, no batch of 32")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    out, quick = arguments.out.resolve(), arguments.quick
    out.mkdir(parents=True, exist_ok=True)
    peer: list[object] = ["--peer", arguments.peer.resolve()] if arguments.peer else []
    if arguments.peer:
        subprocess.run([HERE / "peers" / "setup_anomalib.sh", arguments.peer], check=True)
    quick_option: list[object] = ["--quick"] if quick else []
    texts = [part("operations", out / "operations.json", *quick_option, note=", counted")]
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
