"""The training loop: its log, checkpoints, validation and errors."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from blemish.errors import BlemishError
from blemish.learning.interrupts import TrainingInterrupted
from blemish.learning.training import Trainer
from blemish.methods.base import Ingredients, Method, Settings, Stage, cosine_schedule, step_schedule

IMAGES = torch.full((6, 3, 8, 8), 100, dtype=torch.uint8)


class Toy(Method):
    """Learns the mean grey value with ``first``, then with ``second``; its loss is infinite at call ``bad_at``."""

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

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
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
                signal.raise_signal(signal.SIGINT)

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
    with pytest.raises(BlemishError, match="delete it to start again"):
        Trainer(Toy(), IMAGES, device="cpu", folder=tmp_path, fingerprint="one", resume=True).run()


def test_rows_after_the_checkpoint_are_not_logged_twice(tmp_path: Path) -> None:
    with pytest.raises(BlemishError):
        Trainer(Toy(bad_at=110), IMAGES, device="cpu", folder=tmp_path).run()  # logged to step 100, checkpoint at 60
    Trainer(Toy(), IMAGES, device="cpu", folder=tmp_path, resume=True).run()
    steps = [json.loads(line)["total_step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [20, 40, 60, 80, 100, 120]


# --- crops ---------------------------------------------------------------------------------------------------


class SeesCrops(Toy):
    """Keeps the batches of training, in ``seen``."""

    def __init__(self, sides_px: tuple[int, ...]) -> None:
        super().__init__(iterations=40)
        self.sides_px, self.seen = sides_px, list[Tensor]()

    def stages(self) -> tuple[Stage, ...]:
        return (
            replace(super().stages()[0], crop_px=lambda progress: self.sides_px[int(progress * len(self.sides_px))]),
        )

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        self.seen.append((images * 255.0).round())
        return super().loss(stage, images, ingredients, generator)


@pytest.mark.parametrize("size_hw", [(12, 15), (15, 12), (14, 14)])
def test_crops_are_pieces_of_the_images_at_their_own_scale(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    images = torch.zeros(3, 3, height, width, dtype=torch.uint8)
    # Every pixel holds its row, its column and the number of its image.
    images[:, 0] = torch.arange(height, dtype=torch.uint8)[:, None]
    images[:, 1] = torch.arange(width, dtype=torch.uint8)
    images[:, 2] = torch.arange(3, dtype=torch.uint8).view(3, 1, 1)
    toy = SeesCrops((5, 13, 20, 400))
    Trainer(toy, images, device="cpu").run()
    corners: dict[int, set[tuple[int, int]]] = {side_px: set() for side_px in toy.sides_px}
    for step, batch in enumerate(toy.seen):
        side_px = toy.sides_px[step // 10]
        assert batch.shape == (2, 3, min(side_px, height), min(side_px, width))
        for crop in batch:
            top, left, number = (int(value) for value in crop[:, 0, 0])
            expected = images[number, :, top : top + side_px, left : left + side_px]
            assert torch.equal(crop, expected.float())
            corners[side_px].add((top, left))
    assert len(corners[5]) > 12  # of 20 drawn
    assert len({number for batch in toy.seen for number in batch[:, 2, 0, 0].tolist()}) == 3
    for side_px in (20, 400):
        assert corners[side_px] == {(0, 0)}


def test_crops_reach_every_corner() -> None:
    images = torch.zeros(1, 3, 6, 7, dtype=torch.uint8)
    images[:, 0] = torch.arange(6, dtype=torch.uint8)[:, None]
    images[:, 1] = torch.arange(7, dtype=torch.uint8)
    toy = SeesCrops((5,))
    toy.iterations = 100
    Trainer(toy, images, device="cpu").run()
    corners = [tuple(crop[:2, 0, 0].int().tolist()) for batch in toy.seen for crop in batch]
    assert {corner: 15 < corners.count(corner) < 60 for corner in set(corners)} == {
        (top, left): True for top in range(2) for left in range(3)
    }


# --- validation ----------------------------------------------------------------------------------------------


class Validates(Toy):
    """Validates in its first stage: returns scripted values, or else how near the weight is to one half."""

    def __init__(self, script: tuple[float, ...] = (), *, every: int = 10, patience: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.script, self.every, self.patience = list(script), every, patience
        self.weights_seen: list[Tensor] = []
        self.images_seen: list[Tensor] = []

    def stages(self) -> tuple[Stage, ...]:
        first, second = super().stages()
        return replace(first, validate_every=self.every, patience=self.patience), second

    def validate(self, stage: Stage, images: Tensor) -> float:
        assert not self.training
        assert stage.name == "first"
        self.weights_seen.append(self.first.weight.detach().clone())
        self.images_seen.append(images)
        return self.script.pop(0) if self.script else -abs(self.first.weight.item() - 0.5)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_stage_that_validates_ends_with_the_weights_that_did_best(ema_decay: float, tmp_path: Path) -> None:
    toy = Validates((0.1, 0.7, 0.3, 0.7, 0.6, 0.2), ema_decay=ema_decay)
    validation = torch.full((2, 3, 8, 8), 51, dtype=torch.uint8)
    Trainer(toy, IMAGES, validation=validation, device="cpu", folder=tmp_path).run()
    assert not toy.script  # at steps 10, 20, ..., 60
    assert len({weight.item() for weight in toy.weights_seen}) == 6
    assert torch.equal(toy.first.weight, toy.weights_seen[1])  # the first of those that did best
    assert toy.second.weight.item() == pytest.approx(1.0, abs=0.2)  # the stage after it validates nothing
    torch.testing.assert_close(toy.images_seen[0], torch.full((2, 3, 8, 8), 0.2))


def test_what_is_validated_is_the_average_and_training_goes_on_from_the_last_weights() -> None:
    average, last = Validates((0.0,) * 6, ema_decay=0.99), Toy(ema_decay=0.99)
    validation = IMAGES[:1]
    Trainer(average, IMAGES, validation=validation, device="cpu").run()
    Trainer(last, IMAGES, device="cpu").run()
    plain = Validates((0.0,) * 6)
    Trainer(plain, IMAGES, validation=validation, device="cpu").run()
    assert average.weights_seen[0] < plain.weights_seen[0]  # it lags behind
    average.first.weight.data.copy_(average.weights_seen[-1])
    assert torch.equal(average.first.weight, last.first.weight)  # validating changed nothing of the training


def test_the_last_step_is_validated_even_between_two_validations() -> None:
    toy = Validates((0.1, 0.2), every=9, iterations=10)
    Trainer(toy, IMAGES, validation=IMAGES[:1], device="cpu").run()
    assert not toy.script
    assert torch.equal(toy.first.weight, toy.weights_seen[1])


def test_patience_stops_a_stage_early_and_the_next_one_is_trained(tmp_path: Path) -> None:
    toy = Validates((0.5, 0.6, 0.2, 0.1, 0.6, 0.9), every=7, patience=3)
    record = Trainer(toy, IMAGES, validation=IMAGES[:1], device="cpu", folder=tmp_path).run()
    assert toy.script == [0.9]  # three after the second are not better: stopped at step 35 of 60
    assert record.iterations == 35 + 60
    assert torch.equal(toy.first.weight, toy.weights_seen[1])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"], row.get("validation")) for row in rows][:8] == [
        ("first", 7, 0.5), ("first", 14, 0.6), ("first", 20, None), ("first", 21, 0.2), ("first", 28, 0.1),
        ("first", 35, 0.6), ("second", 20, None), ("second", 40, None),
    ]  # fmt: skip


def test_patience_counts_from_when_training_sees_whole_images() -> None:
    class Cropped(Validates):
        def stages(self) -> tuple[Stage, ...]:
            first, second = super().stages()
            return replace(first, crop_px=lambda progress: 4 if progress < 0.5 else 8), second

    toy = Cropped((0.9, 0.1, 0.1, 0.1, 0.1, 0.1), patience=2)
    record = Trainer(toy, IMAGES, validation=IMAGES[:1], device="cpu").run()
    assert record.iterations == 50 + 60  # crops until step 30; those at 40 and 50 count
    assert torch.equal(toy.first.weight, toy.weights_seen[0])


def test_a_better_validation_begins_patience_anew() -> None:
    toy = Validates((0.5, 0.4, 0.6, 0.5, 0.7, 0.6), patience=2)
    assert Trainer(toy, IMAGES, validation=IMAGES[:1], device="cpu").run().iterations == 120
    assert torch.equal(toy.first.weight, toy.weights_seen[4])


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_best_weights_survive_an_interruption(ema_decay: float, tmp_path: Path) -> None:
    whole = Validates(every=4, ema_decay=ema_decay)
    Trainer(whole, IMAGES, validation=IMAGES[:1], device="cpu").run()
    best = min(whole.weights_seen, key=lambda weight: abs(weight.item() - 0.5))
    assert torch.equal(whole.first.weight, best)
    assert (
        0 < [torch.equal(best, weight) for weight in whole.weights_seen].index(True) < 10
    )  # before the interruption

    class PressesCtrlC:
        def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
            if step == 40:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="after step 40 of 60"):
        Trainer(
            Validates(every=4, ema_decay=ema_decay), IMAGES, validation=IMAGES[:1], device="cpu", folder=tmp_path,
            reporter=PressesCtrlC(),
        ).run()  # fmt: skip
    resumed = Validates(every=4, ema_decay=ema_decay)
    Trainer(resumed, IMAGES, validation=IMAGES[:1], device="cpu", folder=tmp_path, resume=True).run()
    assert torch.equal(torch.cat(resumed.weights_seen), torch.cat(whole.weights_seen[10:]))
    assert torch.equal(resumed.first.weight, whole.first.weight)
    assert torch.equal(resumed.second.weight, whole.second.weight)


def test_patience_is_remembered_over_an_interruption(tmp_path: Path) -> None:
    class PressesCtrlC:
        def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
            if step == 20:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="after step 20 of 60"):
        Trainer(
            Validates((0.9, 0.1), patience=2), IMAGES, validation=IMAGES[:1], device="cpu", folder=tmp_path,
            reporter=PressesCtrlC(),
        ).run()  # fmt: skip
    resumed = Validates((0.2, 1.0), patience=2)
    record = Trainer(resumed, IMAGES, validation=IMAGES[:1], device="cpu", folder=tmp_path, resume=True).run()
    assert record.iterations == 30 + 60
    assert resumed.script == [1.0]


@pytest.mark.parametrize("validation", [None, IMAGES[:0]])
def test_a_stage_that_validates_without_validation_images_is_reported(validation: Tensor | None) -> None:
    with pytest.raises(BlemishError, match="stage first validates, and there are no validation images"):
        Trainer(Validates(), IMAGES, validation=validation, device="cpu").run()


def test_cuda_without_cuda_is_reported() -> None:
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
