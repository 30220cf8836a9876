"""The loop: what it logs, keeps and refuses."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from blemish.errors import BlemishError
from blemish.methods.base import Method, Settings, Stage, cosine_schedule, step_schedule
from blemish.training import Trainer, TrainingInterrupted

IMAGES = torch.full((6, 3, 8, 8), 100, dtype=torch.uint8)


class Toy(Method):
    """Learns the mean grey value with ``first``, then with ``second``; may be told to fail at a step."""

    name = "toy"
    settings_type = Settings

    def __init__(self, iterations: int = 60, bad_at: int = -1, ema_decay: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.first.weight)
        nn.init.zeros_(self.second.weight)
        self.iterations, self.bad_at, self.ema_decay = iterations, bad_at, ema_decay
        self.calls = 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        anomaly_map = images.mean(1, keepdim=True)
        return anomaly_map, anomaly_map.amax((1, 2, 3))

    def stages(self) -> tuple[Stage, ...]:
        return tuple(
            Stage(name, tuple(layer.parameters()), self.iterations, 2, 0.05, ema_decay=self.ema_decay)
            for name, layer in (("first", self.first), ("second", self.second))
        )

    def loss(self, stage: Stage, images: Tensor, generator: Generator) -> dict[str, Tensor]:
        layer = self.first if stage.name == "first" else self.second
        error = (layer(images.mean((1, 2, 3))[:, None]) - images.mean()).square().mean()
        self.calls += 1
        if self.calls == self.bad_at + 1:
            error = error * torch.inf
        return {"fit": error, "zero": torch.zeros(())}


def test_stages_are_trained_in_order_and_logged(tmp_path: Path) -> None:
    toy = Toy()
    record = Trainer(toy, IMAGES, device="cpu", folder=tmp_path).run()
    assert record.iterations == 120
    assert record.n_images_seen == 240
    assert toy.first.weight.item() == pytest.approx(1.0, abs=0.2)
    assert toy.second.weight.item() == pytest.approx(1.0, abs=0.2)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"], row["total_step"]) for row in rows] == [
        ("first", 20, 20), ("first", 40, 40), ("first", 60, 60),
        ("second", 20, 80), ("second", 40, 100), ("second", 60, 120),
    ]  # fmt: skip
    assert rows[2]["fit"] < rows[0]["fit"]
    assert {"zero", "learning_rate", "elapsed_s", "images_per_s"} <= set(rows[0])


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="stage first was not finite at step 48"):
        Trainer(Toy(bad_at=47), IMAGES, device="cpu", folder=tmp_path, checkpoint_every_s=0.0).run()
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 40
    assert checkpoint["method"]["first.weight"].isfinite().all()


def test_a_finished_stage_is_not_trained_again_on_resume(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="stage second"):
        Trainer(Toy(bad_at=70), IMAGES, device="cpu", folder=tmp_path).run()
    toy = Toy()
    record = Trainer(toy, IMAGES, device="cpu", folder=tmp_path, resume=True).run()
    assert toy.calls == 60
    assert record.iterations == 120


def test_average_of_weights_lags_behind_and_is_what_stays() -> None:
    last, average = Toy(iterations=10), Toy(iterations=10, ema_decay=0.99)
    for toy in (last, average):
        Trainer(toy, IMAGES, device="cpu").run()
    assert 0 < average.first.weight.item() < last.first.weight.item()


def test_ctrl_c_finishes_the_step_and_writes_a_checkpoint(tmp_path: Path) -> None:
    class PressesCtrlC:
        def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
            if step == 20:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="after step 20 of 60"):
        Trainer(Toy(), IMAGES, device="cpu", folder=tmp_path, reporter=PressesCtrlC()).run()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 20
    interrupted, whole = Toy(), Toy()
    Trainer(interrupted, IMAGES, device="cpu", folder=tmp_path, resume=True).run()
    Trainer(whole, IMAGES, device="cpu").run()
    assert torch.equal(interrupted.first.weight, whole.first.weight)
    assert torch.equal(interrupted.second.weight, whole.second.weight)


def test_a_checkpoint_of_another_run_or_damaged_is_refused(tmp_path: Path) -> None:
    Trainer(Toy(), IMAGES, device="cpu", folder=tmp_path, fingerprint="one").run()
    with pytest.raises(BlemishError, match="of a run with other settings or images"):
        Trainer(Toy(), IMAGES, device="cpu", folder=tmp_path, fingerprint="two", resume=True).run()
    (tmp_path / "checkpoint.pt").write_bytes(b"half a checkpoint")
    with pytest.raises(BlemishError, match="delete it to start anew"):
        Trainer(Toy(), IMAGES, device="cpu", folder=tmp_path, fingerprint="one", resume=True).run()


def test_rows_after_the_checkpoint_are_not_logged_twice(tmp_path: Path) -> None:
    with pytest.raises(BlemishError):
        Trainer(Toy(bad_at=110), IMAGES, device="cpu", folder=tmp_path).run()  # logged to 100, kept at 60
    Trainer(Toy(), IMAGES, device="cpu", folder=tmp_path, resume=True).run()
    steps = [json.loads(line)["total_step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [20, 40, 60, 80, 100, 120]


def test_cuda_without_cuda_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(BlemishError, match="--device cuda: this machine has no CUDA"):
        Trainer(Toy(), IMAGES, device="cuda")


def test_bf16_trains() -> None:
    toy = Toy()
    record = Trainer(toy, IMAGES, device="cpu", precision="bf16").run()
    assert record.precision == "bf16"
    assert toy.first.weight.dtype == torch.float32
    assert toy.first.weight.item() == pytest.approx(1.0, abs=0.2)


def test_tensorboard_writes_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    Trainer(Toy(), IMAGES, device="cpu", folder=tmp_path, tensorboard=True).run()
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_schedules() -> None:
    step = step_schedule((0.8, 0.9), 0.2)
    assert [round(step(progress), 3) for progress in (0, 0.799, 0.8, 0.95)] == [1, 1, 0.2, 0.04]
    cosine = cosine_schedule(0.1)
    assert cosine(0.0) < 0.05
    assert cosine(0.1) == pytest.approx(1.0)
    assert cosine(0.55) == pytest.approx(0.5)
    assert cosine(0.999) < 1e-3


def test_stage_length_in_epochs() -> None:
    stage = Stage("x", (), 5, 8, 0.1)
    assert stage.n_iterations(209) == 5
    assert replace(stage, epochs=2).n_iterations(209) == 2 * 27
