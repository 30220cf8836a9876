"""Inspection as a CUDA graph: a GPU repeats it as one launch."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from blemish import graphs
from blemish.graphs import on_side_stream, warn_without_graph

Inspect = Callable[[Tensor], tuple[Tensor, Tensor]]
MAX_BATCH_SIZES = 4
"""Largest number of batch shapes for which an inspection keeps a graph."""


class GraphedInspection:
    """An inspection of batches that runs as a CUDA graph for each batch shape that occurs more than once.

    Safe to call from several threads; they take turns.

    Parameters
    ----------
    inspect : computes anomaly maps (B, 1, H, W) and image scores (B,) from (B, 3, H, W) float images.
    """

    def __init__(self, inspect: Inspect) -> None:
        self.inspect = inspect
        self.lock = threading.Lock()
        self.max_graphs = MAX_BATCH_SIZES
        self.seen_shapes: set[torch.Size] = set()
        self.graphs: dict[torch.Size, tuple[Callable[[], None], Tensor, tuple[Tensor, Tensor]]] = {}

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect a batch."""
        with self.lock:
            shape = images.shape
            if shape in self.seen_shapes and shape not in self.graphs and len(self.graphs) < self.max_graphs:
                self._capture(images)
            if shape not in self.graphs:
                self.seen_shapes.add(shape)
                return self.inspect(images)
            replay, graph_images, (maps, scores) = self.graphs[shape]
            graph_images.copy_(images)
            replay()
            return maps.clone(), scores.clone()

    def _capture(self, images: Tensor) -> None:
        graph_images = images.clone()  # the graph reads its input here
        try:
            on_side_stream(lambda: self.inspect(graph_images), images.device)
            replay, result = graphs.capture(lambda: self.inspect(graph_images), images.device)
        except RuntimeError as error:
            warn_without_graph("the inspection", error)
            self.max_graphs = 0
            return
        self.graphs[images.shape] = replay, graph_images, result
