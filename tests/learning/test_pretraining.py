"""From photographs to a codebook file, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from blemish.cli import main
from blemish.data import streaming
from blemish.data.reading import read_image
from blemish.data.unreadable import UnreadablePhotographs
from blemish.errors import BlemishError
from blemish.learning.pretraining import Pretrained, pretrain
from blemish.learning.training import Trainer
from blemish.methods.dsr.codebook import load_codebook, read_card
from blemish.methods.dsr.vq_training import VQSettings, VQTraining
from card import graphs

TINY = ("iterations=24", "crop_px=16", "image_size_px=32", "batch_size=4", "n_codes=16", "n_features=8", "n_hidden=4")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        noise = random.integers(0, 255, (5, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(noise, (96, 48)))
    return folder


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def settings() -> list[str]:
    return [word for setting in TINY for word in ("--set", setting)]


def test_photographs_become_a_codebook_with_its_card(photographs: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "mine.safetensors"
    assert run("pretrain", photographs, "--out", out, *settings()) == 0
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert card == read_card(out)
    assert (card["n_images"], card["n_held_out"], card["iterations"], card["images"]) == (12, 2, 24, ["photographs"])
    assert (card["n_train"], card["n_unreadable"]) == (10, 0)
    assert 5 < card["held_out"]["psnr_db"] < 60
    assert 1 <= card["codes_in_use"]["high"] <= 16
    assert load_codebook(out).codebook_low.codes.shape == (16, 8)
    sheet = read_image(tmp_path / "mine" / "reconstructions.jpg")
    assert sheet.shape == (32, 3 * 64 + 2 * 8, 3)
    printed = capsys.readouterr().out
    assert f"{card['held_out']['psnr_db']} dB" in printed
    assert card["paper"] == {"iterations": 200_000, "batch_size": 32, "photographs": "ImageNet"}
    assert (card["presentations"], card["share_of_paper"]) == (96, 1.5e-5)
    assert f"seen in training: {card['in_words']}" in printed

    assert run("pretrain", photographs, "--out", out, *settings()) == 2
    assert "exists" in capsys.readouterr().err
    assert run("pretrain", photographs, "--out", tmp_path / "more.safetensors", "--start", out, *settings()) == 0
    card = read_card(tmp_path / "more.safetensors")
    assert (card["start"], card["presentations"]) == ("mine.safetensors", 192)


LAUNCHED = """
import os, sys
from blemish.data import streaming
from blemish.cli import main

streaming.free_memory = lambda: 0.0  # so that all is streamed
read = streaming.PhotographStream._read

def noted(self, position, side_px, index):
    with open(f"{sys.argv[1]}/positions-{os.environ['RANK']}.txt", "a") as file:
        file.write(f"{position}\\n")
    return read(self, position, side_px, index)

streaming.PhotographStream._read = noted
main(sys.argv[2:])
"""


def test_two_processes_share_the_batches_and_make_one_codebook(photographs: Path, tmp_path: Path) -> None:
    for number in range(12, 110):
        cv2.imwrite(str(photographs / f"{number}.png"), np.full((16, 16), number, np.uint8))
    whole = (photographs / "0.png").read_bytes()
    (photographs / "0.png").write_bytes(whole[: len(whole) // 2])  # not seen by its first bytes
    (tmp_path / "launched.py").write_text(LAUNCHED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    words = ["pretrain", photographs, "--out", tmp_path / "x.safetensors", "--device", "cpu", *settings()]
    result = subprocess.run(
        [*launch, str(tmp_path / "launched.py"), str(tmp_path), *map(str, words), "--set", "iterations=30"],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("images that were held out") == 1
    assert result.stderr.count("0.png: ") == 1  # whichever process it was that could not read it
    assert "1 of 110 photographs could not be read" in result.stdout
    assert (tmp_path / "x" / "unreadable.txt").read_text().count("0.png: ") == 1
    card = read_card(tmp_path / "x.safetensors")
    assert card["codes_in_use"]["high"] >= 1
    assert (card["n_unreadable"], card["presentations"]) == (1, 120)
    first, second = ((tmp_path / f"positions-{rank}.txt").read_text().split() for rank in (0, 1))
    assert not {*first} & {*second}
    assert {*range(120)} <= {*map(int, first + second)}
    assert [int(position) // 2 % 2 for position in sorted(first, key=int)[:8]] == [0] * 8  # batches of 4, in halves


class StopsAt:
    """A reporter that calls a function after the step."""

    def __init__(self, step: int, function: Callable[[], object]) -> None:
        self.at, self.function = step, function

    def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
        if step == self.at:
            self.function()


def trained(photographs: Path, out: Path, **options: Any) -> Pretrained:
    values = {name: int(value) for name, value in (setting.split("=") for setting in TINY)} | {"iterations": 60}
    return pretrain([photographs], out, settings=values, device="cpu", precision="float32", **options)


def assert_same(made: Pretrained, other: Pretrained) -> None:
    weights, other_weights = made.network.state_dict(), other.network.state_dict()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


INTERRUPTED = """
import signal, sys
from pathlib import Path
from blemish.data import streaming
from blemish.learning.interrupts import TrainingInterrupted
from learning.test_pretraining import StopsAt, trained

streaming.free_memory = lambda: float(sys.argv[3])
try:
    trained(
        Path(sys.argv[1]), Path(sys.argv[2]), reporter=StopsAt(20, lambda: signal.raise_signal(signal.SIGINT))
    )
except TrainingInterrupted as error:
    print(error)
"""


@pytest.mark.parametrize("free_bytes", [0.0, 1e9])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: float
) -> None:
    whole = trained(photographs, tmp_path / "whole.safetensors")
    command = [sys.executable, "-X", "faulthandler", "-c", INTERRUPTED, photographs, tmp_path / "x.safetensors"]
    stopped = subprocess.run([*map(str, command), str(free_bytes)], capture_output=True, text=True, check=False,
                             env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert "after step 20 of 60" in stopped.stdout, f"ended with {stopped.returncode}: {stopped.stderr}"
    monkeypatch.setattr(streaming, "free_memory", lambda: free_bytes)
    resumed = trained(photographs, tmp_path / "x.safetensors", resume=True)
    assert_same(resumed, whole)
    assert resumed.card["presentations"] == 240


def test_too_many_unreadable_photographs_stop_with_a_checkpoint_to_go_on_from(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = trained(photographs, tmp_path / "whole.safetensors")
    monkeypatch.setattr(streaming, "free_memory", lambda: 0.0)
    out, away = tmp_path / "x.safetensors", tmp_path / "away"
    vanishes = StopsAt(20, lambda: photographs.rename(away))
    with pytest.raises(UnreadablePhotographs, match="of 12 photographs cannot be read, more than 1 in 100"):
        trained(photographs, out, reporter=vanishes)
    assert "cannot be read" in (tmp_path / "x" / "unreadable.txt").read_text()
    stopped_after = torch.load(tmp_path / "x" / "checkpoint.pt", weights_only=True)["step"]
    assert 20 <= stopped_after <= 60
    away.rename(photographs)
    assert_same(trained(photographs, out, resume=True), whole)
    assert not (tmp_path / "x" / "unreadable.txt").exists()

    made = trained(photographs, tmp_path / "y.safetensors", reporter=StopsAt(60, lambda: None))
    assert made.card["n_unreadable"] == 0
    capsys.readouterr()
    (tmp_path / "y.safetensors").unlink()
    photographs.rename(away)
    photographs.mkdir()
    for path in away.iterdir():  # the same names
        (photographs / path.name).write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run("pretrain", photographs, "--out", tmp_path / "y.safetensors", "--resume", *settings()) == 2
    assert "--resume continues" in capsys.readouterr().err


def test_photographs_of_other_names_do_not_go_on(photographs: Path, tmp_path: Path) -> None:
    trained(photographs, tmp_path / "x.safetensors")
    (photographs / "11.png").rename(photographs / "12.png")
    with pytest.raises(BlemishError, match="other settings or images"):
        trained(photographs, tmp_path / "x.safetensors", resume=True)


def test_a_stopped_run_is_not_overwritten_and_goes_on_from_the_same_start(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, other_start, out = (tmp_path / f"{name}.safetensors" for name in ("start", "other", "x"))
    assert run("pretrain", photographs, "--out", start, *settings()) == 0
    assert run("pretrain", photographs, "--out", other_start, "--seed", "1", *settings()) == 0
    assert run("pretrain", photographs, "--out", out, "--start", start, *settings()) == 0
    out.unlink()  # as if it had been stopped: the checkpoint is there
    assert run("pretrain", photographs, "--out", out, "--start", start, *settings()) == 2
    assert "--resume" in capsys.readouterr().err
    assert run("pretrain", photographs, "--out", out, "--start", other_start, "--resume", *settings()) == 2
    assert run("pretrain", photographs, "--out", out, "--start", start, "--resume", *settings()) == 0
    assert out.exists()


def test_folders_that_hold_each_other_give_each_photograph_once(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    assert run("pretrain", photographs, tmp_path / "photographs", photographs.parent, "--out", out, *settings()) == 0
    assert read_card(out)["n_images"] == 12


def test_wrong_input_is_reported_in_a_line(photographs: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    def message_of(*words: object) -> str:
        assert run("pretrain", *words) == 2
        return str(capsys.readouterr().err)

    assert "No such" in message_of(tmp_path / "nowhere", "--out", tmp_path / "x.safetensors")
    assert "should end in .safetensors" in message_of(photographs, "--out", tmp_path / "x.pt")
    (tmp_path / "empty").mkdir()
    assert "0 photographs" in message_of(tmp_path / "empty", "--out", tmp_path / "x.safetensors")
    (tmp_path / "single").mkdir()
    (photographs / "0.png").rename(tmp_path / "single" / "0.png")
    message = message_of(tmp_path / "single", "--out", tmp_path / "x.safetensors")
    assert "single: 1 photograph; give folders of some hundred or more" in message
    assert "unknown setting" in message_of(photographs, "--out", tmp_path / "x.safetensors", "--set", "n_code=3")
    assert "no such file" in message_of(
        photographs, "--out", tmp_path / "x.safetensors", "--start", tmp_path / "y.safetensors"
    )
    assert run("pretrain", photographs, "--out", tmp_path / "y.safetensors", *settings()) == 0
    assert "16 codes of 8 features" in message_of(
        photographs, "--out", tmp_path / "z.safetensors", "--start", tmp_path / "y.safetensors", *settings(),
        "--set", "n_codes=32",
    )  # fmt: skip
    assert "at least 2" in message_of(photographs, "--out", tmp_path / "x.safetensors", "--set", "n_features=1")
    (photographs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    message = message_of(photographs, "--out", tmp_path / "x.safetensors")
    assert message.splitlines()[-1].startswith(
        f"blemish: {photographs}: 1 of 12 photographs cannot be read, more than"
    )
    assert "broken.png" in message.splitlines()[-1]
    assert not (tmp_path / "x.safetensors").exists()


# --- on a card, and as graphs (stand-ins: ``card.py``) ---------------------------------------------------------


def stream_trained(photographs: Path, device: Any) -> VQTraining:
    learner = VQTraining(VQSettings(**{name: int(value) for name, value in (word.split("=") for word in TINY)}))
    paths = sorted(photographs.iterdir())
    with streaming.PhotographStream(paths, 32, budget_bytes=0) as stream:
        trainer = Trainer(learner, stream, device=device, precision="float32")
        trainer.uses_graphs = True
        assert trainer.run().iterations == 24
    return learner


def test_steps_repeated_as_a_graph_see_the_same_photographs(
    photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with graphs() as patch:
        learner = stream_trained(photographs, "cpu")
        patch.setattr("blemish.learning.training.GraphedStep", lambda step, generator, device: step)
        expected = stream_trained(photographs, "cpu").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in learner.state_dict().items())
    assert not capsys.readouterr().err


def test_photographs_are_sent_to_a_card(photographs: Path, card: torch.device) -> None:
    learner = stream_trained(photographs, card)
    assert {tensor.device.type for tensor in learner.state_dict().values()} == {"meta"}
