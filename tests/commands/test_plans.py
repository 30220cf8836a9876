"""Plans of many trainings, and what the commands print of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blemish.commands.fleet import fleet_fit_run, fleet_status_run, print_cost
from blemish.commands.plans import read_plan_csv
from blemish.errors import BlemishError
from blemish.fleet.cells import Cell
from blemish.fleet.cost import training_s
from blemish.fleet.plan import Plan
from fleet.grids import SETTINGS, cell, save_product

TINY = ";".join(f"{name}={value}" for name, value in SETTINGS.items() if value is not None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_product(tmp_path / "bolt")
    save_product(tmp_path / "nüt 2")
    return tmp_path


def write(folder: Path, *rows: str) -> Path:
    path = folder / "plan.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_row_is_a_cell(folder: Path) -> None:
    path = write(
        folder,
        "Name,data,method,seed,false_rejects,bits,precision,set",
        'bolt,bolt,,,,,,"iterations=7;anomalies.probability=0.7"',
        f"nüt,{folder / 'nüt 2'},ssae,3,0.05,12,float32,",
        ",,,,,,,",
    )
    bolt, nut = read_plan_csv(path)
    assert bolt == Cell(
        "bolt", {"data": folder / "bolt", "settings": {"iterations": 7, "anomalies": {"probability": 0.7}}}
    )
    options = {"method": "ssae", "seed": 3, "false_rejects": 0.05, "bits": 12, "precision": "float32"}
    assert nut == Cell("nüt", {"data": folder / "nüt 2", **options})


def test_relative_paths_start_at_the_plan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "below").mkdir()
    monkeypatch.chdir(folder)
    path = write(folder / "below", "name,data,textures", "bolt,../bolt,../nüt 2/train/good")
    (bolt,) = read_plan_csv(path.relative_to(folder))
    assert bolt.fit_options.data.samefile(folder / "bolt")
    assert bolt.fit_options.data.is_absolute()
    assert bolt.fit_options.textures is not None
    assert bolt.fit_options.textures.samefile(folder / "nüt 2" / "train" / "good")


def test_plans_of_spreadsheets_are_read(folder: Path) -> None:
    path = folder / "plan.csv"
    path.write_bytes("\ufeffsep=;\r\nname;data;seed\r\nbolt;bolt;2\r\n".encode())
    (bolt,) = read_plan_csv(path)
    assert bolt.options["seed"] == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["name,data,sead", "a,bolt,1"], r"plan.csv: unknown column sead; there are: name, data, method, .*, set"),
        (["name,data,settings", "a,bolt,1"], r"plan.csv: unknown column settings; .*, set"),
        (["name,images", "a,bolt"], r"plan.csv: no column data in the header"),
        (["name,data"], r"plan.csv: lists nothing to train"),
        (["name,data", "a,bolt", ",bolt"], r"plan.csv, row 3: the name is empty"),
        (["name,data", "a,"], r"plan.csv, row 2: the data is empty"),
        (["name,data", "a,bolt", "b,bolt", "A,bolt"], r"plan.csv, row 4: the name A is that of row 2, too"),
        (["name,data", "a/b,bolt"], r"plan.csv, row 2: cell 'a/b': cannot be the name of a folder"),
        (["name,data", "a,screw"], r"plan.csv, row 2: .*screw: no such file or folder; check the path"),
        (["name,data,textures", "a,bolt,dtd"], r"plan.csv, row 2: textures .*dtd: no such file or folder"),
        (["name,data,seed", "a,bolt,x"], r"plan.csv, row 2: cell a: option seed: 'x' should be a whole number"),
        (["name,data,device", "a,bolt,gpu"], r"plan.csv, row 2: cell a: option device: 'gpu' should be one of auto"),
        (["name,data,method", "a,bolt,dream"], r"plan.csv, row 2: unknown method 'dream'"),
        (["name,data,set", "a,bolt,iterations"], r"plan.csv, row 2: --set iterations: should be name=value"),
        (["name,data,set", "a,bolt,sice=3"], r"plan.csv, row 2: unknown setting sice"),
        (["name,data,", "a,bolt,3"], r"plan.csv, row 2: the cell '3' is in a column without a name"),
    ],
)
def test_what_is_wrong_is_told_with_its_row(folder: Path, rows: list[str], message: str) -> None:
    with pytest.raises(BlemishError, match=message) as error:
        read_plan_csv(write(folder, *rows))
    assert "\n" not in str(error.value)


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match=r"plan.csv: no such file"):
        read_plan_csv(tmp_path / "plan.csv")


def test_a_dry_run_prints_plan_and_cost_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder, "name,data,device,set", f'bolt,bolt,cpu,"{TINY}"', f'nut,nüt 2,cpu,"{TINY}"')
    fleet_fit_run(path, folder / "out", jobs=2, ray=None, only=[], dry_run=True)
    output = capsys.readouterr().out
    assert output.count("a step of draem (small)") == 1  # one kind, timed once
    assert re.search(r"bolt .* step 0 of 20 ", output)
    assert re.search(r"2 of 2 to do: 40 steps, about \d+ s of training on this machine; \d+ s with --jobs 2", output)
    assert not (folder / "out").exists()


def test_a_dry_run_counts_what_is_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bolt, nut = cell("bolt", folder / "bolt"), cell("nut", folder / "nüt 2")
    out = folder / "out"
    out.mkdir()
    Plan([bolt, nut], [20, 20]).write(out)
    for name in ("detector.blemish", "summary.json"):
        (out / "bolt" / name).touch()
    (out / "nut" / "metrics.jsonl").write_text('{"total_step": 15, "elapsed_s": 3}\n')
    print_cost([bolt, nut], out, 1)
    assert "1 of 2 to do: 5 steps" in capsys.readouterr().out
    with pytest.raises(BlemishError, match="was begun with seed 0, not 1"):
        print_cost([cell("bolt", folder / "bolt", seed=1), nut], out, 1)


def test_cost_is_steps_by_the_time_of_a_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times_s = iter([0.5, 0.25, 2.0])
    monkeypatch.setattr("blemish.fleet.cost._step_s", lambda trainer, stage: next(times_s))
    dsr = {"iterations": 5, "upsampling_iterations": 4, "upsampling": "reconstructions", "image_size_px": 64}
    cells = [
        cell("bolt", folder / "bolt"),
        cell("again", folder / "bolt", seed=4),
        Cell("dsr", {"data": folder / "bolt", "method": "dsr", "settings": dsr, "device": "cpu"}),
    ]
    lines: list[str] = []
    assert training_s(cells, lines.append) == [10.0, 10.0, 5 * 0.25 + 4 * 2.0]
    assert lines == [
        "a step of draem (small), as in bolt: joint 500 ms",
        "a step of dsr (small), as in dsr: detection 250 ms, upsampling 2,000 ms",
    ]


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("draem", {name: value for name, value in SETTINGS.items() if name != "iterations"}),
        ("dsr", {"image_size_px": 64, "upsampling": "reconstructions", "restriction_widths": [8, 8],
                 "decoder_widths": [8, 8, 8], "detection_widths": [4, 8], "encoder": "trained"}),
        ("ssae", {"image_size_px": 32, "widths": [4], "dilations": [1], "n_stacks": 1, "patch_px": 1,
                  "filters_per_dilation": 2, "encoder": "trained", "difference": "ssim"}),
    ],
)  # fmt: skip
def test_a_step_of_each_method_can_be_timed(folder: Path, method: str, settings: dict[str, object]) -> None:
    options = {"data": folder / "bolt", "device": "cpu", "method": method}
    two = {**settings, "iterations": 2, "batch_size": 2}
    (time_s,) = training_s([Cell("bolt", {**options, "settings": two})], lambda line: None)
    assert time_s > 0


def test_status_prints_all_cells_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell("[bold]bolt", tmp_path / "a"), cell("nut", tmp_path / "b")]
    Plan(cells, [20, 20]).write(tmp_path)
    (tmp_path / "nut" / "failed.txt").write_text("killed by signal 9 (SIGKILL): out of memory?\n")
    fleet_status_run(tmp_path)
    output = capsys.readouterr().out
    assert "[bold]bolt" in output
    assert f"nut: failed: killed by signal 9 (SIGKILL): out of memory? [{tmp_path / 'nut' / 'log.txt'}]" in output
    assert output.endswith("time left: unknown until a cell has trained for a while\n")
