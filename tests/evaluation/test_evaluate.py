"""Protocols, and evaluation of a detector on labelled images."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from blemish.commands.evaluate import _print_table
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.evaluation import evaluate as evaluation
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.protocols import PROTOCOLS, Protocol, protocol_named
from blemish.inspection.framings import describe
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.settings import Resizing
from evaluation.authors import authors_figures


def save(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Good parts are bright; scratches are dark squares, dents are grey squares below the threshold."""
    rng = np.random.default_rng(0)
    for number in range(3):
        save(tmp_path / "train" / "good" / f"{number}.png", np.full((48, 64), 220, np.uint8))
    for number in range(4):
        save(tmp_path / "test" / "good" / f"{number}.png", rng.integers(180, 255, (48, 64), dtype=np.uint8))
    for defect, grey in (("scratch", 20), ("dent", 140)):
        for number in range(2):
            image = rng.integers(180, 255, (48, 64), dtype=np.uint8)
            mask = np.zeros((48, 64), np.uint8)
            mask[12:36, 16 : 32 + 8 * number] = 255
            image[mask > 0] = grey
            save(tmp_path / "test" / defect / f"{number}.png", image)
            save(tmp_path / "ground_truth" / defect / f"{number}_mask.png", mask)
    return tmp_path


# --- protocols -----------------------------------------------------------------------------------------------


def test_a_protocol_brings_map_and_mask_to_one_size() -> None:
    anomaly_map, mask = np.random.default_rng(0).random((16, 16)), np.zeros((48, 64), np.bool_)
    sizes = {"256/1": (256, 256), "256-crop224/1": (224, 224), "network/1": (16, 16), "original/1": (48, 64)}
    sizes |= {"draem-authors/1": (256, 256), "dsr-authors/1": (224, 224)}
    assert set(sizes) == set(PROTOCOLS)
    for name, size_hw in sizes.items():
        protocol = protocol_named(name)
        assert protocol.of_map(anomaly_map, (48, 64)).shape == size_hw
        assert protocol.of_mask(mask, (16, 16)).shape == size_hw
    with pytest.raises(BlemishError, match="unknown protocol '512'; there are: 256/1, 256-crop224/1"):
        protocol_named("512")


def test_a_crop_is_cut_from_the_middle() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[2:6, 2:6] = True
    protocol = Protocol("test", 8, crop_px=4)
    assert protocol.of_mask(mask, (16, 16)).all()
    assert protocol.of_map(mask.astype(np.float32), (8, 8)).min() == 1


@pytest.mark.parametrize(("rule", "n_pixels"), [("half", 1), ("any", 3), ("all", 1)])
def test_a_mask_that_shrinks_follows_the_rule(rule: str, n_pixels: int) -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[:4, :4] = True  # covers one of the 2x2 pixels after resizing,
    mask[4, 0] = True  # and small parts
    mask[0, 4] = True  # of two more
    protocol = Protocol("test", 2, mask_rule=rule)  # type: ignore[arg-type]
    assert protocol.of_mask(mask, (16, 16)).sum() == n_pixels


def test_as_the_authors_do_a_pixel_is_defective_only_where_all_of_it_is() -> None:
    mask = np.zeros((4, 4), np.bool_)
    mask[:3, :3] = True  # of 2x2 pixels: all of the first, half of the second and third, a quarter of the fourth
    is_defective = {
        rule: Protocol("test", 2, mask_rule=rule).of_mask(mask, (16, 16)).astype(int).tolist()  # type: ignore[arg-type]
        for rule in ("half", "any", "all")
    }
    assert is_defective == {"half": [[1, 1], [1, 0]], "any": [[1, 1], [1, 1]], "all": [[1, 0], [0, 0]]}


@pytest.mark.parametrize(("protocol", "crop_px"), [("draem-authors/1", 256), ("dsr-authors/1", 224)])
@pytest.mark.parametrize("resizing", ["area", "bilinear"])
def test_the_authors_protocols_are_what_their_code_computes(
    tmp_path: Path, protocol: str, crop_px: int, resizing: Resizing
) -> None:
    rng, images, masks = np.random.default_rng(1), list[Path](), list[Path | None]()
    for number in range(6):
        defect = "good" if number < 3 else "scratch"
        image = rng.integers(0, 255, (410, 300, 3), dtype=np.uint8)
        images.append(tmp_path / "test" / defect / f"{number}.png")
        masks.append(None)
        if number >= 3:
            row, column = rng.integers(0, 300), rng.integers(0, 200)
            mask = np.zeros((410, 300), np.uint8)
            mask[row : row + 61, column : column + 5 * number] = 255
            image[mask > 0] //= 2
            masks[-1] = tmp_path / "ground_truth" / defect / f"{number}_mask.png"
            save(tmp_path / "ground_truth" / defect / f"{number}_mask.png", mask)
        save(images[-1], image)
    settings = DRAEMSettings(reconstructive_widths=(4, 4), discriminative_widths=(4, 4), resizing=resizing)
    method = DRAEM(settings).eval()
    for weight in (parameter for parameter in method.parameters() if parameter.ndim > 1):
        torch.nn.init.kaiming_normal_(weight, generator=torch.Generator().manual_seed(3))
    detector = Detector.uncalibrated(method, 0.5, 0.01)

    def network(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return detector.method(pixels)[0]

    expected = authors_figures(images, masks, network, crop_px)
    evaluation = evaluate(detector, tmp_path, "mvtec", protocol)
    assert {name: evaluation.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    notices = [notice for notice in evaluation.notices if "resizes photographs otherwise" in notice]
    assert len(notices) == (resizing == "area")
    assert detector.framing.cut(np.zeros((2, 2, 3), np.uint8))[0].shape == (256, 256, 3)
    assert describe(detector.framing)["resizing"] == resizing  # the evaluation leaves the detector as it is


def test_descriptions_tell_protocols_apart() -> None:
    descriptions = [protocol.description for protocol in PROTOCOLS.values()]
    assert len(set(descriptions)) == len(PROTOCOLS)
    assert descriptions[0].startswith("256x256, no crop")
    assert "224x224 centre crop" in descriptions[1]


# --- evaluation ----------------------------------------------------------------------------------------------


def test_evaluate_reads_labels_and_changes_nothing(darkness: Detector, data: Path) -> None:
    before = darkness.threshold
    metrics = evaluate(darkness, data).metrics
    assert (metrics["n_good"], metrics["n_defective"]) == (4, 4)
    assert metrics["image_auroc"] == 1
    assert (metrics["tpr"], metrics["found"], metrics["tnr"], metrics["ca"]) == (0.5, 0.5, 1.0, 0.75)
    assert metrics["false_rejects"] == 0
    assert metrics["pixel_auroc"] > 0.99
    assert set(metrics["by_defect"]) == {"scratch", "dent"}
    assert metrics["by_defect"]["dent"]["found"] == 0
    assert metrics["by_defect"]["scratch"]["found"] == 1
    assert metrics["by_defect"]["dent"]["n_defective"] == 2
    assert metrics["protocol"] == "256/1"
    assert "256x256" in metrics["protocol_description"]
    assert darkness.threshold == before
    json.dumps(metrics, allow_nan=False)


def test_verdicts_depend_on_the_least_area(darkness: Detector, data: Path) -> None:
    before = evaluate(darkness, data).metrics
    assert (before["found"], before["false_rejects"], before["by_defect"]["scratch"]["found"]) == (0.5, 0.0, 1.0)
    darkness.min_area_px = 450  # of the scratches one has 24 x 16 px, the other 24 x 24
    evaluation = evaluate(darkness, data)
    metrics = evaluation.metrics
    assert evaluation.is_rejected.sum() == 1 < (evaluation.scores > metrics["threshold"]).sum()
    assert (metrics["found"], metrics["tpr"], metrics["by_defect"]["scratch"]["found"]) == (0.25, 0.25, 0.5)
    assert metrics["image_auroc"] == before["image_auroc"]


def test_without_room_the_metrics_come_from_histograms(
    darkness: Detector, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = evaluate(darkness, data).metrics
    monkeypatch.setattr(evaluation, "MAX_EXACT_PX", 1000)
    binned = evaluate(darkness, data).metrics
    assert "error_bounds" not in exact
    for name, bound in binned["error_bounds"].items():
        assert abs(binned[name] - exact[name]) <= bound
    assert binned["image_auroc"] == exact["image_auroc"]
    assert set(binned["by_defect"]) == set(exact["by_defect"])


def test_images_of_several_sizes_are_compared_at_their_own(darkness: Detector, data: Path) -> None:
    save(data / "test" / "good" / "wide.png", np.full((40, 90), 230, np.uint8))
    metrics = evaluate(darkness, data, protocol="original/1").metrics
    assert metrics["pixel_auroc"] > 0.95
    assert metrics["pixel_aupimo"] is None
    assert metrics["reasons"]["pixel_aupimo"] == "maps of several sizes"


@pytest.mark.parametrize("max_exact_px", [1, 10**9])
def test_pixels_of_a_defect_without_a_mask_count_nowhere(
    darkness: Detector, data: Path, max_exact_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MAX_EXACT_PX", max_exact_px)
    rows = [f"{path},good,,test" for path in sorted(data.glob("test/good/*"))]
    rows += [
        f"{path},scratch,{data}/ground_truth/scratch/{path.stem}_mask.png,test" for path in data.glob("test/s*/*")
    ]
    manifest = data / "known.csv"
    manifest.write_text("\n".join(["path,label,mask,split", *rows]))
    with_unknown = data / "more.csv"
    with_unknown.write_text(manifest.read_text() + f"\n{data}/test/dent/0.png,burn,,test")
    before, after = evaluate(darkness, manifest).metrics, evaluate(darkness, with_unknown).metrics
    assert after["n_defective"] == before["n_defective"] + 1
    assert after["found"] < before["found"]
    for name in ("pixel_auroc", "pixel_ap", "pixel_aupro"):
        assert after[name] == before[name]
    assert after["by_defect"]["burn"]["pixel_auroc"] is None
    assert after["by_defect"]["burn"]["image_auroc"] == 1


def test_masks_that_are_missing_are_named_and_counted(darkness: Detector, data: Path) -> None:
    before = evaluate(darkness, data)
    assert (before.metrics["n_masks"], before.metrics["n_defective"], before.notices) == (4, 4, ())
    (data / "ground_truth" / "scratch" / "1_mask.png").rename(data / "ground_truth" / "scratch" / "M1.png")
    after = evaluate(darkness, data)
    assert after.metrics["n_masks"] == 3
    assert (after.metrics["by_defect"]["scratch"]["n_masks"], after.metrics["by_defect"]["dent"]["n_masks"]) == (1, 2)
    assert after.metrics["image_auroc"] == before.metrics["image_auroc"]
    assert after.metrics["pixel_auroc"] is not None
    unused, count, name = after.notices
    assert f"1 mask of no image in {data / 'test' / 'scratch'}: M1.png" in unused
    assert "1 of 4 defective test images have no mask" in count
    assert name.startswith(f"{data / 'test' / 'scratch' / '1.png'}: no mask for it in")


def test_without_masks_there_are_figures_of_images(darkness: Detector, data: Path) -> None:
    before = evaluate(darkness, data).metrics
    shutil.rmtree(data / "ground_truth")
    result = evaluate(darkness, data)
    assert result.metrics["image_auroc"] == before["image_auroc"]
    assert result.metrics["n_masks"] == 0
    for row in (result.metrics, *result.metrics["by_defect"].values()):
        pixel_metrics = [name for name in row if name.startswith("pixel_")]
        assert {row[name] for name in pixel_metrics} == {None}
        assert {row["reasons"][name] for name in pixel_metrics} == {"no masks"}
    (notice,) = result.notices
    assert notice.startswith(f"{data}: no mask for any of the 4 defective test images")
    manifest = data / "parts.csv"
    manifest.write_text("path,label,split\ntest/dent/0.png,dent,\ntest/good/0.png,good,test\n")
    assert "no mask for any of the 1 defective test images" in evaluate(darkness, manifest).notices[0]


def test_a_doubtful_mask_is_named(darkness: Detector, data: Path) -> None:
    large = np.zeros((48, 64), np.uint8)
    large[2:46, 2:62] = 255
    save(data / "ground_truth" / "dent" / "0_mask.png", large)
    (notice,) = evaluate(darkness, data).notices
    assert notice.startswith(f"{data / 'ground_truth' / 'dent' / '0_mask.png'}: the mask covers 86 % of its image")
    save(data / "ground_truth" / "dent" / "0_mask.png", np.full((48, 64), 255, np.uint8) - large // 2)
    with pytest.raises(BlemishError, match=r"0_mask\.png: .* holds 2 values: 128, 255; say which"):
        evaluate(darkness, data)
    save(data / "ground_truth" / "dent" / "0_mask.png", 255 - large)
    evaluate(darkness, data, mask_values="128,255")


def test_images_that_are_not_counted_are_named(darkness: Detector, data: Path) -> None:
    save(data / "test" / "dent" / "camera 2" / "0.png", np.full((48, 64), 140, np.uint8))
    save(data / "test" / "loose.png", np.full((48, 64), 140, np.uint8))
    (data / "train" / "good" / "0.png").rename(data / "train" / "good" / "0.gone")  # training images are not needed
    result = evaluate(darkness, data)
    assert result.metrics["n_defective"] == 5
    assert result.notices[0].startswith(f"{data / 'test'}: 1 image is directly in it and not used; move to")


def test_good_images_only_are_null_with_a_reason(darkness: Detector, data: Path) -> None:
    manifest = data / "good.csv"
    manifest.write_text("path,label,split\n" + "\n".join(f"{path},good,test" for path in data.glob("test/good/*")))
    metrics = evaluate(darkness, manifest).metrics
    assert metrics["image_auroc"] is None
    assert metrics["reasons"]["image_auroc"] == "no defective image"
    assert (metrics["found"], metrics["false_rejects"]) == (None, 0.0)


def test_evaluate_without_test_images_is_reported(darkness: Detector, tmp_path: Path) -> None:
    save(tmp_path / "good.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(BlemishError, match="no test images with labels"):
        evaluate(darkness, tmp_path)


def test_curves_have_the_reported_area(darkness: Detector, data: Path) -> None:
    result = evaluate(darkness, data)
    curve = result.rankings.curves()["pixel_roc"]
    assert math.isclose(float(np.trapezoid(curve.y, curve.x)), result.metrics["pixel_auroc"], abs_tol=1e-3)


def test_a_score_that_is_no_number_is_reported_with_the_file(
    darkness: Detector, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: DRAEM, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        anomaly_map = images.mean(1, keepdim=True) * math.nan
        return anomaly_map, anomaly_map.amax((1, 2, 3))

    monkeypatch.setattr(type(darkness.method), "forward", broken)
    with pytest.raises(BlemishError, match=r"test/.*png: its score is not a number"):
        evaluate(darkness, data)
    with pytest.raises(BlemishError, match="not a number"):  # it must not pass as a good part
        darkness.inspect(data / "test" / "good" / "0.png")


def test_the_table_shows_any_name_of_a_defect(darkness: Detector, data: Path) -> None:
    (data / "test" / "scratch").rename(data / "test" / "[bold]all")
    (data / "ground_truth" / "scratch").rename(data / "ground_truth" / "[bold]all")
    console = Console(record=True, width=200)
    _print_table(evaluate(darkness, data), console)
    assert "[bold]all" in console.export_text()
