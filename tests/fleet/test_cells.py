"""What a cell is made of, and the plan that holds cells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.fleet.cells import Cell, Evaluation
from blemish.fleet.grid import plan_of
from blemish.fleet.plan import Plan, check_same_plan, read_plan, read_status
from blemish.learning.options import FitOptions
from fleet.grids import cell, save_product


def test_a_cell_has_all_options_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Cell("bolt", {"data": "parts", "textures": Path("dtd"), "settings": {"loss_weights": (1, 2)}})
    assert {**FitOptions.defaults(), **made.options} == made.options
    assert made.options["data"] == str(tmp_path / "parts")
    assert made.options["textures"] == str(tmp_path / "dtd")
    assert made.options["settings"] == {"loss_weights": [1, 2]}
    assert made.options["method"] == "draem"
    assert made.fit_options.data == tmp_path / "parts"


def test_a_cell_survives_json() -> None:
    made = Cell("nut ü", {"data": "parts", "seed": 3}, (Evaluation("test", Path("parts"), "256/1"),))
    assert Cell.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("name", ["", "a/b", "..", "nul", "a:b", "x.", "Config.yaml", "plan.json", "ü" * 100])
def test_names_that_are_no_folder_everywhere_are_refused(name: str) -> None:
    with pytest.raises(BlemishError, match="cannot be the name of a folder"):
        Cell(name, {"data": "parts"})
    with pytest.raises(BlemishError, match="cannot be the name of a folder"):
        Evaluation(name, Path("parts"), "256/1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "cell bolt: no data"),
        ({"data": "parts", "sed": 1}, "cell bolt: unknown option sed"),
        ({"data": "parts", "seed": "1"}, "cell bolt: option seed: '1' should be a whole number"),
        ({"data": "parts", "false_rejects": 2.0}, "cell bolt: the false-reject rate must lie between 0 and 1"),
    ],
)
def test_wrong_options_name_the_cell(options: dict[str, object], message: str) -> None:
    with pytest.raises(BlemishError) as error:
        Cell("bolt", options)
    assert message in str(error.value)


def test_cells_of_one_kind_differ_in_data_and_seed_alone() -> None:
    bolt = cell("bolt", Path("bolt"))
    assert cell("nut", Path("nut"), seed=5).kind == bolt.kind
    assert cell("bolt", Path("bolt"), batch_size=4).kind != bolt.kind
    assert Cell("bolt", {**bolt.options, "precision": "bf16"}).kind != bolt.kind


# --- the plan -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_product(tmp_path_factory.mktemp("plan") / "bolt")


def test_steps_of_iterations_and_of_epochs(product: Path) -> None:
    stages = {"iterations": 5, "upsampling_iterations": 4, "upsampling": "reconstructions"}
    dsr = Cell("c", {"data": product, "method": "dsr", "settings": stages})
    by_epochs = cell("b", product, epochs=3, batch_size=5)
    # 12 good images are 3 batches of 5; those that are held out count.
    assert list(plan_of([cell("a", product, iterations=7), by_epochs, dsr]).n_steps) == [7, 9, 9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "nowhere"}, ".*nowhere: no such file or folder"),
        ({"textures": "nowhere"}, "textures .*nowhere: no such file or folder"),
        ({"calibration": "nowhere"}, "calibration .*nowhere: no such file or folder"),
        ({"method": "dream"}, "unknown method 'dream'"),
        ({"recipe": "quick"}, "unknown recipe 'quick'"),
        ({"settings": {"sise": 3}}, "unknown setting sise"),
        ({"layout": "mvtek"}, "layout 'mvtek' is unknown"),
    ],
)
def test_what_is_wrong_is_told_before_training(product: Path, change: dict[str, object], message: str) -> None:
    bolt = cell("bolt", product)
    with pytest.raises(BlemishError, match=f"^cell nut: {message}") as error:
        plan_of([bolt, Cell("nut", {**bolt.options, **change})])
    assert "\n" not in str(error.value)


def test_wrong_evaluations_and_names_are_told_before_training(product: Path) -> None:
    bolt = cell("bolt", product)
    for evaluation, message in (
        (Evaluation("test", product, "512/9"), "unknown protocol '512/9'"),
        (Evaluation("test", Path("/nowhere"), "256/1"), "evaluation test: .*nowhere"),
    ):
        with pytest.raises(BlemishError, match=message):
            plan_of([replace(bolt, evaluations=(evaluation,))])
    with pytest.raises(BlemishError, match="two cells are called bolt and BOLT"):
        plan_of([bolt, replace(bolt, name="BOLT")])
    with pytest.raises(BlemishError, match="--only nut: no such cell in the plan; there are: bolt"):
        plan_of([bolt], ["nut"])
    with pytest.raises(BlemishError, match="no cells"):
        plan_of([])


def test_a_plan_may_grow_and_change_nothing(tmp_path: Path) -> None:
    data = tmp_path / "bolt"
    bolt, nut = cell("bolt", data, evaluated=True), cell("nut", data)
    Plan([bolt, nut], [20, 20]).write(tmp_path)
    plan = read_plan(tmp_path)
    assert plan == Plan([bolt, nut], [20, 20])
    more = replace(bolt, evaluations=(*bolt.evaluations, Evaluation("original", data, "original/1")))
    check_same_plan(plan, [nut, more, cell("new", data)], tmp_path)
    for cells, message in (
        ([bolt], "was begun with the cell nut, which this plan lacks"),
        ([bolt, cell("nut", data, seed=1)], "the cell nut was begun with seed 0, not 1"),
        ([bolt, cell("nut", data, iterations=5)], 'the cell nut was begun with settings .*"iterations": 20'),
        ([bolt, cell("nut", tmp_path / "other")], "the cell nut was begun with data .*bolt, not .*other"),
        ([cell("bolt", data), nut], "the cell bolt was begun with another evaluation evaluation"),
    ):
        with pytest.raises(BlemishError, match=message) as error:
            check_same_plan(plan, cells, tmp_path)
        assert "\n" not in str(error.value)


def test_a_plan_of_an_earlier_version_lacks_options_that_are_new(tmp_path: Path) -> None:
    bolt = cell("bolt", tmp_path)
    Plan([bolt], [20]).write(tmp_path)
    content = json.loads((tmp_path / "plan.json").read_text())
    del content["cells"][0]["options"]["layout"]
    (tmp_path / "plan.json").write_text(json.dumps(content))
    plan = read_plan(tmp_path)
    assert plan is not None
    check_same_plan(plan, [bolt], tmp_path)


def test_folders_without_a_plan_and_other_files_of_that_name(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    with pytest.raises(BlemishError, match=r"holds no plan\.json"):
        read_status(tmp_path)
    (tmp_path / "plan.json").write_text('{"cells": [{"name": 3}]}')
    with pytest.raises(BlemishError, match="is no plan of blemish"):
        read_plan(tmp_path)
