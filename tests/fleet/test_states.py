"""How far a grid is, read from files made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blemish.fleet.cells import Cell
from blemish.fleet.locks import held, is_held
from blemish.fleet.states import CellState, Status, cell_state, duration
from fleet.grids import cell


def write_rows(folder: Path, *rows: tuple[int, float]) -> None:
    lines = [json.dumps({"total_step": step, "elapsed_s": elapsed_s}) for step, elapsed_s in rows]
    (folder / "metrics.jsonl").write_text("\n".join(lines))


@pytest.fixture
def bolt(tmp_path: Path) -> Cell:
    (tmp_path / "evaluation").mkdir()
    return cell("bolt", tmp_path, evaluated=True)


def test_a_cell_goes_from_left_to_done(bolt: Cell, tmp_path: Path) -> None:
    state = cell_state(bolt, tmp_path, 100)
    assert (state.state, state.steps_done, state.steps_left, state.progress) == ("left", 0, 100, "step 0 of 100")
    write_rows(tmp_path, (20, 1.0), (40, 2.0))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('\n{"total_step": 6')  # being written
    state = cell_state(bolt, tmp_path, 100)
    assert (state.state, state.steps_done, state.training_s, state.steps_left) == ("left", 40, 2.0, 60)
    (tmp_path / "failed.txt").write_text("no disk\n")
    assert (cell_state(bolt, tmp_path, 100).state, cell_state(bolt, tmp_path, 100).reason) == ("failed", "no disk")
    for name in ("detector.blemish", "summary.json"):
        (tmp_path / name).touch()
    assert cell_state(bolt, tmp_path, 100).state == "failed"  # it is not evaluated yet
    (tmp_path / "evaluation" / "metrics.json").touch()
    state = cell_state(bolt, tmp_path, 100)
    assert (state.state, state.steps_left, state.progress, state.reason) == ("done", 0, "40 steps", "")


def test_who_holds_the_lock_runs(bolt: Cell, tmp_path: Path) -> None:
    lock = tmp_path / ".cell.lock"
    assert not is_held(lock)
    assert not lock.exists()  # asking leaves nothing
    with held(lock):
        assert "process" in lock.read_text()
        assert cell_state(bolt, tmp_path, 100).progress == "starting"
        write_rows(tmp_path, (100, 2.0))
        assert cell_state(bolt, tmp_path, 100).progress == "step 100 of 100, evaluating"
    assert cell_state(bolt, tmp_path, 100).state == "left"


def states(*rows: tuple[str, str, int, float]) -> list[CellState]:
    """Of 100 steps each: kind, state, steps done, seconds that these took."""
    return [
        CellState(f"cell {number}", kind, state, 100, steps, seconds)  # type: ignore[arg-type]
        for number, (kind, state, steps, seconds) in enumerate(rows)
    ]


def test_time_left_is_that_of_cells_of_the_same_kind() -> None:
    status = Status(states(("a", "done", 100, 50.0), ("a", "done", 80, 80.0), ("a", "left", 0, 0.0)))
    assert status.step_s == {"a": 0.75}
    assert status.left_s() == (75.0, 0)
    assert status.line() == "2 of 3 done, 0 running, 0 failed, 1 left; about 75 s of training left"


def test_a_running_cell_tells_the_time_until_one_is_finished() -> None:
    assert Status(states(("a", "running", 50, 10.0), ("a", "left", 0, 0.0))).left_s() == (30.0, 0)
    assert Status(states(("a", "running", 10, 10.0), ("a", "left", 0, 0.0))).left_s() == (0.0, 2)
    both = states(("a", "running", 50, 10.0), ("a", "done", 100, 100.0))
    assert Status(both).left_s() == (50.0, 0)


def test_cells_at_the_same_time_share_it_but_none_is_divided() -> None:
    rows = [("a", "done", 100, 100.0), ("a", "running", 0, 0.0), ("a", "running", 0, 0.0), ("a", "left", 0, 0.0)]
    assert Status(states(*rows), n_parallel=2).left_s() == (150.0, 0)
    assert Status(states(*rows), n_parallel=9).left_s() == (100.0, 0)


def test_what_is_not_known_is_said() -> None:
    unknown = Status(states(("a", "running", 0, 0.0), ("b", "failed", 0, 0.0)))
    assert unknown.line() == (
        "0 of 2 done, 1 running (cell 0: starting), 1 failed, 0 left; "
        "time left: unknown until a cell has trained for a while"
    )
    partly = Status(states(("a", "done", 100, 100.0), ("a", "left", 50, 50.0), ("b", "left", 0, 0.0)))
    assert partly.left_text() == "about 50 s of training left, and that of 1 cells of other kinds, unknown"
    assert Status(states(("a", "done", 100, 1.0))).left_text() == "nothing is left to do"
    assert "tries failed ones again" in Status(states(("a", "failed", 0, 0.0))).left_text()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (7200, "2.0 h"), (180000, "2.1 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert duration(0.0123, "ms") == "12 ms"
