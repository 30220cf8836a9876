"""Hold a detector against labelled test images. Reads labels; never changes the detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts import Sample, open_dataset
from blemish.data.loading import resize
from blemish.data.reading import read_image
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.metrics import evaluate_maps

SIZE_HW = (256, 256)
PROTOCOL = (
    "256x256, no crop: image and mask resized alike (area), mask cut at half, other maps resized (bilinear); "
    "8-connected regions; AUPRO up to FPR 0.3 (aupro_05: 0.05); AUPIMO over FPR 1e-5 to 1e-4 of good images"
)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    metrics: dict[str, Any]
    """The content of ``metrics.json``."""
    samples: tuple[Sample, ...]
    scores: NDArray[np.float64]
    """(N,) image scores, in the order of ``samples``."""


def evaluate(detector: Detector, data: str | Path, layout: str = "auto") -> Evaluation:
    """Inspect a dataset's test images and compare with their labels and masks, at 256x256 like the papers.

    Raises
    ------
    BlemishError
        If the data hold no labelled test images, or one of them cannot be read.
    """
    samples = open_dataset(data, layout).test
    if not samples:
        raise BlemishError(
            f"{data}: no test images with labels; evaluate needs test/good and test/<defect>, or a .csv manifest"
        )
    results = [_inspect(detector, sample) for sample in samples]
    maps, masks = np.stack([one[0] for one in results]), np.stack([one[1] for one in results])
    scores = np.array([one[2] for one in results])
    labels = np.array([sample.is_defective for sample in samples])
    threshold = detector.threshold.value
    metrics: dict[str, Any] = _comparable(evaluate_maps(maps, masks, scores, labels, threshold))
    rejected = scores > threshold
    metrics["threshold"] = threshold
    metrics["false_rejects"] = _share(rejected[~labels])
    metrics["found"] = _share(rejected[labels])
    metrics["protocol"] = PROTOCOL
    metrics["by_defect"] = {}
    for defect in sorted({sample.defect for sample in samples if sample.is_defective}):
        kind = np.array([sample.defect == defect for sample in samples])
        chosen = kind | ~labels
        one = _comparable(evaluate_maps(maps[chosen], masks[chosen], scores[chosen], labels[chosen], threshold))
        one["found"] = _share(rejected[kind])
        metrics["by_defect"][defect] = one
    return Evaluation(metrics, samples, scores)


def _inspect(detector: Detector, sample: Sample) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Anomaly map and mask of one sample, both of the protocol's size, and its score."""
    image = read_image(sample.path)
    maps, scores = detector.maps_and_scores_of([image])
    anomaly_map = resize(maps[0, 0].numpy(), SIZE_HW)
    if sample.mask is None:
        return anomaly_map, np.zeros(SIZE_HW, dtype=np.bool_), float(scores[0])
    mask = sample.mask.read(image.shape[:2])
    return anomaly_map, resize(mask.astype(np.uint8) * 255, SIZE_HW) > 127, float(scores[0])


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if flags.size else None


def _comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: what is not defined (a class is missing) becomes null."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in metrics.items()}
