"""Fused and folded convolutions compute the same as the original modules."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from blemish.detector import Detector
from blemish.layers import conv_norm_relu, double_conv
from blemish.methods.base import Method, Settings
from blemish.runtimes import torch as inference
from blemish.runtimes.torch import TorchRuntime, prepared


class Plain(Method):
    """A method whose anomaly map is the output of a single module."""

    name = "plain"
    settings_type = Settings
    exact: ClassVar[tuple[str, ...]] = ("network.1",)

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.network = part

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.network(images)
        return maps, maps.amax((1, 2, 3))

    def stages(self):  # type: ignore[no-untyped-def]
        return ()

    def loss(self, stage, images, generator):  # type: ignore[no-untyped-def]
        return {}


def trained(part: nn.Module) -> Plain:
    """A method whose norms have statistics and weights that differ from the initial values."""
    generator = torch.Generator().manual_seed(0)
    for module in part.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return Plain(part).eval().requires_grad_(False)  # type: ignore[return-value]


PARTS = {
    "convolution": nn.Conv2d(6, 4, 3, padding=1),
    "strided, dilated, in groups, without bias": nn.Conv2d(6, 8, 3, 2, padding=4, dilation=4, groups=2, bias=False),
    "with norm and ReLU": conv_norm_relu(6, 8),
    "two, instance norm": double_conv(6, 8, 10, nn.InstanceNorm2d),
    "ReLU, but not behind it": nn.Sequential(nn.ReLU(), nn.Conv2d(6, 4, 1), nn.MaxPool2d(2), nn.ReLU()),
    "norm alone": nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)),
    "norm that is not behind a convolution": nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)),
    "transposed": nn.Sequential(nn.ConvTranspose2d(6, 8, 3, 2, 1, output_padding=1), nn.BatchNorm2d(8), nn.ReLU()),
    "nested": nn.Sequential(conv_norm_relu(6, 8), nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 2, 1)), nn.ReLU()),
    "side by side": nn.ModuleList([nn.Conv2d(6, 4, 1), nn.ReLU()])[0],
}


@pytest.mark.parametrize("name", PARTS)
def test_a_prepared_network_does_the_same(name: str) -> None:
    method, images = trained(PARTS[name]), torch.randn(2, 6, 16, 20)
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    expected, expected_score = method(images)
    for layout in (torch.contiguous_format, torch.channels_last):
        maps, score = prepared(method, "float32")(images.contiguous(memory_format=layout))
        torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(score, expected_score, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(tensor, before[key]) for key, tensor in method.state_dict().items())


def test_bf16_is_for_wide_convolutions_that_need_not_be_exact() -> None:
    wide = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(3)]
    method = trained(nn.Sequential(nn.Conv2d(3, 64, 1), wide[0], wide[1], nn.ReLU(), wide[2], nn.Conv2d(64, 1, 1)))
    images = torch.rand(1, 3, 16, 16)
    network = prepared(method, "bf16")
    dtypes = [convolution.dtype for convolution in network.network]  # type: ignore[operator, union-attr]
    half, full = torch.bfloat16, torch.float32
    assert dtypes == [full, full, half, half, full]  # network.1 is exact; the ReLU is fused into a convolution
    maps, score = network(images)
    assert maps.dtype == score.dtype == full
    expected, _ = method(images)
    assert 0 < (maps - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_runtime_prepares_a_large_network_in_bf16_only_if_asked_or_if_the_machine_is_fast_at_it(
    darkness: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    precisions: list[str] = []
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    for precision, smallest in (("auto", 10**7), ("auto", 1), ("float32", 1), ("bf16", 10**7)):
        monkeypatch.setattr("blemish.runtimes.torch.LARGE", smallest)
        precisions.append(TorchRuntime(darkness.method, precision).precision)  # type: ignore[arg-type]
    assert precisions == ["float32", "bf16", "float32", "bf16"]


def test_on_a_gpu_without_kernels_a_convolution_gives_the_channels_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few output channels are padded for a GPU; this test simulates the GPU with CPU memory."""
    for has_relu in (False, True):
        plain = nn.Conv2d(64, 2, 3, padding=1)
        x = torch.rand(1, 64, 8, 8)
        expected = plain(x).relu() if has_relu else plain(x)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "is_cuda", True)
            convolution = inference._Convolution(plain, has_relu, torch.float32)
        convolution.is_onednn = False
        assert len(convolution.weight) == 8, "padded"
        torch.testing.assert_close(convolution(x), expected)
