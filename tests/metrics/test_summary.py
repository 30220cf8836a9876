"""All metrics of a test set in one call."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from oracles import example, large_example, naive_aupro, naive_f1_max
from sklearn.metrics import accuracy_score, average_precision_score, recall_score, roc_auc_score

from blemish.errors import BlemishError
from blemish.metrics import aupimo, aupro, evaluate_maps, f1_max, rates_at, smoothed_maxima
from blemish.scoring import smoothed_maximum

IMAGE = {"image_auroc", "image_ap", "image_f1_max", "image_f1_max_threshold"}
PIXEL = {
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "pixel_f1_max_threshold",
    "pixel_aupro",
    "pixel_aupro_05",
    "pixel_aupimo",
}
COUNTS = {"n_good", "n_defective"}
RATES = {"tpr", "tnr", "ca"}


def test_evaluate_maps_gives_every_key_from_the_right_scores() -> None:
    maps, masks = example()
    image_scores = np.array([0.9, 0.2, 0.3, 0.1, 0.2, 0.0])
    result = evaluate_maps(maps, masks, image_scores)
    defective = np.array([True, True, False, False, False, False])
    assert set(result) == IMAGE | PIXEL | COUNTS | {"reasons"}
    assert result["image_auroc"] == pytest.approx(roc_auc_score(defective, image_scores))
    assert result["image_ap"] == pytest.approx(average_precision_score(defective, image_scores))
    assert result["image_f1_max"] == pytest.approx(naive_f1_max(image_scores, defective))
    assert result["image_f1_max_threshold"] == 0.2
    assert result["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert result["pixel_ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()))
    assert (result["pixel_f1_max"], result["pixel_f1_max_threshold"]) == f1_max(maps, masks)
    assert result["pixel_aupro"] == aupro(maps, masks) == pytest.approx(naive_aupro(maps, masks, 0.3))
    assert result["pixel_aupro_05"] == aupro(maps, masks, 0.05) == pytest.approx(naive_aupro(maps, masks, 0.05))
    assert (result["n_good"], result["n_defective"]) == (4, 2)
    assert result["reasons"] == {
        "pixel_aupimo": "good images hold 4800 pixels: a false-positive rate of 1e-05 takes 100000"
    }
    assert all(type(result[name]) is float for name in IMAGE | PIXEL)
    assert all(type(result[name]) is int for name in COUNTS)


def test_nothing_is_missing_where_there_are_pixels_enough() -> None:
    maps, masks = large_example()
    result = evaluate_maps(maps, masks, threshold=0.5)
    assert set(result) == IMAGE | PIXEL | COUNTS | RATES | {"reasons"}
    assert result["reasons"] == {}
    assert all(0 < result[name] <= 1 for name in IMAGE | PIXEL)
    assert result["pixel_aupimo"] == pytest.approx(aupimo(maps, masks), abs=1e-12)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_rates_at_a_threshold_agree_with_scikit_learn() -> None:
    maps, masks = example()
    image_scores = np.array([0.9, 0.2, 0.3, 0.1, 0.2, 0.0], dtype=np.float32)
    defective = [True, True, False, False, False, False]
    result = evaluate_maps(maps, masks, image_scores, threshold=0.25)
    verdicts = image_scores > 0.25
    assert result["tpr"] == recall_score(defective, verdicts) == 0.5
    assert result["tnr"] == recall_score(defective, verdicts, pos_label=0) == 0.75
    assert result["ca"] == pytest.approx(accuracy_score(defective, verdicts))


def test_a_score_at_the_threshold_is_good_and_the_threshold_is_not_rounded() -> None:
    assert rates_at([1.0], [True], 1.0).tpr == 0.0
    just_above = np.array([0.1], dtype=np.float32)  # 0.100000001
    assert rates_at(just_above, [True], 0.1).tpr == 1.0
    with pytest.raises(BlemishError, match="threshold is NaN"):
        rates_at([1.0], [True], math.nan)


@pytest.mark.parametrize(("label", "missing", "defined"), [(False, "defective", "tnr"), (True, "good", "tpr")])
def test_one_class_missing_is_nan_with_a_reason(label: bool, missing: str, defined: str) -> None:
    maps, masks = np.arange(8.0).reshape(2, 2, 2), np.full((2, 2, 2), label)
    result = evaluate_maps(maps, masks, threshold=-1.0 if label else 100.0)
    assert all(math.isnan(result[name]) for name in IMAGE | PIXEL)
    reasons = {name: f"no {missing} {'image' if name in IMAGE else 'pixel'}" for name in IMAGE | PIXEL}
    reasons["tnr" if label else "tpr"] = reasons["image_auroc"]
    reasons["pixel_aupimo"] = "no good image" if label else "no defective pixel"
    assert result["reasons"] == reasons
    assert (result["n_good"], result["n_defective"]) == ((0, 2) if label else (2, 0))
    assert result[defined] == result["ca"] == 1.0


def test_no_image_at_all_is_no_crash() -> None:
    result = evaluate_maps(np.empty((0, 4, 4)), np.empty((0, 4, 4), dtype=bool), threshold=0.5)
    assert set(result["reasons"]) == IMAGE | PIXEL | RATES
    assert result["reasons"]["ca"] == "no image"


def comparable(*arguments: object) -> dict[str, float]:
    """Return the metrics that are defined, because NaN never compares as equal."""
    result = evaluate_maps(*arguments)
    return {name: value for name, value in result.items() if name not in (*result["reasons"], "reasons")}


def test_tensors_and_channel_axis_give_what_arrays_give() -> None:
    maps, masks = example()
    expected = comparable(maps, masks)
    tensor = torch.from_numpy(maps).unsqueeze(1).requires_grad_()
    assert comparable(tensor, torch.from_numpy(masks)[:, None]) == expected
    assert comparable(maps[:, None], masks.astype(np.uint8) * 255) == expected
    assert comparable(maps.transpose(0, 2, 1), masks.transpose(0, 2, 1)) == pytest.approx(expected)
    halved = torch.from_numpy(maps).bfloat16()
    assert comparable(halved, masks) == comparable(halved.float(), masks)


@pytest.mark.parametrize("size", [(30, 40), (9, 50), (64, 64)])
def test_default_image_score_is_that_of_scoring(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(2).normal(size=(3, *size)).astype(np.float32)
    expected = smoothed_maximum(torch.from_numpy(maps)[:, None]).numpy()
    np.testing.assert_allclose(smoothed_maxima(maps), expected, rtol=1e-5, atol=1e-6)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[0, 4:6, 4:6] = True
    assert comparable(maps, masks) == pytest.approx(comparable(maps, masks, expected))


def test_labels_can_be_given_for_defects_without_a_mask() -> None:
    maps, masks = example()
    scores = [0.9, 0.8, 0.7, 0.1, 0.1, 0.0]
    result = evaluate_maps(maps, masks, scores, is_defective=[True, True, True, False, False, False])
    assert (result["n_good"], result["n_defective"], result["image_auroc"]) == (3, 3, 1.0)
    assert result["pixel_auroc"] == evaluate_maps(maps, masks, scores)["pixel_auroc"]
    with pytest.raises(BlemishError, match="image 1 is called good"):
        evaluate_maps(maps, masks, scores, is_defective=[True, False, True, False, False, False])


def test_mistakes_are_reported() -> None:
    maps, masks = example()
    with pytest.raises(BlemishError, match=r"\(6, 30, 40\) and masks \(6, 30, 30\)"):
        evaluate_maps(maps, masks[..., :30])
    with pytest.raises(BlemishError, match=r"image scores have shape \(5,\) but labels \(6,\)"):
        evaluate_maps(maps, masks, np.zeros(5))
    with pytest.raises(BlemishError, match=r"is_defective has shape \(2,\)"):
        evaluate_maps(maps, masks, is_defective=[True, True])
    with pytest.raises(BlemishError, match="image scores contain NaN"):
        evaluate_maps(maps, masks, [math.nan, 0, 0, 0, 0, 0])
    with pytest.raises(BlemishError, match="not fractions"):
        evaluate_maps(maps, masks * 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_map_is_named(value: float) -> None:
    maps, masks = example()
    maps[3, 2, 2] = value
    with pytest.raises(BlemishError, match=r"anomaly maps contain NaN or infinity \(image 3 first"):
        evaluate_maps(maps, masks)


def test_importing_metrics_does_not_import_torch() -> None:
    code = "import sys, blemish.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
