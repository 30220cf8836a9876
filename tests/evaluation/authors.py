"""What the evaluation code of DRÆM's and DSR's authors computes, restated for the test of the protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

SIDE_PX = 256


def authors_figures(
    images: Sequence[Path], masks: Sequence[Path | None], network: Callable[[Tensor], Tensor], crop_px: int
) -> dict[str, float]:
    """Image AUROC and AP, pixel AUROC and AP, of a network that gives maps (1, 1, 256, 256) of (1, 3, 256, 256)."""
    edge = (SIDE_PX - crop_px) // 2
    scores, maps, drawn = [], [], []
    for image, mask in zip(images, masks, strict=True):
        pixels = cv2.resize(cv2.imread(str(image), cv2.IMREAD_COLOR), (SIDE_PX, SIDE_PX))[..., ::-1] / 255.0
        anomaly_map = network(torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))[None])
        scores.append(float(torch.nn.functional.avg_pool2d(anomaly_map, 21, stride=1, padding=10).max()))
        truth: NDArray[np.float32] = np.zeros((SIDE_PX, SIDE_PX), np.float32)
        if mask is not None:
            grey = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
            truth = (cv2.resize(grey, (SIDE_PX, SIDE_PX)) / 255.0).astype(np.float32)
        middle = slice(edge, SIDE_PX - edge)
        maps.append(anomaly_map[0, 0].numpy()[middle, middle].ravel())
        drawn.append(truth[middle, middle].ravel())
    labels = [mask is not None for mask in masks]
    all_maps, all_masks = np.concatenate(maps), np.concatenate(drawn).astype(np.uint8)  # whatever is below 1 is 0
    return {
        "image_auroc": roc_auc_score(labels, scores), "image_ap": average_precision_score(labels, scores),
        "pixel_auroc": roc_auc_score(all_masks, all_maps), "pixel_ap": average_precision_score(all_masks, all_maps),
    }  # fmt: skip
