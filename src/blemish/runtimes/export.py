"""Export of a trained method to other runtimes: an ONNX file, or an OpenVINO model, in float32 or in 8 bits.

A file for other programs takes ``photographs``, (B, H, W, 3) uint8 RGB of any height and width, in the order in
which numpy and Pillow hold them, and resizes them itself (``photographs.py``), or cuts them into tiles
(``loops.py``); or ``images``, (B, 3, S, S) float32 RGB in [0, 1], already of the detector's size. It returns
``anomaly_map``, (B, 1, S, S) as ``Method.forward`` does, or (B, 1, H, W) of photographs in tiles, and ``score``
(B,). An OpenVINO model of the second kind can also be stored in a ``.blemish`` file, with which blemish inspects
(``openvino.py``). Needs ``pip install "blemish[export]"``.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import Generator, Tensor, nn

from blemish.errors import BlemishError
from blemish.files import replace_file
from blemish.methods.base import Method
from blemish.runtimes.base import needed
from blemish.runtimes.loops import connect, onnx_over_tiles, openvino_over_tiles
from blemish.runtimes.openvino import PARTS
from blemish.runtimes.photographs import Resized
from blemish.runtimes.tiles import Grid
from blemish.runtimes.torch import FEW_CHANNELS, folded
from blemish.runtimes.tracing import in_onnx, quiet_libraries, traced
from blemish.synthesis.pasted_textures import AnomalySettings, spoil
from blemish.synthesis.textures import TextureBank

OUTPUTS = ("anomaly_map", "score")
KEY = "blemish"
"""Key of the description (JSON) in the metadata of an exported file."""
MAX_IMAGES = 300
"""Largest number of good images used to find the value ranges of the 8-bit numbers."""


InputKind = Literal["photographs", "network"]
"""What a file takes: photographs of any size, or what the network takes."""
INPUTS: Mapping[InputKind, str] = {"photographs": "photographs", "network": "images"}
"""Name of the input in the file."""

AXES = ("batch", "height", "width")
"""Names of the free axes of the input."""


def _network(method: Method) -> tuple[nn.Module, Tensor]:
    """Return a copy of the method for inspection on the CPU, and a batch of black images to trace it with."""
    return folded(deepcopy(method).cpu().eval()), torch.zeros(2, 3, *method.settings.size_hw)


def _resizing(method: Method) -> tuple[Resized, Tensor]:
    """Return the resizing for the method, and a batch of black photographs to trace it with."""
    height, width = method.settings.size_hw
    blank = torch.zeros(2, height + 3, width + 5, 3, dtype=torch.uint8)
    return Resized((height, width), method.settings.resizing), blank


# --- ONNX ----------------------------------------------------------------------------------------------------


def write_onnx(
    method: Method,
    path: Path,
    description: Mapping[str, Any],
    input_kind: InputKind = "photographs",
    grid: Grid | None = None,
) -> None:
    """Write an ONNX file, float32, with its description (JSON) in ``metadata_props``.

    Parameters
    ----------
    grid : of the tiles that the file cuts photographs into; None resizes them.

    Raises
    ------
    BlemishError
        If onnxscript is not installed, or the file cannot be written.
    """
    needed("onnxscript")
    name = INPUTS[input_kind]
    network, images = _network(method)
    with quiet_libraries():
        if input_kind == "network":
            model = in_onnx(traced(network, images), [name], OUTPUTS)
        elif grid is not None:
            model = onnx_over_tiles(network, grid, name, OUTPUTS)
        else:
            resizing, photographs = _resizing(method)
            program = traced(nn.Sequential(resizing, network), photographs, n_free_axes=(3,))
            model = in_onnx(program, [name], OUTPUTS)
    model.metadata_props.add(key=KEY, value=json.dumps(description))
    _name_axes(model.graph)
    with replace_file(path) as file:
        file.write(model.SerializeToString())


def _name_axes(graph: Any) -> None:
    """Name the free axes of an ONNX graph by ``AXES``, not as torch does, ``s31``; also in sums and products."""
    own_names = [axis.dim_param for axis in graph.input[0].type.tensor_type.shape.dim if axis.dim_param]
    names = dict(zip(own_names, AXES, strict=False))
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), axis.dim_param)


# --- OpenVINO ------------------------------------------------------------------------------------------------


def to_openvino(method: Method, description: Mapping[str, Any], good: Tensor | None = None) -> dict[str, Tensor]:
    """Return an OpenVINO model in float32, or with its convolutions in 8 bits if ``good`` is passed.

    Parameters
    ----------
    description : stored in the model's ``rt_info`` as JSON.
    good : (N, 3, H, W) uint8 good images of the method's size, from which the value ranges are computed.

    Returns
    -------
    The contents of the model's two files, (n,) uint8 each, by the names in ``PARTS``.

    Raises
    ------
    BlemishError
        If OpenVINO, or NNCF for 8 bits, is not installed, or nothing of the method can be computed in 8 bits.
    """
    if good is not None and all(_is_exact(method, path) for path, part in method.named_modules() if _convolves(part)):
        raise BlemishError(
            f"--precision int8: {method.name} needs all its convolutions in float32; take --precision float32"
        )
    nncf = needed("nncf") if good is not None else None
    with quiet_libraries():
        program, model = _converted(method)
        model.reshape([-1, 3, *method.settings.size_hw])
        for name, output in zip(OUTPUTS, model.outputs, strict=True):
            output.get_tensor().set_names({name})
        if nncf is not None and good is not None:
            nncf.set_log_level(logging.ERROR)
            images = [image[None].numpy() for image in _good_and_spoiled(good)]
            kinds = {operation.get_type_name() for operation in model.get_ordered_ops()} & ARITHMETIC
            names = _convolutions_in_float(method, program, model)
            ignored = nncf.IgnoredScope(types=sorted(kinds), names=names)
            # Bias correction shifted DRÆM's reconstruction and changed half of the verdicts on pill.
            parameters = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
            options = {"ignored_scope": ignored, "advanced_parameters": parameters}
            model = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images), **options)
    return _stored(model, description)


def _converted(method: Method) -> tuple[torch.export.ExportedProgram, Any]:
    """Return a method as torch's graph and OpenVINO's model, whose operations are named after the graph's nodes."""
    openvino = needed("openvino")
    program = traced(*_network(method)).run_decompositions()  # done here, so that its nodes' names are known
    return program, openvino.convert_model(program)


def _stored(model: Any, description: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the contents of an OpenVINO model's two files, (n,) uint8 each, by the names in ``PARTS``."""
    openvino = needed("openvino")
    model.set_rt_info(json.dumps(description), [KEY])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        contents = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    return {
        name: torch.frombuffer(bytearray(content), dtype=torch.uint8)
        for name, content in zip(PARTS, contents, strict=True)
    }


def _good_and_spoiled(good: Tensor) -> Tensor:
    """Return good images and, because defects cause larger values, as many spoiled ones: (2N, 3, H, W) in [0, 1]."""
    images = good[:MAX_IMAGES].float() / 255.0
    textures = TextureBank.procedural((good.shape[-2], good.shape[-1]))
    spoiled, _ = spoil(images, textures, Generator().manual_seed(0), AnomalySettings(probability=1.0))
    return torch.cat([images, spoiled])


ARITHMETIC = {
    "Add", "AvgPool", "Divide", "MatMul", "Multiply", "MVN", "Power", "ReduceMean", "Softmax", "Sqrt", "Subtract",
}  # fmt: skip
"""Operations that stay in float: only convolutions, and operations that pass their values on, are in 8 bits.

The square root matters most: small variances of an instance norm would become 0, and their channels noise.
"""


def _convolutions_in_float(method: Method, program: torch.export.ExportedProgram, model: Any) -> list[str]:
    """Return OpenVINO's names of the convolutions of ``Method.exact`` and of those with few channels, near an image.

    OpenVINO names them ``NODE/...`` after the nodes of the graph, including their numbers.
    """
    float_paths = {*method.exact}
    for path, part in method.named_modules():
        if _convolves(part) and min(part.in_channels, part.out_channels) <= FEW_CHANNELS:
            float_paths.add(path)
    nodes = set()
    for node in program.graph.nodes:
        modules = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        if any(module == path or module.startswith(f"{path}.") for module in modules for path in float_paths):
            nodes.add(node.name)
    operations = model.get_ordered_ops()
    names = [node.get_friendly_name() for node in operations if "Convolution" in node.get_type_name()]  # grouped, too
    return [name for name in names if name.split("/")[0] in nodes]


def _convolves(part: nn.Module) -> TypeGuard[nn.Conv2d | nn.ConvTranspose2d]:
    return isinstance(part, nn.Conv2d | nn.ConvTranspose2d)


def _is_exact(method: Method, path: str) -> bool:
    """Whether a module is one of ``Method.exact`` or a part of one."""
    return any(path == name or path.startswith(f"{name}.") for name in method.exact)


def write_openvino(
    method: Method,
    tensors: Mapping[str, Tensor],
    path: Path,
    description: Mapping[str, Any],
    input_kind: InputKind = "photographs",
    grid: Grid | None = None,
) -> None:
    """Write the result of ``to_openvino`` as two files: ``path`` (.xml), and the weights (.bin) beside it.

    Parameters
    ----------
    method : the method that ``tensors`` were made from.
    description : stored in the model's ``rt_info`` as JSON.
    grid : of the tiles that the file cuts photographs into; None resizes them.
    """
    openvino = needed("openvino")
    graph, weights = (tensors[part].numpy() for part in PARTS)
    model = openvino.Core().read_model(bytes(graph).decode(), openvino.Tensor(weights, shared_memory=True))
    if input_kind == "photographs":
        with quiet_libraries():
            if grid is not None:
                model.reshape([1, 3, *grid.size_hw])
                model = openvino_over_tiles(model, grid)
            else:
                resizing = openvino.convert_model(traced(*_resizing(method), n_free_axes=(3,)))
                resizing.reshape([-1, -1, -1, 3])
                connect(model.input(0), resizing.output(0).get_node().input_value(0))
                model = openvino.Model(model.get_results(), resizing.get_parameters(), KEY)
    model.input(0).get_tensor().set_names({INPUTS[input_kind]})
    for name, output in zip(OUTPUTS, model.outputs, strict=True):
        output.get_tensor().set_names({name})
    for part, content in _stored(model, description).items():
        with replace_file(path.with_suffix(SUFFIXES[part])) as file:
            file.write(bytes(content.numpy()))


SUFFIXES = dict(zip(PARTS, (".xml", ".bin"), strict=True))
