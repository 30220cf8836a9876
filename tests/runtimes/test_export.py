"""Exported detectors return the same results as the original; ``methods/contract.py`` tests this for every method."""

from __future__ import annotations

import builtins
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import openvino
import pytest
import torch

from blemish.cli import main
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.learning.calibration import calibrated
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.methods.dsr import DSR, DSRSettings
from blemish.methods.dsr.vq import VQAutoencoder
from blemish.runtimes.export import KEY, write_onnx
from blemish.runtimes.openvino import OpenVINORuntime
from methods.contract import good_images

WIDTHS = {"reconstructive_widths": (64, 96), "discriminative_widths": (64, 96)}
NARROW = {"reconstructive_widths": (8, 8), "discriminative_widths": (8, 8)}


@pytest.fixture(scope="module")
def detector() -> Detector:
    """An untrained detector whose convolutions are wide enough for 8 bits."""
    method = DRAEM(DRAEMSettings(image_size_px=32, score_window_px=5, **WIDTHS))
    generator = torch.Generator().manual_seed(7)
    for tensor in method.parameters():
        if tensor.ndim > 1:
            torch.nn.init.xavier_normal_(tensor, generator=generator)
    return calibrated(method, good_images(), 0.1, {"recipe": "none", "seed": 0})


@pytest.fixture(scope="module")
def files(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the detector's file, and good images to compute the value ranges from."""
    folder = tmp_path_factory.mktemp("export")
    detector.save(folder / "detector.blemish")
    (folder / "good").mkdir()
    for number, image in enumerate(good_images().permute(0, 2, 3, 1).numpy()):
        cv2.imwrite(str(folder / "good" / f"{number:02}.png"), image[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def compiled(files: Path) -> Detector:
    """The detector, exported to run by OpenVINO, and loaded from its file."""
    assert export(files / "detector.blemish", "--out", files / "ov.blemish") == 0
    return Detector.load(files / "ov.blemish")


@pytest.fixture(scope="module", params=[".onnx", ".xml"])
def of_network(request: pytest.FixtureRequest, files: Path) -> tuple[Path, str]:
    """A file with the network's own input, and what was printed when it was made and run on good images."""
    path = files / f"model{request.param}"
    with redirect_stdout(StringIO()) as printed:
        words = ("--out", path, "--input", "network", "--good", files / "good")
        assert export(files / "detector.blemish", *words) == 0
    return path, printed.getvalue()


@pytest.mark.parametrize("suffix", [".blemish", ".onnx", ".xml"])
def test_rectangles_are_exported(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = {"image_size_px": 32, "image_width_px": 48, "score_window_px": 5}
    method = DRAEM(DRAEMSettings(architecture="discriminative", **size, **NARROW))  # half of it is exported sooner
    images = good_images(6, width_px=48)
    calibrated(method, images, 0.1).save(tmp_path / "x.blemish")
    (tmp_path / "good").mkdir()
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        cv2.imwrite(str(tmp_path / "good" / f"{number}.png"), cv2.resize(image, (70, 50))[..., ::-1])
    out = tmp_path / f"new{suffix}"
    assert export(tmp_path / "x.blemish", "--out", out, "--good", tmp_path / "good") == 0
    said = capsys.readouterr().out
    assert "6 good images: scores change by at most" in said
    assert float(said.split("change by at most ")[1].split(",")[0]) < 1e-4
    if suffix != ".blemish":
        assert "(batch, 1, 32, 48)" in said


def export(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["export", *map(str, words)])
    return int(stop.value.code or 0)


def test_one_file_runs_by_openvino_and_keeps_what_the_detector_knew(
    detector: Detector, compiled: Detector, files: Path
) -> None:
    again = compiled
    assert isinstance(again.runtime, OpenVINORuntime)
    assert again.threshold == detector.threshold
    assert again.settings == detector.settings
    assert again.provenance == {**detector.provenance, "exported": {"runtime": "openvino", "precision": "float32"}}
    photograph = cv2.imread(str(files / "good" / "03.png"))
    expected, finding = detector.inspect(photograph), again.inspect(photograph)
    assert finding.is_defective == expected.is_defective
    np.testing.assert_allclose(finding.map, expected.map, atol=1e-5)
    with pytest.raises(BlemishError, match="was exported, and can only inspect"):
        again.compiled()


def test_8_bits_are_near_and_it_is_reported_how_near(
    detector: Detector, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--precision", "int8", "--good", files / "good")
    assert export(files / "detector.blemish", *words, "--out", files / "int8.blemish") == 0
    printed = capsys.readouterr().out
    again = Detector.load(files / "int8.blemish")
    images = good_images()
    (maps, scores), (maps_8, scores_8) = detector.maps_and_scores(images), again.maps_and_scores(images)
    change = float((scores_8 - scores).abs().max())
    assert f"12 good images: scores change by at most {change:.2g}" in printed
    assert 0 < float((maps_8 - maps).abs().mean()) < 0.05
    value = detector.threshold.value
    assert printed.count("another verdict") == int(((scores > value) != (scores_8 > value)).sum())
    weights = Detector.load(files / "int8.blemish").runtime.tensors()["openvino_bin"]
    assert len(weights) < 0.5 * sum(4 * parameter.numel() for parameter in detector.method.parameters())


def test_8_bits_leave_the_variances_of_instance_norms_alone() -> None:
    """In 8 bits, small variances would become 0: this changed 133 of 167 verdicts of trained DSR on pill."""
    settings = DSRSettings(
        image_size_px=32, restriction_widths=(8, 8), decoder_widths=(64, 64, 64), detection_widths=(64, 64)
    )
    method = DSR(settings, codebook=VQAutoencoder(n_codes=40, n_features=8, n_hidden=4, n_layers=1)).eval()
    exported = Detector.uncalibrated(method, 0.5, 0.1).compiled(good_images(4)).runtime.tensors()
    graph = bytes(exported["openvino_xml"].numpy()).decode()
    model = openvino.Core().read_model(graph, openvino.Tensor(exported["openvino_bin"].numpy()))
    operations = model.get_ordered_ops()
    assert sum(operation.get_type_name() == "FakeQuantize" for operation in operations) > 5
    roots = [operation for operation in operations if operation.get_type_name() == "Sqrt"]
    assert len(roots) > 10
    assert {root.input_value(0).get_node().get_type_name() for root in roots} == {"Add"}  # not FakeQuantize


def test_onnx_and_openvino_files_run_elsewhere(detector: Detector, of_network: tuple[Path, str]) -> None:
    """With the network's own input; ``test_exported_files.py`` has those that take photographs."""
    path, names = of_network[0], ["anomaly_map", "score"]
    images = good_images(5).float() / 255.0
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        results = session.run(names, {"images": images.numpy()})
        description = session.get_modelmeta().custom_metadata_map[KEY]
    else:
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        by_openvino = compiled([images.numpy()])
        results = [by_openvino[name] for name in names]
        description = openvino.Core().read_model(path).get_rt_info([KEY]).value
    for ours, theirs in zip(detector.method(images), results, strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-5)
    about = json.loads(description)
    assert (about["threshold"]["value"], about["settings"]["image_size_px"]) == (detector.threshold.value, 32)


def test_a_file_for_images_is_run_on_good_images(of_network: tuple[Path, str]) -> None:
    check_changes(of_network[1], "float32")


@pytest.mark.parametrize(("suffix", "precision"), [(".onnx", "float32"), (".xml", "int8")])
def test_a_file_for_photographs_is_run_on_good_images(
    files: Path, suffix: str, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--out", tmp_path / f"x{suffix}", "--precision", precision, "--good", files / "good")
    assert export(files / "detector.blemish", *words) == 0
    check_changes(capsys.readouterr().out, precision)


def check_changes(printed: str, precision: str) -> None:
    found = re.search(r"^12 good images: scores change by at most (\S+),", printed, re.MULTILINE)
    assert found is not None
    assert float(found[1]) < (1e-5 if precision == "float32" else 0.05)
    assert f"{precision}\n" in printed


@pytest.mark.parametrize(
    ("words", "message_part"),
    [
        (("--out", "x.pt"), "should end in .blemish or .xml (OpenVINO), or .onnx"),
        (("--out", "x.blemish", "--precision", "int8"), "give --good, a folder of good images"),
        (("--out", "x.onnx", "--precision", "int8", "--good", "good"), "take --out NAME.blemish or NAME.xml"),
        (("--out", "x.blemish", "--input", "network"), "a .blemish takes photographs of any size"),
        (("--out", "detector.blemish"), "is the detector itself"),
    ],
)
def test_what_cannot_be_exported_is_reported(
    files: Path,
    words: tuple[str, ...],
    message_part: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    before = (files / "detector.blemish").read_bytes()
    assert export("detector.blemish", *words) == 2
    assert message_part in capsys.readouterr().err
    assert (files / "detector.blemish").read_bytes() == before


def test_without_the_extra_it_is_named(
    detector: Detector, compiled: Detector, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled.save(files / "needs.blemish")
    true_import = builtins.__import__

    def without(name: str, *rest: object, **options: object) -> object:
        if name in ("openvino", "onnxscript"):
            raise ImportError(name)
        return true_import(name, *rest, **options)  # type: ignore[arg-type]

    for name in ("openvino", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BlemishError, match=r'openvino is not installed; pip install "blemish\[export\]"'):
        Detector.load(files / "needs.blemish")
    with pytest.raises(BlemishError, match="onnxscript is not installed"):
        write_onnx(detector.method, files / "no.onnx", {})


def test_openvino_is_safe_to_call_from_several_threads(compiled: Detector) -> None:
    runtime, batches = compiled.runtime, torch.rand(16, 1, 3, 32, 32)
    expected = [runtime(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for (maps, scores), (own_maps, own_scores) in zip(expected, pool.map(runtime, batches), strict=True):
            assert torch.equal(own_maps, maps)
            assert torch.equal(own_scores, scores)
