"""Time of a training step of anomalib's DRAEM and DSR, as its engine runs it: damage, forward, backward, Adam.

    benchmarks/peers/setup_anomalib.sh DIR
    DIR/bin/python benchmarks/peers/anomalib_training.py --textures TEXTURES --batch 8

The functions that `Draem.training_step` and `Dsr.training_step` (first phase) of anomalib 2.7.0 call are called here
in the same order and precision (float32), with the same optimizers, but without logging. Weights are random. Prints
one JSON line: version, and for each model the median seconds of the step and its parts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

# Needed for the CUDA build of torchvision with CPU torch: see anomalib_synthesis.py.
if torch.version.cuda is None:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float iou) -> Tensor")

from anomalib.data.utils.generators import PerlinAnomalyGenerator
from anomalib.models.image.draem.loss import DraemLoss
from anomalib.models.image.draem.torch_model import DraemModel
from anomalib.models.image.dsr.anomaly_generator import DsrAnomalyGenerator
from anomalib.models.image.dsr.loss import DsrSecondStageLoss
from anomalib.models.image.dsr.torch_model import DsrModel

PARTS = ("spoil", "forward", "backward", "optimizer")


def draem(textures: Path, device: torch.device) -> tuple[Any, ...]:
    """Generator, forward with loss, and optimizer."""
    generator = PerlinAnomalyGenerator(anomaly_source_path=textures, blend_factor=(0.1, 1.0))
    model, loss = DraemModel().to(device), DraemLoss()

    def forward(images: torch.Tensor, spoiled: Any) -> torch.Tensor:
        reconstruction, prediction = model(spoiled[0])
        return loss(images, reconstruction, spoiled[1], prediction)

    return generator, forward, torch.optim.Adam(model.parameters(), lr=1e-4)


def dsr(textures: Path, device: torch.device) -> tuple[Any, ...]:
    """Generator (of masks: the codes are replaced within the forward pass), forward with loss, and optimizer."""
    del textures
    model, loss = DsrModel().to(device), DsrSecondStageLoss()
    trained_networks = [
        model.image_reconstruction_network,
        model.subspace_restriction_module_hi,
        model.subspace_restriction_module_lo,
        model.anomaly_detection_module,
    ]

    def forward(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        out = model(images, masks)
        names = ("recon_feat_hi", "recon_feat_lo", "embedding_bot", "embedding_top")
        return loss(
            *(out[name] for name in names), images, out["obj_spec_image"], out["anomaly_map"], out["true_anomaly_map"]
        )

    parameters = [parameter for network in trained_networks for parameter in network.parameters()]
    return DsrAnomalyGenerator().augment_batch, forward, torch.optim.Adam(parameters, lr=2e-4)


def measured(make: Callable[..., Any], arguments: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Median seconds of the step and of each part."""
    spoil, forward, optimizer = make(arguments.textures, device)
    images = torch.rand(arguments.batch, 3, arguments.size, arguments.size, device=device)
    rows = []
    for _ in range(arguments.repeats + 1):
        times = [now(device)]
        spoiled = spoil(images)
        times.append(now(device))
        loss = forward(images, spoiled)
        times.append(now(device))
        optimizer.zero_grad()
        loss.backward()
        times.append(now(device))
        optimizer.step()
        loss.item()  # anomalib's logging reads the loss, too
        times.append(now(device))
        rows.append([after - before for before, after in pairwise(times)] + [times[-1] - times[0]])
    medians = map(statistics.median, zip(*rows[1:], strict=True))
    return dict(zip((*PARTS, "step"), (round(median_s, 5) for median_s in medians), strict=True))


def now(device: torch.device) -> float:
    """The time after all pending work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--textures", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["draem", "dsr"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = torch.device("cuda" if arguments.device != "cpu" and torch.cuda.is_available() else "cpu")
    makers = {"draem": draem, "dsr": dsr}
    result: dict[str, object] = {"version": version("anomalib")}
    for name in arguments.models:
        result[name] = measured(makers[name], arguments, device)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
