"""The weights that the authors of DRÆM and DSR released, as methods of ours.

Each of their files is a state dict of one network. It is unpickled with ``weights_only=True``, so no code in it is
run, and has to match our network tensor by tensor. Only two things change:

- Their networks see images as OpenCV reads them, BGR, ours RGB: the channels of all weights that read or write an
  image are reversed.
- Half-precision numbers become float32. No number is scaled: DSR's codes are the authors' codes.

``docs/guide.md`` has the names and shapes of all files.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.methods.base import Method, Settings
from blemish.methods.draem import DRAEM
from blemish.methods.dsr import DSR, DSRSettings
from blemish.methods.dsr.vq import VQAutoencoder


def authors_settings(method: type[Method]) -> Settings:
    """The settings of a converted method: those of recipe ``paper``, the resizing of photographs included."""
    return method.recipes["paper"]


def convert_draem(reconstructive: Path, discriminative: Path) -> DRAEM:
    """The method with the two state dicts that the authors of DRÆM released for each category.

    Raises
    ------
    BlemishError
        If a file cannot be read weights-only, is damaged, or does not belong to the expected network.
    """
    with torch.device("meta"):  # without weights of its own, which would be drawn for nothing
        method = DRAEM.build(authors_settings(DRAEM))
    _load(method.reconstructive, reconstructive, _RECONSTRUCTIVE)
    _load(method.discriminative, discriminative, _DISCRIMINATIVE)
    return method


def convert_codebook(path: Path) -> VQAutoencoder:
    """The VQ autoencoder that the authors of DSR released (``vq_model_pretrained_128_4096.pckl``).

    Its codes keep the authors' scale, whereas those that ``blemish pretrain`` trains have unit variance
    (``VQAutoencoder.normalize``). So the loss on features (eq. 3) has the weight that it has in the authors' code.

    Raises
    ------
    BlemishError
        If the file cannot be read weights-only, is damaged, or does not belong to this network.
    """
    with torch.device("meta"):
        network = VQAutoencoder()
    _load(network, path, _VQ)
    return network


DSR_PARTS = (
    "subspace_restriction_lo",
    "subspace_restriction_hi",
    "image_recon_module",
    "anomaly_det_module",
    "upsample_module",
)
"""The state dicts of each category beside the codebook, as the authors' files call them."""


def convert_dsr(files: Mapping[str, Path], codebook: VQAutoencoder) -> tuple[DSR, list[str]]:
    """The method with the state dicts that the authors of DSR released for each category.

    Parameters
    ----------
    files : by ``DSR_PARTS``, all of them.
    codebook : of ``convert_codebook``; the method holds it, not a copy.

    Returns
    -------
    The method, and the names of those tensors in the file of the object-specific decoder that the network does not
    use. The authors load that file with ``strict=False``.

    Raises
    ------
    BlemishError
        If a file cannot be read weights-only, is damaged, or does not belong to the expected network.
    """
    settings = authors_settings(DSR)
    assert isinstance(settings, DSRSettings)
    with torch.device("meta"):
        method = DSR(settings, codebook)
    _load(method.restriction_low, files["subspace_restriction_lo"], _RESTRICTION_LOW)
    _load(method.restriction_high, files["subspace_restriction_hi"], _RESTRICTION_HIGH)
    _load(method.detection, files["anomaly_det_module"], _DETECTION)
    _load(method.upsampling, files["upsample_module"], _UPSAMPLING)
    return method, _load(method.decoder, files["image_recon_module"], _OBJECT_SPECIFIC)


# --- names of tensors ------------------------------------------------------------------------------------------

_LAYERS = (("._layers", ""), ("._block.1", ".wide"), ("._block.3", ".narrow"))
"""Within a residual stack: ``_layers.1._block.3.weight`` is ``1.narrow.weight``."""


def _by_beginnings(beginnings: Mapping[str, str], theirs: str) -> str | None:
    """Our name of a tensor by the module that it belongs to; None if that is unknown."""
    for module, ours in beginnings.items():
        if theirs.startswith(f"{module}."):
            rest = theirs.removeprefix(module)
            for their_part, our_part in _LAYERS:
                rest = rest.replace(their_part, our_part)
            return ours + rest
    return None


_VQ_MODULES = {
    "_encoder_b._conv_1": "encoder_high.0",
    "_encoder_b._conv_2": "encoder_high.2",
    "_encoder_b._conv_3": "encoder_high.4",
    "_encoder_b._residual_stack": "encoder_high.5",
    "_encoder_t._conv_1": "encoder_low.0",
    "_encoder_t._conv_2": "encoder_low.2",
    "_encoder_t._residual_stack": "encoder_low.3",
    "_pre_vq_conv_top": "encoder_low.4",
    "_pre_vq_conv_bot": "merge_high",
    "_decoder_b._conv_1": "decoder.0",
    "_decoder_b._residual_stack": "decoder.1",
    "_decoder_b._conv_trans_1": "decoder.2",
    "_decoder_b._conv_trans_2": "decoder.4",
    "upsample_t": "upsample_low",
}
_CODES = {
    "_vq_vae_top._embedding.weight": "codebook_low.codes",
    "_vq_vae_bot._embedding.weight": "codebook_high.codes",
}
_OBJECT_SPECIFIC_MODULES = {
    "block1": "layers.0",
    "block2": "layers.2",
    "pre_vq_conv": "layers.4",
    "upblock1": "layers.5",
    "upblock2": "layers.7",
    "_conv_1": "layers.9.0",
    "_residual_stack": "layers.9.1",
    "_conv_trans_1": "layers.9.2",
    "_conv_trans_2": "layers.9.4",
}


def _vq_name(theirs: str) -> str | None:
    return _CODES.get(theirs) or _by_beginnings(_VQ_MODULES, theirs)


def _encoder_decoder_name(encoder: str, decoder: str, steps: Sequence[str], theirs: str) -> str | None:
    """Our name of a tensor of an encoder and a decoder with the steps ``up1``, ``db1``, ``up2`` ...; None if unknown.

    Parameters
    ----------
    encoder, decoder : how the names of their tensors begin.
    steps : what ``up`` and ``db`` are followed by, in order: the authors count from _b, 1 or 2.
    """
    if match := re.fullmatch(rf"{re.escape(encoder)}\.block(\d)\.(.+)", theirs):
        return f"encoder.blocks.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(rf"{re.escape(decoder)}\.fin_out\.0\.(.+)", theirs):
        return f"head.{match[1]}"
    match = re.fullmatch(rf"{re.escape(decoder)}\.(up|db)(_b|\d)\.(\d)\.(.+)", theirs)
    if match is None or match[2] not in steps:
        return None
    level, layer = steps.index(match[2]), int(match[3])
    # The first layer of an authors' `up` is the interpolation, which has no weights.
    return f"ups.{level}.{layer - 1}.{match[4]}" if match[1] == "up" else f"blocks.{level}.{layer}.{match[4]}"


# --- the networks ----------------------------------------------------------------------------------------------


class _Network(NamedTuple):
    """One of the authors' networks."""

    title: str
    our_name: Callable[[str], str | None]
    """Our name of one of its tensors, or None."""
    reordered: Mapping[str, tuple[int, list[int]]] = {}
    """Our names of the weights that read or write images: the axis of the channels, and their new order."""
    is_spare: Callable[[str], bool] = lambda theirs: False
    """Whether its file may hold this tensor, although the network does not use it."""


_RGB = [2, 1, 0]  # of BGR
_TWO_IMAGES = [*_RGB, 5, 4, 3]
_FIRST = "encoder.blocks.0.0.weight"
_DSR_U_NET = partial(_encoder_decoder_name, "unet.encoder", "unet.decoder", ("1", "2", "3"))
_RESTRICTION = partial(_encoder_decoder_name, "unet.encoder", "unet.decoder", ("2", "3"))

_RECONSTRUCTIVE = _Network(
    "DRÆM's reconstructive network",
    partial(_encoder_decoder_name, "encoder", "decoder", ("1", "2", "3", "4")),
    {_FIRST: (1, _RGB), "head.weight": (0, _RGB), "head.bias": (0, _RGB)},
)
_DISCRIMINATIVE = _Network(
    "DRÆM's discriminative network",
    partial(_encoder_decoder_name, "encoder_segment", "decoder_segment", ("_b", "1", "2", "3", "4")),
    {_FIRST: (1, _TWO_IMAGES)},
)
_VQ = _Network(
    "DSR's VQ autoencoder",
    _vq_name,
    {"encoder_high.0.weight": (1, _RGB), "decoder.4.weight": (1, _RGB), "decoder.4.bias": (0, _RGB)},
    lambda theirs: re.match(r"_vq_vae_(top|bot)\._ema_", theirs) is not None,  # only its training uses them
)
_RESTRICTION_LOW = _Network("DSR's subspace restriction module of the low level", _RESTRICTION)
_RESTRICTION_HIGH = _Network("DSR's subspace restriction module of the high level", _RESTRICTION)
_OBJECT_SPECIFIC = _Network(
    "DSR's object-specific decoder",
    partial(_by_beginnings, _OBJECT_SPECIFIC_MODULES),
    {"layers.9.4.weight": (1, _RGB), "layers.9.4.bias": (0, _RGB)},
    lambda theirs: theirs.partition(".")[0] not in _OBJECT_SPECIFIC_MODULES,
)
_DETECTION = _Network("DSR's anomaly detection module", _DSR_U_NET, {_FIRST: (1, _TWO_IMAGES)})
_UPSAMPLING = _Network("DSR's upsampling module", _DSR_U_NET, {_FIRST: (1, [*_TWO_IMAGES, 6, 7])})


# --- files -----------------------------------------------------------------------------------------------------


def _load(module: nn.Module, path: Path, network: _Network) -> list[str]:
    """Load a file of the authors into our network, and return the names of the tensors that it does not use."""
    theirs = _read_state_dict(path)
    tensors, spare = _renamed(theirs, module.state_dict(), path, network)
    for name, (axis, order) in network.reordered.items():
        tensors[name] = tensors[name].index_select(axis, torch.tensor(order))
    module.load_state_dict(tensors, assign=True)
    return spare


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors in a file that ``torch.save`` wrote; BlemishError if it is anything but a state dict."""
    if not path.is_file():
        is_what = "is no file" if path.exists() else "no such file"
        raise BlemishError(f"{path}: {is_what}; give the authors' state dict")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise BlemishError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except Exception as error:
        if _is_cut_short(path, error):
            raise BlemishError(f"{path}: cut short; copy or download it again") from error
        raise BlemishError(
            f"{path}: cannot be read as plain weights; give the authors' state dict, unchanged"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BlemishError(f"{path}: holds more than a state dict; save only `model.state_dict()`")
    return content


def _is_cut_short(path: Path, error: Exception) -> bool:
    """Whether a file lacks its end: a ZIP archive, or one as torch wrote before 1.6 (pickles, then numbers)."""
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        return not zipfile.is_zipfile(path)
    is_at_end = isinstance(error, EOFError | IndexError | struct.error) or "unexpected EOF" in str(error)
    return is_at_end and start in (b"", b"\x80\x02")


def _renamed(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], path: Path, network: _Network
) -> tuple[dict[str, Tensor], list[str]]:
    """Copies of the authors' tensors by our names, and the names of those in the file that the network does not use.

    BlemishError unless they match ours one to one, with the same shapes, in finite numbers.
    """
    names = {name: network.our_name(name) for name in theirs}
    spare = [name for name, our_name in names.items() if our_name not in ours]
    their_names = {our_name: name for name, our_name in names.items() if our_name in ours}
    n_missing = len(ours) - len(their_names)
    foreign = [name for name in spare if not network.is_spare(name)]
    if n_missing or foreign or len(their_names) + len(spare) != len(theirs):
        lacks = f"{n_missing} of its {len(ours)} tensors {'is' if n_missing == 1 else 'are'} missing" * bool(
            n_missing
        )
        holds = f"{foreign[0]} is none of its tensors" if foreign else ""
        reasons = " and ".join(filter(None, (lacks, holds))) or "some of its tensors are there twice"
        raise BlemishError(f"{path}: not {network.title} ({reasons}); give the right one of the authors' files")
    renamed = {}
    for our_name, our_tensor in ours.items():
        name = their_names[our_name]
        tensor = theirs[name]
        if tensor.shape != our_tensor.shape:
            raise BlemishError(
                f"{path}: not {network.title} ({name} is {_size(tensor)}, should be {_size(our_tensor)}); give the "
                f"right one of the authors' files"
            )
        tensor = tensor.detach().to(our_tensor.dtype, copy=True, memory_format=torch.contiguous_format)
        if not bool(tensor.isfinite().all()):
            raise BlemishError(f"{path}: damaged, {name} contains NaN or infinity; copy or download it again")
        renamed[our_name] = tensor
    return renamed, spare


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
