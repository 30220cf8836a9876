"""How well the codebook of the package reconstructs unseen images: PSNR, SSIM, codes in use, sheets of pictures.

    .venv/bin/python benchmarks/codebook.py mvtec/bottle mvtec/pill magnetic-tile --sheets build/codebook

Takes up to 60 good and defective images of each dataset, evenly spaced, at 256x256. Writes ``results/codebook.json``
with the codebook's card.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from blemish.data.layouts import open_dataset
from blemish.data.loading import load_images
from blemish.files import replace_file
from blemish.learning.pretraining import codes_in_use, quality
from blemish.methods.dsr.codebook import load_codebook, read_card
from blemish.report.overlay import as_jpeg
from blemish.report.reconstructions import draw_reconstructions
from machine import describe

N_IMAGES = 60


def main() -> None:
    """Measure, print the rows, write the JSON and the sheets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--codebook", type=Path, help="default: the codebook of the package")
    parser.add_argument("--sheets", type=Path, help="folder for DATA.jpg: image and reconstruction side by side")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "codebook.json")
    arguments = parser.parse_args()
    network = load_codebook(arguments.codebook)
    rows = []
    for data in arguments.data:
        paths = [sample.path for sample in open_dataset(data).samples]
        n = min(N_IMAGES, len(paths))
        images = load_images([paths[i * len(paths) // n] for i in range(n)], (256, 256))
        used = codes_in_use(network, images)
        rows.append({"data": data.name, "n_images": len(images), **quality(network, images), "codes_in_use": used})
        print(rows[-1])
        if arguments.sheets is not None:
            arguments.sheets.mkdir(parents=True, exist_ok=True)
            with replace_file(arguments.sheets / f"{data.name}.jpg") as file:
                file.write(as_jpeg(draw_reconstructions(network, images[:: -(-n // 12)])))
    result = {"machine": describe(), "card": read_card(arguments.codebook), "rows": rows}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
