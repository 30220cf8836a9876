"""Decoding in processes apart: bytes that crash or hang a decoder cost one photograph, and no other.

The processes import what reads images, and no network. Pixels come back through shared memory, which the parent makes
and removes. A process lives as long as the pipe to its parent, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.kinds import PREFIX_BYTES, kind_of_bytes
from blemish.data.reading import MAX_PIXELS, read_image
from blemish.errors import BlemishError, TooManyPixels

TIMEOUT_S = 20.0
"""A photograph that takes longer to decode is given up."""
START_S = 120.0
"""A process that needs longer to start, on a busy machine, is given up."""
KEPT_BYTES = 32_000_000
"""Shared memory that a process keeps, even if its photographs need less."""
_HEADERS_IN_PYTHON = ("PNG", "JPEG", "BMP", "TIFF", "GIF")
"""Formats whose header Pillow reads without code in C."""

Reader = Callable[[bytes, int | None], NDArray[np.uint8]]


class DecoderDied(BlemishError):
    """The process that decoded crashed, or took too long; another one takes its place."""


def read_content(content: bytes, bits: int | None) -> NDArray[np.uint8]:
    """Decode the bytes of an image file as ``reading.read_image``: (H, W, 3) uint8 RGB."""
    return read_image(Path("image"), bits, content)


def check_header(content: bytes, max_px: int = MAX_PIXELS) -> tuple[int, int] | None:
    """Width and height of an image by its header, px; None if only a decoder can tell. No pixel is decoded.

    Raises
    ------
    TooManyPixels
        If it has more than ``max_px`` pixels.
    """
    name = kind_of_bytes(content[:PREFIX_BYTES]).name
    if name not in _HEADERS_IN_PYTHON:
        return None
    from PIL import Image

    Image.preinit()
    if name not in Image.OPEN:
        Image.init()
    try:  # the format's own class: Image.open has a limit of pixels of its own
        width, height = Image.OPEN[name][0](BytesIO(content), "").size
    except Exception:  # damaged; the decoder says how
        return None
    if width * height > max_px:
        raise TooManyPixels(
            f"image: {width}x{height} px is too large; cut or shrink it to at most {max_px / 1e6:g} megapixels"
        )
    return width, height


class Decoders:
    """Processes that decode, each one photograph at a time.

    Parameters
    ----------
    n : how many.
    timeout_s : a photograph that takes longer is given up, and its process replaced.
    read : what they do; a function of a module, which each process imports.
    """

    def __init__(self, n: int = 2, timeout_s: float = TIMEOUT_S, read: Reader = read_content) -> None:
        self.n, self.timeout_s = n, timeout_s
        self.n_died = 0
        """How many processes have crashed or were ended, as they took too long."""
        self._pool = ThreadPoolExecutor(n, thread_name_prefix="decoder")
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._all = [_Process(read) for _ in range(n)]
        for process in self._all:
            self._idle.put(process)

    def start(self) -> None:
        """Start all processes and wait until they are ready; without it each starts with its first photograph."""
        list(self._pool.map(_Process.start, self._all))

    def submit(self, content: bytes, bits: int | None) -> Future[NDArray[np.uint8]]:
        """Decode in the background; the future raises as ``decode`` does."""
        return self._pool.submit(self.decode, content, bits)

    def decode(self, content: bytes, bits: int | None) -> NDArray[np.uint8]:
        """Decode the bytes of an image file: (H, W, 3) uint8 RGB. Waits for a process that is idle.

        Raises
        ------
        TooManyPixels
            If it is too large.
        DecoderDied
            If the process crashed or took too long.
        BlemishError
            If it cannot be read; the message says why.
        """
        process = self._idle.get()
        try:
            return process.decode(content, bits, self.timeout_s)
        except DecoderDied:
            with self._lock:
                self.n_died += 1
            raise
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """Wait for what is being decoded, and end the processes."""
        self._pool.shutdown(cancel_futures=True)
        for process in self._all:
            process.end()


class _Process:
    """A process that decodes, as the thread sees it that waits for it."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._process: Any = None
        self._pipe: Connection | None = None
        self._memory: SharedMemory | None = None

    def start(self) -> Connection:
        """Start it if it is not running."""
        if self._pipe is not None:
            return self._pipe
        context = multiprocessing.get_context("spawn")
        pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, self._read), name="decoder", daemon=True)
        self._process.start()
        other_end.close()
        self._pipe = pipe
        try:
            self._answer(START_S)
        except (EOFError, OSError, TimeoutError) as error:
            raise self._died(error, START_S) from error
        return pipe

    def decode(self, content: bytes, bits: int | None, timeout_s: float) -> NDArray[np.uint8]:
        pipe = self.start()
        try:
            pipe.send((content, bits))
            shape = self._answer(timeout_s)
            memory = self._room_for(int(np.prod(shape)))
            pipe.send(memory.name)
            self._answer(timeout_s)
            return np.ndarray(shape, np.uint8, memory.buf).copy()
        except (EOFError, OSError, TimeoutError) as error:
            raise self._died(error, timeout_s) from error

    def end(self) -> None:
        """End it, and remove the memory."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        self._remove_memory()

    def _answer(self, timeout_s: float) -> Any:
        assert self._pipe is not None
        if not self._pipe.poll(timeout_s):
            raise TimeoutError
        answer = self._pipe.recv()
        if isinstance(answer, BlemishError):
            raise answer
        return answer

    def _died(self, error: Exception, timeout_s: float) -> DecoderDied:
        """Clear away a process that is dead or hangs; say how it ended."""
        if isinstance(error, TimeoutError):
            how = f"image: was not decoded in {timeout_s:g} s; save it again"
        else:
            self._process.join(5.0)
            code = self._process.exitcode
            how = f"image: its decoder crashed (exit code {code}); save it again, or as PNG"
        self.end()
        return DecoderDied(how)

    def _room_for(self, n_bytes: int) -> SharedMemory:
        """Shared memory of at least so many bytes."""
        memory = self._memory
        if memory is None or not n_bytes <= memory.size <= max(4 * n_bytes, KEPT_BYTES):
            self._remove_memory()
            memory = self._memory = SharedMemory(create=True, size=n_bytes)
            try:
                _check_room(memory, n_bytes)
            except OSError as error:
                self.end()  # it waits for memory
                raise BlemishError(
                    f"image: {n_bytes / 1e6:.0f} MB of shared memory are not free ({error.strerror}); give it more "
                    "(a container: --shm-size)"
                ) from error
        return memory

    def _remove_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            with suppress(FileNotFoundError):
                self._memory.unlink()
            self._memory = None


def _check_room(memory: SharedMemory, n_bytes: int) -> None:
    """Have the system reserve the memory: it lets more be promised than there is, and kills who writes to it."""
    path = Path("/dev/shm") / memory.name
    if path.exists():
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, n_bytes)


def _serve(pipe: Connection, read: Reader) -> None:
    """What a process does: decode what comes through the pipe until it is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent ends it, after what was accepted is judged
        signal.signal(number, signal.SIG_IGN)
    memory: SharedMemory | None = None
    with suppress(EOFError, OSError):  # the parent is gone
        pipe.send("ready")
        while True:
            content, bits = pipe.recv()
            try:
                pixels = read(content, bits)
            except BlemishError as error:
                pipe.send(error)
                continue
            except (Exception, RecursionError) as error:
                pipe.send(BlemishError(f"image: cannot be decoded ({type(error).__name__}); save it again"))
                continue
            pipe.send(pixels.shape)
            name = pipe.recv()
            if memory is None or memory.name != name:
                if memory is not None:
                    memory.close()
                memory = SharedMemory(name)
            np.ndarray(pixels.shape, np.uint8, memory.buf)[:] = pixels
            pipe.send("done")
