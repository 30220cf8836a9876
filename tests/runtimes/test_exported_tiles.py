"""An exported file cuts photographs into tiles and joins the maps as ``framing.Tiles`` does."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blemish.commands.export import export_run
from blemish.detector import Detector
from blemish.inspection.framing import Tiles
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.runtimes.openvino import OpenVINORuntime
from blemish.runtimes.tiles import Cut, Joined, Places
from blemish.runtimes.torch import TorchRuntime
from blemish.thresholds import Threshold

GRIDS = {"half": Tiles((32, 48), 16), "none": Tiles((40, 32), 0)}
SIZES_HW = [(8, 9), (8, 100), (77, 9), (32, 48), (40, 32), (33, 49), (64, 96), (31, 47), (90, 131), (130, 97)]
TINY = DRAEMSettings(image_size_px=32, score_window_px=5, reconstructive_widths=(4, 4), discriminative_widths=(4, 4))
WHITE = 255
Inspect = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]


class Uneven(DRAEM):
    """Stands in for a network: tiles differ on what they share, so that it matters how maps are mixed.

    The score of a tile with a white pixel is not a number.
    """

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = self.settings.size_hw
        place = torch.arange(height)[:, None] / height + torch.arange(width) / width
        anomaly_map = images.mean(1, keepdim=True) * place + images.amax((1, 2, 3), keepdim=True) * 0.1
        is_white = images.amax((1, 2, 3)) == 1.0
        return anomaly_map, torch.where(is_white, torch.nan, anomaly_map.mean((1, 2, 3)))


def drawn(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, WHITE, shape, dtype=np.uint8)


def detector_of(method_type: type[DRAEM], grid: Tiles, **values: Any) -> Detector:
    height, width = grid.size_hw
    method = method_type(replace(TINY, image_size_px=height, image_width_px=width, **values))
    return Detector(TorchRuntime(method), Threshold(0.5, 0.01, 0, 99), 0.5, (), {}, grid)


def runs(path: Path) -> Inspect:
    """Inspection by a file: maps and scores."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        return lambda images: tuple(session.run(["anomaly_map", "score"], {taken.name: images}))
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: tuple(compiled([images])[name] for name in ("anomaly_map", "score"))


def export(detector: Detector, path: Path, good: Path, **options: Any) -> str:
    """Export a detector as the command does, and return what it prints."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.setattr(Detector, "load", lambda _: detector)  # a stand-in for a network is in no file
        export_run(path.parent / "x", path, **{"precision": "float32", "good": good, "layout": "auto"} | options)
    return printed.getvalue()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs that are one tile, several tiles, and less than a tile."""
    folder = tmp_path_factory.mktemp("good")
    for number, size_hw in enumerate([(32, 48), (60, 90), (20, 31)]):
        cv2.imwrite(str(folder / f"{number}.png"), drawn(*size_hw, 3)[..., ::-1])
    return folder


@pytest.fixture(scope="module", params=[("half", ".onnx"), ("none", ".xml")])
def exported(
    request: pytest.FixtureRequest, good: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Detector, Path, str]:
    """A detector, the file for other programs that was made of it, and what was printed."""
    name, suffix = request.param
    detector, path = detector_of(Uneven, GRIDS[name]), tmp_path_factory.mktemp(name) / f"x{suffix}"
    return detector, path, export(detector, path, good)


def test_maps_and_scores_are_those_of_the_detector(exported: tuple[Detector, Path, str]) -> None:
    detector, path, _ = exported
    run = runs(path)
    for size_hw in SIZES_HW:
        photographs = drawn(2, *size_hw, 3)
        findings = detector.inspect([*photographs])
        for n in (1, 2):
            maps, scores = run(photographs[:n])
            assert maps.shape == (n, 1, *size_hw)
            assert scores.shape == (n,)
            for number in range(n):
                np.testing.assert_allclose(maps[number, 0], findings[number].map, atol=1e-6, err_msg=str(size_hw))
                np.testing.assert_allclose(scores[number], findings[number].score, atol=1e-6)


def test_a_tile_whose_score_is_not_a_number_is_not_passed_over(exported: tuple[Detector, Path, str]) -> None:
    photographs = drawn(3, 100, 110, 3)
    photographs[0, 2, 2], photographs[1, -1, -1] = WHITE, WHITE
    _, scores = runs(exported[1])(photographs)
    np.testing.assert_array_equal(np.isnan(scores), [True, True, False])


def test_one_tile_at_a_time_goes_through_the_network(exported: tuple[Detector, Path, str]) -> None:
    """All of them at once would need many gigabytes for a large photograph."""
    detector, path, _ = exported
    height, width = detector.size_hw
    if path.suffix == ".onnx":
        graph = onnx.load(path).graph
        (loop,) = (node for node in graph.node if node.op_type == "Scan")
        (body,) = (onnx.helper.get_node_attr_value(loop, "body"),)
        assert [[axis.dim_value for axis in out.type.tensor_type.shape.dim] for out in body.output] == [
            [1, height, width], []
        ]  # fmt: skip
        names = [axis.dim_param or axis.dim_value for axis in graph.output[0].type.tensor_type.shape.dim]
        assert names == ["batch", 1, "height", "width"]
    else:
        operations = openvino.Core().read_model(path).get_ordered_ops()
        (loop,) = (operation for operation in operations if operation.get_type_name() == "TensorIterator")
        results = loop.get_body().get_results()
        assert [[*result.get_output_shape(0)] for result in results] == [[1, 1, height, width], [1]]


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)), st.tuples(st.integers(8, 40), st.integers(8, 40)), st.data()
)
@settings(max_examples=60, deadline=None)
def test_any_tiles_are_cut_and_joined_as_by_the_framing(
    photograph_hw: tuple[int, int], tile_hw: tuple[int, int], data: st.DataObject
) -> None:
    grid = Tiles(tile_hw, data.draw(st.integers(0, min(tile_hw) // 2)))
    photographs = torch.from_numpy(drawn(2, *photograph_hw, 3))
    layout = Places(grid)(photographs)
    places = zip(layout.tile_lines, layout.tile_columns, strict=True)
    tiles = torch.cat([Cut()(layout.lines, *place) for place in places])  # (2 N, 3, h, w)
    expected = np.stack([tile for photograph in photographs.numpy() for tile in grid.cut(photograph)])
    np.testing.assert_allclose(tiles.permute(0, 2, 3, 1) * 255.0, expected, atol=1e-4)
    maps, scores = torch.rand(len(tiles), 1, *tile_hw), torch.rand(len(tiles))
    joined, worst = Joined(grid)(photographs, layout.row_starts, layout.column_starts, maps, scores)
    for number, (own_maps, own_scores) in enumerate(zip(maps.chunk(2), scores.chunk(2), strict=True)):
        np.testing.assert_allclose(joined[number, 0], grid.join(own_maps[:, 0].numpy(), photograph_hw), atol=1e-5)
        assert float(worst[number]) == grid.score(own_scores.tolist())


# --- what the file says of itself ----------------------------------------------------------------------------


def test_a_file_says_that_it_cuts_photographs(exported: tuple[Detector, Path, str]) -> None:
    detector, path, printed = exported
    about, (height, width) = description_of(path), detector.size_hw
    assert about["framing"] == {
        "kind": "tiles",
        "size_hw": [height, width],
        "overlap_px": detector.framing.overlap_px,
    }
    assert about["input"]["cut"].startswith(f"done in the graph: into tiles of {width} x {height} px")
    assert "resize" not in about["input"]
    assert about["outputs"]["anomaly_map"]["shape"] == ["batch", 1, "height", "width"]
    assert about["outputs"]["score"]["meaning"].startswith("(that of the worst tile)")
    for text in ("input photographs: (batch, height, width, 3) uint8 RGB", about["input"]["cut"], "(batch, 1, h"):
        assert text in printed
    assert change(printed) < 1e-5


def test_of_a_file_that_takes_tiles_a_program_learns_how_to_cut_and_join(good: Path, tmp_path: Path) -> None:
    detector = detector_of(Uneven, GRIDS["half"])
    printed = export(detector, tmp_path / "x.xml", good, input_kind="network")
    about = description_of(tmp_path / "x.xml")
    for text in (about["input"]["cut"], about["outputs"]["anomaly_map"]["join"], about["outputs"]["score"]["join"]):
        assert text in printed
    assert change(printed) < 1e-5
    run = runs(tmp_path / "x.xml")
    for size_hw in SIZES_HW:
        photograph = drawn(*size_hw, 3)
        anomaly_map, score = as_described(photograph, about, run)
        finding = detector.inspect(photograph)
        np.testing.assert_allclose(anomaly_map, finding.map, atol=1e-5)
        assert score == pytest.approx(finding.score, abs=1e-5)


def as_described(photograph: NDArray[np.uint8], about: dict[str, Any], run: Inspect) -> tuple[NDArray[Any], float]:
    """What a program makes of the words in a file that takes tiles."""
    shape, weights = about["input"]["shape"], about["outputs"]["anomaly_map"]
    assert shape[:2] == ["batch", 3]
    missing = [max(0, side - length) for side, length in zip(shape[2:], photograph.shape, strict=False)]
    whole = np.pad(photograph, [(0, missing[0]), (0, missing[1]), (0, 0)], "symmetric")
    rule = r"start at i \* \(L - S\) // max\(1, n - 1\), i = 0 ... n - 1, of n = ceil\(\(L - 16\) / \(S - 16\)\)"
    assert re.search(rule, about["input"]["cut"])
    starts = []
    for length, side in zip(whole.shape, shape[2:], strict=False):
        n = math.ceil((length - 16) / (side - 16))
        starts.append([i * (length - side) // max(1, n - 1) for i in range(n)])
    weight = np.outer(weights["row_weights"], weights["column_weights"])
    sums, of_weights, scores = np.zeros(whole.shape[:2]), np.zeros(whole.shape[:2]), []
    for y in starts[0]:
        for x in starts[1]:
            here = slice(y, y + shape[2]), slice(x, x + shape[3])
            tile = (whole[here] / np.float32(255)).transpose(2, 0, 1)[None].astype(np.float32)
            maps, score = run(np.ascontiguousarray(tile))
            sums[here] += maps[0, 0] * weight
            of_weights[here] += weight
            scores.append(float(score[0]))
    return (sums / of_weights)[: photograph.shape[0], : photograph.shape[1]], max(scores)


def description_of(path: Path) -> dict[str, Any]:
    if path.suffix == ".onnx":
        (text,) = (entry.value for entry in onnx.load(path).metadata_props if entry.key == "blemish")
    else:
        text = openvino.Core().read_model(path).get_rt_info(["blemish"]).value
    return dict(json.loads(text))


def change(printed: str) -> float:
    return float(printed.split("3 good images: scores change by at most ")[1].split(",")[0])


def test_the_ranges_of_8_bit_numbers_come_from_tiles_of_all_good_photographs(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[Any]()
    compiled = Detector.compiled

    def spied(detector: Detector, images: torch.Tensor | None = None) -> Detector:
        seen.append(images)
        return compiled(detector, images)

    monkeypatch.setattr(Detector, "compiled", spied)
    detector = detector_of(DRAEM, GRIDS["half"], reconstructive_widths=(64, 64), discriminative_widths=(8, 8))
    printed = export(detector, tmp_path / "x8.blemish", good, precision="int8")
    photographs = [cv2.imread(str(path))[..., ::-1] for path in sorted(good.iterdir())]
    tiles = [tile for photograph in photographs for tile in GRIDS["half"].cut(photograph)]
    np.testing.assert_array_equal(seen[0].permute(0, 2, 3, 1), tiles)
    again = Detector.load(tmp_path / "x8.blemish")
    assert isinstance(again.runtime, OpenVINORuntime)
    assert again.framing == detector.framing
    before, after = detector.inspect(photographs), again.inspect(photographs)
    assert [finding.map.shape for finding in after] == [photograph.shape[:2] for photograph in photographs]
    pairs = [*zip(before, after, strict=True)]
    assert 0 < max(np.abs(new.map - old.map).max() for old, new in pairs) < 0.05
    assert change(printed) == pytest.approx(max(abs(new.score - old.score) for old, new in pairs), rel=0.1)
