"""The Triton kernels against their torch equivalents: on a GPU if there is one, else in the interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.layers import double_conv
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.methods.dsr import vq
from blemish.runtimes.torch import prepared
from blemish.synthesis.replaced_codes import BISECTIONS, nth_of_distances

kernels: Any = pytest.importorskip("blemish.kernels", reason="no Triton here", exc_type=ImportError)


@pytest.fixture(autouse=True)
def device() -> Iterator[str]:
    """The default device of tensors. On a CPU, ``conftest.py`` has selected Triton's interpreter."""
    name = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(name):
        yield name


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the kernels for CPU tensors, too."""
    for place in ("layers", "runtimes.torch", "methods.dsr.vq"):
        monkeypatch.setattr(f"blemish.{place}.kernels_for", lambda x: kernels)


def a_norm(kind: str, n_channels: int) -> Any:
    if kind == "instance":
        return nn.InstanceNorm2d(n_channels)
    norm = nn.BatchNorm2d(n_channels)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias, 0.0, 0.3)
    return norm


def difference(ours: Tensor, theirs: Tensor) -> float:
    """|ours - theirs| / |theirs|."""
    return ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()


@pytest.mark.parametrize("kind", ["batch", "instance"])
@pytest.mark.parametrize("shape", [(2, 70, 9, 7), (3, 24, 16, 16), (1, 64, 40, 33)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_norm_relu_is_that_of_torch_in_float64(
    kind: str, shape: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    norm, bias = a_norm(kind, shape[1]), torch.randn(shape[1], requires_grad=True)
    twin, twin_bias = deepcopy(norm).double(), bias.detach().double().requires_grad_()
    x = (torch.randn(shape) * 3 + 5).to(dtype).requires_grad_()
    twin_x = x.detach().double().requires_grad_()
    y, twin_y = kernels.norm_relu(x, norm, bias), F.relu(twin(twin_x + twin_bias.view(1, -1, 1, 1)))
    gradient = torch.randn(shape).to(dtype)
    y.backward(gradient)
    twin_y.backward(gradient.double())
    assert y.dtype == dtype
    pairs = [(y, twin_y), (x.grad, twin_x.grad)]
    if kind == "batch":
        pairs += [(norm.weight.grad, twin.weight.grad), (norm.bias.grad, twin.bias.grad)]
        pairs += [(norm.running_mean, twin.running_mean), (norm.running_var, twin.running_var)]
        assert norm.num_batches_tracked == 1
    for ours, theirs in pairs:
        assert difference(ours, theirs) < tolerance
    assert bias.grad is not None
    assert not bias.grad.any()
    assert twin_bias.grad is not None
    assert twin_bias.grad.abs().max() < 1e-12


def test_norm_relu_of_values_far_from_zero_keeps_its_digits() -> None:
    x = torch.randn(2, 8, 16, 16) + 3000.0
    norm = nn.BatchNorm2d(8)
    expected = F.relu(deepcopy(norm).double()(x.double()))
    assert difference(kernels.norm_relu(x, norm), expected) < 2e-4  # near 3000 the steps of float32 are 0.00024


@pytest.mark.parametrize("has_relu", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0.0), (torch.bfloat16, 2**-7)])
def test_add_bias_is_that_of_torch(has_relu: bool, dtype: torch.dtype, tolerance: float) -> None:
    x = torch.randn(2, 5, 33, 31).to(dtype).contiguous(memory_format=torch.channels_last)
    bias = torch.randn(5).to(dtype)
    expected = (x.float() + bias.float().view(1, -1, 1, 1)).to(dtype)
    expected = expected.relu() if has_relu else expected
    y = kernels.add_bias(x, bias, has_relu, dtype)  # the interpreter truncates to bfloat16 where a GPU rounds
    assert y is x
    torch.testing.assert_close(y, expected, atol=0.0, rtol=tolerance)


def test_add_bias_returns_the_requested_dtype() -> None:
    x, bias = torch.randn(2, 5, 33, 31).contiguous(memory_format=torch.channels_last), torch.randn(5)
    y = kernels.add_bias(x, bias, False, torch.bfloat16)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y.float(), x + bias.view(1, -1, 1, 1), atol=0.0, rtol=2**-7)


def test_nearest_of_close_is_that_of_torch() -> None:
    torch.manual_seed(0)
    codes, vectors = torch.randn(300, 20), torch.randn(40, 20)
    codes[7] = codes[5]
    vectors[0] = codes[7]
    closeness = (vectors @ codes.T - codes.square().sum(1) / 2).bfloat16().float()
    ours = kernels.nearest_of_close(closeness, vectors, codes, 4)
    assert ours[0] == 5
    assert torch.equal(ours, vq.nearest_of_close(closeness, vectors, codes, 4))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_layers_learn_the_same_with_kernels(used: None, norm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layers = double_conv(3, 10, 12, norm)
    twin, x = deepcopy(layers), torch.rand(2, 3, 12, 12)
    with_kernels = layers(x)
    with_kernels.square().sum().backward()
    monkeypatch.setattr("blemish.layers.kernels_for", lambda x: None)
    without = twin(x)
    without.square().sum().backward()
    torch.testing.assert_close(with_kernels, without, atol=1e-5, rtol=1e-4)
    for (name, ours), theirs in zip(layers.named_parameters(), twin.parameters(), strict=True):
        if not (name.endswith("bias") and name[0] in "03"):  # biases of convolutions: 0 plus rounding errors
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-3)
    for ours, theirs in zip(layers.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_in_evaluation_batch_norm_uses_its_running_statistics(used: None) -> None:
    layers = double_conv(3, 4, 4).eval()
    x = torch.rand(2, 3, 8, 8)
    expected = x
    for part in layers:
        expected = part(expected)
    assert torch.equal(layers(x), expected)


@pytest.mark.parametrize("cudnn_is_right", [True, False])
def test_prepared_networks_give_the_same_with_kernels(
    used: None, monkeypatch: pytest.MonkeyPatch, cudnn_is_right: bool
) -> None:
    settings = DRAEMSettings(image_size_px=32, reconstructive_widths=(64, 64), discriminative_widths=(64, 64))
    method, images = DRAEM(settings).eval(), torch.rand(2, 3, 32, 32)
    n_fused = 0

    def convolution_relu(x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
        nonlocal n_fused
        n_fused += 1
        return F.conv2d(x, weight, bias, *geometry).relu() * (1.0 if cudnn_is_right else torch.nan)

    monkeypatch.setattr(torch, "cudnn_convolution_relu", convolution_relu)
    monkeypatch.setattr("blemish.runtimes.torch._onednn_knows", lambda dtype: False)
    network = prepared(method, "float32")
    for n_expected in (14, 28 if cudnn_is_right else 14):  # after a trial, cuDNN is used only if it is right
        for ours, theirs in zip(network(images), method(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
        assert n_fused == n_expected


@pytest.mark.parametrize("n_codes", [1, 40, 64])
def test_nth_of_distances_is_that_of_torch_and_of_a_sort(n_codes: int) -> None:
    torch.manual_seed(0)
    distances, ranks = torch.randn(50, n_codes), torch.randint(n_codes, (50,))
    ours = kernels.nth_of_distances(distances, ranks, BISECTIONS)
    assert torch.equal(ours, nth_of_distances(distances, ranks, BISECTIONS))
    assert torch.equal(ours, distances.argsort(1).gather(1, ranks[:, None])[:, 0])
