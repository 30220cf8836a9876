"""Inspections that a GPU repeats as one launch."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from blemish import graphs
from blemish.graphs import aside, tell

Inspect = Callable[[Tensor], tuple[Tensor, Tensor]]
MAX_BATCH_SIZES = 4
"""Sizes of batches for which an inspection keeps a graph."""


class GraphedInspection:
    """An inspection of batches, repeated as a graph for each size of batch that comes more than once.

    Safe to call from several threads, which take turns.

    Parameters
    ----------
    inspect : (B, 3, H, W) float images to anomaly maps (B, 1, H, W) and image scores (B,).
    """

    def __init__(self, inspect: Inspect) -> None:
        self.inspect = inspect
        self.lock = threading.Lock()
        self.most = MAX_BATCH_SIZES
        self.seen: set[torch.Size] = set()
        self.graphs: dict[torch.Size, tuple[Callable[[], None], Tensor, tuple[Tensor, Tensor]]] = {}

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect a batch."""
        with self.lock:
            shape = images.shape
            if shape in self.seen and shape not in self.graphs and len(self.graphs) < self.most:
                self._capture(images)
            if shape not in self.graphs:
                self.seen.add(shape)
                return self.inspect(images)
            replay, place, (maps, scores) = self.graphs[shape]
            place.copy_(images)
            replay()
            return maps.clone(), scores.clone()

    def _capture(self, images: Tensor) -> None:
        place = images.clone()
        try:
            aside(lambda: self.inspect(place), images.device)
            replay, result = graphs.capture(lambda: self.inspect(place), images.device)
        except RuntimeError as error:
            tell("the inspection", error)
            self.most = 0
            return
        self.graphs[images.shape] = replay, place, result
