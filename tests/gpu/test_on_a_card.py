"""End-to-end tests through the command line on a real CUDA card, on generated images: under a minute.

    .venv/bin/python -m pytest tests/gpu

Skipped if torch finds no CUDA device. ``BLEMISH_GPU_TESTS_ON=cpu`` runs the same tests on the CPU in a few minutes,
to check the tests themselves before they run on a card.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pytest
import torch
from torch import Tensor

import blemish
from blemish.cli import main
from blemish.cli.options import INTERRUPTED
from blemish.commands.progress import TrainingProgress
from blemish.data import demo_images
from blemish.data.demo_images import TEST, make_demo_images
from blemish.learning import training
from blemish.methods import build
from blemish.synthesis.textures import TextureBank

DEVICE: Any = os.environ.get("BLEMISH_GPU_TESTS_ON", "cuda")
pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA device that torch can use"
)

METHODS = ("draem", "dsr", "ssae")
STAGES: dict[str, dict[str, Any]] = {
    "draem": {},
    "dsr": {"upsampling": "reconstructions", "upsampling_iterations": 10},
    "ssae": {"objective": "ensemble", "validate_every": 15},
}
"""Changes to recipe ``small``, so that every stage and the validation run."""


def run(*arguments: object, code: int = 0) -> None:
    """The command line, run in this process because a card takes seconds to initialize."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == code


def fit(data: Path, method: str, out: Path, *options: object, code: int = 0, **settings: object) -> None:
    """``blemish fit`` on the card."""
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    run("fit", data, "--method", method, "--device", DEVICE, "--out", out, *options, *words, code=code)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses(folder: Path) -> list[dict[str, float]]:
    """The losses of each logged step of a run, by name."""
    not_losses = {"stage", "step", "total_step", "learning_rate", "elapsed_s", "images_per_s", "validation"}
    steps = rows(folder / "metrics.jsonl")
    return [{name: value for name, value in step.items() if name not in not_losses} for step in steps]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's images. Without scikit-image, which has the demo's photograph, a texture of noise replaces it."""
    folder = tmp_path_factory.mktemp("card") / "bricks"
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("skimage") is None:
            noise = TextureBank.procedural((512, 512), n=5).images[4, ..., 0].numpy()
            patch.setattr(demo_images, "photograph", lambda: noise)
        make_demo_images(folder)
    for superfluous in sorted((folder / "train" / "good").iterdir())[40:]:
        superfluous.unlink()
    return folder


class Run(NamedTuple):
    """A training run on the card."""

    method: str
    precision: str
    folder: Path

    @property
    def detector(self) -> Path:
        return self.folder / "detector.blemish"


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=("bf16", "float32"))
def trained(
    method: str, request: pytest.FixtureRequest, photographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    folder = tmp_path_factory.mktemp(f"{method}-{request.param}")
    options = ("--precision", request.param, "--false-rejects", 0.2)
    fit(photographs, method, folder, *options, iterations=30, **STAGES[method])
    return Run(method, request.param, folder)


# --- training ------------------------------------------------------------------------------------------------


def test_fit_trains_on_the_card_in_the_requested_precision(trained: Run) -> None:
    summary = json.loads((trained.folder / "summary.json").read_text())
    assert torch.device(summary["device"]).type == DEVICE
    assert summary["precision"] == trained.precision
    assert summary["iterations"] == {"draem": 30, "dsr": 30 + 10, "ssae": 30 + 30}[trained.method]
    assert all(torch.isfinite(torch.tensor([*row.values()])).all() for row in losses(trained.folder))


@pytest.mark.parametrize("batch_size", [1, 6])
def test_fit_takes_batches_of_other_sizes(method: str, batch_size: int, photographs: Path, tmp_path: Path) -> None:
    fit(photographs, method, tmp_path, iterations=6, batch_size=batch_size)
    assert blemish.load(tmp_path / "detector.blemish").method.settings.batch_size == batch_size


def test_images_that_do_not_fit_on_the_card(method: str, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(training, "_fits", lambda *arguments: calls.append(arguments))  # None: they do not fit
    blemish.fit(photographs, method=method, settings={"iterations": 6}, device=DEVICE)
    assert calls


def test_stopped_and_resumed_goes_on_as_if_it_had_not_been(
    method: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LOG_EVERY", 1)
    steps = {"iterations": 12, "learning_rate": 1e-5}
    fit(photographs, method, tmp_path / "whole", "--precision", "float32", **steps)

    def press_ctrl_c(self: TrainingProgress, stage: str, step: int, *rest: object) -> None:
        if step == 8:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "step", press_ctrl_c)
        fit(photographs, method, tmp_path / "run", "--precision", "float32", **steps, code=INTERRUPTED)
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"]
    assert 8 <= kept < 12
    assert not (tmp_path / "run" / "detector.blemish").exists()
    fit(photographs, method, tmp_path / "run", "--precision", "float32", "--resume", **steps)
    assert [row["step"] for row in rows(tmp_path / "run" / "metrics.jsonl")] == [*range(1, 13)]
    agree(losses(tmp_path / "run"), losses(tmp_path / "whole"))
    blemish.load(tmp_path / "run" / "detector.blemish")


def test_cuda_graphs_change_no_loss_and_no_step(
    method: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LOG_EVERY", 1)
    steps = {"iterations": 12, "learning_rate": 1e-5}
    moved = {}
    for graphs in ("true", "false"):
        fit(photographs, method, tmp_path / graphs, "--precision", "float32", **steps, cuda_graphs=graphs)
        moved[graphs] = distance_from_start(method, blemish.load(tmp_path / graphs / "detector.blemish").method)
    assert len(losses(tmp_path / "true")) == 12
    agree(losses(tmp_path / "true"), losses(tmp_path / "false"))
    assert moved["true"] == pytest.approx(moved["false"], rel=0.05)  # an optimizer that stands still would show here


def agree(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    """Two runs on the same images and damage have almost the same losses; the order of sums varies on a card."""
    for row, expected in zip(ours, theirs, strict=True):
        for name, value in expected.items():
            tolerance = 1e-3 * abs(theirs[0][name]) + 1e-6
            assert row[name] == pytest.approx(value, abs=tolerance), (name, row, expected)


def distance_from_start(method: str, trained: torch.nn.Module) -> float:
    """How far the weights are from where training began."""
    start: dict[str, Tensor] = dict(build(method, "small").named_parameters())
    distances = [(tensor.detach() - start[name]).norm() for name, tensor in trained.named_parameters()]
    return float(torch.stack(distances).detach().norm())


# --- trained detectors ---------------------------------------------------------------------------------------


def test_evaluate_writes_metrics_and_a_report(trained: Run, photographs: Path, tmp_path: Path) -> None:
    run("evaluate", trained.detector, photographs, "--out", tmp_path, "--device", DEVICE)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert all(0 <= metrics[name] <= 1 for name in ("image_auroc", "pixel_ap", "pixel_auroc", "pixel_aupro"))
    assert metrics["n_good"] + metrics["n_defective"] == len(TEST)
    assert (tmp_path / "report.html").exists()


def test_inspect_writes_a_row_and_an_overlay_for_each_image(trained: Run, photographs: Path, tmp_path: Path) -> None:
    options = ("--device", DEVICE, "--precision", trained.precision)
    run("inspect", trained.detector, photographs / "test", "--out", tmp_path, *options)
    findings = rows(tmp_path / "findings.jsonl")
    assert [row["error"] for row in findings] == [None] * len(TEST)
    assert all(row["is_defective"] == (row["score"] > row["threshold"]) for row in findings)
    pictures = list((tmp_path / "overlays").iterdir())
    assert len(pictures) == len(TEST)
    assert all(cv2.imread(str(picture)) is not None for picture in pictures)


@pytest.mark.parametrize("trained", ["float32"], indirect=True)
def test_scores_of_card_and_cpu_agree(trained: Run, photographs: Path, tmp_path: Path) -> None:
    scores = {}
    for device in ("cpu", DEVICE):
        options = ("--device", device, "--precision", "float32", "--out", tmp_path / device)
        run("inspect", trained.detector, photographs / "test", *options)
        scores[device] = [row["score"] for row in rows(tmp_path / device / "findings.jsonl")]
    assert scores[DEVICE] == pytest.approx(scores["cpu"], rel=5e-2, abs=1e-3)  # in TF32 some codes differ


@pytest.mark.parametrize("trained", ["float32"], indirect=True)
@pytest.mark.parametrize(("name", "needed"), [("x.onnx", "onnxscript"), ("x.xml", "openvino")])
def test_export_of_what_was_trained_on_the_card(trained: Run, name: str, needed: str, tmp_path: Path) -> None:
    pytest.importorskip(needed)
    run("export", trained.detector, "--out", tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000


def test_patchcore_remembers_on_the_card_what_it_does_on_the_cpu(photographs: Path, tmp_path: Path) -> None:
    scores = {}
    for name, device in (("cpu", "cpu"), ("card", DEVICE)):
        run("fit", photographs, "--method", "patchcore", "--device", device, "--out", tmp_path / name)
        options = ("--device", device, "--out", tmp_path / f"{name}-findings")
        run("inspect", tmp_path / name, photographs / "test", *options)
        scores[name] = [row["score"] for row in rows(tmp_path / f"{name}-findings" / "findings.jsonl")]
    # rounding may choose other patches, all of which lie near the same ones
    assert scores["card"] == pytest.approx(scores["cpu"], rel=0.1)
