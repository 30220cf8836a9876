"""``evaluate``, ``fit`` and ``export`` replace no files of the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish.commands.evaluate import evaluate_run
from blemish.commands.export import export_run
from blemish.commands.fit import fit_run
from blemish.errors import BlemishError


@pytest.mark.parametrize("name", ["metrics.json", "scores.csv", "report.html"])
def test_evaluate_replaces_only_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("path,label")
    with pytest.raises(BlemishError, match=rf"{name}: is not a result of blemish; choose another --out"):
        evaluate_run(Path("x.blemish"), tmp_path, tmp_path, "cpu", "auto", "auto", "auto")


@pytest.mark.parametrize("text", ["camera: 3\n", "# ours\ndata: good\nmethod: draem\nsettings: {}\n"])
def test_fit_replaces_only_its_own(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(BlemishError, match=r"config\.yaml: is not a result of blemish; choose another --out"):
        fit_run({"data": str(tmp_path)}, [], None, tmp_path, resume=False, overwrite=True, tensorboard=False)
    assert (tmp_path / "config.yaml").read_text() == text


@pytest.mark.parametrize("suffix", [".blemish", ".onnx", ".xml"])
def test_export_replaces_nothing(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"x{suffix}"
    out.with_suffix(".bin" if suffix == ".xml" else suffix).touch()
    with pytest.raises(BlemishError, match=r"x\.\w+: exists already; choose another name"):
        export_run(tmp_path / "detector.blemish", out, "float32", None, "auto")
