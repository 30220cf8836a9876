"""AUsPRO in an evaluation: defects that are annotated one by one, at the size at which masks are compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from blemish.commands.evaluate import _print_table
from blemish.detector import Detector
from blemish.evaluation import evaluate as evaluation
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.protocols import PROTOCOLS, Protocol
from blemish.metrics import Region, auspro
from blemish.report.results import write_results
from data import miniatures

SIZE_HW = (48, 64)
KINDS = ("logical_anomalies", "structural_anomalies")
NAMES = ("pixel_auspro", "pixel_auspro_05")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Dark squares in bright noise. Of a logical anomaly, one half of what is annotated is dark, and is enough."""
    rng = np.random.default_rng(0)
    for folder in ("train/good", "test/good", *(f"test/{kind}" for kind in KINDS)):
        for number in range(2):
            image = rng.integers(150, 255, SIZE_HW, dtype=np.uint8)
            if folder.endswith("anomalies"):
                image[12:24, 16:32] = 20
            miniatures.save(tmp_path / folder / f"{number}.png", image)
    for number in range(2):
        save_mask(tmp_path, KINDS[0], number, "000", 255, (12, 36), (16, 32))
        save_mask(tmp_path, KINDS[1], number, "000", 250, (12, 24), (16, 24))
        save_mask(tmp_path, KINDS[1], number, "001", 250, (12, 24), (22, 32))
    rows = [
        {"defect_name": "a", "pixel_value": 255, "saturation_threshold": 100, "relative_saturation": False},
        {"defect_name": "b", "pixel_value": 250, "saturation_threshold": 1.0, "relative_saturation": True},
    ]
    (tmp_path / "defects_config.json").write_text(json.dumps(rows))
    return tmp_path


def save_mask(
    root: Path, kind: str, number: int, name: str, value: int, rows: tuple[int, int], columns: tuple[int, int]
) -> Path:
    mask = np.zeros(SIZE_HW, np.uint8)
    mask[slice(*rows), slice(*columns)] = value
    return miniatures.save(root / "ground_truth" / kind / str(number) / f"{name}.png", mask)


# --- protocols -----------------------------------------------------------------------------------------------


def test_a_saturation_area_keeps_its_share_of_the_defect() -> None:
    drawn = np.zeros((40, 40), np.bool_)
    drawn[10:30, 10:30] = True  # 400 px
    for protocol, area_px in ((Protocol("half", 20), 100), (Protocol("crop", 20, crop_px=8), 64)):
        region = protocol.of_region(Region(drawn, 60), protocol.of_mask(drawn, (16, 16)), (16, 16))
        assert np.count_nonzero(region.mask) == area_px
        assert region.saturation_px == pytest.approx(60 * area_px / 400)


@pytest.mark.parametrize("area_px", [1, 7, 49, 333])
def test_at_the_original_size_a_saturation_area_is_exact(area_px: int) -> None:
    drawn = np.zeros((40, 40), np.bool_)
    drawn.ravel()[:area_px] = True
    for saturation_px in range(1, area_px + 1):
        region = PROTOCOLS["original/1"].of_region(Region(drawn, saturation_px), drawn, (16, 16))
        assert region.saturation_px == saturation_px
        np.testing.assert_array_equal(region.mask, drawn)


@pytest.mark.parametrize("rule", ["half", "any", "all"])
def test_resized_defects_stay_within_the_resized_mask(rule: str) -> None:
    protocol, rng = Protocol("test", 7, mask_rule=rule), np.random.default_rng(0)  # type: ignore[arg-type]
    for _ in range(20):
        first, second = rng.random((2, 23, 31)) < 0.3
        mask = protocol.of_mask(first | second, (16, 16))
        for drawn in (first, second):
            part = protocol.of_region(Region(drawn, 5), mask, (16, 16)).mask
            assert not (part & ~mask).any()
            np.testing.assert_array_equal(part, protocol.of_mask(drawn, (16, 16)))


# --- evaluation ----------------------------------------------------------------------------------------------


def test_at_the_original_size_it_is_the_published_figure(darkness: Detector, root: Path) -> None:
    result = evaluate(darkness, root, protocol="original/1")
    maps, regions = [], []
    for sample in result.samples:
        finding = darkness.inspect(sample.path)
        maps.append(finding.map)
        regions.append(
            [Region(defect.mask, defect.saturation_px or 0) for defect in sample.mask.defects(SIZE_HW)]  # type: ignore[union-attr]
            if sample.mask
            else []
        )
    bound = result.metrics["error_bounds"]["pixel_auspro_05"]
    assert abs(result.metrics["pixel_auspro_05"] - auspro(np.stack(maps), regions)) <= bound < 0.01
    assert {region.saturation_px for of_image in regions for region in of_image} == {100, 96, 120}


def test_half_of_a_logical_anomaly_is_enough(darkness: Detector, root: Path) -> None:
    metrics = evaluate(darkness, root).metrics
    logical, structural = (metrics["by_defect"][kind] for kind in KINDS)
    assert logical["pixel_auspro_05"] > 0.9 > logical["pixel_aupro_05"] + 0.2
    assert structural["pixel_auspro_05"] == pytest.approx(structural["pixel_aupro_05"], abs=0.1)
    assert 0 < metrics["pixel_auspro_05"] <= metrics["pixel_auspro"] <= 1
    assert not set(NAMES) & set(metrics["reasons"])
    json.dumps(metrics, allow_nan=False)


def test_without_room_it_comes_from_histograms(
    darkness: Detector, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = evaluate(darkness, root).metrics
    monkeypatch.setattr(evaluation, "MAX_EXACT_PX", 1000)
    binned = evaluate(darkness, root).metrics
    for name in NAMES:
        assert abs(binned[name] - exact[name]) <= binned["error_bounds"][name]
        assert binned["by_defect"][KINDS[0]][name] == pytest.approx(exact["by_defect"][KINDS[0]][name], abs=1e-3)


@pytest.mark.parametrize("max_exact_px", [1, 10**9])
def test_a_value_that_is_not_listed_costs_the_auspro_of_its_kind(
    darkness: Detector, root: Path, max_exact_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MAX_EXACT_PX", max_exact_px)
    before = evaluate(darkness, root).metrics
    path = save_mask(root, KINDS[0], 1, "000", 9, (12, 36), (16, 32))
    result = evaluate(darkness, root)
    (notice,) = (notice for notice in result.notices if str(path) in notice)
    assert "its value 9 is not in" in notice
    for row in (result.metrics, result.metrics["by_defect"][KINDS[0]]):
        assert row["pixel_auspro_05"] is None
        assert row["reasons"]["pixel_auspro_05"] == "a defect without a saturation area"
    assert result.metrics["pixel_aupro"] == before["pixel_aupro"]
    structural = result.metrics["by_defect"][KINDS[1]]["pixel_auspro_05"]
    assert structural == before["by_defect"][KINDS[1]]["pixel_auspro_05"]


def test_without_the_list_of_types_all_other_figures_are_there(darkness: Detector, root: Path) -> None:
    before = evaluate(darkness, root).metrics
    (root / "defects_config.json").unlink()
    result = evaluate(darkness, root)
    assert result.notices == (
        f"{root / 'defects_config.json'}: is missing, so there is no AUsPRO; copy it from the dataset again",
    )
    assert result.metrics["pixel_auspro_05"] is None
    assert result.metrics["reasons"]["pixel_auspro_05"] == "a defect without a saturation area"
    for name in ("image_auroc", "pixel_auroc", "pixel_ap", "pixel_aupro", "n_masks"):
        assert result.metrics[name] == before[name]


def test_a_defect_that_resizing_loses_is_named(darkness: Detector, root: Path) -> None:
    save_mask(root, KINDS[1], 0, "002", 250, (2, 3), (3, 4))  # a pixel of a 48x64 image, resized to 16x16
    (notice,) = evaluate(darkness, root, protocol="network/1").notices
    assert notice == (
        f"{root / 'test/structural_anomalies/0.png'}: 1 of its 3 annotated defects is too small for protocol "
        f"network/1, or outside of its crop, and not counted in AUsPRO; protocol original/1 counts all"
    )


def test_masks_that_are_missing_or_empty_are_left_out_as_elsewhere(darkness: Detector, root: Path) -> None:
    for path in (root / "ground_truth" / KINDS[0] / "0").iterdir():
        path.unlink()
    save_mask(root, KINDS[1], 0, "001", 250, (0, 0), (0, 0))
    result = evaluate(darkness, root)
    assert result.metrics["n_masks"] == 3
    assert result.metrics["pixel_auspro_05"] is not None
    texts = "\n".join(result.notices)
    assert "001.png: the mask is empty; draw the defect, or remove it" in texts
    assert "holds no masks; save one there for each defect" in texts


# --- what is shown -------------------------------------------------------------------------------------------


def test_table_report_and_comparison_have_it_where_there_is_one(darkness: Detector, root: Path) -> None:
    result = evaluate(darkness, root)
    console = Console(record=True, width=200)
    _print_table(result, console)
    assert "auspro_05" in console.export_text()
    out = root / "evaluation"
    out.mkdir()
    write_results(out, darkness, result)
    assert '<th scope="col">pixel AUsPRO, FPR 0.05</th>' in (out / "report.html").read_text()
    assert json.loads((out / "metrics.json").read_text())["pixel_auspro_05"] == result.metrics["pixel_auspro_05"]
