"""Time of the steps around the network: loading a detector, decoding and resizing photographs.

    .venv/bin/python benchmarks/loading.py DETECTOR

Loads DETECTOR, and the full-size DRÆM and DSR with random weights; decodes a photograph of 12 megapixels as PNG and
as JPEG. Times are medians of 5. Writes ``results/loading.json``.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import cv2
import torch

from blemish.data.loading import resize
from blemish.data.reading import read_image
from blemish.detector import Detector
from blemish.methods import build
from blemish.synthesis.textures import TextureBank
from machine import RESULTS, seconds, table, write

SIZE_HW = (3000, 4000)


def main() -> None:
    """Measure, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detector", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "loading.json")
    arguments = parser.parse_args()
    host = torch.device("cpu")
    rows = []

    def add(operation: str, took_s: float, size_bytes: int) -> None:
        rows.append({"what": operation, "ms": round(1e3 * took_s, 1), "megabytes": round(size_bytes / 1e6, 1)})

    with tempfile.TemporaryDirectory() as folder:
        files = {"the detector": arguments.detector}
        for name in ("draem", "dsr"):
            files[f"full-size {name}"] = Path(folder) / f"{name}.blemish"
            Detector.uncalibrated(build(name, "paper"), 0.5, 0.01).save(files[f"full-size {name}"])
        for name, file in files.items():
            add(f"loading {name}", seconds(partial(Detector.load, file), 5, host), file.stat().st_size)
        texture = TextureBank.procedural((300, 400), n=1).images[0].numpy()
        photograph = cv2.resize(texture, SIZE_HW[::-1], interpolation=cv2.INTER_CUBIC)
        for suffix in (".png", ".jpg"):
            file = Path(folder) / f"photograph{suffix}"
            cv2.imwrite(str(file), photograph)
            add(
                f"decoding {suffix[1:]}, 12 megapixels",
                seconds(partial(read_image, file), 5, host),
                file.stat().st_size,
            )
        took_s = seconds(partial(resize, photograph, (256, 256)), 5, host)
        add("resizing it to 256x256", took_s, photograph.nbytes)
    print(table(rows))
    write(arguments.out, {"rows": rows})


if __name__ == "__main__":
    main()
