"""Time for one image through anomalib's DRAEM and DSR in evaluation mode, as its engine runs them.

    benchmarks/peers/setup_anomalib.sh DIR
    DIR/bin/python benchmarks/peers/anomalib_inference.py --batches 1 8

Weights are random. Prints one JSON line: version, and seconds by method and batch size (medians).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from importlib.metadata import version

import torch

# The CUDA build of torchvision cannot load its detection operators with CPU torch, but its import fails if two of
# them are unknown. Declaring them without an implementation is enough, because nothing here calls them.
if torch.version.cuda is None:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float iou) -> Tensor")

from anomalib.models.image.draem.torch_model import DraemModel
from anomalib.models.image.dsr.torch_model import DsrModel


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--models", nargs="+", default=["draem", "dsr"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = torch.device("cuda" if arguments.device != "cpu" and torch.cuda.is_available() else "cpu")
    result: dict[str, object] = {"version": version("anomalib")}
    for name in arguments.models:
        model = {"draem": DraemModel, "dsr": DsrModel}[name]().eval().to(device)
        result[name] = {}
        for batch in arguments.batches:
            images = torch.rand(batch, 3, arguments.size, arguments.size, device=device)
            times = []
            for _ in range(arguments.repeats + 1):
                start_s = time.perf_counter()
                with torch.inference_mode():
                    model(images)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start_s)
            result[name][str(batch)] = statistics.median(times[1:]) / batch  # type: ignore[index]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
