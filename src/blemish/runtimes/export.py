"""Export of a trained method to other runtimes: an ONNX file, or an OpenVINO model, in float32 or in 8 bits.

The graph takes ``images``, (B, 3, H, W) float32 RGB in [0, 1] of the detector's size, and returns ``anomaly_map``
(B, 1, H, W) and ``score`` (B,), as ``Method.forward`` does. An OpenVINO model can also be stored in a ``.blemish``
file, with which blemish inspects (``openvino.py``). Needs ``pip install "blemish[export]"``.
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
"""Key of the description (JSON) in the metadata of an exported file."""
MAX_IMAGES = 300
"""Largest number of good images used to find the value ranges of the 8-bit numbers."""


def traced(method: Method) -> torch.export.ExportedProgram:
    """Return the inspection as one graph on the CPU, for any batch size. The method itself is not changed."""
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
        If onnxscript is not installed, or the file cannot be written.
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
        If OpenVINO, or NNCF for 8 bits, is not installed.
    """
    openvino = needed("openvino")
    program = traced(method).run_decompositions()  # done here, so that the names of its nodes are known
    model = openvino.convert_model(program)
    side_px = method.settings.image_size_px
    model.reshape([-1, 3, side_px, side_px])
    for name, output in zip(OUTPUTS, model.outputs, strict=True):
        output.get_tensor().set_names({name})
    if good is not None:
        nncf = needed("nncf")
        nncf.set_log_level(logging.ERROR)
        images = [image[None].numpy() for image in _good_and_spoiled(good)]
        kinds = {operation.get_type_name() for operation in model.get_ordered_ops()} & ARITHMETIC
        names = _convolutions_in_float(method, program, model)
        ignored = nncf.IgnoredScope(types=sorted(kinds), names=names)
        # Bias correction shifted DRÆM's reconstruction and changed half of the verdicts on pill.
        parameters = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
        options = {"ignored_scope": ignored, "advanced_parameters": parameters}
        model = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images), **options)
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
        is_convolution = isinstance(part, nn.Conv2d | nn.ConvTranspose2d)
        if is_convolution and min(part.in_channels, part.out_channels) <= FEW_CHANNELS:
            float_paths.add(path)
    nodes = set()
    for node in program.graph.nodes:
        modules = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        if any(module == path or module.startswith(f"{path}.") for module in modules for path in float_paths):
            nodes.add(node.name)
    operations = model.get_ordered_ops()
    names = [node.get_friendly_name() for node in operations if node.get_type_name().startswith("Convolution")]
    return [name for name in names if name.split("/")[0] in nodes]


def write_openvino(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write the result of ``to_openvino`` as two files: ``path`` (.xml), and the weights (.bin) beside it."""
    for part, suffix in zip(PARTS, (".xml", ".bin"), strict=True):
        with replace_file(path.with_suffix(suffix)) as file:
            file.write(bytes(tensors[part].numpy()))
