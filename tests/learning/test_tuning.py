"""`blemish tune`: every combination is trained once, and the best one on good images is kept."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import blemish
from blemish.cli import main
from blemish.errors import BlemishError
from blemish.learning.fit import state_of
from blemish.learning.tuning import tune

TINY: dict[str, Any] = {
    "encoder": "trained", "difference": "ssim",
    "image_size_px": 16, "widths": [4], "filters_per_dilation": 2, "dilations": [1], "n_stacks": 1, "patch_px": 1,
    "iterations": 2, "batch_size": 2, "corruption": {"kinds": ["elastic"]},
}  # fmt: skip


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "gute Teile ü"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_combination_is_fitted_and_the_best_is_kept(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    tried = {"batch_size": [2, 4], "corruption.kinds": [["elastic"], ["elastic", "swap"]]}
    trials = tune(parts, tried, out, settings=TINY, device="cpu")
    assert [(trial.settings["batch_size"], trial.settings["corruption.kinds"]) for trial in trials] == [
        (2, ["elastic"]), (2, ["elastic", "swap"]), (4, ["elastic"]), (4, ["elastic", "swap"]),
    ]  # fmt: skip
    for trial in trials:
        config = yaml.safe_load((trial.folder / "config.yaml").read_text())
        assert config["settings"]["batch_size"] == trial.settings["batch_size"]
        assert config["settings"]["corruption"]["kinds"] == trial.settings["corruption.kinds"]
        assert json.loads((trial.folder / "summary.json").read_text())["validation"] == trial.validation
    best = max(trials, key=lambda trial: trial.validation)
    for name in ("detector.blemish", "config.yaml", "summary.json"):
        assert (out / name).read_bytes() == (best.folder / name).read_bytes()
    assert [float(row["validation"]) for row in table(out / "trials.csv")] == [trial.validation for trial in trials]


def test_a_run_is_the_same_with_and_without_cuda_graphs(parts: Path, tmp_path: Path) -> None:
    """CUDA graphs change no result: a run can continue without them if they need too much memory."""
    options: dict[str, Any] = {"method": "ssae", "device": "cpu"}
    without = {**TINY, "cuda_graphs": False}
    blemish.fit(parts, settings=TINY, out=tmp_path / "run", **options)
    assert state_of(tmp_path / "run", parts, settings=without, **options) == "finished"
    (tmp_path / "run" / "summary.json").unlink()
    blemish.fit(parts, settings=without, out=tmp_path / "run", resume=True, **options)
    with pytest.raises(BlemishError, match="other data, options or settings"):
        state_of(tmp_path / "run", parts, settings={**TINY, "balance": 0.25}, **options)


def test_a_run_of_a_version_with_fewer_options_is_the_same_run(parts: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "ssae", "device": "cpu", "settings": TINY}
    blemish.fit(parts, out=tmp_path / "run", **options)
    path = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    assert {config.pop(name) for name in ("bits", "mask_values")} == {"auto"}
    path.write_text(yaml.safe_dump(config))
    assert state_of(tmp_path / "run", parts, **options) == "finished"
    with pytest.raises(BlemishError, match="other data, options or settings"):
        state_of(tmp_path / "run", parts, **options, bits=12)


def test_what_an_earlier_call_fitted_is_not_fitted_again(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import blemish.learning.tuning as tuning

    fitted: list[dict[str, Any]] = []
    fit = tuning.fit

    def counted(*arguments: Any, **options: Any) -> Any:
        fitted.append(options["settings"])
        return fit(*arguments, **options)

    monkeypatch.setattr(tuning, "fit", counted)
    first = tune(parts, {"batch_size": [2]}, tmp_path / "tuned", settings=TINY, device="cpu")
    again = tune(parts, {"batch_size": [2, 4]}, tmp_path / "tuned", settings=TINY, device="cpu")
    assert [settings["batch_size"] for settings in fitted] == [2, 4]
    assert again[0] == first[0]
    with pytest.raises(BlemishError, match="trial-01: holds a run with other data, options or settings"):
        tune(parts, {"batch_size": [2]}, tmp_path / "tuned", settings=TINY, device="cpu", seed=1)
    (tmp_path / "tuned" / "trial-02" / "summary.json").unlink()  # as if it had been stopped
    assert tune(parts, {"batch_size": [2, 4]}, tmp_path / "tuned", settings=TINY, device="cpu")[0] == first[0]
    assert [settings["batch_size"] for settings in fitted] == [2, 4, 4]
    trials = tune(parts, {"is_chosen": [False, True]}, tmp_path / "other", settings=TINY, device="cpu")
    assert [len(trial.chosen) for trial in trials] == [0, 3], "rows with different columns go into one table"


def test_mistakes_are_reported_before_any_training(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="draem has nothing to choose by"):
        tune(parts, {}, tmp_path / "tuned", method="draem")
    with pytest.raises(BlemishError, match="unknown setting widht"):
        tune(parts, {"widht": [1, 2]}, tmp_path / "tuned", settings=TINY)
    with pytest.raises(BlemishError, match="seed is no setting to choose; give --seed"):
        tune(parts, {"seed": [0, 1]}, tmp_path / "tuned", settings=TINY)
    assert not (tmp_path / "tuned").exists()


def test_on_the_command_line(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"--set={name}={json.dumps(value)}" for name, value in TINY.items() if name != "corruption"]
    options = [*settings, "--set", "corruption.kinds=[elastic]", "--out", str(tmp_path / "tuned"), "--device", "cpu"]
    with pytest.raises(SystemExit) as stopped:
        main(["tune", str(parts), "--try", "difference=squared,ssim", *options])
    assert stopped.value.code == 0
    assert [row["difference"] for row in table(tmp_path / "tuned" / "trials.csv")] == ["squared", "ssim"]
    assert "detector.blemish: that of trial-0" in capsys.readouterr().out
    for malformed in ("batch_size", "batch_size=", "batch_size=[2"):
        with pytest.raises(SystemExit) as stopped:
            main(["tune", str(parts), "--try", malformed, *options])
        assert stopped.value.code == 2
        assert "should be name=value,value" in capsys.readouterr().err
