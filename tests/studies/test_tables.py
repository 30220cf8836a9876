"""Every table and figure of the papers, from the command line to its page, on miniature datasets."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from blemish.cli import main
from blemish.commands import measurements
from blemish.compare.papers import paper_figures
from blemish.fleet import grid, worker
from blemish.fleet.board import Board
from blemish.fleet.cells import CELL, FAILED, Cell
from blemish.fleet.processes import Outcome
from blemish.methods.base import Settings
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.methods.dsr import DSR, DSRSettings
from blemish.methods.dsr.vq import VQAutoencoder
from blemish.methods.ssae import SSAE, SSAESettings
from blemish.studies.tables import MEASUREMENTS, TABLES
from blemish.studies.tables.pictures import SHOWN
from data import miniatures
from fleet.grids import save_product

TINY: dict[str, Settings] = {
    "draem": DRAEMSettings(
        image_size_px=32, reconstructive_widths=(4, 4), discriminative_widths=(4, 4), score_window_px=5, epochs=None,
        iterations=2, batch_size=2,
    ),
    "dsr": DSRSettings(
        image_size_px=32, restriction_widths=(4, 4), decoder_widths=(4, 4, 4), detection_widths=(4, 4),
        score_window_px=5, iterations=2, upsampling_iterations=2, batch_size=2, upsampling="none",
    ),
    "ssae": SSAESettings(
        image_size_px=32, widths=(4,), n_stacks=1, filters_per_dilation=2, dilations=(1,), iterations=2, batch_size=2,
        mean_px=3,
    ),
}  # fmt: skip
"""In place of recipe ``small``: trained in a moment."""
SET = ["--set", "iterations=2", "--set", "image_size_px=64", "--set", "batch_size=2"]
"""The same for trainings in processes of their own."""
SMALL = DRAEM.recipes["small"]


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mvtec")
    for category in ("bottle", "carpet"):
        save_product(root / category)
    return root


@pytest.fixture
def in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are worked at in this process, which saves their start; the tests of ``fleet`` start processes."""

    def run_here(cells: Sequence[Cell], out: Path, jobs: int, board: Board) -> list[Outcome]:
        outcomes = []
        for cell in cells:
            board.begin(cell.name)
            code = worker.main([str(out / cell.name / CELL)])
            reason = "" if code == worker.DONE else (out / cell.name / FAILED).read_text().strip()
            outcomes.append(Outcome(cell.name, "failed" if reason else "done", reason))
            board.read([cell.name])
        return outcomes

    monkeypatch.setattr(grid, "_run_here", run_here)
    monkeypatch.setattr("blemish.methods.dsr.load_codebook", lambda *path: VQAutoencoder(40, 8, 4, 1))
    for method in (DRAEM, DSR, SSAE):
        monkeypatch.setitem(method.recipes, "small", TINY[method.name])  # type: ignore[misc, arg-type]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return int(stop.value.code or 0)


def table(name: str, data: Sequence[Path], out: Path, *more: object) -> int:
    return run("study", "table", name, *data, "--out", out, "--device", "cpu", *more)


def figures(out: Path, name: str) -> dict[tuple[str, str, str], dict[str, str]]:
    with (out / f"{name}.csv").open(encoding="utf-8") as file:
        return {(row["variant"], row["category"], row["metric"]): row for row in csv.DictReader(file)}


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.dataset.name == "MVTec AD"])
def test_a_table_of_mvtec_ad_from_training_to_page(mvtec: Path, tmp_path: Path, name: str) -> None:
    chosen = TABLES[name]
    data = [mvtec] if name in ("draem-2", "dsr-6") else [mvtec / "carpet"]
    extra = ["--other-textures", mvtec / "carpet" / "train"] if name == "draem-3" else []
    assert table(name, data, tmp_path, *extra) == 0
    found = figures(tmp_path, name)
    n_categories = 2 if data == [mvtec] else 1
    assert len(found) == len(chosen.variants) * len(chosen.metrics) * (n_categories + 1)
    left_out = {"textures-300", "textures-300-plain", "textures-1000", "textures-1000-plain"}
    for (variant, _, _), row in found.items():
        assert (row["mean_percent"] == "") == (variant in left_out), row
    page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    assert ("nearest" in page) == (name == "ssae-figure-9")
    assert ("<circle" in page) == (name == "draem-figure-9")
    assert ("True mask" in page) == (name in SHOWN)
    assert "What is not as in the paper" in page
    assert all(variant.label.replace("'", "&#x27;") in page for variant in chosen.variants)
    record = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert record["protocol"] == chosen.protocol
    assert any("recipe small" in line for line in record["deviations"])
    assert (tmp_path / f"{name}.md").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.usefixtures("in_one_process")
def test_dagm_has_no_categories_and_its_rates_are_at_the_promised_threshold(tmp_path: Path) -> None:
    root = tmp_path / "dagm"
    for number in (1, 2):
        miniatures.dagm(root / f"Class{number}")
    assert table("draem-4", [root / "Class1", root / "Class2"], tmp_path / "out") == 0
    found = figures(tmp_path / "out", "draem-4")
    rates = [float(found["draem", "mean", metric]["mean_percent"]) for metric in ("tpr", "tnr", "ca")]
    assert min(rates[:2]) <= rates[2] <= max(rates[:2])
    assert found["draem", "mean", "ca"]["published_percent"] == "98.5"
    summary = json.loads((tmp_path / "out" / "Class1-draem-0" / "summary.json").read_text())
    assert summary["n_calibration"] == 5


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize("name", ["dsr-1", "dsr-2"])
def test_ksdd2_is_learned_with_and_without_real_defects(tmp_path: Path, name: str) -> None:
    data = miniatures.ksdd2(tmp_path / "KolektorSDD2")
    more = ["--n-defects", 1, 3] if name == "dsr-2" else []
    assert table(name, [data], tmp_path / "out", *more) == 0
    found = figures(tmp_path / "out", name)
    assert found["dsr", "ksdd2", "pixel_ap"]["published_percent"] == "61.4"
    if name == "dsr-2":
        n_defects = [
            json.loads((tmp_path / "out" / f"ksdd2-dsr{key}-0" / "summary.json").read_text())["n_defects"]
            for key in ("", "-1-defects", "-3-defects")
        ]
        assert n_defects == [0, 1, 3]


@pytest.mark.parametrize("name", sorted(MEASUREMENTS))
def test_measurements_without_a_training(
    mvtec: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "SIZE_PX", 32)
    monkeypatch.setattr(measurements, "TIMED_S", 0.01)
    tiny = TINY["dsr"]
    monkeypatch.setattr(measurements, "build", lambda method, recipe: DSR.build(tiny))
    assert run("study", "table", name, mvtec, "--out", tmp_path, "--device", "cpu") == 0
    with (tmp_path / f"{name}.csv").open(encoding="utf-8") as file:
        assert {row.get("data") for row in csv.DictReader(file)} == (
            {None} if name == "dsr-speed" else {"bottle", "carpet"}
        )
    page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    for link in re.findall(r'href="([^"]*)"', page):
        assert (tmp_path / link).exists()
    assert ("moments.html" in page) == (name == "ssae-figure-8")


# --- a grid goes on where it was stopped -------------------------------------------------------------------------


@pytest.mark.usefixtures("in_one_process")
def test_finished_trainings_are_never_repeated_and_tables_share_them(mvtec: Path, tmp_path: Path) -> None:
    assert table("draem-1", [mvtec], tmp_path) == 0
    detector = tmp_path / "bottle-draem-0" / "detector.blemish"
    before, first = detector.stat().st_mtime_ns, figures(tmp_path, "draem-1")
    assert table("draem-1", [mvtec], tmp_path) == 0
    assert table("draem-2", [mvtec], tmp_path) == 0
    assert table("draem-3", [mvtec], tmp_path, "--only", "draem") == 0
    assert detector.stat().st_mtime_ns == before
    assert figures(tmp_path, "draem-1") == first
    assert figures(tmp_path, "draem-2")["draem", "mean", "pixel_ap"]["mean_percent"] != ""


@pytest.mark.usefixtures("in_one_process")
def test_a_kill_in_the_middle_costs_no_finished_training_and_changes_no_figure(
    mvtec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    monkeypatch.setitem(DRAEM.recipes, "small", SMALL)  # type: ignore[misc, arg-type]
    assert table("draem-3", [mvtec / "bottle"], whole, *SET, "--only", "colour", "disc") == 0
    command = [
        sys.executable, "-m", "blemish", "study", "table", "draem-3", mvtec / "bottle", "--out", killed,
        "--device", "cpu", *SET, "--only", "colour", "disc",
    ]  # fmt: skip
    process = subprocess.Popen([*map(str, command)], start_new_session=True)
    first = killed / "bottle-disc-0" / "draem-authors-1" / "metrics.json"
    for _ in range(600):
        if first.exists():
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert first.exists()
    finished = first.parents[1] / "detector.blemish"
    before = finished.stat().st_mtime_ns
    assert not (killed / "draem-3.html").exists()
    assert table("draem-3", [mvtec / "bottle"], killed, *SET, "--only", "colour", "disc") == 0
    assert finished.stat().st_mtime_ns == before
    assert figures(killed, "draem-3") == figures(whole, "draem-3")


@pytest.mark.usefixtures("in_one_process")
def test_a_failure_is_shown_and_stops_no_other_training(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    save_product(data / "bottle"), save_product(data / "pill")
    (data / "bottle" / "train" / "good" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    assert table("draem-1", [data], tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "bottle-draem-0" in error
    assert "3.png" in error
    found = figures(tmp_path / "out", "draem-1")
    assert found["draem", "pill", "image_auroc"]["mean_percent"] != ""
    assert found["draem", "bottle", "image_auroc"]["mean_percent"] == ""
    deviations = json.loads((tmp_path / "out" / "draem-1.json").read_text())["deviations"]
    assert any("bottle-draem-0 has failed" in line for line in deviations)


@pytest.mark.usefixtures("in_one_process")
def test_results_of_another_recipe_are_never_shown_as_these(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table("draem-1", [mvtec / "bottle"], tmp_path) == 0
    before = (tmp_path / "draem-1.html").read_bytes()
    assert table("draem-1", [mvtec / "bottle"], tmp_path, "--set", "iterations=3") == 2
    assert "bottle-draem-0" in capsys.readouterr().err
    assert (tmp_path / "draem-1.html").read_bytes() == before


# --- bad input ---------------------------------------------------------------------------------------------------


def bad_inputs() -> list[tuple[str, list[str], str]]:
    return [
        ("draem-9", ["bottle"], "no table 'draem-9'; there are: draem-1"),
        ("draem-1", ["none"], "no such folder; give folders of MVTec AD"),
        ("draem-1", [], "no data; give folders of MVTec AD"),
        ("draem-1", ["ksdd2"], "is none of the folders of MVTec AD that draem-1 is measured on"),
        ("draem-1", ["gasket"], "is none of the folders of MVTec AD that draem-1 is measured on"),
        ("ssae-4", ["bottle"], "named as they are published: carpet, grid, leather, tile, wood"),
        ("draem-4", ["bottle"], "is none of the folders of DAGM that draem-4 is measured on"),
        ("dsr-1", ["bottle"], "is none of the folders of KSDD2"),
        ("draem-1", ["bottle", "bottle"], "is bottle, and so is"),
        ("draem-1", ["bottle", "--recipe", "paper-object"], "unknown recipe 'paper-object' of draem"),
        ("ssae-3", ["carpet", "--recipe", "paper-text"], "unknown recipe 'paper-text' of ssae"),
        ("draem-1", ["bottle", "--seeds", "0,x"], "--seeds 0,x: should be whole numbers"),
        ("draem-1", ["bottle", "--seeds", "0,0"], "--seeds 0,0: give each seed once"),
        ("draem-3", ["bottle", "--only", "discus"], "--only discus: not a part of draem-3; there are: disc"),
        ("draem-3", ["bottle", "--only", "imagenet"], "nothing is left to train"),
        (
            "draem-3",
            ["bottle", "--set", "architecture=full"],
            "--set architecture: draem-3 varies this setting itself",
        ),
        ("draem-1", ["bottle", "--n-defects", "3"], "--n-defects: draem-1 does not learn from real defects"),
        ("dsr-2", ["ksdd2", "--n-defects", "0"], "--n-defects 0: give each number once, from 1 on"),
        ("draem-1", ["bottle", "--set", "iterations=many"], "iterations"),
        ("ssae-footnote-7", [], "no data; give folders of good images"),
    ]


@pytest.mark.parametrize(("name", "arguments", "message"), bad_inputs())
def test_bad_input_is_one_line_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, arguments: list[str], message: str
) -> None:
    save_product(tmp_path / "bottle"), save_product(tmp_path / "carpet"), save_product(tmp_path / "gasket")
    miniatures.ksdd2(tmp_path / "ksdd2")
    names = ("bottle", "carpet", "gasket", "ksdd2", "none")
    given = [tmp_path / argument if argument in names else argument for argument in arguments]
    assert run("study", "table", name, *given, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]
    assert not list(tmp_path.glob("out/*/checkpoint.pt"))


@pytest.mark.usefixtures("in_one_process")
def test_what_is_not_given_is_left_out_and_told(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table("draem-3", [mvtec / "bottle"], tmp_path, "--only", "draem") == 0
    assert "DRÆM (ImageNet) (imagenet) is left out: it needs --other-textures" in capsys.readouterr().err
    lines: Any = json.loads((tmp_path / "draem-3.json").read_text())["deviations"]
    assert any("1 of 15 categories" in line for line in lines)
    assert any("bottle has 2 good and 2 defective test images, not the published 20 and 63" in line for line in lines)


@pytest.mark.usefixtures("in_one_process")
def test_the_plan_is_printed_and_nothing_is_trained(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table("draem-1", [mvtec], tmp_path / "out", "--dry-run") == 0
    assert "2 of 2 to do: 4 steps" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_the_tables_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("study", "tables") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in (*TABLES, *MEASUREMENTS))
    assert "--only dsr dsr-image dsr-random dsr-image-loss dsr-feature-loss dsr-not-upsampled" in listed


def test_a_published_variant_has_its_papers_figures() -> None:
    for chosen in TABLES.values():
        for variant in chosen.variants:
            printed = [
                figure.value_percent
                for figure in paper_figures()
                if (figure.method, figure.setting) == variant.published and figure.dataset == chosen.dataset.name
            ]
            assert bool(printed) == (variant.published != ("", "")), (chosen.name, variant.key)


@pytest.mark.usefixtures("in_one_process")
def test_a_table_leaves_the_folder_of_a_fleet_alone(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.csv").write_text(f"name,data,device\nbolt,{mvtec / 'bottle'},cpu\n")
    assert run("fleet", "fit", tmp_path / "plan.csv", "--out", tmp_path / "out") == 0
    before = (tmp_path / "out" / "plan.json").read_bytes()
    assert table("draem-1", [mvtec / "bottle"], tmp_path / "out") == 2
    assert "holds trainings of `fleet fit` (bolt); choose another --out" in capsys.readouterr().err
    assert (tmp_path / "out" / "plan.json").read_bytes() == before


@pytest.mark.usefixtures("in_one_process")
def test_what_other_tables_share_the_folder_is_not_counted(
    mvtec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table("draem-1", [mvtec], tmp_path) == 0
    assert table("dsr-3", [mvtec / "bottle"], tmp_path) == 0
    assert "1 of 1 done" in capsys.readouterr().out
    assert table("draem-3", [mvtec / "bottle"], tmp_path, "--only", "draem", "disc", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "1 of 2 to do" in shown
    assert "bottle-dsr-0" not in shown
