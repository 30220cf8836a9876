"""Are a dataset's good test images like its good training images? If not, no threshold can keep its promise there.

    .venv/bin/python benchmarks/good_test_images.py mvtec/bottle mvtec/pill

A few figures of whole images are compared with the rank test of Mann and Whitney: brightness, contrast, detail, and
how far an image is from the mean of the training images. Writes ``results/good-test-images.json``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from blemish.data.layouts import open_dataset
from blemish.data.reading import read_image
from machine import RESULTS, table, write


def figures(image: NDArray[np.uint8], mean: NDArray[np.float32]) -> dict[str, float]:
    """Figures of an (H, W, 3) image; ``mean`` is the mean training image."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return {
        "mean grey value": float(grey.mean()),
        "standard deviation": float(grey.std()),
        "mean absolute Laplacian": float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean()),
        "mean distance from the mean image": float(np.abs(image - mean).mean()),
    }


def measured(data: Path) -> list[dict[str, Any]]:
    """One row for each figure."""
    dataset = open_dataset(data)
    train = [read_image(sample.path) for sample in dataset.train]
    test = [read_image(sample.path) for sample in dataset.test if not sample.is_defective]
    total = np.sum(train, axis=0, dtype=np.float64)
    n = len(train)
    of_train = [figures(image, ((total - image) / (n - 1)).astype(np.float32)) for image in train]
    of_test = [figures(image, (total / n).astype(np.float32)) for image in test]
    rows = []
    for name in of_test[0]:
        here, there = ([values[name] for values in side] for side in (of_train, of_test))
        limit = float(np.quantile(here, 0.95))
        rows.append(
            {
                "data": data.name,
                "figure": name,
                "training: median": f"{np.median(here):.2f}",
                "95 % are below": f"{limit:.2f}",
                "good test images: median": f"{np.median(there):.2f}",
                "above that": f"{sum(value > limit for value in there)} of {len(there)}",
                "p": f"{mannwhitneyu(here, there).pvalue:.1g}",
            }
        )
    return rows


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="datasets with images of one size")
    arguments = parser.parse_args()
    rows = [row for data in arguments.data for row in measured(data)]
    print(table(rows))
    write(RESULTS / "good-test-images.json", {"rows": rows})


if __name__ == "__main__":
    main()
