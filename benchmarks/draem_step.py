"""Seconds of one training step and one inference of the full-size DRÆM (recipe ``paper``), and its parameters.

    .venv/bin/python benchmarks/draem_step.py --batch 8

Medians; a step is spoiling, forward, backward and optimizer. Writes ``results/draem-step-<device>.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from blemish.devices import resolve_device
from blemish.methods.draem import DRAEM
from blemish.synthesis.textures import TextureBank
from blemish.training import Trainer
from machine import describe, seconds


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    method = DRAEM(DRAEM.recipes["paper"], TextureBank.procedural((256, 256), n=60))  # type: ignore[arg-type]
    trainer = Trainer(method, torch.randint(0, 256, (16, 3, 256, 256), dtype=torch.uint8), device=arguments.device)
    (stage,) = method.stages()
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-4)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=trainer.precision == "bf16"):
            losses = method.loss(stage, trainer._draw(arguments.batch, stage, 0.0), trainer.generator)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    result = {"machine": describe(), "batch": arguments.batch, "size_hw": (256, 256), "precision": trainer.precision}
    result["reconstructive_parameters"] = sum(p.numel() for p in method.reconstructive.parameters())
    result["discriminative_parameters"] = sum(p.numel() for p in method.discriminative.parameters())
    result["training_step_s"] = round(seconds(step, arguments.repeats, device), 4)
    method.eval()
    images = trainer._draw(arguments.batch, stage, 0.0)
    with torch.inference_mode():
        result["inference_s"] = round(seconds(lambda: method(images), arguments.repeats, device), 4)
        result["inference_batch_1_s"] = round(seconds(lambda: method(images[:1]), arguments.repeats, device), 4)
    print(json.dumps(result, indent=2))
    (Path(__file__).parent / "results" / f"draem-step-{device.type}.json").write_text(
        json.dumps(result, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
