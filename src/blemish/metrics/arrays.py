"""Conversion of the arguments of metrics to checked numpy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError

if TYPE_CHECKING:
    import torch

    Values = npt.ArrayLike | torch.Tensor

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]


def as_scores(values: Values) -> FloatArray:
    """Convert an array, or a tensor on any device, to floats that keep the order of the values."""
    array = _to_numpy(values)
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def as_labels(values: Values) -> BoolArray:
    """Convert an array or tensor to bool; floats other than 0 and 1 (a mask resized by interpolation) are refused."""
    array = _to_numpy(values)
    if array.dtype.kind == "f" and not ((array == 0) | (array == 1)).all():
        raise BlemishError("masks and labels must be bool, not fractions: threshold them or resize with 'nearest'")
    return array.astype(np.bool_, copy=False)


def as_maps_and_masks(maps: Values, masks: Values) -> tuple[FloatArray, BoolArray]:
    """Return maps as (N, H, W) finite floats and masks as (N, H, W) bool; (N, 1, H, W) is squeezed.

    Raises
    ------
    BlemishError
        If shapes differ or a map holds NaN or infinity.
    """
    scores, labels = as_scores(maps), as_labels(masks)
    shapes = f"anomaly maps have shape {scores.shape} and masks {labels.shape}"
    if scores.ndim == 4 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if labels.ndim == 4 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if scores.ndim != 3 or scores.shape != labels.shape:
        raise BlemishError(f"{shapes}: give both as (N, H, W) or (N, 1, H, W) of the same size")
    # One map at a time: bool arrays for all maps would need a quarter of the maps' memory.
    broken = [index for index, anomaly_map in enumerate(scores) if not np.isfinite(anomaly_map).all()]
    if broken:
        raise BlemishError(
            f"anomaly maps contain NaN or infinity (image {broken[0]} first, {len(broken)} in all): "
            "check the detector that produced them"
        )
    return scores, labels


def as_finite_scores(scores: Values, labels: BoolArray, name: str) -> FloatArray:
    """Return one finite score for each label; error messages call the scores `name`."""
    array = as_scores(scores)
    if array.shape != labels.shape:
        raise BlemishError(f"{name} have shape {array.shape} but labels {labels.shape}: give one label for each")
    if not np.isfinite(array).all():
        raise BlemishError(f"{name} contain NaN or infinity and cannot be ranked: check what produced them")
    return array


def as_image_labels(masks: BoolArray, is_defective: Values | None) -> BoolArray:
    """Return (N,) bool: `is_defective`, or by default whether each (H, W) mask has a True pixel.

    A mask with a True pixel whose image is called good is refused.
    """
    has_mask = np.asarray(masks.any(axis=(1, 2)))
    if is_defective is None:
        return has_mask
    defective = as_labels(is_defective)
    if defective.shape != has_mask.shape:
        raise BlemishError(f"is_defective has shape {defective.shape}, masks {masks.shape}: give one per image")
    contradicted = np.flatnonzero(has_mask & ~defective)
    if contradicted.size:
        raise BlemishError(f"image {contradicted[0]} is called good but its mask is not empty: correct one of them")
    return defective


def _to_numpy(values: Any) -> npt.NDArray[Any]:
    if not hasattr(values, "detach"):
        return np.asarray(values)
    tensor = values.detach().cpu()
    if "bfloat16" in str(tensor.dtype):  # numpy has no such type
        tensor = tensor.float()
    return np.asarray(tensor.numpy())
