"""The stream of judgements: results in order, and reading only a limited number of photographs ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.detector import Detector
from blemish.inspection import stream
from blemish.inspection.findings import Finding, finding
from blemish.inspection.sources import Photograph, photographs
from blemish.inspection.stream import MAX_BATCH_PX, Judgement, _batches, _in_order


def test_results_come_in_order_and_work_is_only_so_far_ahead() -> None:
    pulled = 0

    def items() -> Iterator[int]:
        nonlocal pulled
        for number in range(50):
            pulled += 1
            yield number

    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3 == 0))
        return number * number

    with ThreadPoolExecutor(4) as pool:
        for taken, result in enumerate(_in_order(pool, work, items(), lambda _: 5)):
            assert result == taken * taken
            assert pulled <= taken + 5
    assert pulled == 50


def judgements(n: int, side_px: int | None) -> Iterator[Judgement]:
    """Yield judgements as after reading; if ``side_px`` is None, as after a failed reading."""
    detector: Any = None
    for number in range(n):
        judgement = Judgement(detector, Photograph(Path(f"{number}.png"), f"{number}"))
        if side_px is not None:
            judgement.image = np.broadcast_to(np.uint8(0), (side_px, side_px, 3))
            judgement.tiles = [np.zeros((4, 4, 3), np.uint8)]
        yield judgement


def test_batches_are_full_unless_photographs_are_large() -> None:
    assert [len(batch) for batch in _batches(judgements(19, 100), n_together=8)] == [8, 8, 3]
    side_px = round((0.6 * MAX_BATCH_PX) ** 0.5)
    assert [len(batch) for batch in _batches(judgements(5, side_px), n_together=8)] == [2, 2, 1]
    assert [len(batch) for batch in _batches(judgements(9, None), n_together=8)] == [8, 1]


def test_findings_are_made_side_by_side_and_once(darkness: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two threads waits for the other one inside of ``finding``: taking turns would break the barrier."""
    together, made = threading.Barrier(2), list[Any]()

    def meeting(*arguments: Any) -> Finding:
        together.wait(timeout=20)
        made.append(arguments)
        return finding(*arguments)

    monkeypatch.setattr(stream, "finding", meeting)
    images = [np.full((16, 16, 3), grey, np.uint8) for grey in (10, 200)]
    verdicts = [(judgement.finding, judgement.row()) for judgement in pair_of_threads(darkness, images)]
    assert [row["is_defective"] for _, row in verdicts] == [True, False]
    assert len(made) == 2


def pair_of_threads(detector: Detector, images: list[np.ndarray]) -> list[Judgement]:
    """Judge two images, and make their findings in two threads at the same time."""
    judged = list(stream.judge(detector, photographs(images)))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda judgement: judgement.finding, judged))
    return judged
