"""The stream of judgements: results in order, and reading only a limited number of photographs ahead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from blemish.inspection.sources import Photograph
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
        for taken, result in enumerate(_in_order(pool, work, items(), n_ahead=5)):
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
            judgement.tiles = np.zeros((1, 4, 4, 3), np.uint8)
        yield judgement


def test_batches_are_full_unless_photographs_are_large() -> None:
    assert [len(batch) for batch in _batches(judgements(19, 100), n_together=8)] == [8, 8, 3]
    side_px = round((0.6 * MAX_BATCH_PX) ** 0.5)
    assert [len(batch) for batch in _batches(judgements(5, side_px), n_together=8)] == [2, 2, 1]
    assert [len(batch) for batch in _batches(judgements(9, None), n_together=8)] == [8, 1]
