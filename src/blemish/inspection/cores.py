"""Networks that run at the same time in threads of this process share its cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_n_cores = _n_running = 0


@contextmanager
def shared_cores() -> Iterator[None]:
    """Within it, the network of this thread has its part of the cores, by how many others run when it begins.

    Otherwise each would use them all, and its threads wait for one another.
    """
    global _n_cores, _n_running
    with _lock:
        if _n_running == 0:
            _n_cores = torch.get_num_threads()
        _n_running += 1
        n_threads = max(1, _n_cores // _n_running)
    if n_threads != _n_cores:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        with _lock:
            _n_running -= 1
        if n_threads != _n_cores:
            torch.set_num_threads(_n_cores)  # threads that begin later take over what was set last
