"""The authors' released weights of DRÆM and of DSR's codebook -> ours. Unpickled weights-only: nothing is run."""

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
        If a file cannot be read weights-only, or is not of the network it should be of.
    """
    method = DRAEM(DRAEMSettings())
    for network, path in ((method.reconstructive, reconstructive), (method.discriminative, discriminative)):
        theirs = _read_state_dict(path)
        network.load_state_dict(_renamed(theirs, network.state_dict(), path, _our_name, "this network of DRÆM"))
    _from_bgr(method)
    return method


def _from_bgr(method: DRAEM) -> None:
    """The authors' networks see BGR, as OpenCV reads it: turn round the weights that meet a channel, for RGB."""
    with torch.no_grad():
        weight = method.reconstructive.get_parameter("encoder.blocks.0.0.weight")
        weight.copy_(weight[:, [2, 1, 0]])
        for parameter in method.reconstructive.head.parameters():
            parameter.copy_(parameter[[2, 1, 0]])
        weight = method.discriminative.get_parameter("encoder.blocks.0.0.weight")
        weight.copy_(weight[:, [2, 1, 0, 5, 4, 3]])


def convert_codebook(path: Path) -> VQAutoencoder:
    """Load the VQ autoencoder that the authors of DSR published (``vq_model_pretrained_128_4096.pckl``).

    Raises
    ------
    BlemishError
        If the file cannot be read weights-only, or is not of this network.
    """
    theirs = {name: one for name, one in _read_state_dict(path).items() if "_ema_" not in name}
    network = VQAutoencoder()
    network.load_state_dict(_renamed(theirs, network.state_dict(), path, _our_vq_name, "DSR's VQ autoencoder"))
    with torch.no_grad():  # it sees BGR, too
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
"""The authors' names of what we call otherwise."""


def _our_vq_name(theirs: str) -> str | None:
    """``_encoder_b._residual_stack._layers.1._block.3.weight`` is ``encoder_high.5.1.narrow.weight``."""
    for part, ours in _VQ_PARTS.items():
        if theirs.startswith(part):
            rest = theirs.removeprefix(part).replace("._layers", "")
            return ours + rest.replace("._block.1", ".wide").replace("._block.3", ".narrow")
    return None


def _read_state_dict(path: Path) -> dict[str, Tensor]:
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
    """Our name of one of the authors' tensors: ``decoder.up2.1.weight`` is ``ups.1.0.weight``."""
    part, _, name = theirs.partition(".")
    if part.startswith("encoder"):
        found = re.fullmatch(r"block(\d)\.(.*)", name)
        return f"encoder.blocks.{int(found[1]) - 1}.{found[2]}" if found else None
    found = re.fullmatch(r"(up|db)(_b|\d)\.(\d)\.(.*)|fin_out\.0\.(.*)", name)
    if not found or not part.startswith("decoder"):
        return None
    if found[5]:
        return f"head.{found[5]}"
    # The U-Net counts its steps _b, 1, 2 ..., the other decoder 1, 2 ...; an `up` begins with the interpolation.
    level = 0 if found[2] == "_b" else int(found[2]) - (part == "decoder")
    return (
        f"ups.{level}.{int(found[3]) - 1}.{found[4]}" if found[1] == "up" else f"blocks.{level}.{found[3]}.{found[4]}"
    )


def _renamed(
    theirs: dict[str, Tensor],
    ours: dict[str, Tensor],
    path: Path,
    our_name: Callable[[str], str | None],
    network: str,
) -> dict[str, Tensor]:
    """The authors' tensors under our names; refused unless there is exactly one of the right shape for each."""
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
