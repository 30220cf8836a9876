"""Images per second of anomalib's anomaly generator on CPU, called as its DRAEM calls it.

    benchmarks/peers/setup_anomalib.sh DIR
    DIR/bin/python benchmarks/peers/anomalib_synthesis.py --textures TEXTURES --batch 8 --threads 2

`Draem.training_step` (anomalib 2.7.0) passes the whole batch to one `PerlinAnomalyGenerator` in the training process,
with blend factor (0.1, 1.0) and the generator's default probability 0.5. The generator loops over the images and
reads one texture file for each image that it damages. All of this is timed, including images that stay undamaged and
the reading of textures (from a warm file cache). Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import torch

# The CUDA build of torchvision cannot load its detection operators with CPU torch, but its import fails if two of
# them are unknown. Declaring them without an implementation is enough, because nothing here calls them.
if torch.version.cuda is None:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float iou) -> Tensor")

from anomalib.data.utils.generators import PerlinAnomalyGenerator

IMAGES_PER_REPEAT = 128


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--textures", type=Path, required=True, help="folder of textures, nested or not")
    parser.add_argument("--size", type=int, default=256, help="side of the square images, pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--probability", type=float, default=0.5, help="share of damaged images")
    return parser.parse_args()


def smooth_noise(batch: int, size: int) -> torch.Tensor:
    """Stand-ins for good images: float (B, 3, H, W) in [0, 1], always the same."""
    coarse = torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def main() -> None:
    """Time the generator and print the JSON line."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    generator = PerlinAnomalyGenerator(args.textures, probability=args.probability, blend_factor=(0.1, 1.0))
    for path in generator.anomaly_source_paths:  # fill the file cache
        path.read_bytes()
    images = smooth_noise(args.batch, args.size)
    batches = -(-IMAGES_PER_REPEAT // args.batch)
    rates, spoiled = [], 0.0
    with torch.inference_mode():
        generator(images)
        for repeat in range(args.repeats):
            torch.manual_seed(repeat)
            start_s = time.perf_counter()
            masks = [generator(images)[1] for _ in range(batches)]
            rates.append(batches * args.batch / (time.perf_counter() - start_s))
            spoiled += torch.cat(masks).amax((1, 2, 3)).mean().item() / args.repeats
    result = {
        "images_per_s": round(statistics.median(rates), 2),
        "images_per_s_repeats": [round(rate, 2) for rate in rates],
        "anomalib": version("anomalib"),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "threads": args.threads,
        "probability": args.probability,
        "spoiled_fraction": round(spoiled, 3),
        "batch": args.batch,
        "size_px": args.size,
        "textures": len(generator.anomaly_source_paths),
        "called_per": "batch",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
