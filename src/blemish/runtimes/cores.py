"""Networks that run at the same time in threads of this process share its cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_n_cores = _n_running = 0
_has_shared = False
"""From the first time on that two ran at once, torch's own number may be a part: a new thread begins with what any
thread has set last."""


def n_cores() -> int:
    """How many threads a network has that runs alone: as torch was told, by OMP_NUM_THREADS or by a program."""
    return _n_cores if _has_shared else torch.get_num_threads()


@contextmanager
def shared_cores() -> Iterator[None]:
    """Within it, the network of this thread has its part of the cores, by how many others run when it begins.

    Otherwise each would use them all, and its threads wait for one another.
    """
    global _n_cores, _n_running, _has_shared
    with _lock:
        _n_cores = n_cores()
        _n_running += 1
        _has_shared = _has_shared or _n_running > 1
        n_threads = max(1, _n_cores // _n_running)
    _set(n_threads)
    try:
        yield
    finally:
        with _lock:
            _n_running -= 1
        _set(_n_cores)


def _set(n_threads: int) -> None:
    if torch.get_num_threads() != n_threads:
        torch.set_num_threads(n_threads)
