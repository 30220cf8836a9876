"""The graph resizes as ``data.loading.resize`` does: the same grey levels, but for rounding of exact halves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from numpy.typing import NDArray

from blemish.data.loading import resize
from blemish.runtimes.photographs import Resized
from blemish.runtimes.tracing import quiet_libraries, traced

SIDE_PX = 64
SQUARE, RECTANGLE = (SIDE_PX, SIDE_PX), (48, 80)
Graph = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
SIZES_HW = [
    (64, 64), (128, 128), (192, 256), (640, 640), (64, 256),  # whole ratios: 1, 2, 3, 4, 10
    (65, 67), (97, 203), (480, 641), (100, 1000), (601, 64),  # others
    (32, 32), (63, 63), (9, 31), (1, 1), (5, 3), (1, 64), (64, 1),  # growing
    (30, 200), (200, 30), (1, 900), (64, 20), (128, 32),  # one axis shrinks, the other grows
]  # fmt: skip


@pytest.fixture(scope="module", params=["torch", "onnx", "openvino"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """The graph in one of three runtimes: (B, H, W, 3) uint8 to (B, 3, S, S) float32."""
    return graph_in(request.param, Resized(SQUARE), tmp_path_factory)


@pytest.fixture(scope="module", params=["torch", "onnx", "openvino"])
def rectangle_graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return graph_in(request.param, Resized(RECTANGLE), tmp_path_factory)


@pytest.fixture(scope="module", params=["torch", "onnx", "openvino"])
def bilinear_graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return graph_in(request.param, Resized(SQUARE, "bilinear"), tmp_path_factory)


def graph_in(runtime: str, module: Resized, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    if runtime == "torch":
        return lambda photographs: module(torch.from_numpy(photographs)).numpy()
    example = torch.zeros(2, SIDE_PX + 3, SIDE_PX + 5, 3, dtype=torch.uint8)
    with quiet_libraries():
        program = traced(module, example, n_free_axes=(3,))
        if runtime == "openvino":
            model = openvino.convert_model(program)
            compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            return lambda photographs: compiled([photographs])[0]
        path: Path = tmp_path_factory.mktemp("resized") / "resized.onnx"
        exported = torch.onnx.export(program, dynamo=True, verbose=False, input_names=["photographs"])
    assert exported is not None
    exported.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda photographs: session.run(None, {"photographs": photographs})[0]


def drawn(size_hw: tuple[int, int], n: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(size_hw)).integers(0, 256, (n, *size_hw, 3), dtype=np.uint8)


def differences(result: NDArray[np.float32], photographs: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grey levels between the graph's result and what blemish makes of the same photographs."""
    assert result.dtype == np.float32
    height, width = result.shape[2:]
    expected = np.stack([resize(photograph, (height, width)) for photograph in photographs])
    return np.abs(result.transpose(0, 2, 3, 1) * 255.0 - expected.astype(np.float64))


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_grey_levels_are_those_of_blemish(graph: Graph, size_hw: tuple[int, int]) -> None:
    photographs = drawn(size_hw)
    difference = differences(graph(photographs), photographs)
    assert difference.max() < 1.001
    assert (difference > 0.001).mean() < 0.002


@pytest.mark.parametrize("size_hw", [*SIZES_HW, (96, 160), (48, 160), (96, 80), (48, 80), (480, 800)])
def test_grey_levels_of_rectangles_are_those_of_blemish(rectangle_graph: Graph, size_hw: tuple[int, int]) -> None:
    photographs = drawn(size_hw)
    result = rectangle_graph(photographs)
    assert result.shape[2:] == RECTANGLE
    difference = differences(result, photographs)
    assert difference.max() < 1.001
    assert (difference > 0.001).mean() < 0.002


@pytest.mark.parametrize("size_hw", [*SIZES_HW, (128, 100), (127, 129)])
def test_bilinear_grey_levels_are_those_of_opencv(bilinear_graph: Graph, size_hw: tuple[int, int]) -> None:
    photographs = drawn(size_hw, n=2)
    result = bilinear_graph(photographs).transpose(0, 2, 3, 1) * 255.0
    expected = [cv2.resize(photograph, (SIDE_PX, SIDE_PX)) for photograph in photographs]
    assert np.array_equal(
        expected, [resize(photograph, (SIDE_PX, SIDE_PX), "bilinear") for photograph in photographs]
    )
    difference = np.abs(result - np.stack(expected))
    assert difference.max() < 1.001
    assert (difference > 0.001).mean() < 0.002


@pytest.mark.parametrize("size_hw", [(128, 128), (64, 128), (128, 64), (256, 256), (256, 128)])
def test_halves_are_rounded_as_by_opencv(graph: Graph, size_hw: tuple[int, int]) -> None:
    """A quarter of all means of 2x2 pixels end in a half, and only for this ratio OpenCV rounds all of them up."""
    photographs = drawn(size_hw) % 4
    assert differences(graph(photographs), photographs).max() < 0.001


@pytest.mark.parametrize("size_hw", [(64, 64), (64, 48), (80, 80), (104, 33), (320, 64)])
def test_halves_at_other_ratios_are_rounded_as_by_opencv(size_hw: tuple[int, int]) -> None:
    """At 4:3 one mean in 16 ends in a half. Other weights than OpenCV's round many of them otherwise."""
    photograph = drawn(size_hw)[0]
    result = Resized((48, 48))(torch.from_numpy(photograph)[None])[0].permute(1, 2, 0).numpy() * 255.0
    difference = np.abs(result - resize(photograph, (48, 48)))
    assert difference.max() < 1.001
    assert (
        difference > 0.001
    ).mean() < 0.005  # if the ratios are 4:3 and 20:3, the order of OpenCV's sums matters too


def test_a_batch_is_as_each_photograph(graph: Graph) -> None:
    photographs = drawn((90, 111), n=3)
    together = graph(photographs)
    assert together.shape == (3, 3, SIDE_PX, SIDE_PX)
    for number in range(3):
        np.testing.assert_array_equal(together[number], graph(photographs[number : number + 1])[0])


def test_a_thin_line_survives_shrinking(graph: Graph) -> None:
    """A line of one pixel in 640 is a tenth of a pixel of the result: it darkens one row by a tenth."""
    photograph = np.full((1, 640, 640, 3), 200, np.uint8)
    photograph[0, 333] = 0
    result = graph(photograph)[0, 0] * 255.0  # (S, S)
    np.testing.assert_allclose(result[33], 180, atol=1e-3)
    np.testing.assert_allclose(np.delete(result, 33, axis=0), 200, atol=1e-3)


def test_what_libraries_say_is_held_back_unless_the_export_fails(capsys: pytest.CaptureFixture[str]) -> None:
    @quiet_libraries()
    def export(fails: bool) -> None:
        warnings.warn("an old function", FutureWarning, stacklevel=1)
        if fails:
            raise ValueError("no graph")

    export(fails=False)
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="no graph"):
        export(fails=True)
    assert capsys.readouterr().err == "FutureWarning: an old function\n"
