"""An exported file gives the verdicts of ``blemish inspect`` to programs without blemish: the examples' scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import yaml
from PIL import Image

from blemish.cli import main
from blemish.learning.calibration import calibrated
from blemish.methods import method_type
from blemish.thresholds import Threshold
from methods.contract import good_images
from test_docs import TINY

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZES_HW = [(64, 64), (97, 203), (20, 31), (40, 500), (1200, 1601)]
METHODS = ("draem", "dsr", "ssae", "patchcore")


def blemish(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words)])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes of many sizes, each twice: as the good images, and with a patch of noise; one is grey, one turned."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, size_hw in enumerate(SIZES_HW):
        stripes = good_images(1, 64)[0].permute(1, 2, 0).numpy()
        pixels = np.asarray(Image.fromarray(stripes).resize(size_hw[::-1])).copy()
        Image.fromarray(pixels).save(folder / f"{number}-good.png")
        patch = pixels[: size_hw[0] // 2, : size_hw[1] // 2]
        patch[...] = np.random.default_rng(number).integers(0, 256, patch.shape)
        Image.fromarray(pixels).save(folder / f"{number}-bad.png")
    Image.fromarray(pixels).convert("L").save(folder / "grey.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=turned)
    return folder


@pytest.fixture(scope="module", params=METHODS)
def detector(request: pytest.FixtureRequest, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector whose threshold is amid the scores of the photographs; beside it their ``findings``."""
    folder = tmp_path_factory.mktemp(request.param)
    settings_type = method_type(request.param).settings_type
    values = {
        name: yaml.safe_load(value)
        for name, value in (word.split("=") for word in TINY[request.param])
        if "." not in name
    }
    size_px = {"image_size_px": 64 if request.param == "dsr" else 32}
    names = set(settings_type.__dataclass_fields__) & values.keys()
    method = method_type(request.param).build(
        settings_type.from_dict({name: values[name] for name in names} | size_px)
    )
    detector = calibrated(method.eval(), good_images(12, size_px["image_size_px"]), 0.1, {})
    scores = sorted(detector.inspect(image).score for image in sorted(photographs.iterdir()))
    gaps = np.diff(scores[4:-4])
    middle = 4 + int(gaps.argmax())
    detector.threshold = Threshold((scores[middle] + scores[middle + 1]) / 2, 0.1, 12, 9)
    detector.save(folder / "x.blemish")
    words = ("--device", "cpu", "--out", folder / "findings")
    assert blemish("inspect", folder / "x.blemish", photographs, *words) == 0
    return folder / "x.blemish"


@cache
def exported(detector: Path, suffix: str, kind: str) -> tuple[Path, str]:
    """A file that was made of a detector, once for all tests, and what was printed."""
    path = detector.with_name(f"{kind}{suffix}")
    with redirect_stdout(StringIO()) as printed:
        assert blemish("export", detector, "--out", path, "--input", kind) == 0
    return path, printed.getvalue()


@pytest.mark.parametrize(
    ("suffix", "script"), [(".onnx", "inspect_with_onnx.py"), (".xml", "inspect_with_openvino.py")]
)
def test_ten_lines_without_blemish_give_the_same_verdicts(
    detector: Path, suffix: str, script: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    path, _ = exported(detector, suffix, "photographs")
    assert capfd.readouterr().err == ""
    rows = [json.loads(line) for line in (detector.parent / "findings" / "findings.jsonl").read_text().splitlines()]
    assert {row["is_defective"] for row in rows} == {True, False}
    (tmp_path / "blemish.py").write_text("raise ImportError('a newcomer has no blemish')")
    command = [sys.executable, EXAMPLES / script, path, *(row["path"] for row in rows)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verdict["is_defective"] for verdict in verdicts] == [row["is_defective"] for row in rows]
    scores = [verdict["score"] for verdict in verdicts]
    np.testing.assert_allclose(scores, [row["score"] for row in rows], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("detector", ["ssae"], indirect=True)  # the quickest to export
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("kind", ["photographs", "network"])
def test_a_file_says_all_that_a_program_needs(detector: Path, suffix: str, kind: str) -> None:
    path, printed = exported(detector, suffix, kind)
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        about = json.loads(session.get_modelmeta().custom_metadata_map["blemish"])
        (taken,) = session.get_inputs()
        assert taken.shape == about["input"]["shape"]
        assert (taken.type == "tensor(uint8)") == (kind == "photographs")
        name = taken.name
    else:
        model = openvino.Core().read_model(path)
        about = json.loads(model.get_rt_info(["blemish"]).value)
        name = model.input(0).get_any_name()
        assert about["openvino_hints"] == {"INFERENCE_PRECISION_HINT": "f32"}
        assert "INFERENCE_PRECISION_HINT=f32" in printed
    side_px = about["settings"]["image_size_px"]
    assert about["input"]["name"] == name == {"photographs": "photographs", "network": "images"}[kind]
    assert about["input"]["dtype"] == {"photographs": "uint8", "network": "float32"}[kind]
    assert about["input"]["layout"] == {"photographs": "NHWC", "network": "NCHW"}[kind]
    assert about["input"]["range"] == {"photographs": [0, 255], "network": [0, 1]}[kind]
    assert about["input"]["colour"] == "RGB"
    assert f"to {side_px} x {side_px}" in about["input"]["resize"]
    assert about["outputs"].keys() == {"anomaly_map", "score"}
    assert about["verdict"].startswith(f"defective if score > {about['threshold']['value']!r}")
    assert about["bits"] == 16
    assert about["method"] in METHODS
    assert "likeness" not in about
    assert about["left_out"].startswith("likeness")
    assert about["blemish_version"]
    for text in (
        f"input {name}: (batch, ",
        about["input"]["resize"],
        about["verdict"],
        "output score: (batch)",
        "left out",
    ):
        assert text in printed
