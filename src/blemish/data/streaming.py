"""Photographs for a training of days: read and cropped by threads shortly before a step needs them.

Which photographs and crops a step sees is a function of the seed and the step alone: not of the threads, of how many
processes share the batches, or of which photographs are kept in memory. So a training that was resumed sees what an
uninterrupted one sees. Decoders release Python's lock, so threads do; nothing is copied between processes.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.bits import bits_of, value_bits
from blemish.data.loading import MEMORY_SHARE, free_memory, resize
from blemish.data.reading import has_16_bits, read_image, read_values
from blemish.data.unreadable import Unreadable, UnreadablePhotographs
from blemish.errors import BlemishError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ASPECT = 8
"""Of a longer photograph the middle is used: at most so many times as long as high."""
_WINDOW = 64
"""Files that wait for a thread, or for being used, at once."""
_N_SAMPLED = 32
_MOST_TRIES = 100
_MIN_STEPS_AHEAD = 2


class Found(NamedTuple):
    """A crop that a thread has read, and the photographs that it could not read."""

    crop: NDArray[np.uint8] | None
    """(3, side, side) RGB; None if no photograph can be read any more."""
    reasons: dict[str, str]


class PhotographStream:
    """Batches of random crops of photographs of any sizes: each photograph once an epoch.

    An epoch is a random order of all photographs, and batches follow it, across the ends of epochs. Several
    processes take their shares of the same batches. A photograph that cannot be read is replaced by another one,
    drawn at random. Threads read ahead; memory holds the crops of a few steps, and photographs while they fit
    ``budget_bytes``.

    Parameters
    ----------
    paths : of the photographs.
    side_px : length of the short side to which photographs are resized.
    bits : how many bits of 16-bit values are used (``look_at``).
    seed : of the order and of the crops.
    unreadable : the list to which photographs that cannot be read are added; None makes one.
    budget_bytes : memory for photographs that are kept. Default: half of the free memory, shared by the processes on
        this machine.
    n_threads : that read. Default: one for each core, shared by the processes on this machine.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        side_px: int,
        *,
        bits: int = 16,
        seed: int = 0,
        unreadable: Unreadable | None = None,
        budget_bytes: float | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.paths = [str(path) for path in paths]  # a Path takes five times the memory
        self.side_px, self.bits, self.seed = side_px, bits, seed & (2**64 - 1)
        self.shape = (len(self.paths), 3, side_px, side_px)
        """As that of a tensor of all photographs."""
        self.unreadable = Unreadable(len(self.paths), "pretraining") if unreadable is None else unreadable
        self.budget_bytes = MEMORY_SHARE * free_memory() / _n_neighbours() if budget_bytes is None else budget_bytes
        self.n_threads = n_threads or max(1, (os.cpu_count() or 1) // _n_neighbours())
        self.kept_bytes = 0
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(self.n_threads, "photographs")
        self._pending: dict[tuple[int, int], Future[Found]] = {}
        self._found: dict[str, str] = {}
        self._order = lru_cache(maxsize=4)(self._draw_order)

    def __len__(self) -> int:
        return len(self.paths)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    # --- batches ----------------------------------------------------------------------------------------------

    def batch(
        self, step: int, batch_size: int, side_px: int | None = None, process_index: int = 0, n_processes: int = 1
    ) -> Tensor:
        """Return this process's share of the batch of a step, and read ahead for the next ones.

        Parameters
        ----------
        step : any, but fast only in order.
        batch_size : of this process; the batch has ``n_processes`` times as many.
        side_px : side of the crops, at most that of the photographs; None for this.

        Returns
        -------
        (batch_size, 3, side_px, side_px) uint8 RGB.

        Raises
        ------
        UnreadablePhotographs
            If too many photographs cannot be read. Of several processes, one only knows what ``settle`` told it.
        """
        side_px = self.side_px if side_px is None else side_px
        n_ahead = max(_MIN_STEPS_AHEAD, math.ceil(2 * self.n_threads / batch_size))
        windows = [
            [((later * n_processes + process_index) * batch_size + i, side_px) for i in range(batch_size)]
            for later in range(step, step + 1 + n_ahead)
        ]
        planned = {key for window in windows for key in window}
        for key in self._pending.keys() - planned:
            self._pending.pop(key).cancel()
        for window in windows:
            for key in window:
                if key not in self._pending:
                    self._pending[key] = self._pool.submit(self._read, *key, self.photograph_at(key[0]))
        items = [self._pending.pop(key).result() for key in windows[0]]
        for item in items:
            self._found |= item.reasons
        if n_processes == 1:
            self.settle()
        self.unreadable.check()
        crops = [item.crop for item in items if item.crop is not None]
        if len(crops) < len(items):
            reasons = [reason for item in items for reason in item.reasons.values()]
            last = (reasons or [*self.unreadable.reasons.values()])[-1]
            raise UnreadablePhotographs(
                f"{self.unreadable.name}: no photographs can be read any more; check the disk. The last: {last}",
                is_shared=n_processes == 1,
            )
        return torch.from_numpy(np.stack(crops))  # (B, 3, side, side)

    def photograph_at(self, position: int) -> int:
        """The index of the photograph at a position in the sequence of all epochs, if it can be read."""
        epoch, number = divmod(position, len(self))
        return int(self._order(epoch)[number])

    def settle(self, gather: Callable[[Any], list[dict[str, str]]] = list) -> None:
        """Tell which photographs could not be read, and replace them without trying from now on.

        Parameters
        ----------
        gather : concatenates a list of every process; all call ``settle`` after the same step.
        """
        for reasons in gather([self._found]):
            self.unreadable.add(reasons)
        self._found = {}

    def restore(self, reasons: Mapping[str, str]) -> None:
        """Take over the unreadable photographs of a training that goes on, but for those that are mended by now.

        Raises
        ------
        UnreadablePhotographs
            If they are too many.
        """
        for _ in self._readable([index for index, path in enumerate(self.paths) if path in reasons]):
            pass
        self.unreadable.check()

    def _draw_order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, 0, epoch]).permutation(len(self))

    def _read(self, position: int, side_px: int, index: int) -> Found:
        """Cut the crop of a position, in a thread; all that is random depends on the position alone."""
        random = np.random.default_rng([self.seed, 1, position])
        across, down = random.random(2)
        reasons: dict[str, str] = {}
        for _ in range(_MOST_TRIES):
            path = self.paths[index]
            if path not in self.unreadable.reasons:
                try:
                    photograph = self.photograph(index)
                except BlemishError as error:
                    reasons[path] = str(error)
                else:
                    height, width = photograph.shape[:2]
                    y, x = int(down * (height - side_px + 1)), int(across * (width - side_px + 1))
                    crop = photograph[y : y + side_px, x : x + side_px]
                    return Found(np.ascontiguousarray(crop.transpose(2, 0, 1)), reasons)
            index = int(random.integers(len(self)))
        return Found(None, reasons)

    # --- photographs ------------------------------------------------------------------------------------------

    def photograph(self, index: int) -> NDArray[np.uint8]:
        """Return a photograph, read or kept: (H, W, 3) RGB with a short side of ``side_px``.

        Raises
        ------
        BlemishError
            If it cannot be read.
        """
        photograph = self._kept.get(index)
        if photograph is None:
            photograph = fitted(read_image(self.paths[index], self.bits), self.side_px)
            with self._lock:
                if index not in self._kept and self.kept_bytes + photograph.nbytes <= self.budget_bytes:
                    self._kept[index] = photograph
                    self.kept_bytes += photograph.nbytes
        return photograph

    def fill(self) -> None:
        """Read all photographs if they seem to fit into memory, so that damaged ones are known before training.

        Raises
        ------
        UnreadablePhotographs
            If too many cannot be read.
        """
        sizes = [photograph.nbytes for photograph in self._readable(self._spread(_N_SAMPLED))]
        if sum(sizes) / max(1, len(sizes)) * len(self) <= self.budget_bytes:
            for _ in self._readable(range(len(self))):
                pass
        self.unreadable.check()

    def squares(self, most: int) -> Tensor:
        """Return the first square, from the left or the top, of at most so many photographs, evenly spaced.

        Returns
        -------
        (N, 3, side_px, side_px) uint8 RGB, of those that can be read.

        Raises
        ------
        UnreadablePhotographs
            If none of these can be read.
        """
        squares = [
            photograph[: self.side_px, : self.side_px].transpose(2, 0, 1).copy()
            for photograph in self._readable(self._spread(most))
        ]
        if not squares:
            raise UnreadablePhotographs(f"{self.unreadable.name}: none of {len(self)} photographs can be read")
        return torch.from_numpy(np.stack(squares))

    def _spread(self, most: int) -> list[int]:
        n = min(most, len(self))
        return [number * len(self) // n for number in range(n)]

    def _readable(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Read photographs in threads, a few ahead; in the end, tell which cannot be read."""

        def read(index: int) -> NDArray[np.uint8] | BlemishError:
            try:
                return self.photograph(index)
            except BlemishError as error:
                return error

        reasons = {}
        for index, result in _in_threads(read, indices, self._pool):
            if isinstance(result, BlemishError):
                reasons[self.paths[index]] = str(result)
            else:
                yield result
        self.unreadable.add(reasons)


def fitted(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize the short side of a photograph (H, W, 3) to ``side_px``; (h, w, 3), at most 8 times as long as high."""
    longest = MAX_ASPECT * min(image.shape[:2])
    top, left = (max(0, (length - longest) // 2) for length in image.shape[:2])
    image = image[top : top + longest, left : left + longest]
    height, width = image.shape[:2]
    scale = side_px / min(height, width)
    size_hw = max(side_px, round(height * scale)), max(side_px, round(width * scale))
    return np.array(resize(image, size_hw))  # a copy, so that the middle does not keep all of it in memory


def look_at(paths: Sequence[str | Path]) -> tuple[int, dict[str, str]]:
    """Open all photographs, for their first bytes; those of 16 bits are decoded.

    Returns
    -------
    How many bits 16-bit photographs use (``bits.bits_of``), and by path why a file cannot be read, as far as its
    first bytes show it.
    """
    values: set[int] = set()
    reasons: dict[str, str] = {}

    def look(chunk: Sequence[str | Path]) -> list[int | BlemishError | None]:
        results: list[int | BlemishError | None] = []
        for path in chunk:
            try:
                results.append(value_bits(read_values(path)) if has_16_bits(path) else None)
            except BlemishError as error:
                results.append(error)
        return results

    chunks = (paths[start : start + _WINDOW] for start in range(0, len(paths), _WINDOW))
    with ThreadPoolExecutor() as pool:  # a thread gets many at once: to hand over a file takes as long as to open it
        for chunk, results in _in_threads(look, chunks, pool):
            for path, result in zip(chunk, results, strict=True):
                if isinstance(result, BlemishError):
                    reasons[str(path)] = str(result)
                elif result is not None:
                    values.add(result)
    return bits_of(values) if values else 16, reasons


def _in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], pool: ThreadPoolExecutor
) -> Iterator[tuple[Item, Result]]:
    """As ``pool.map``, but with few items at once: a million of them would take gigabytes."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        if len(waiting) == _WINDOW:
            earlier, future = waiting.popleft()
            yield earlier, future.result()
        waiting.append((item, pool.submit(function, item)))
    for earlier, future in waiting:
        yield earlier, future.result()


def _n_neighbours() -> int:
    """Processes of this training on this machine, this one included: torchrun says it."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
