"""Does longer training still help? DRÆM's narrow networks on whole images of 256 px, on held-out good images.

    .venv/bin/python benchmarks/schedule.py GOOD_IMAGES --textures TEXTURES --runs 8x400 8x800 16x400

A run is BATCHxSTEPS. Reported for training images and for held-out images: the losses and pixel AP on damage that is
simulated with a separate seed, and the scores of the undamaged images. Real defects and test images are not used,
because the schedule of recipe ``fast`` was chosen by these figures. Writes ``results/schedule.json``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from blemish.data.layouts import open_dataset
from blemish.data.loading import load_images
from blemish.learning.ingredients import ingredients_of
from blemish.learning.training import Trainer
from blemish.losses import focal_loss, l2_loss, ssim_loss
from blemish.methods.base import Ingredients
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.metrics.ranking import average_precision
from blemish.synthesis.pasted_textures import spoil
from machine import RESULTS, table, write

SIDE_PX = 256
N_HELD_OUT = 21
NARROW = {
    "reconstructive_widths": (16, 32, 64, 128, 128),
    "discriminative_widths": (16, 32, 64, 64, 64),
    "patch_px": 2,
}


@torch.inference_mode()
def measured(method: DRAEM, ingredients: Ingredients, images: Tensor, name: str) -> dict[str, Any]:
    """Losses and pixel AP on simulated damage, and scores without damage, for (N, 3, H, W) uint8 good images."""
    good, generator = images.float() / 255.0, Generator().manual_seed(5)
    spoiled, masks = spoil(good, ingredients.textures, generator, method.settings.anomalies)
    repair, maps = method._reconstruct_and_detect(spoiled)
    assert repair is not None
    scores = method(good)[1]
    figures = {
        "l2": l2_loss(repair, good).item(),
        "ssim": ssim_loss(repair, good).item(),
        "focal": focal_loss(maps, masks).item(),
        "pixel_ap": average_precision(maps.flatten().numpy(), masks.flatten().numpy() > 0.5),
        "median_score": scores.median().item(),
        "largest_score": scores.max().item(),
    }
    return {f"{name} {figure}": round(value, 4) for figure, value in figures.items()}


def main() -> None:
    """Train and measure, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--runs", nargs="+", default=["8x400", "8x800", "16x400"])
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--ema-decay", type=float, default=0.99)
    parser.add_argument("--out", type=Path, default=RESULTS / "schedule.json")
    arguments = parser.parse_args()
    paths = [sample.path for sample in open_dataset(arguments.data).train]
    order = torch.randperm(len(paths), generator=Generator().manual_seed(0)).tolist()
    images = load_images([paths[number] for number in order], (SIDE_PX, SIDE_PX))
    held_out, train = images[:N_HELD_OUT], images[N_HELD_OUT:]
    rows: list[dict[str, Any]] = []
    for run in arguments.runs:
        batch, steps = map(int, run.split("x"))
        schedule = {"learning_rate": arguments.learning_rate, "schedule": "cosine", "ema_decay": arguments.ema_decay}
        method = DRAEM(DRAEMSettings(**NARROW, **schedule, batch_size=batch, epochs=None, iterations=steps))
        ingredients = ingredients_of(method, arguments.textures)
        record = Trainer(method, train, ingredients, device="cpu", precision="float32").run()
        row = {"batch": batch, "steps": steps, "seconds": round(record.training_s)}
        row |= measured(method, ingredients, train[:N_HELD_OUT], "train")
        row |= measured(method, ingredients, held_out, "held out")
        rows.append(row)
        write(arguments.out, {"data": arguments.data.resolve().name, **NARROW, **schedule, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
