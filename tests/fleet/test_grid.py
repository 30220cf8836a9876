"""Grids of tiny trainings: done, failing, killed, stopped, gone on with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import blemish
from blemish.errors import BlemishError
from blemish.fleet import grid
from blemish.fleet.cells import Cell
from blemish.fleet.grid import run_grid
from blemish.fleet.locks import is_held
from blemish.fleet.plan import Plan, read_status
from blemish.fleet.processes import Outcome
from blemish.fleet.states import Status
from fleet.grids import ENDLESS, cell, save_product

LIMIT_S = 120.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.05)


def steps_done(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    rows = path.read_text().splitlines() if path.exists() else []
    return max((int(found[1]) for row in rows if (found := re.search(r'"total_step": (\d+)', row))), default=0)


def fingerprint(folder: Path) -> tuple[int, bytes]:
    """What another training would change."""
    path = folder / "detector.blemish"
    return path.stat().st_mtime_ns, path.read_bytes()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_product(tmp_path_factory.mktemp("products") / "bolt")


# --- a grid with a cell that fails ----------------------------------------------------------------------------


class Ran:
    """A grid of three cells, of which the second fails, that ran with two jobs."""

    def __init__(self, folder: Path, product: Path) -> None:
        self.bad = save_product(folder / "bad")
        self.broken = self.bad / "train" / "good" / "3.png"
        self.whole = self.broken.read_bytes()
        self.broken.write_bytes(self.whole[:200])
        self.cells = [
            cell("bolt", product, evaluated=True), cell("bad", self.bad), cell("bolt-1", product, seed=1),
        ]  # fmt: skip
        self.out, self.lines, self.shown = folder / "out", list[str](), list[Status]()
        self.outcomes = self.again()

    def again(self) -> list[Outcome]:
        return run_grid(self.cells, self.out, jobs=2, report=self.lines.append, show=self.shown.append)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, product: Path) -> Ran:
    return Ran(tmp_path_factory.mktemp("grid"), product)


def test_a_failure_is_told_and_stops_no_other_cell(ran: Ran) -> None:
    outcomes = {outcome.name: outcome for outcome in ran.outcomes}
    assert [outcomes[cell.name].state for cell in ran.cells] == ["done", "failed", "done"]
    reason = outcomes["bad"].reason
    assert reason.startswith("1 of 12 images cannot be used: ")
    assert str(ran.broken) in reason
    assert (ran.out / "bad" / "failed.txt").read_text() == f"{reason}\n"
    assert f"bad: failed: {reason} [{ran.out / 'bad' / 'log.txt'}]" in ran.lines
    assert "3.png" in (ran.out / "bad" / "log.txt").read_text()
    assert [line for line in ran.lines if line.startswith("bolt-1: done, 20 steps, in ")]


def test_a_cell_is_a_run_folder_with_its_evaluations(ran: Ran) -> None:
    folder = ran.out / "bolt"
    assert blemish.load(folder / "detector.blemish").provenance["iterations"] == 20
    assert json.loads((folder / "summary.json").read_text())["seed"] == 0
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert (metrics["protocol"], metrics["n_good"], metrics["n_defective"]) == ("network/1", 2, 2)
    assert (folder / "evaluation" / "scores.csv").exists()
    assert (folder / "evaluation" / "report.html").exists()
    assert "joint 20/20" in (folder / "log.txt").read_text()
    assert json.loads((ran.out / "bolt-1" / "summary.json").read_text())["seed"] == 1


def test_a_cell_learns_what_fit_learns(ran: Ran, tmp_path: Path) -> None:
    options = vars(ran.cells[0].fit_options)
    alone = blemish.fit(**options, out=tmp_path)
    ours = blemish.load(ran.out / "bolt" / "detector.blemish")
    assert ours.threshold == alone.threshold
    for name, tensor in alone.method.state_dict().items():
        assert torch.equal(tensor, ours.method.state_dict()[name])


def test_states_were_shown_while_it_ran(ran: Ran) -> None:
    assert any(status.counts["running"] == 2 for status in ran.shown)
    assert {state.name for state in ran.shown[0].cells} == {"bolt", "bad", "bolt-1"}
    assert ran.shown[0].counts["done"] == 0


def test_the_next_run_does_what_is_left_and_no_more(ran: Ran) -> None:
    assert read_status(ran.out).counts == {"done": 2, "failed": 1}
    before = fingerprint(ran.out / "bolt")
    ran.broken.write_bytes(ran.whole)
    (ran.out / "bolt" / "evaluation" / "metrics.json").unlink()
    outcomes = run_grid(ran.cells, ran.out, only=["bolt"], report=ran.lines.append)
    assert outcomes == [Outcome("bolt", "done")]
    assert (ran.out / "bolt" / "evaluation" / "metrics.json").exists()
    assert ran.again() == [Outcome("bad", "done")]
    assert not (ran.out / "bad" / "failed.txt").exists()
    assert fingerprint(ran.out / "bolt") == before
    assert ran.again() == []
    assert read_status(ran.out).line() == "3 of 3 done, 0 running, 0 failed, 0 left; nothing is left to do"


# --- refusals, before anything is trained ---------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path: Path, product: Path) -> tuple[list[Cell], Path]:
    """The folder of a grid that was stopped before its first step."""
    cells = [cell("bolt", product), cell("nut", product, seed=1)]
    (tmp_path / "out").mkdir()
    Plan(cells, [20, 20]).write(tmp_path / "out")
    return cells, tmp_path / "out"


def no_worker(*arguments: object) -> None:
    raise AssertionError("a worker was started")


def test_another_plan_in_the_same_folder_is_refused(
    begun: tuple[list[Cell], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "Worker", no_worker)
    (bolt, _), out = begun
    with pytest.raises(BlemishError, match="lacks"):
        run_grid([bolt], out)
    with pytest.raises(BlemishError, match="the cell nut was begun with seed 1, not 0"):
        run_grid([bolt, replace(bolt, name="nut")], out)
    assert read_status(out).counts == {"left": 2}


def test_a_run_with_other_options_in_a_cells_folder_is_not_replaced(
    begun: tuple[list[Cell], Path], monkeypatch: pytest.MonkeyPatch, product: Path
) -> None:
    cells, out = begun
    blemish.fit(**vars(cell("nut", product, seed=7, iterations=1).fit_options), out=out / "nut")
    before = fingerprint(out / "nut")
    monkeypatch.setattr(grid, "Worker", no_worker)
    with pytest.raises(BlemishError, match=r"nut: holds a run with other data, options or settings"):
        run_grid(cells, out)
    assert fingerprint(out / "nut") == before


def test_a_run_without_its_config_is_not_replaced(begun: tuple[list[Cell], Path]) -> None:
    cells, out = begun
    (out / "nut" / "detector.blemish").write_bytes(b"precious")
    (outcome,) = run_grid(cells, out, only=["nut"], report=no_line)
    assert (outcome.state, "holds another run" in outcome.reason) == ("failed", True)
    assert (out / "nut" / "detector.blemish").read_bytes() == b"precious"


def no_line(text: str) -> None:
    pass


def test_bad_jobs_and_devices_are_refused(begun: tuple[list[Cell], Path], product: Path) -> None:
    cells, out = begun
    with pytest.raises(BlemishError, match="--jobs 0: should be at least 1"):
        run_grid(cells, out, jobs=0)
    if not torch.cuda.is_available():
        on_gpu = Cell("gpu", {**cells[0].options, "device": "cuda"})
        with pytest.raises(BlemishError, match="cell gpu: device cuda: this machine has no CUDA device"):
            run_grid([*cells, on_gpu], out)


def test_cores_are_divided_and_gpus_given_out(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [Cell(f"cell {number}", {"data": product}) for number in range(5)]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)
    monkeypatch.setattr(grid, "visible_gpus", list)
    assert grid._environments(cells, 3, no_line) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert grid._environments(cells[:1], 3, no_line) == [{"OMP_NUM_THREADS": "8"}]
    monkeypatch.setattr(grid, "visible_gpus", lambda: ["4", "GPU-b"])
    lines: list[str] = []
    environments = grid._environments(cells, 3, lines.append)
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["4", "GPU-b", "4"]
    assert lines == ["--jobs 3: more than the 2 GPUs, so that trainings share one, its time and its memory"]
    assert grid._environments([cell("cpu", product)], 1, no_line) == [{"OMP_NUM_THREADS": "8"}]


# --- killed and stopped ---------------------------------------------------------------------------------------


def test_a_killed_worker_fails_its_cell_alone(tmp_path: Path, product: Path) -> None:
    cells = [cell("a", product, iterations=ENDLESS), cell("b", product, seed=1)]
    killed: list[int] = []

    def kill_first(status: Status) -> None:
        if status.cells[0].steps_done and not killed:
            found = re.match(r"process (\d+) on", (tmp_path / "a" / ".cell.lock").read_text())
            assert found is not None
            killed.append(int(found[1]))
            os.kill(killed[0], signal.SIGKILL)

    outcomes = run_grid(cells, tmp_path, report=no_line, show=kill_first)
    assert outcomes == [Outcome("a", "failed", "killed by signal 9 (SIGKILL): out of memory?"), Outcome("b", "done")]
    assert (tmp_path / "a" / "failed.txt").read_text() == "killed by signal 9 (SIGKILL): out of memory?\n"
    assert [state.state for state in read_status(tmp_path).cells] == ["failed", "done"]


SCRIPT = """
import json, sys
from pathlib import Path
from blemish.fleet.cells import Cell
from blemish.fleet.grid import run_grid
cells = [Cell.from_json(content) for content in json.loads(Path(sys.argv[1]).read_text())]
try:
    print(run_grid(cells, Path(sys.argv[2])))
except KeyboardInterrupt as stop:
    print(stop)
    sys.exit(130)
"""


class Elsewhere:
    """A grid that runs in another process, so that it can be killed."""

    def __init__(self, folder: Path, cells: list[Cell]) -> None:
        self.plan, self.out = folder / "cells.json", folder / "out"
        self.plan.write_text(json.dumps([cell.to_json() for cell in cells]))

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(self.plan), str(self.out)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_grid_that_was_killed_goes_on(tmp_path: Path, product: Path) -> None:
    n_steps = 400
    cells = [cell("a", product), cell("b", product, iterations=n_steps), cell("c", product, seed=1)]
    elsewhere = Elsewhere(tmp_path, cells)
    with elsewhere.start() as process:
        until(lambda: steps_done(elsewhere.out / "b") > 0)
        assert read_status(elsewhere.out).cells[1].state == "running"
        with pytest.raises(BlemishError, match="writes there"):
            run_grid(cells, elsewhere.out, report=no_line)
        os.kill(process.pid, signal.SIGKILL)
    done = fingerprint(elsewhere.out / "a")
    until(lambda: not is_held(elsewhere.out / "b" / ".cell.lock"))  # its worker has noticed, and stopped
    state = read_status(elsewhere.out).cells[1]
    assert (state.state, 0 < state.steps_done < n_steps) == ("left", True)
    assert (elsewhere.out / "b" / "checkpoint.pt").exists()
    lines: list[str] = []
    outcomes = run_grid(cells, elsewhere.out, jobs=2, report=lines.append)
    assert {(outcome.name, outcome.state) for outcome in outcomes} == {("b", "done"), ("c", "done")}
    assert f"b: begins from step {state.steps_done}" in lines
    assert fingerprint(elsewhere.out / "a") == done
    rows = [json.loads(row) for row in (elsewhere.out / "b" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["total_step"] for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == n_steps


def test_ctrl_c_writes_checkpoints_and_says_how_to_go_on(tmp_path: Path, product: Path) -> None:
    elsewhere = Elsewhere(tmp_path, [cell("a", product, iterations=ENDLESS), cell("b", product)])
    with elsewhere.start() as process:
        until(lambda: steps_done(elsewhere.out / "a") > 0)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the whole group
        output, _ = process.communicate()
    assert process.returncode == 130
    assert "stopping 1 cells" in output
    assert "stopped; 0 of 2 cells are done; the same command goes on" in output
    assert re.search(r"a: stopped at step \d+ of 200000", output)
    assert (elsewhere.out / "a" / "checkpoint.pt").exists()
    assert not is_held(elsewhere.out / "a" / ".cell.lock")
    assert [state.state for state in read_status(elsewhere.out).cells] == ["left", "left"]
    assert not (elsewhere.out / "a" / "failed.txt").exists()
