"""Which photographs are called unlike the good images: good ones, defective ones, and spoiled good ones.

    .venv/bin/python benchmarks/unlike.py mvtec/bottle mvtec/pill magnetic-tile

No network is needed: what good images are like at large is learned from the good training images. Good images are
the good test images, and the training images in five parts, each held against what was learned from the other four.
Each good test image (or, if there is none, each of 100 training images of the first part) is also spoiled in several
ways. Test labels choose nothing here. Writes ``results/unlike.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts import open_dataset
from blemish.data.loading import load_photographs, resize
from blemish.data.reading import read_image
from blemish.inspection.likeness import Likeness
from machine import RESULTS, table, write

Image = NDArray[np.uint8]
N_PARTS = 5
N_SPOILED = 100


def _shifted(image: Image) -> Image:
    """A quarter to the right; the edge is repeated, as if the background went on."""
    height, width = image.shape[:2]
    return cv2.copyMakeBorder(image, 0, 0, width // 4, 0, cv2.BORDER_REPLICATE)[:height, :width]


def _half_covered(image: Image) -> Image:
    covered = image.copy()
    covered[:, : image.shape[1] // 2] = 128
    return covered


def _stripes(image: Image) -> Image:
    """Another product: stripes of 16 periods."""
    grey = 128 + 80 * np.sign(np.sin(np.linspace(0, 32 * np.pi, image.shape[1])))
    return np.broadcast_to(grey[None, :, None], image.shape).astype(np.uint8)


def _noisy(image: Image) -> Image:
    noise = np.random.default_rng(0).normal(0, 25, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


WAYS: dict[str, Callable[[Image], Image]] = {
    "blank (grey 128)": lambda image: np.full_like(image, 128),
    "black": lambda image: np.zeros_like(image),
    "blurred (1/40 of the width)": lambda image: cv2.GaussianBlur(image, (0, 0), image.shape[1] / 40),
    "shifted by a quarter": _shifted,
    "negative": lambda image: 255 - image,
    "without colour": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "half as bright": lambda image: (image * 0.5).astype(np.uint8),
    "overexposed (twice as bright)": lambda image: np.clip(image * 2.0, 0, 255).astype(np.uint8),
    "noise of 25 grey levels": _noisy,
    "half covered": _half_covered,
    "stripes": _stripes,
    "middle half, twice as wide": lambda image: image[image.shape[0] // 4 : image.shape[0] * 3 // 4],
    "upside down": lambda image: image[::-1],
}


def _unlike(likeness: Likeness, photographs: Sequence[Image], size_hw: tuple[int, int]) -> int:
    return sum(bool(likeness.reasons(resize(image, size_hw), image.shape[:2])) for image in photographs)


def _learn(images: Sequence[Image], sizes_hw: Sequence[tuple[int, int]], numbers: NDArray[Any]) -> Likeness:
    return Likeness.of([images[number] for number in numbers], [sizes_hw[number] for number in numbers])


def measured(data: Path, others: Sequence[Path], size_px: int) -> dict[str, str]:
    """Counts "unlike of all" by kind of photograph."""
    dataset, size_hw = open_dataset(data), (size_px, size_px)
    tensor, sizes_hw = load_photographs([sample.path for sample in dataset.train], size_hw)
    images = list(tensor.permute(0, 2, 3, 1).numpy())
    likeness = Likeness.of(images, sizes_hw)
    part = np.random.default_rng(0).permutation(len(images)) % N_PARTS
    n_unlike = 0
    for number in range(N_PARTS):
        learned = _learn(images, sizes_hw, np.flatnonzero(part != number))
        held_out = np.flatnonzero(part == number)
        n_unlike += sum(bool(learned.reasons(images[index], sizes_hw[index])) for index in held_out)
    counts = {"good, training images in five parts": f"{n_unlike} of {len(images)}"}
    good = [read_image(sample.path) for sample in dataset.test if not sample.is_defective]
    defective = [read_image(sample.path) for sample in dataset.test if sample.is_defective]
    for name, photographs in (("good test images", good), ("defective test images", defective)):
        counts[name] = f"{_unlike(likeness, photographs, size_hw)} of {len(photographs)}"
    first = np.flatnonzero(part == 0)[:N_SPOILED]
    if not good:
        good = [read_image(dataset.train[index].path) for index in first]
        likeness = _learn(images, sizes_hw, np.flatnonzero(part != 0))
    for name, spoil in WAYS.items():
        spoiled = [np.ascontiguousarray(spoil(image)) for image in good]
        counts[name] = f"{_unlike(likeness, spoiled, size_hw)} of {len(good)}"
    for other in others:
        paths = [sample.path for sample in open_dataset(other).train[:N_SPOILED]]
        counts[f"good images of {other.name}"] = (
            f"{_unlike(likeness, [read_image(path) for path in paths], size_hw)} of {len(paths)}"
        )
    return counts


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--size-px", type=int, default=128, help="the network's input size")
    arguments = parser.parse_args()
    results = {
        data.name: measured(data, [other for other in arguments.data if other != data], arguments.size_px)
        for data in arguments.data
    }
    kinds = list(dict.fromkeys(kind for counts in results.values() for kind in counts))
    rows = [{"photographs": kind, **{name: results[name].get(kind, "") for name in results}} for kind in kinds]
    print(table(rows))
    write(RESULTS / "unlike.json", {"size_px": arguments.size_px, "unlike": rows})


if __name__ == "__main__":
    main()
