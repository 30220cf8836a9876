"""The stream of judgements, in order and in bounded memory; all inspection code uses it.

Photographs are read ahead in threads and judged in small batches. The caller's work on each judgement runs in the
same threads. On a GPU, reading and work continue while the network runs. On a CPU, the work and the network take
turns, each with all cores: a convolution waits for its slowest core, so it would wait for a core that is drawing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.loading import resize
from blemish.errors import BlemishError
from blemish.inspection.findings import Finding, finding, row_of_error
from blemish.inspection.framing import Framing
from blemish.inspection.likeness import Likeness
from blemish.inspection.sources import Photograph
from blemish.runtimes.base import Runtime
from blemish.runtimes.cores import shared_cores
from blemish.thresholds import Threshold

BATCH_SIZE = 8
"""Tiles in one call of the network."""
N_AHEAD = 4
"""Photographs that are read ahead at most, in addition to those that a GPU judges at the same time."""
AHEAD_PX = 48_000_000
"""Limit of pixels in the photographs that are read ahead, if they are as large as the last one; one always is."""
TOGETHER_PX = 2**19
"""Photographs are judged together up to this number of pixels in their tiles: 8 tiles of 256 px, 32 of 128 px."""
MAX_BATCH_PX = 24_000_000
"""Limit of pixels in the photographs of a batch: they stay in memory until the work on them is done."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Judge(Protocol):
    """Interface of the detector that judges: a ``blemish.Detector``."""

    runtime: Runtime
    framing: Framing
    threshold: Threshold
    pixel_threshold: float
    bits: int | None
    likeness: Likeness | None
    min_area_px: int


@dataclass
class Judgement:
    """A photograph with its map and score, or with the error that prevented them."""

    detector: Judge
    photograph: Photograph
    image: NDArray[np.uint8] | None = None
    """(H, W, 3) uint8 RGB; None if it could not be read."""
    tiles: list[NDArray[np.uint8]] | None = None
    """(h, w, 3) uint8 each; None after judging."""
    map: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """(h, w) anomaly map, joined by the framing."""
    score: float = math.nan
    explanation: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """(h, w, 3) uint8 explanation images of the method, by name."""
    unlike: list[str] = field(default_factory=list)
    """Why it is unlike the good images that the detector has learned from."""
    error: BlemishError | None = None
    files: dict[str, str] = field(default_factory=dict)
    """Pictures of it that were saved, by their column in a row; relative to the folder of the results."""
    save_error: BlemishError | None = None
    """Why the photograph, although it could be judged, lacks such a picture."""
    _finding: Finding | None = field(default=None, init=False, repr=False)

    def checked(self) -> Judgement:
        """Return the judgement itself, after checking that it has no error.

        Raises
        ------
        BlemishError
            If the photograph could not be judged.
        """
        if self.error is not None:
            raise self.error
        return self

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The photograph (H, W, 3) uint8 RGB, which could be read."""
        assert self.image is not None
        return self.image

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the photograph, px."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def finding(self) -> Finding:
        """Map, outlines and verdict in the size of the photograph; computed once.

        Not a ``cached_property``: in Python 3.11 that has one lock for all judgements, so threads would take turns.

        Raises
        ------
        BlemishError
            If the photograph could not be judged.
        """
        self.checked()
        if self._finding is None:
            size_hw = self.size_hw
            explanation = {name: np.asarray(resize(picture, size_hw)) for name, picture in self.explanation.items()}
            threshold, path = self.detector.threshold.value, self.photograph.path
            usual = self.detector.pixel_threshold
            self._finding = finding(
                self.map, self.score, threshold, size_hw, path, explanation, self.unlike, usual,
                self.detector.min_area_px,
            )  # fmt: skip
        return self._finding

    def row(self) -> dict[str, Any]:
        """Return the row of ``findings.jsonl``; a photograph that could not be judged gets a row with the error.

        One that was judged, but has no picture that it should have, has both: the verdict and the error.
        """
        if self.error is not None:
            detector = self.detector
            return row_of_error(self.photograph.path, detector.threshold.value, str(self.error), detector.min_area_px)
        error = str(self.save_error) if self.save_error is not None else None
        return self.finding.row() | self.files | {"error": error}


def _unchanged(judgement: Judgement) -> Any:
    return judgement


def judge(
    detector: Judge,
    photographs: Iterable[Photograph | None],
    work: Callable[[Judgement], Result] = _unchanged,
    *,
    explain: bool = False,
) -> Iterator[Result]:
    """Judge photographs in order.

    Parameters
    ----------
    photographs : of a source that may have to wait for the next one, also None: all photographs before it are judged,
        and their results yielded, before it is asked for the next.
    work : called with each judgement, in other threads; its results are yielded in the order of the photographs.
        Default: the judgements themselves are yielded.
    explain : also compute the method's explanation images.
    """

    def read(photograph: Photograph) -> Judgement:
        judgement = Judgement(detector, photograph)
        try:
            judgement.image = photograph.read(detector.bits)
        except BlemishError as error:
            judgement.error = error
            return judgement
        try:
            judgement.tiles = detector.framing.cut(judgement.image)
            if detector.likeness is not None:
                framing = detector.framing
                overview = judgement.tiles[0] if framing.is_one_tile else framing.overview(judgement.image)
                judgement.unlike = detector.likeness.reasons(overview, judgement.size_hw)
        except BlemishError as error:  # says what is wrong with it, not which one it is
            judgement.error = BlemishError(f"{photograph.path or 'image'}: {error}")
        return judgement

    on_cpu = detector.runtime.device.type == "cpu"
    n_together = max(1, TOGETHER_PX // math.prod(detector.framing.tile_hw))
    working: deque[Future[Result]] = deque()

    def n_ahead(last: Judgement | None) -> int:
        if last is None or len(last.tiles or ()) >= n_together:  # to judge so many tiles takes longer than to read
            return 1
        n_px = 1 if last.image is None else last.image.size // 3
        return max(1, min(N_AHEAD + (0 if on_cpu else n_together), AHEAD_PX // n_px))

    def finished() -> Iterator[Result]:
        while working:
            yield working.popleft().result()

    with ThreadPoolExecutor() as pool:
        judgements = _in_order(pool, read, photographs, n_ahead)
        for batch in _batches(judgements, n_together):
            if on_cpu:
                yield from finished()
            _judge(detector, batch, explain)
            yield from finished()
            working.extend(pool.submit(work, judgement) for judgement in batch)
        yield from finished()


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterable[Item | None],
    n_ahead: Callable[[Result | None], int],
) -> Iterator[Result | None]:
    """``map(work, items)`` in other threads, some items ahead of the consumer.

    Parameters
    ----------
    items : None among them stays None; all results before it are yielded before the next item is asked for.
    n_ahead : how many items ahead, by the last result; at first by None.
    """
    waiting: deque[Future[Result]] = deque()
    n = n_ahead(None)
    for item in items:
        if item is not None:
            waiting.append(pool.submit(work, item))
        while waiting and (item is None or len(waiting) >= n):
            result = waiting.popleft().result()
            n = n_ahead(result)
            yield result
            del result  # it may be large, and the next is waited for
        if item is None:
            yield None
    while waiting:
        yield waiting.popleft().result()


def _batches(judgements: Iterable[Judgement | None], n_together: int) -> Iterator[list[Judgement]]:
    """Group judgements into batches that fit into memory; at None the batch ends, and an empty one follows."""
    batch: list[Judgement] = []
    n_tiles = n_px = 0
    for judgement in judgements:
        if judgement is None:
            if batch:
                yield batch
            yield []
            batch, n_tiles, n_px = [], 0, 0
            continue
        batch.append(judgement)
        n_tiles += 0 if judgement.tiles is None else len(judgement.tiles)
        n_px += 0 if judgement.image is None else judgement.image.size // 3
        if len(batch) == n_together or n_tiles >= n_together or n_px > MAX_BATCH_PX:
            yield batch
            batch, n_tiles, n_px = [], 0, 0
    if batch:
        yield batch


def _judge(detector: Judge, batch: list[Judgement], explain: bool) -> None:
    """Set map, score and explanation of all judgements whose photograph could be read."""
    readable = [judgement for judgement in batch if judgement.tiles is not None]
    if not readable:
        return
    tiles = (tile for judgement in readable for tile in judgement.tiles or ())
    results = inspected(detector.runtime, tiles, explain)
    with shared_cores():
        for judgement in readable:
            own = islice(results, len(judgement.tiles or ()))
            judgement.map, judgement.score, judgement.explanation = _joined(detector.framing, own, judgement.size_hw)
            judgement.tiles = None
    for judgement in readable:
        if not math.isfinite(judgement.score):  # NaN is not above any threshold: it would pass as good
            path = judgement.photograph.path or "an image"
            judgement.error = BlemishError(
                f"{path}: its score is not a number; the detector is damaged, train it again"
            )


class TileResult(NamedTuple):
    """What a runtime says of one tile."""

    map: NDArray[np.float32]
    """(h, w) anomaly map."""
    score: float
    pictures: dict[str, NDArray[np.uint8]]
    """(h, w, 3) explanation images, by name."""


def inspected(runtime: Runtime, tiles: Iterable[NDArray[np.uint8]], explain: bool = False) -> Iterator[TileResult]:
    """Run the network on tiles (h, w, 3) uint8, in small batches; few of them are in memory at a time."""
    tiles = iter(tiles)
    while batch := list(islice(tiles, BATCH_SIZE)):
        yield from _results_of(runtime, torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2), explain)


@torch.inference_mode()
def _results_of(runtime: Runtime, batch: Tensor, explain: bool) -> list[TileResult]:
    """What a runtime says of tiles (B, 3, h, w) uint8."""
    images = batch.to(runtime.device).float() / 255.0  # (B, 3, h, w)
    images = images.contiguous(memory_format=torch.channels_last)
    maps, scores = runtime(images)  # (B, 1, h, w), (B,)
    pictures = {name: _to_uint8(picture) for name, picture in runtime.explain(images).items()} if explain else {}
    all_maps, all_scores = maps[:, 0].cpu().numpy(), scores.cpu().tolist()
    return [
        TileResult(all_maps[number], score, {name: of_tiles[number] for name, of_tiles in pictures.items()})
        for number, score in enumerate(all_scores)
    ]


def _joined(
    framing: Framing, results: Iterator[TileResult], photograph_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], float, dict[str, NDArray[np.uint8]]]:
    """Map, score and explanation of a photograph from those of its tiles, whose maps are taken one by one."""
    scores, pictures = list[float](), list[dict[str, NDArray[np.uint8]]]()

    def maps() -> Iterator[NDArray[np.float32]]:
        for result in results:
            scores.append(result.score)
            pictures.append(result.pictures)
            yield result.map

    anomaly_map = framing.join(maps(), photograph_hw)
    explanation = {
        name: framing.join_pictures((of_tile[name] for of_tile in pictures), photograph_hw) for name in pictures[0]
    }
    return anomaly_map, framing.score(scores), explanation


def _to_uint8(pictures: Tensor) -> NDArray[np.uint8]:
    """Convert (B, 3, h, w) float in [0, 1] to (B, h, w, 3) uint8."""
    pixels = (pictures.permute(0, 2, 3, 1) * 255.0).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(pixels.cpu().numpy())
