"""Frozen networks: read from files as others wrote them, against their forward pass restated from those tensors."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import (
    Backbone,
    SamePadding,
    layout_of,
    load_backbone,
    read_backbone_card,
    save_backbone,
)
from blemish.errors import BlemishError

STRIDES = (1, 2, 2, 2, 1, 2, 1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_norm(state: dict[str, Tensor], path: str, norm: str, n_out: int, per_group: int, kernel: int) -> None:
    """Add a convolution and its batch norm with random statistics to a state dict."""
    seed = len(state)
    state[f"{path}.weight"] = noise(n_out, per_group, kernel, kernel, seed=seed) / (per_group * kernel**2) ** 0.5
    state[f"{norm}.weight"] = 1.0 + 0.2 * noise(n_out, seed=seed + 1)
    state[f"{norm}.bias"] = 0.3 * noise(n_out, seed=seed + 2)
    state[f"{norm}.running_mean"] = 0.3 * noise(n_out, seed=seed + 3)
    state[f"{norm}.running_var"] = 0.5 + noise(n_out, seed=seed + 4).square()
    state[f"{norm}.num_batches_tracked"] = torch.tensor(7)


def normed(state: dict[str, Tensor], x: Tensor, norm: str, eps: float) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, variance, weight, bias, eps=eps)


# --- EfficientNet-lite -------------------------------------------------------------------------------------------

BLOCKS = ((1, 3, 4), (6, 3, 6), (6, 3, 6), (6, 5, 8), (6, 3, 10), (6, 5, 12))
"""Expansion, kernel and channels of each block: the second and third are of one stage."""


def efficientnet_state(blocks: tuple[tuple[int, int, int], ...] = BLOCKS) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    with_norm(state, "_conv_stem", "_bn0", 8, 3, 3)
    n_in = 8
    for number, (expansion, kernel, n_out) in enumerate(blocks):
        path, n_mid = f"_blocks.{number}.", n_in * expansion
        if expansion > 1:
            with_norm(state, f"{path}_expand_conv", f"{path}_bn0", n_mid, n_in, 1)
        with_norm(state, f"{path}_depthwise_conv", f"{path}_bn1", n_mid, 1, kernel)
        with_norm(state, f"{path}_project_conv", f"{path}_bn2", n_out, n_mid, 1)
        n_in = n_out
    with_norm(state, "_conv_head", "_bn1", 20, n_in, 1)
    state["_fc.weight"], state["_fc.bias"] = noise(5, 20), noise(5)
    return state


def padded_by_the_formula(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "SAME": the output has ceil(n / stride) samples, the odd zero is at the end."""
    height, width = x.shape[-2:]
    missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (height, width)]
    padded = torch.zeros(*x.shape[:2], height + missing[0], width + missing[1])
    top, left = missing[0] // 2, missing[1] // 2
    padded[..., top : top + height, left : left + width] = x
    return padded


def efficientnet_outputs(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    def convolved(x: Tensor, path: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{path}.weight"]
        x = padded_by_the_formula(x, weight.shape[-1], stride)
        return normed(state, F.conv2d(x, weight, None, stride, 0, 1, x.shape[1] // weight.shape[1]), norm, 1e-3)

    x = convolved((images * 255.0 - 127.0) / 128.0, "_conv_stem", "_bn0", 2).clamp(0, 6)
    outputs: list[Tensor] = []
    stage, n_now = -1, x.shape[1]
    for number in range(len(BLOCKS)):
        path, before = f"_blocks.{number}.", x
        is_first = state[f"{path}_project_conv.weight"].shape[0] != n_now
        stage, n_now = stage + is_first, state[f"{path}_project_conv.weight"].shape[0]
        if f"{path}_expand_conv.weight" in state:
            x = convolved(x, f"{path}_expand_conv", f"{path}_bn0").clamp(0, 6)
        x = convolved(x, f"{path}_depthwise_conv", f"{path}_bn1", STRIDES[stage] if is_first else 1).clamp(0, 6)
        x = convolved(x, f"{path}_project_conv", f"{path}_bn2")
        x = x if is_first else x + before
        outputs[stage:] = [x]
    return outputs


@pytest.mark.parametrize("size_hw", [(64, 64), (37, 50), (9, 32)])
def test_an_efficientnet_computes_what_its_unfolded_tensors_say(size_hw: tuple[int, int], tmp_path: Path) -> None:
    state, images = efficientnet_state(), torch.rand(2, 3, *size_hw)
    torch.save(state, tmp_path / "x.pth")
    network = load_backbone(tmp_path / "x.pth")
    assert network.channels == (4, 6, 8, 10, 12)
    for ours, expected in zip(network(images), efficientnet_outputs(state, images), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kernel", "stride"), [*itertools.product((3, 5), (1, 2))])
@pytest.mark.parametrize("size_hw", [(8, 8), (7, 12), (1, 2), (33, 5)])
def test_padding_is_tensorflows(size_hw: tuple[int, int], kernel: int, stride: int) -> None:
    x = noise(1, 2, *size_hw)
    padded = SamePadding(kernel, stride)(x)
    assert torch.equal(padded, padded_by_the_formula(x, kernel, stride))
    output = F.conv2d(padded, torch.ones(1, 2, kernel, kernel), stride=stride)
    assert output.shape[-2:] == tuple(-(-side // stride) for side in size_hw)


# --- ResNet ------------------------------------------------------------------------------------------------------


def resnet_state(width: int = 6, depths: tuple[int, ...] = (2, 1, 2, 1), groups: int = 1) -> dict[str, Tensor]:
    """Bottlenecks with torchvision's names; each stage has 4 times as many channels out as its first has."""
    state: dict[str, Tensor] = {}
    with_norm(state, "conv1", "bn1", 8, 3, 7)
    n_in = 8
    for stage, depth in enumerate(depths, 1):
        n_mid, n_out = width * 2 ** (stage - 1), 8 * 2**stage
        for number in range(depth):
            path = f"layer{stage}.{number}."
            with_norm(state, f"{path}conv1", f"{path}bn1", n_mid, n_in, 1)
            with_norm(state, f"{path}conv2", f"{path}bn2", n_mid, n_mid // groups, 3)
            with_norm(state, f"{path}conv3", f"{path}bn3", n_out, n_mid, 1)
            if number == 0:
                with_norm(state, f"{path}downsample.0", f"{path}downsample.1", n_out, n_in, 1)
            n_in = n_out
    state["fc.weight"], state["fc.bias"] = noise(5, n_in), noise(5)
    return state


def resnet_outputs(state: dict[str, Tensor], images: Tensor, depths: tuple[int, ...], groups: int) -> list[Tensor]:
    def convolved(x: Tensor, path: str, norm: str, stride: int = 1, n_groups: int = 1) -> Tensor:
        weight = state[f"{path}.weight"]
        return normed(state, F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, n_groups), norm, 1e-5)

    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = convolved((images - mean) / std, "conv1", "bn1", 2).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    outputs = []
    for stage, depth in enumerate(depths, 1):
        for number in range(depth):
            path, stride = f"layer{stage}.{number}.", 2 if stage > 1 and number == 0 else 1
            y = convolved(x, f"{path}conv1", f"{path}bn1").relu()
            y = convolved(y, f"{path}conv2", f"{path}bn2", stride, groups).relu()  # torchvision strides here
            y = convolved(y, f"{path}conv3", f"{path}bn3")
            if number == 0:
                x = convolved(x, f"{path}downsample.0", f"{path}downsample.1", stride)
            x = (x + y).relu()
        outputs.append(x)
    return outputs


@pytest.mark.parametrize("groups", [1, 2])
def test_a_resnet_computes_what_its_unfolded_tensors_say(groups: int, tmp_path: Path) -> None:
    depths, images = (2, 1, 2, 1), torch.rand(2, 3, 70, 49)
    state = resnet_state(depths=depths, groups=groups)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.pth")
    network = load_backbone(tmp_path / "x.pth")
    assert network.channels == (16, 32, 64, 128)
    for ours, expected in zip(network(images), resnet_outputs(state, images, depths, groups), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_a_resnet_of_basic_blocks_is_read_too() -> None:
    state: dict[str, Tensor] = {}
    with_norm(state, "conv1", "bn1", 8, 3, 7)
    for name in ("conv1", "conv2"):
        with_norm(state, f"layer1.0.{name}", f"layer1.0.{name.replace('conv', 'bn')}", 8, 8, 3)
    (output,) = Backbone(layout_of(state))(torch.rand(1, 3, 32, 32))
    assert output.shape == (1, 8, 8, 8)


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [efficientnet_state(), resnet_state()], ids=["efficientnet", "resnet"])
def test_what_was_saved_is_read_again_from_its_shapes_alone(state: dict[str, Tensor], tmp_path: Path) -> None:
    network, images = Backbone(layout_of(state)), torch.rand(1, 3, 48, 48)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    save_backbone(network, tmp_path / "x.safetensors", {"licence": "ours"})
    again = load_backbone(tmp_path / "x.safetensors")
    assert again.state_dict().keys() == network.state_dict().keys()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name].half().float())
    for output, expected in zip(again(images), network(images), strict=True):
        torch.testing.assert_close(output, expected, atol=0.05, rtol=0.05)
    rebuilt = Backbone(layout_of(again.state_dict()), n_stages=2)
    assert len(rebuilt(images)) == 2
    assert all(torch.equal(*pair) for pair in zip(rebuilt(images), again(images)[:2], strict=True))


def test_the_network_that_ships() -> None:
    network = load_backbone()
    assert network.channels == (16, 24, 40, 80, 112)
    shapes = [tuple(output.shape) for output in network(torch.rand(1, 3, 100, 64))]
    assert shapes == [(1, 16, 50, 32), (1, 24, 25, 16), (1, 40, 13, 8), (1, 80, 7, 4), (1, 112, 7, 4)]
    card = read_backbone_card()
    assert card["licence"] == "Apache-2.0"
    assert len(card["original_sha256"]) == 64
    assert len(load_backbone(n_stages=3).channels) == 3


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Harmful(tmp_path / "ran")}, tmp_path / "x.pth")
    with pytest.raises(BlemishError, match=r"x\.pth: holds more than weights.*save `model\.state_dict\(\)` alone"):
        load_backbone(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message_part"),
    [
        (None, "no such file; give a file of weights"),
        (b"", "or is damaged|cannot be read as weights"),
        (b"not weights at all", "is no file of weights; give one of an EfficientNet-lite"),
        ([1, 2], "holds no weights"),
        ({"epoch": 3}, "holds no weights"),
        ({"fc.weight": torch.zeros(2, 2)}, "the weights of no network that blemish knows; give those of"),
        ({**resnet_state(), "layer1.0.bn1.running_var": None}, "the weights of no network"),
        ({**resnet_state(), "layer2.0.conv2.weight": torch.zeros(12, 7, 3, 3)}, "the weights of no network"),
        ({**resnet_state(), "layer2.0.conv2.weight": torch.zeros(12)}, "the weights of no network"),
        ({**resnet_state(), "layer2.0.conv2.weight": torch.full((12, 12, 3, 3), torch.nan)}, "contains NaN"),
    ],
)
def test_a_file_of_something_else_is_refused(content: Any, message_part: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(BlemishError, match=message_part) as error:
        load_backbone(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_folders_and_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="is a folder"):
        load_backbone(tmp_path)
    content = safetensors.torch.save({"stem.0.weight": torch.zeros(4, 3, 7, 7)})
    (tmp_path / "x.safetensors").write_bytes(content[:-8])
    with pytest.raises(BlemishError, match="cannot be read as weights"):
        load_backbone(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(BlemishError, match="no network that blemish knows"):
        load_backbone(tmp_path / "x.safetensors")
