"""Reading evaluations from disk: which files are read, what they contain, and the messages for invalid files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blemish.compare.runs import find_runs, read_run
from blemish.errors import BlemishError
from compare.evaluations import DETECTOR, FIGURES, OLD, evaluation, run_folder, write


def test_an_evaluation_names_its_detector_and_data_in_any_folder(tmp_path: Path) -> None:
    run = read_run(evaluation(tmp_path))
    assert (run.method, run.recipe, run.seed, run.data) == ("draem", "small", 3, "bottle")
    assert (run.n_good, run.n_defective, run.protocol) == (20, 63, "256x256")
    assert run.metrics == FIGURES | {"pixel_auspro_05": None}  # which the file does not have
    assert run.conditions == {"n_train": "188"}
    assert read_run(evaluation(tmp_path, protocol_description="no crop")).protocol_description == "no crop"
    assert run.options == {"widths": "[4, 8]", "anomalies.shape": '"perlin"', "textures": '"600 images of dtd"'}


@pytest.mark.parametrize(
    ("data", "name"), [("/sets/mvtec/bottle", "bottle"), ("v1.2", "v1.2"), ("/x/parts.csv", "parts")]
)
def test_an_older_evaluation_is_read_with_its_run_folder(tmp_path: Path, data: str, name: str) -> None:
    old = read_run(run_folder(tmp_path / "run", data))
    new = read_run(evaluation(tmp_path / "new", data=name))
    assert (old.data, old.options, old.seed, old.metrics) == (name, new.options, 3, new.metrics)
    assert old.conditions == new.conditions


def test_converted_weights_are_marked(tmp_path: Path) -> None:
    converted = {"method": "draem", "recipe": "paper", "converted_from": ["a.pckl", "b.pckl"], "settings": {}}
    run = read_run(evaluation(tmp_path, detector=converted))
    assert run.seed is None
    assert run.options["weights"] == "converted"


def test_every_way_to_name_an_evaluation_finds_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    first, second = run_folder(runs / "b", "bottle"), evaluation(runs / "a" / "evaluation")
    for path in (runs / "b", runs / "b" / "evaluation", first):
        assert [run.path for run in find_runs([path])[0]] == [first]
    all_runs, left_out = find_runs([runs / "b", runs, second.absolute()])
    assert [run.path for run in all_runs] == [first, second]
    assert left_out == []
    (runs / "c").mkdir()
    (runs / "c" / "detector.blemish").touch()
    assert find_runs([runs, runs])[1] == ["runs/c is left out: there is no metrics.json in it or below"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "holds no JSON object"),
        (OLD, "does not name its detector"),
        (
            {**OLD, "data": "bottle", "detector": {"method": "draem"}},
            "missing or invalid value in metrics.json ('recipe')",
        ),
        ({**OLD, "detector": DETECTOR}, "the key 'data' is missing"),
        (
            {"data": "x", "detector": DETECTOR, "n_good": 1, "n_defective": 1},
            "missing or invalid value in metrics.json ('protocol')",
        ),
        ({**OLD, "data": "x", "detector": DETECTOR, "pixel_ap": 70.2}, "pixel_ap is 70.2, should be in [0, 1]"),
        ({**OLD, "data": "x", "detector": DETECTOR, "pixel_ap": True}, "pixel_ap is True"),
        (
            {"data": "x", "detector": DETECTOR, "n_good": 1, "n_defective": 1, "protocol": "p"},
            "has none of image_auroc",
        ),
    ],
)
def test_an_invalid_file_is_reported_by_name(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path / "metrics.json", content)
    with pytest.raises(BlemishError) as error:
        find_runs([tmp_path])
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_folder_without_an_evaluation_is_reported_with_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match=r"no metrics.json in it or below; first run `blemish evaluate"):
        find_runs([tmp_path])
    with pytest.raises(BlemishError, match="no such file or folder"):
        find_runs([tmp_path / "gone"])


def test_a_broken_config_beside_an_older_evaluation_is_reported(tmp_path: Path) -> None:
    run_folder(tmp_path, "bottle")
    for text in ("settings: 3\ndata: x", "data: [", "settings: {}"):
        write(tmp_path / "config.yaml", text)
        with pytest.raises(BlemishError, match=r"config.yaml: cannot be read as a configuration of `fit`"):
            find_runs([tmp_path])
