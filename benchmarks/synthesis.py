"""Damaged images per second: blemish's simulator compared with anomalib's, on the same textures, in the same run.

    benchmarks/peers/setup_anomalib.sh .venv-anomalib
    .venv/bin/python benchmarks/synthesis.py --textures TEXTURES --peer .venv-anomalib/bin/python

Each rate is the median of 5 repeats over 128 images of 256x256. Both train with ``spoil_probability`` 0.5; at 1 every
image is damaged. As in training, anomalib reads its textures from disk for every image, while blemish holds them in
memory and its batches are channels-last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from blemish.synthesis.pasted_textures import AnomalySettings, spoil
from blemish.synthesis.textures import TextureBank
from machine import describe

SIZE_HW, N_IMAGES, REPEATS = (256, 256), 128, 5


def ours(bank: TextureBank, batch: int, probability: float) -> list[float]:
    """Images per second of ``spoil`` in each repeat."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, *SIZE_HW, generator=generator).contiguous(memory_format=torch.channels_last)
    settings = AnomalySettings(probability=probability)
    spoil(images, bank, generator, settings)
    rates = []
    for _ in range(REPEATS):
        start_s = time.perf_counter()
        for _ in range(N_IMAGES // batch):
            spoil(images, bank, generator, settings)
        rates.append(N_IMAGES / (time.perf_counter() - start_s))
    return [round(rate, 1) for rate in rates]


def peers(python: Path, textures: Path, batch: int, probability: float) -> dict[str, Any]:
    """The output of ``peers/anomalib_synthesis.py``."""
    script = Path(__file__).parent / "peers" / "anomalib_synthesis.py"
    options = {
        "textures": textures,
        "size": SIZE_HW[0],
        "batch": batch,
        "probability": probability,
        "repeats": REPEATS,
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    arguments += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run([str(python), str(script), *arguments], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Measure both, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--textures", type=Path, required=True)
    parser.add_argument("--peer", type=Path, help="Python of the environment with anomalib")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "synthesis.json")
    arguments = parser.parse_args()
    bank = TextureBank.from_folder(arguments.textures, SIZE_HW)
    rows = []
    print(f"{'batch':>5} {'spoiled':>7} {'blemish/s':>10} {'anomalib/s':>10} {'ratio':>6}")
    for probability in (0.5, 1.0):
        for batch in (8, 32):
            row: dict[str, Any] = {"batch": batch, "spoil_probability": probability}
            row["blemish_repeats"] = ours(bank, batch, probability)
            row["blemish_images_per_s"] = statistics.median(row["blemish_repeats"])
            if arguments.peer:
                peer = peers(arguments.peer, arguments.textures, batch, probability)
                row |= {"anomalib_images_per_s": peer["images_per_s"], "anomalib": peer["anomalib"]}
                row["anomalib_repeats"] = peer["images_per_s_repeats"]
                row["ratio"] = round(row["blemish_images_per_s"] / peer["images_per_s"], 2)
            rows.append(row)
            peer_columns = f"{row['anomalib_images_per_s']:10.1f} {row['ratio']:6.2f}" if arguments.peer else ""
            print(f"{batch:5d} {probability:7.1f} {row['blemish_images_per_s']:10.1f} {peer_columns}", flush=True)
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps({"machine": describe(), "size_hw": SIZE_HW, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
