"""From photographs to a codebook file, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.cli import main
from blemish.data.reading import read_image
from blemish.methods.dsr.codebook import load_codebook, read_card

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
    assert f"{card['held_out']['psnr_db']} dB" in capsys.readouterr().out

    assert run("pretrain", photographs, "--out", out, *settings()) == 2
    assert "exists" in capsys.readouterr().err
    assert run("pretrain", photographs, "--out", tmp_path / "more.safetensors", "--start", out, *settings()) == 0
    assert read_card(tmp_path / "more.safetensors")["start"] == "mine.safetensors"


def test_two_processes_make_one_codebook(photographs: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    words = ["pretrain", photographs, "--out", tmp_path / "x.safetensors", "--device", "cpu", *settings()]
    result = subprocess.run(
        [*launch, "-m", "blemish", *map(str, words)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("images that were held out") == 1
    assert read_card(tmp_path / "x.safetensors")["codes_in_use"]["high"] >= 1


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
    assert "broken.png" in message_of(photographs, "--out", tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
