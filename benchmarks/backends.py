"""Ways to run a detector's network, for the benchmarks that compare them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from blemish.detector import Detector
from blemish.devices import Precision
from blemish.runtimes.export import write_onnx
from blemish.runtimes.openvino import OpenVINORuntime
from blemish.runtimes.torch import TorchRuntime

Run = Callable[[Tensor], tuple[Tensor, Tensor]]
TORCH = ("torch", "torch autocast", "torch.compile", "prepared", "prepared bf16")
ALL = (*TORCH, "onnxruntime", "openvino", "openvino bf16", "openvino int8", "openvino int8 bf16")
HALF = tuple(name for name in ALL if name.endswith("bf16") or name == "torch autocast")
"""Ways in bf16. `prepared` is how `blemish inspect` runs a detector; `openvino` is how it runs an exported one."""


def ways(detector: Detector, good: Tensor, names: tuple[str, ...] = ALL) -> Iterator[tuple[str, str, Run]]:
    """Yield name, precision of most products, and function of each way to run the network.

    The functions map (B, 3, H, W) float images to anomaly maps and image scores.

    Parameters
    ----------
    good : (N, 3, H, W) uint8 good images, from which 8-bit networks learn their ranges.
    """
    method = detector.method
    torch_ways: dict[str, tuple[str, Callable[[], Run]]] = {
        "torch": ("float32", lambda: method),
        "torch autocast": ("bf16", lambda: _autocast(detector)),
        "torch.compile": ("float32", lambda: torch.compile(method)),
        "prepared": ("float32", lambda: TorchRuntime(method, "float32")),
        "prepared bf16": ("bf16", lambda: TorchRuntime(method, "bf16")),
        "onnxruntime": ("float32", lambda: _onnxruntime(detector)),
    }
    for name, (precision, make) in torch_ways.items():
        if name in names:
            yield name, precision, make()
    for compiled, precision, images in (("openvino", "float32", None), ("openvino int8", "int8", good)):
        if {compiled, f"{compiled} bf16"} & {*names}:
            tensors = detector.compiled(images).runtime.tensors()
            hints: tuple[tuple[str, Precision], ...] = ((compiled, "float32"), (f"{compiled} bf16", "bf16"))
            for name, hint in hints:
                if name in names:
                    run = OpenVINORuntime(method.name, method.settings, tensors, hint)
                    yield name, precision if images is not None else hint, run


def _autocast(detector: Detector) -> Run:
    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(images.device.type, torch.bfloat16):
            maps, scores = detector.method(images)
        return maps.float(), scores.float()

    return run


def _onnxruntime(detector: Detector) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(detector.method, path, {}, "network")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        maps, scores = session.run(None, {"images": np.ascontiguousarray(images.numpy())})
        return torch.from_numpy(maps), torch.from_numpy(scores)

    return run
