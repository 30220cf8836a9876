"""Networks that run at the same time share the cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch

from blemish.runtimes import cores
from blemish.runtimes.cores import n_cores, shared_cores


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(cores, "_has_shared", False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def of_others(n: int) -> list[int]:
    """How many threads torch uses in each of n threads that begin one after the other and run at the same time."""
    used, ends = list[int](), threading.Event()

    def work(begun: threading.Event) -> None:
        with shared_cores():
            used.append(torch.get_num_threads())
            begun.set()
            ends.wait(60)

    threads = []
    for _ in range(n):
        begun = threading.Event()
        threads.append(threading.Thread(target=work, args=(begun,)))
        threads[-1].start()
        assert begun.wait(60)
    ends.set()
    for thread in threads:
        thread.join()
    return used


def test_one_alone_has_all_cores() -> None:
    with shared_cores():
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == 4


def test_those_that_begin_later_have_their_part_and_none_has_less_than_one() -> None:
    assert of_others(6) == [4, 2, 1, 1, 1, 1]
    assert of_others(1) == [4]  # also in a thread that is new
    assert torch.get_num_threads() == 4


def test_the_part_is_given_back_after_an_error() -> None:
    used = list[int]()
    with shared_cores(), suppress(RuntimeError), shared_cores():
        used.append(torch.get_num_threads())
        raise RuntimeError
    assert used == [2]
    assert of_others(2) == [4, 2]


def test_a_thread_that_begins_while_cores_are_shared_has_them_all_once_it_is_alone() -> None:
    went_on, ends = threading.Event(), threading.Event()
    alone = list[int]()

    def late() -> None:
        torch.get_num_threads()  # takes over what the others have set
        went_on.set()
        ends.wait(60)
        with shared_cores():
            alone.append(torch.get_num_threads())

    thread = threading.Thread(target=late)
    with shared_cores(), shared_cores():
        thread.start()
        assert went_on.wait(60)
        assert n_cores() == 4
    ends.set()
    thread.join()
    assert alone == [4]
