"""Inspection with OpenVINO, on a CPU: runs the model that ``export.to_openvino`` made from a trained method."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from blemish.devices import Precision
from blemish.methods.base import Settings
from blemish.runtimes.base import Runtime, needed
from blemish.runtimes.cores import n_cores

PARTS = ("openvino_xml", "openvino_bin")
"""Names of the two tensors: graph and weights."""


class OpenVINORuntime(Runtime):
    """An OpenVINO model. It takes one image at a time: with fixed sizes OpenVINO fuses twice as many operations.

    Parameters
    ----------
    method_name, settings : name and settings of the exported method.
    tensors : result of ``export.to_openvino``.
    precision : precision of the operations that are not in 8 bits; ``auto`` is float32.

    Raises
    ------
    BlemishError
        If OpenVINO is not installed.
    """

    name = "openvino"
    device = torch.device("cpu")

    def __init__(
        self, method_name: str, settings: Settings, tensors: Mapping[str, Tensor], precision: Precision = "auto"
    ) -> None:
        super().__init__(method_name, settings)
        openvino = needed("openvino")
        self._tensors = {part: tensors[part] for part in PARTS}
        graph, weights = (tensor.numpy() for tensor in self._tensors.values())
        core = openvino.Core()
        model = core.read_model(bytes(graph).decode(), openvino.Tensor(weights, shared_memory=True))
        model.reshape([1, 3, *settings.size_hw])
        hints = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        hints |= {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(n_cores())}
        self._run = core.compile_model(model, "CPU", hints)
        self._lock = threading.Lock()
        """Callers take turns, because each image uses all threads."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with self._lock:
            results = [self._run([image[None].contiguous().numpy()]).to_tuple() for image in images]
        maps, scores = (torch.from_numpy(np.concatenate(outputs)) for outputs in zip(*results, strict=True))
        return maps, scores

    def tensors(self) -> dict[str, Tensor]:
        return self._tensors
