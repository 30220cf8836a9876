"""Settings of PatchCore, judged by simulated damage on held-out good images. No test image is read.

    .venv/bin/python benchmarks/patchcore_settings.py mvtec/bottle mvtec/pill magnetic-tile

Of the good training images 30 are held out and 120 remembered. The held-out ones get pasted textures, elastic
deformations and swapped patches; ``pixel_ap`` says how well a map finds them, ``image_auroc`` how well scores tell
damaged images from the same images without damage. Writes `results/patchcore-settings.json`; a call with other data
adds its rows.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from blemish.data.layouts import name_of, open_dataset
from blemish.data.loading import load_images
from blemish.methods.patchcore import PatchCore, PatchCoreSettings
from blemish.metrics import auroc, average_precision
from blemish.synthesis.modified_patches import CorruptionSettings, corrupt
from blemish.synthesis.pasted_textures import AnomalySettings, spoil
from blemish.synthesis.textures import TextureBank
from machine import RESULTS, write

N_HELD_OUT, N_REMEMBERED = 30, 120
SMALL = PatchCoreSettings(image_size_px=256, max_vectors=5_000, max_candidates=20_000, smoothing_px=4.0)
TRIED: dict[str, PatchCoreSettings] = {
    "256 px, stages 2 and 4, 5,000 vectors of 20,000": SMALL,
    "stages 2, 3 and 4": replace(SMALL, stages=(2, 3, 4)),
    "stages 2 and 3": replace(SMALL, stages=(2, 3)),
    "stages 3 and 4": replace(SMALL, stages=(3, 4)),
    "20,000 vectors, at random": replace(SMALL, max_vectors=None),
    "5,000 vectors, at random": replace(SMALL, max_vectors=None, max_candidates=5_000),
    "2,000 vectors of 20,000": replace(SMALL, max_vectors=2_000),
    "5,000 vectors of 50,000": replace(SMALL, max_candidates=50_000),
    "image score of eq. 7": replace(SMALL, image_score="reweighted"),
    "image score: the largest distance": replace(SMALL, image_score="patch"),
    "384 px": replace(SMALL, image_size_px=384, smoothing_px=6.0),
    "512 px": replace(SMALL, image_size_px=512, smoothing_px=8.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--only", nargs="*", default=list(TRIED), choices=list(TRIED))
    parser.add_argument("--out", type=Path, default=RESULTS / "patchcore-settings.json")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    for data in arguments.data:
        paths = [sample.path for sample in open_dataset(data, only="train").train]
        order = torch.randperm(len(paths), generator=Generator().manual_seed(0)).tolist()
        for name in arguments.only:
            settings = TRIED[name]
            chosen = [paths[number] for number in order[: N_HELD_OUT + N_REMEMBERED]]
            images = load_images(chosen, (settings.image_size_px,) * 2)
            row = {"data": name_of(data), "settings": name, **measured(settings, images)}
            rows = [old for old in rows if (old["data"], old["settings"]) != (row["data"], name)] + [row]
            print(row, flush=True)
            write(arguments.out, {"rows": rows})


@torch.inference_mode()
def measured(settings: PatchCoreSettings, images: Tensor) -> dict[str, float]:
    """Figures of one combination of settings on images (N, 3, H, W) uint8, of which the first are held out."""
    method = PatchCore(settings).eval()
    began_s = time.process_time()
    method.finish(images[N_HELD_OUT:], images[:0])
    fit_s = time.process_time() - began_s
    good = images[:N_HELD_OUT].float() / 255.0
    began_s = time.process_time()
    good_maps, good_scores = inspected(method, good)
    inspect_s = time.process_time() - began_s
    row: dict[str, float] = {"vectors": len(method.memory)}
    for kind, (damaged, masks) in damage(good).items():
        is_damaged = masks.flatten(1).any(1)  # an elastic deformation of a plain area does not show
        maps, scores = inspected(method, damaged[is_damaged])
        shrunk = torch.cat([good_maps, maps])[..., ::2, ::2].flatten()
        truth = torch.cat([torch.zeros_like(good_maps, dtype=torch.bool), masks[is_damaged]])[..., ::2, ::2].flatten()
        labels = torch.cat([torch.zeros(len(good_scores)), torch.ones(len(scores))]).bool()
        row[f"pixel_ap_{kind}"] = round(average_precision(shrunk, truth), 4)
        row[f"image_auroc_{kind}"] = round(auroc(torch.cat([good_scores, scores]), labels), 4)
    return row | {"fit_cpu_s": round(fit_s, 1), "inspect_cpu_ms": round(1000 * inspect_s / len(good), 1)}


def inspected(method: PatchCore, images: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (N, 1, H, W) and scores (N,) of images (N, 3, H, W)."""
    maps, scores = zip(*(method(batch) for batch in torch.split(images, 8)), strict=True)
    return torch.cat(maps), torch.cat(scores)


def damage(good: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Damaged copies (N, 3, H, W) of good images and bool masks (N, 1, H, W), by the kind of damage."""
    generator = Generator().manual_seed(1)
    textures = TextureBank.procedural((good.shape[-2], good.shape[-1]))
    pasted, masks = spoil(good, textures, generator, AnomalySettings(probability=1.0))
    copies = {"pasted": (pasted, masks > 0.5)}
    for kind in ("elastic", "swap"):
        modified, masks = corrupt(good, None, generator, CorruptionSettings(kinds=(kind,), max_side=0.25))
        copies[kind] = modified, masks > 0.05
    return copies


if __name__ == "__main__":
    main()
