"""A trained method for other runtimes: as an ONNX file, or as a model of OpenVINO, in float32 or in 8 bits.

The graph takes ``images``, (B, 3, H, W) float32 RGB in [0, 1] of the detector's size, and gives ``anomaly_map``
(B, 1, H, W) and ``score`` (B,), as ``Method.forward`` does. OpenVINO's can also be put into a ``.blemish`` file, from
which blemish inspects by it (``openvino.py``). Needs ``pip install "blemish[export]"``.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from blemish.files import replace_file
from blemish.methods.base import Method
from blemish.runtimes.base import needed
from blemish.runtimes.openvino import PARTS
from blemish.runtimes.torch import FEW_CHANNELS, folded
from blemish.synthesis.pasted_textures import AnomalySettings, spoil
from blemish.synthesis.textures import TextureBank

OUTPUTS = ("anomaly_map", "score")
KEY = "blemish"
"""Of the description (JSON) in the metadata of an exported file."""
MAX_IMAGES = 300
"""Good images that are looked at to find the ranges of 8-bit numbers."""


def traced(method: Method) -> torch.export.ExportedProgram:
    """The inspection of any number of images at a time, as one graph on the CPU. The method stays where it is."""
    side_px = method.settings.image_size_px
    images = torch.zeros(2, 3, side_px, side_px)
    network = folded(deepcopy(method).cpu().eval())
    with torch.no_grad():
        return torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


# --- ONNX ----------------------------------------------------------------------------------------------------


def write_onnx(method: Method, path: Path, description: Mapping[str, Any]) -> None:
    """Write an ONNX file, float32, with its description (JSON) in ``metadata_props``.

    Raises
    ------
    BlemishError
        If onnx is not installed, or the place cannot be written to.
    """
    needed("onnxscript")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    names = {"input_names": ["images"], "output_names": list(OUTPUTS)}
    program = torch.onnx.export(traced(method), dynamo=True, verbose=False, **names)  # type: ignore[arg-type]
    assert program is not None
    program.model.metadata_props[KEY] = json.dumps(description)
    with replace_file(path) as file:
        file.write(program.model_proto.SerializeToString())


# --- OpenVINO ------------------------------------------------------------------------------------------------


def to_openvino(method: Method, description: Mapping[str, Any], good: Tensor | None = None) -> dict[str, Tensor]:
    """A model of OpenVINO, in float32; with ``good`` in 8 bits, as far as it multiplies.

    Parameters
    ----------
    description : goes into its ``rt_info``, as JSON.
    good : (N, 3, H, W) uint8 good images of the method's size, from which the ranges of numbers are taken.

    Returns
    -------
    The contents of its two files, (n,) uint8 each, as ``PARTS``.

    Raises
    ------
    BlemishError
        If OpenVINO, or NNCF for 8 bits, is not installed.
    """
    openvino = needed("openvino")
    program = traced(method).run_decompositions()  # here, so that the names of its nodes are known
    model = openvino.convert_model(program)
    side_px = method.settings.image_size_px
    model.reshape([-1, 3, side_px, side_px])
    for name, output in zip(OUTPUTS, model.outputs, strict=True):
        output.get_tensor().set_names({name})
    if good is not None:
        nncf = needed("nncf")
        nncf.set_log_level(logging.ERROR)
        images = [image[None].numpy() for image in _seen(good)]
        kinds = {operation.get_type_name() for operation in model.get_ordered_ops()} & ARITHMETIC
        names = _convolutions_in_float(method, program, model)
        ignored = nncf.IgnoredScope(types=sorted(kinds), names=names)
        exactly = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)  # it drowned repairs in an offset
        options = {"ignored_scope": ignored, "advanced_parameters": exactly}
        model = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images), **options)
    model.set_rt_info(json.dumps(description), [KEY])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        contents = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    return {
        name: torch.frombuffer(bytearray(one), dtype=torch.uint8) for name, one in zip(PARTS, contents, strict=True)
    }


def _seen(good: Tensor) -> Tensor:
    """Good images and, as a defect makes larger numbers, as many spoiled ones: (N, 3, H, W) float in [0, 1]."""
    images = good[:MAX_IMAGES].float() / 255.0
    textures = TextureBank.procedural((good.shape[-2], good.shape[-1]))
    spoiled, _ = spoil(images, textures, Generator().manual_seed(0), AnomalySettings(probability=1.0))
    return torch.cat([images, spoiled])


ARITHMETIC = {
    "Add", "AvgPool", "Divide", "MatMul", "Multiply", "MVN", "Power", "ReduceMean", "Softmax", "Sqrt", "Subtract",
}  # fmt: skip
"""Operations that stay in float: 8 bits are for convolutions, and for what only hands their numbers on.

Above all the square root: of an instance norm's variances the small ones would become 0, and their channels noise.
"""


def _convolutions_in_float(method: Method, program: torch.export.ExportedProgram, model: Any) -> list[str]:
    """What OpenVINO calls the convolutions of ``Method.exact`` and those of few channels, near an image.

    It names them ``NODE/...`` by the nodes of the graph, numbers and all.
    """
    kept = {*method.exact}
    for path, part in method.named_modules():
        is_convolution = isinstance(part, nn.Conv2d | nn.ConvTranspose2d)
        if is_convolution and min(part.in_channels, part.out_channels) <= FEW_CHANNELS:
            kept.add(path)
    nodes = set()
    for node in program.graph.nodes:
        inside = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        if any(here == path or here.startswith(f"{path}.") for here in inside for path in kept):
            nodes.add(node.name)
    convolutions = (one for one in model.get_ordered_ops() if one.get_type_name().startswith("Convolution"))
    return [one.get_friendly_name() for one in convolutions if one.get_friendly_name().split("/")[0] in nodes]


def write_openvino(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write what ``to_openvino`` gave as OpenVINO's two files: ``path`` (.xml), and its weights beside it (.bin)."""
    for part, suffix in zip(PARTS, (".xml", ".bin"), strict=True):
        with replace_file(path.with_suffix(suffix)) as file:
            file.write(bytes(tensors[part].numpy()))
