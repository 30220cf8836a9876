"""Photographs that are the same although their bytes differ: saved again, in another format, quality or size."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 64
"""Images are compared at this size, in grey."""
BLUR_PX = 2.0
"""Standard deviation of the blur that is subtracted, so that light and shade do not count."""
SURELY_SAME = 0.985
"""Correlation above which two photographs are the same in any case."""
RARELY_SAME = 0.9
"""Correlation below which they never are."""
MARGIN = 0.01
"""How much more alike than any two different photographs the same one must be."""
N_COMPARED = 500
"""References that are compared with all references, to learn how alike different photographs are."""


def find_same(images: Sequence[NDArray[np.uint8]], references: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """For each image, which reference shows the same photograph.

    What all references have in common is subtracted first, so that parts which look alike do not count as one part.
    The correlation of what remains is compared with that of the most similar pair of different references.

    Parameters
    ----------
    images, references : (H, W, 3) uint8 of any sizes; two references at least.

    Returns
    -------
    (N,) int64 index into ``references``, -1 for an image that is none of them.
    """
    reference_pixels = _thumbnails(references)  # (M, 64, 64)
    common = reference_pixels.mean(0)
    details = _details(reference_pixels - common)  # (M, 4096)
    between = details[np.linspace(0, len(details) - 1, min(len(details), N_COMPARED)).astype(int)] @ details.T
    different = between[between < SURELY_SAME]
    limit = min(SURELY_SAME, max(RARELY_SAME, float(different.max(initial=-1.0)) + MARGIN))
    correlations = _details(_thumbnails(images) - common) @ details.T  # (N, M)
    nearest = correlations.argmax(1)
    is_same = correlations.max(1) >= limit
    return np.where(is_same, nearest, -1).astype(np.int64)


def _thumbnails(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    size = (SIDE_PX, SIDE_PX)
    grey = (cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY) for image in images)
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in grey]).astype(np.float32)


def _details(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fine structure of (N, 64, 64) images as vectors (N, 4096) of mean 0 and length 1; 0 for a flat image."""
    fine = np.stack([image - cv2.GaussianBlur(image, (0, 0), BLUR_PX) for image in pixels]).reshape(len(pixels), -1)
    fine -= fine.mean(1, keepdims=True)
    return np.asarray(fine / np.maximum(np.linalg.norm(fine, axis=1, keepdims=True), 1e-6), dtype=np.float32)
