"""What the tests' decoders do. Their processes import this file: it is apart, as the others load torch."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
from numpy.typing import NDArray

from blemish.serve.decoding import read_content

CRASHES, HANGS = b"crash the decoder", b"hang the decoder"


def read_or_crash(content: bytes, bits: int | None) -> NDArray[np.uint8]:
    """Reads as usual, but some contents crash the process, or hang it."""
    if content == CRASHES:
        os._exit(7)
    if content == HANGS:
        threading.Event().wait()
    return read_content(content, bits)


def read_or_raise(content: bytes, bits: int | None) -> NDArray[np.uint8]:
    """Reads as usual, but some contents stop the process, or are answered in other ways."""
    if content == b"stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if content == b"unknown":
        raise RuntimeError("not foreseen")
    if content.startswith(b"size"):
        return np.full((int(content[4:]), 1000, 3), 7, np.uint8)
    return read_content(content, bits)
