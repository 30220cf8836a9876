"""The definitions of the metrics as plain loops, and small examples to compare with them."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def naive_f1_max(scores: np.ndarray, labels: np.ndarray) -> float:
    best = 0.0
    for threshold in np.unique(scores):
        marked = scores >= threshold
        best = max(best, 2 * (marked & labels).sum() / (marked.sum() + labels.sum()))
    return best


def naive_regions(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    while left:
        frontier = [left.pop()]
        region = []
        while frontier:
            y, x = frontier.pop()
            region.append((y, x))
            neighbours = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= neighbours
            frontier += neighbours
        regions.append(region)
    return regions


def naive_aupro(maps: np.ndarray, masks: np.ndarray, max_fpr: float) -> float:
    regions = [
        np.array([anomaly_map[pixel] for pixel in region])
        for anomaly_map, mask in zip(maps, masks, strict=True)
        for region in naive_regions(mask)
    ]
    fprs, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        fprs.append((maps[~masks] >= threshold).mean())
        overlaps.append(float(np.mean([np.mean(region >= threshold) for region in regions])))
    return naive_area(fprs, overlaps, max_fpr)


def naive_area(fprs: list[float], overlaps: list[float], max_fpr: float) -> float:
    area = 0.0
    for x0, x1, y0, y1 in zip(fprs, fprs[1:], overlaps, overlaps[1:], strict=False):
        if x1 > max_fpr > x0:
            x1, y1 = max_fpr, y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
        if x1 <= max_fpr:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / max_fpr


def naive_auspro(maps: np.ndarray, regions: list[list[tuple[np.ndarray, float]]], max_fpr: float) -> float:
    """`regions` holds (mask, saturation area) of each defect by image."""
    is_good = np.ones(maps.shape, bool)
    defects = []
    for index, of_image in enumerate(regions):
        for mask, saturation_px in of_image:
            is_good[index] &= ~mask
            defects.append((maps[index][mask], min(saturation_px, mask.sum())))
    fprs, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        fprs.append((maps[is_good] >= threshold).mean())
        overlaps.append(float(np.mean([min((scores >= threshold).sum() / px, 1.0) for scores, px in defects])))
    return naive_area(fprs, overlaps, max_fpr)


def naive_aupimo(maps: np.ndarray, masks: np.ndarray, bounds: tuple[float, float]) -> list[float]:
    """AUPIMO of each image: straight lines between thresholds, integrated over the logarithm of the rate."""
    good = ~masks.any(axis=(1, 2))
    lower, upper = bounds
    areas = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        area, x0, y0 = 0.0, 0.0, 0.0
        for threshold in np.unique(maps)[::-1]:
            x1 = (maps[good] >= threshold).mean()
            y1 = (anomaly_map[mask] >= threshold).mean() if mask.any() else math.nan
            left, right = np.clip([x0, x1], lower, upper)
            if right > left:
                slope = (y1 - y0) / (x1 - x0)
                area += (y0 - slope * x0) * math.log(right / left) + slope * (right - left)
            x0, y0 = x1, y1
        areas.append(area / math.log(upper / lower) if mask.any() else math.nan)
    return areas


def maps_and_masks(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Small maps with masks that hold both classes."""
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 5))
    pairs = shapes.flatmap(
        lambda shape: st.tuples(hnp.arrays(np.float32, shape, elements=values), hnp.arrays(bool, shape))
    )
    return pairs.filter(lambda pair: pair[1].any() and not pair[1].all())


TIED = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 1.0])
ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=32)


def example() -> tuple[np.ndarray, np.ndarray]:
    """Six maps of noise; the first two have defects that are partly hidden by the noise."""
    rng = np.random.default_rng(1)
    masks = np.zeros((6, 30, 40), dtype=bool)
    masks[0, 3:9, 5:20] = masks[1, 0, 0] = masks[1, 20:, 33:] = True
    return rng.normal(size=masks.shape).astype(np.float32) + masks, masks


def large_example(seed: int = 0, n: int = 6, size_px: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Maps in [0, 1], half of them good, with enough pixels for AUPIMO and defects that are only partly visible."""
    rng = np.random.default_rng(seed)
    maps = rng.beta(2, 8, size=(n, size_px, size_px)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for image in range(n // 2):
        for _ in range(3):
            y, x, height, width = rng.integers([0, 0, 1, 1], [size_px, size_px, 40, 40])
            masks[image, y : y + height, x : x + width] = True
    maps[masks] += (0.6 * rng.random(masks.sum())).astype(np.float32)
    return np.minimum(maps, 1), masks
