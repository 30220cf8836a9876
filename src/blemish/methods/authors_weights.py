"""Conversion of the authors' released weights of DRÆM and of DSR's codebook.

Files are unpickled with ``weights_only=True``, so no code in them is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.methods.dsr.vq import VQAutoencoder


def convert_draem(reconstructive: Path, discriminative: Path) -> DRAEM:
    """Load the two state dicts that the authors of DRÆM published for each category.

    Raises
    ------
    BlemishError
        If a file cannot be read weights-only, or does not belong to the expected network.
    """
    method = DRAEM(DRAEMSettings())
    for network, path in ((method.reconstructive, reconstructive), (method.discriminative, discriminative)):
        theirs = _read_state_dict(path)
        network.load_state_dict(_renamed(theirs, network.state_dict(), path, _our_name, "this network of DRÆM"))
    _from_bgr(method)
    return method


def _from_bgr(method: DRAEM) -> None:
    """Reverse the colour channels of the weights, in place: the authors' networks see BGR, ours RGB."""
    with torch.no_grad():
        weight = method.reconstructive.get_parameter("encoder.blocks.0.0.weight")  # (C, 3, 3, 3)
        weight.copy_(weight[:, [2, 1, 0]])
        for parameter in method.reconstructive.head.parameters():  # (3, C, 3, 3) and (3,)
            parameter.copy_(parameter[[2, 1, 0]])
        weight = method.discriminative.get_parameter("encoder.blocks.0.0.weight")  # (C, 6, 3, 3): two images
        weight.copy_(weight[:, [2, 1, 0, 5, 4, 3]])


def convert_codebook(path: Path) -> VQAutoencoder:
    """Load the VQ autoencoder that the authors of DSR published (``vq_model_pretrained_128_4096.pckl``).

    Raises
    ------
    BlemishError
        If the file cannot be read weights-only, or does not belong to this network.
    """
    theirs = {name: tensor for name, tensor in _read_state_dict(path).items() if "_ema_" not in name}
    network = VQAutoencoder()
    network.load_state_dict(_renamed(theirs, network.state_dict(), path, _our_vq_name, "DSR's VQ autoencoder"))
    with torch.no_grad():  # this network sees BGR, too
        first, last = network.encoder_high.get_parameter("0.weight"), network.decoder.get_submodule("4")
        first.copy_(first[:, [2, 1, 0]])
        last.get_parameter("weight").copy_(last.get_parameter("weight")[:, [2, 1, 0]])
        last.get_parameter("bias").copy_(last.get_parameter("bias")[[2, 1, 0]])
    network.normalize()
    return network


_VQ_PARTS = {
    "_encoder_b._conv_1": "encoder_high.0",
    "_encoder_b._conv_2": "encoder_high.2",
    "_encoder_b._conv_3": "encoder_high.4",
    "_encoder_b._residual_stack": "encoder_high.5",
    "_encoder_t._conv_1": "encoder_low.0",
    "_encoder_t._conv_2": "encoder_low.2",
    "_encoder_t._residual_stack": "encoder_low.3",
    "_pre_vq_conv_top": "encoder_low.4",
    "_pre_vq_conv_bot": "merge_high",
    "_vq_vae_top._embedding.weight": "codebook_low.codes",
    "_vq_vae_bot._embedding.weight": "codebook_high.codes",
    "_decoder_b._conv_1": "decoder.0",
    "_decoder_b._residual_stack": "decoder.1",
    "_decoder_b._conv_trans_1": "decoder.2",
    "_decoder_b._conv_trans_2": "decoder.4",
    "upsample_t": "upsample_low",
}
"""Beginnings of the authors' tensor names, and ours."""


def _our_vq_name(theirs: str) -> str | None:
    """Our name of an authors' tensor, or None if it is unknown.

    ``_encoder_b._residual_stack._layers.1._block.3.weight`` is ``encoder_high.5.1.narrow.weight``.
    """
    for part, ours in _VQ_PARTS.items():
        if theirs.startswith(part):
            rest = theirs.removeprefix(part).replace("._layers", "")
            return ours + rest.replace("._block.1", ".wide").replace("._block.3", ".narrow")
    return None


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors in a file that ``torch.save`` wrote; BlemishError if it is anything but a state dict."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BlemishError(f"{path}: no such file; give the authors' state dict") from error
    except Exception as error:
        raise BlemishError(
            f"{path}: cannot be read as plain weights; give the authors' state dict, unchanged"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BlemishError(f"{path}: holds more than a state dict; save only `model.state_dict()`")
    return content


def _our_name(theirs: str) -> str | None:
    """Our name of an authors' tensor, or None if it is unknown: ``decoder.up2.1.weight`` is ``ups.1.0.weight``."""
    part, _, name = theirs.partition(".")
    if part.startswith("encoder"):
        match = re.fullmatch(r"block(\d)\.(.*)", name)
        return f"encoder.blocks.{int(match[1]) - 1}.{match[2]}" if match else None
    match = re.fullmatch(r"(up|db)(_b|\d)\.(\d)\.(.*)|fin_out\.0\.(.*)", name)
    if not match or not part.startswith("decoder"):
        return None
    kind, step, layer, parameter, head_parameter = match.groups()
    if head_parameter:
        return f"head.{head_parameter}"
    # The U-Net counts its decoder steps _b, 1, 2 ..., the reconstructive network 1, 2 ....
    level = 0 if step == "_b" else int(step) - (part == "decoder")
    if kind == "up":  # the first layer of an authors' `up` is the interpolation, which has no weights
        return f"ups.{level}.{int(layer) - 1}.{parameter}"
    return f"blocks.{level}.{layer}.{parameter}"


def _renamed(
    theirs: dict[str, Tensor],
    ours: dict[str, Tensor],
    path: Path,
    our_name: Callable[[str], str | None],
    network: str,
) -> dict[str, Tensor]:
    """The authors' tensors under our names. BlemishError unless they match ours one to one, with the same shapes."""
    renamed = {our_name(name): tensor for name, tensor in theirs.items()}
    missing = sorted(set(ours) - set(renamed))
    if missing or len(renamed) != len(ours) or len(theirs) != len(ours):
        raise BlemishError(
            f"{path}: not {network} ({len(theirs)} tensors, should be {len(ours)}); give the right one of the "
            f"authors' files"
        )
    for name, tensor in ours.items():
        if renamed[name].shape != tensor.shape:
            raise BlemishError(
                f"{path}: {name} is {tuple(renamed[name].shape)}, should be {tuple(tensor.shape)}; wrong network?"
            )
    return {name: renamed[name] for name in ours}
