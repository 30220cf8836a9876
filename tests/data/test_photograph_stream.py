"""Photographs that are read when a step needs them: which, in what order, and what if one cannot be read."""

from __future__ import annotations

import time
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from blemish.data import streaming
from blemish.data.reading import read_image
from blemish.data.streaming import PhotographStream, fitted, look_at
from blemish.data.unreadable import Unreadable, UnreadablePhotographs
from blemish.errors import BlemishError

SIDE_PX = 16


def write_grey(folder: Path, n: int) -> list[Path]:
    """``n`` photographs of 24x16 px; all pixels of number i have the value i."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(n)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((SIDE_PX, 24), number, np.uint8))
    return paths


def numbers(batch: torch.Tensor) -> list[int]:
    """Which photographs of ``write_grey`` a batch shows."""
    return [int(crop.unique().item()) for crop in batch]


def write_ramps(folder: Path, n: int = 12) -> list[Path]:
    """Photographs of different pixels everywhere: row in the red channel, column in the green, number in the blue."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:20, :30]
    paths = [folder / f"{number}.png" for number in range(n)]
    for number, path in enumerate(paths):
        ramp = np.stack([np.full_like(rows, number), columns, rows], -1)  # OpenCV writes BGR
        cv2.imwrite(str(path), ramp.astype(np.uint8))
    return paths


# --- the order -----------------------------------------------------------------------------------------------


def test_each_photograph_is_seen_once_an_epoch_also_across_batches(tmp_path: Path) -> None:
    with PhotographStream(write_grey(tmp_path, 10), SIDE_PX) as stream:
        seen = [number for step in range(5) for number in numbers(stream.batch(step, 4))]
    first, second = seen[:10], seen[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_small_sets_fill_larger_batches(tmp_path: Path) -> None:
    with PhotographStream(write_grey(tmp_path, 3), SIDE_PX) as stream:
        seen = numbers(stream.batch(0, 7))
    assert sorted(seen[:3]) == sorted(seen[3:6]) == [0, 1, 2]
    with PhotographStream(write_grey(tmp_path / "one", 1), SIDE_PX) as stream:
        assert numbers(stream.batch(9, 5)) == [0] * 5


def test_a_batch_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    paths = write_ramps(tmp_path)

    def batches(steps: list[int], seed: int = 3, **options: Any) -> list[torch.Tensor]:
        with PhotographStream(paths, 20, seed=seed, **options) as stream:
            return [stream.batch(step, 5, SIDE_PX) for step in steps]

    expected = batches(list(range(8)))
    assert torch.equal(batches([6])[0], expected[6])  # as after a resumption
    assert torch.equal(batches([6, 2, 2])[2], expected[2])
    assert torch.equal(torch.stack(batches(list(range(8)), budget_bytes=0)), torch.stack(expected))
    assert not torch.equal(batches([6], seed=4)[0], expected[6])
    assert batches([0], seed=-1)[0].shape == (5, 3, SIDE_PX, SIDE_PX)


def test_the_order_does_not_depend_on_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, delays = write_ramps(tmp_path), np.random.default_rng(0)

    def slow(path: str, bits: int) -> NDArray[np.uint8]:
        time.sleep(delays.uniform(0, 0.01))
        return read_image(path, bits)

    def batches(n_threads: int) -> torch.Tensor:
        with PhotographStream(paths, 20, n_threads=n_threads, budget_bytes=0) as stream:
            return torch.stack([stream.batch(step, 5, SIDE_PX) for step in range(6)])

    expected = batches(1)
    monkeypatch.setattr(streaming, "read_image", slow)
    assert torch.equal(batches(1), expected)
    assert torch.equal(batches(7), expected)


@pytest.mark.parametrize("n_processes", [2, 4])
def test_processes_share_the_batches_of_one(tmp_path: Path, n_processes: int) -> None:
    paths = write_ramps(tmp_path)
    with PhotographStream(paths, 20, seed=1) as stream:
        expected = [stream.batch(step, 4, SIDE_PX) for step in range(5)]
    shares = []
    for process in range(n_processes):
        with PhotographStream(paths, 20, seed=1) as stream:
            share = [stream.batch(step, 4 // n_processes, SIDE_PX, process, n_processes) for step in range(5)]
            shares.append(torch.stack(share))
    assert torch.equal(torch.cat(shares, dim=1), torch.stack(expected))


# --- crops ---------------------------------------------------------------------------------------------------


def test_crops_are_regions_of_the_photograph_and_reach_its_borders(tmp_path: Path) -> None:
    corners = set()
    with PhotographStream(write_ramps(tmp_path, 1), 20) as stream:
        for step in range(40):
            for crop in stream.batch(step, 8, 12):
                y, x = int(crop[0, 0, 0]), int(crop[1, 0, 0])
                assert torch.equal(crop[0], torch.arange(y, y + 12, dtype=torch.uint8)[:, None].expand(12, 12))
                assert torch.equal(crop[1], torch.arange(x, x + 12, dtype=torch.uint8).expand(12, 12))
                corners.add((y, x))
    assert {y for y, _ in corners} == set(range(9))  # 20 - 12 rows, and 30 - 12 columns, to choose from
    assert {x for _, x in corners} == set(range(19))
    assert len(corners) > 100


def test_without_a_side_crops_are_as_high_as_the_photograph(tmp_path: Path) -> None:
    with PhotographStream(write_ramps(tmp_path), 20) as stream:
        assert stream.batch(0, 2).shape == (2, 3, 20, 20)
        assert stream.shape == (12, 3, 20, 20)


@pytest.mark.parametrize(
    ("size_hw", "expected_hw"),
    [((40, 40), (40, 40)), ((80, 41), (78, 40)), ((20, 30), (40, 60)), ((8, 200), (40, 320))],
)
def test_the_short_side_is_fitted_and_very_long_photographs_are_cut(
    size_hw: tuple[int, int], expected_hw: tuple[int, int]
) -> None:
    columns = np.mgrid[: size_hw[0], : size_hw[1]][1]
    image = np.repeat((columns * 255 // (size_hw[1] - 1))[..., None], 3, -1).astype(np.uint8)
    photograph = fitted(image, 40)
    assert photograph.shape == (*expected_hw, 3)
    assert photograph.base is None
    is_cut = size_hw == (8, 200)  # 64 columns in the middle stay
    assert abs(int(photograph[:, 0].mean()) - (68 * 255 // 199 if is_cut else 0)) <= 5
    assert abs(int(photograph[:, -1].mean()) - (131 * 255 // 199 if is_cut else 255)) <= 5


def test_squares_are_the_first_of_photographs_evenly_spaced(tmp_path: Path) -> None:
    paths = write_grey(tmp_path, 10)
    with PhotographStream(paths, SIDE_PX) as stream:
        squares = stream.squares(5)
        assert squares.shape == (5, 3, SIDE_PX, SIDE_PX)
        assert numbers(squares) == [0, 2, 4, 6, 8]
        assert numbers(stream.squares(100)) == list(range(10))
    with PhotographStream(write_ramps(tmp_path / "ramps", 1), 20) as stream:
        assert stream.squares(1)[0, 1, 0].tolist() == list(range(20))


# --- memory --------------------------------------------------------------------------------------------------


def most_alive(paths: list[Path], monkeypatch: pytest.MonkeyPatch, budget_bytes: float) -> int:
    """How many decoded photographs are alive at most, while a quarter of them are seen."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    counts = []

    class Counted(np.ndarray):  # an array that can be referred to weakly, and counted
        __hash__ = object.__hash__

    def counted(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
        photograph = fitted(image, side_px).view(Counted)
        alive.add(photograph)
        counts.append(len(alive))
        return photograph

    monkeypatch.setattr(streaming, "fitted", counted)
    with PhotographStream(paths, SIDE_PX, budget_bytes=budget_bytes, n_threads=3) as stream:
        for step in range(len(paths) // 4):
            stream.batch(step, 4)
        assert stream.kept_bytes <= budget_bytes
        assert len(stream._pending) <= 4 * 2  # two steps ahead
    return max(counts)


def test_memory_does_not_grow_with_the_number_of_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = write_grey(tmp_path / "few", 16), write_grey(tmp_path / "many", 160)
    n_bytes = SIDE_PX * 24 * 3
    for paths in (few, many):
        assert most_alive(paths, monkeypatch, 0) <= 4  # one in each of three threads, and one that is let go
        assert most_alive(paths, monkeypatch, 10.5 * n_bytes) <= 10 + 4


def test_photographs_that_fit_are_read_once_and_others_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    monkeypatch.setattr(streaming, "read_image", lambda path, bits: reads.append(path) or read_image(path, bits))
    paths, n_bytes = write_grey(tmp_path, 40), SIDE_PX * 24 * 3
    for budget_bytes, n_filled in ((40 * n_bytes, 40), (39 * n_bytes, 32)):  # 32 are sampled
        reads.clear()
        with PhotographStream(paths, SIDE_PX, budget_bytes=budget_bytes) as stream:
            stream.fill()
            assert len(reads) == n_filled
            for step in range(30):  # three epochs
                stream.batch(step, 4)
        assert stream.kept_bytes == budget_bytes
        assert (len(reads) == 40) == (n_filled == 40)


def test_several_processes_share_the_memory_and_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "free_memory", lambda: 800.0)
    monkeypatch.setattr(streaming.os, "cpu_count", lambda: 8)
    assert PhotographStream(["a.png"], SIDE_PX).budget_bytes == 400
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    stream = PhotographStream(["a.png"], SIDE_PX)
    assert (stream.budget_bytes, stream.n_threads) == (100, 2)


# --- photographs that cannot be read -------------------------------------------------------------------------


def test_a_photograph_that_vanishes_is_told_once_counted_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_grey(tmp_path, 200)
    with PhotographStream(paths, SIDE_PX) as stream:
        expected = [numbers(stream.batch(step, 40)) for step in range(10)]
    paths[7].unlink()
    with PhotographStream(paths, SIDE_PX, budget_bytes=0) as stream:
        seen = [numbers(stream.batch(step, 40)) for step in range(10)]
        assert list(stream.unreadable.reasons) == [str(paths[7])]
    replaced = [(theirs, ours) for step in range(10) for theirs, ours in zip(expected[step], seen[step], strict=True)]
    assert [theirs for theirs, ours in replaced if theirs != ours] == [7, 7]  # in two epochs
    assert all(ours != 7 for _, ours in replaced)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "7.png: cannot be read" in lines[0]
    assert "others take its place" in lines[0]
    with PhotographStream(paths, SIDE_PX, n_threads=1) as stream:
        assert numbers(stream.batch(4, 40)) == seen[4]  # the replacement, too, is a function of the step


def test_more_than_one_in_a_hundred_stop_at_the_step_that_needs_them(tmp_path: Path) -> None:
    paths = write_grey(tmp_path, 100)
    with PhotographStream(paths, SIDE_PX, budget_bytes=0) as stream:
        order = [stream.photograph_at(position) for position in range(100)]
        paths[order[3]].unlink()
        paths[order[55]].unlink()
        for step in range(5):
            assert order[3] not in numbers(stream.batch(step, 10))
        with pytest.raises(UnreadablePhotographs, match=r"2 of 100 photographs .* more than 1 in 100") as stop:
            stream.batch(5, 10)
        assert stop.value.is_shared


def test_a_disk_that_is_gone_stops_also_a_large_set(tmp_path: Path) -> None:
    paths = write_grey(tmp_path, 20)
    with PhotographStream(paths, SIDE_PX, budget_bytes=0, unreadable=Unreadable(10**6, "photographs")) as stream:
        for path in paths:
            path.unlink()
        with pytest.raises(UnreadablePhotographs, match=r"can be read any more; check the disk.*\.png") as stop:
            stream.batch(0, 4)
        assert stop.value.is_shared
        with pytest.raises(UnreadablePhotographs) as stop:
            stream.batch(1, 4, n_processes=2)
        assert not stop.value.is_shared  # other processes may not know it yet


def test_several_processes_learn_of_each_others_unreadable_photographs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_grey(tmp_path, 100)
    with PhotographStream(paths, SIDE_PX, budget_bytes=0) as stream:
        own = paths[stream.photograph_at(0)]
        own.unlink()
        stream.batch(0, 2, n_processes=2)
        assert not stream.unreadable.reasons  # told when all know it
        stream.settle(lambda found: [{"other.png": "other.png: is empty"}, *found])
        assert list(stream.unreadable.reasons) == ["other.png", str(own)]
        assert capsys.readouterr().err.count("others take its place") == 2
        with pytest.raises(UnreadablePhotographs, match="2 of 100") as stop:
            stream.batch(1, 2, n_processes=2)
        assert stop.value.is_shared


def test_what_was_mended_is_read_again_when_training_goes_on(tmp_path: Path) -> None:
    paths = write_grey(tmp_path, 150)
    paths[3].unlink()
    reasons = {str(paths[3]): "3.png: was missing", str(paths[4]): "4.png: was missing", "held_out.png": "is empty"}
    with PhotographStream(paths, SIDE_PX) as stream:
        stream.restore(reasons)
        assert list(stream.unreadable.reasons) == [str(paths[3])]
        paths[4].unlink()
        stream._kept.clear()
        with pytest.raises(UnreadablePhotographs, match="2 of 150"):
            stream.restore(reasons)


def test_all_that_cannot_be_read_is_known_before_training_if_it_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_grey(tmp_path, 100)
    for number in (50, 60, 70):
        paths[number].write_bytes(paths[number].read_bytes()[:-30])
    with PhotographStream(paths, SIDE_PX) as stream, pytest.raises(UnreadablePhotographs, match="3 of 100"):
        stream.fill()
    told = capsys.readouterr().err
    assert all(f"{number}.png" in told for number in (50, 60, 70))
    with PhotographStream(paths, SIDE_PX, budget_bytes=0) as stream:
        stream.fill()  # those that were sampled are readable
    with PhotographStream(paths[50:51], SIDE_PX) as stream, pytest.raises(UnreadablePhotographs, match="none of 1"):
        stream.squares(1)


# --- kinds of photographs ------------------------------------------------------------------------------------


def test_grey_and_16_bit_photographs_are_streamed_with_the_bits_in_use(tmp_path: Path) -> None:
    grey, deep, deep_colour = (tmp_path / name for name in ("grey.png", "deep.png", "deep_colour.png"))
    cv2.imwrite(str(grey), np.full((16, 16), 100, np.uint8))
    cv2.imwrite(str(deep), np.full((16, 16), 4095, np.uint16))  # of a camera of 12 bits
    cv2.imwrite(str(deep_colour), np.full((16, 16, 3), (16, 160, 1600), np.uint16))
    bits, reasons = look_at([grey, deep, deep_colour])
    assert (bits, reasons) == (12, {})
    with PhotographStream([grey, deep, deep_colour], SIDE_PX, bits=bits) as stream:
        squares = stream.squares(3)
        assert squares[:, :, 5, 5].tolist() == [[100, 100, 100], [255, 255, 255], [100, 10, 1]]
        shown = {tuple(crop[:, 0, 0].tolist()) for crop in stream.batch(0, 3)}
    assert shown == {(100, 100, 100), (255, 255, 255), (100, 10, 1)}


def test_looking_finds_what_the_first_bytes_show(tmp_path: Path) -> None:
    good = write_grey(tmp_path, 2)
    empty, text, missing = (tmp_path / name for name in ("empty.png", "text.png", "missing.png"))
    empty.touch()
    text.write_text("no picture")
    bits, reasons = look_at([*good, empty, text, missing])
    assert bits == 16
    assert list(reasons) == [str(empty), str(text), str(missing)]
    assert "0 bytes" in reasons[str(empty)]


def test_unreadable_photographs_are_told_once_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    unreadable = Unreadable(200, "photographs")
    unreadable.add({"a.png": "a.png: is empty"})
    unreadable.add({"a.png": "a.png: is empty", "b.png": "b.png: is cut short"})
    assert [line.split(":")[1] for line in capsys.readouterr().err.splitlines()] == [" a.png", " b.png"]
    unreadable.check()
    unreadable.add({"c.png": "c.png: is empty"})
    with pytest.raises(BlemishError, match=r"photographs: 3 of 200 photographs cannot be read.*first: a\.png"):
        unreadable.check()
