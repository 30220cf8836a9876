"""The frozen backbone: its padding, its files, and the weights that come with blemish."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import EPSILON, Backbone, SamePadding, folded_checkpoint, load_backbone, save_backbone
from blemish.errors import BlemishError


@pytest.mark.parametrize("size", [7, 8, 9, 10])
@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_makes_an_output_of_half_the_size_rounded_up(size: int, kernel: int) -> None:
    padded = SamePadding(kernel, 2)(torch.ones(1, 1, size, size))
    assert F.conv2d(padded, torch.ones(1, 1, kernel, kernel), stride=2).shape[-1] == -(-size // 2)
    assert bool((padded[0, 0, -1] == 0).all()), "more zeros below than above, if their number is odd"


def test_the_shipped_one_tells_photographs_apart_in_five_stages() -> None:
    backbone = load_backbone()
    images = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    features = backbone(images)
    assert [tuple(stage.shape) for stage in features] == [
        (2, 16, 32, 24), (2, 24, 16, 12), (2, 40, 8, 6), (2, 80, 4, 3), (2, 112, 4, 3)
    ]  # fmt: skip
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert all(float((stage[0] - stage[1]).abs().mean()) > 0.01 for stage in features)
    assert len(load_backbone(n_stages=3).widths) == 3


def checkpoint_of(widths: tuple[int, ...], depths: tuple[int, ...], n_stem: int = 4) -> dict[str, Tensor]:
    """Random weights by the names of a checkpoint of EfficientNet-lite, with batch norms."""
    torch.manual_seed(0)
    checkpoint: dict[str, Tensor] = {}

    def add(convolution: str, norm: str, *shape: int) -> None:
        checkpoint[f"{convolution}.weight"] = torch.randn(shape)
        for name in ("weight", "bias", "running_mean"):
            checkpoint[f"{norm}.{name}"] = torch.randn(shape[0])
        checkpoint[f"{norm}.running_var"] = torch.rand(shape[0]) + 0.5

    add("_conv_stem", "_bn0", n_stem, 3, 3, 3)
    n_in, block = n_stem, 0
    for stage, (n_out, depth) in enumerate(zip(widths, depths, strict=True)):
        for _ in range(depth):
            name, n_middle = f"_blocks.{block}.", n_in * (6 if stage else 1)
            if stage:
                add(name + "_expand_conv", name + "_bn0", n_middle, n_in, 1, 1)
            kernel = 5 if stage == 2 else 3
            add(name + "_depthwise_conv", name + "_bn1", n_middle, 1, kernel, kernel)
            add(name + "_project_conv", name + "_bn2", n_out, n_middle, 1, 1)
            n_in, block = n_out, block + 1
    return checkpoint


def naive_features(checkpoint: dict[str, Tensor], images: Tensor) -> Tensor:
    """The output of the last block, one operation after the other, with norms."""

    def normed(x: Tensor, convolution: str, norm: str, stride: int, groups: int = 1) -> Tensor:
        weight = checkpoint[f"{convolution}.weight"]
        x = F.conv2d(SamePadding(weight.shape[-1], stride)(x), weight, None, stride, 0, 1, groups)
        statistics = (checkpoint[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics, False, 0.0, EPSILON)

    x = normed(images * 255 / 128 - 127 / 128, "_conv_stem", "_bn0", 2).clamp(0, 6)
    strides = [1, 2, 1, 2]  # of the blocks of checkpoint_of((4, 6, 8), (1, 2, 1))
    for block, stride in enumerate(strides):
        name, y = f"_blocks.{block}.", x
        if name + "_expand_conv.weight" in checkpoint:
            y = normed(y, name + "_expand_conv", name + "_bn0", 1).clamp(0, 6)
        y = normed(y, name + "_depthwise_conv", name + "_bn1", stride, y.shape[1]).clamp(0, 6)
        y = normed(y, name + "_project_conv", name + "_bn2", 1)
        x = x + y if y.shape == x.shape and stride == 1 else y
    return x


def test_a_checkpoint_gives_what_its_layers_compute_one_by_one(tmp_path: Path) -> None:
    checkpoint = checkpoint_of((4, 6, 8), (1, 2, 1))
    torch.save(checkpoint, tmp_path / "lite.pth")
    backbone = load_backbone(tmp_path / "lite.pth")
    images = torch.rand(2, 3, 30, 33, generator=torch.Generator().manual_seed(1))
    assert (backbone.widths, backbone.strides) == ((4, 6, 8), [2, 4, 8])
    expected = naive_features(checkpoint, images)
    torch.testing.assert_close(backbone(images)[-1], expected, atol=1e-3, rtol=1e-3)


def test_saved_and_loaded_differs_by_half_precision_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = Backbone(4, (4, 6), (1, 1)).eval()
    save_backbone(backbone, tmp_path / "b.safetensors", {"network": "tiny"})
    images = torch.rand(1, 3, 32, 32)
    for ours, theirs in zip(load_backbone(tmp_path / "b.safetensors")(images), backbone(images), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)


def test_files_that_are_none_are_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="no such file"):
        load_backbone(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("weights")
    torch.save(nn.Linear(2, 2), tmp_path / "code.pth")  # an object, which only pickle's code could read
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    torch.save({**folded_checkpoint(checkpoint_of((4,), (1,)))}, tmp_path / "names.pth")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("text.pth", "code.pth", "linear.pth", "names.pth", "empty.safetensors"):
        with pytest.raises(BlemishError, match=rf"{name}: .*EfficientNet-lite") as error:
            load_backbone(tmp_path / name)
        assert "\n" not in str(error.value)
