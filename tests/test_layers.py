"""Layers that more than one method uses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from blemish.layers import upsample_by_products, upsample_twice, upsampling_matrix

SHAPES = [(2, 3, 8, 8), (1, 5, 7, 12), (3, 4, 1, 6), (2, 2, 9, 1), (1, 4, 1, 1), (2, 1, 5, 4), (1, 16, 33, 20)]
ORDERS = [torch.contiguous_format, torch.channels_last]


def interpolated(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_upsampling_by_products_is_interpolation(shape: tuple[int, ...], order: torch.memory_format) -> None:
    ours = noise(*shape).contiguous(memory_format=order).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    upsampled, expected = upsample_by_products(ours), interpolated(theirs)
    torch.testing.assert_close(upsampled, expected, atol=1e-5, rtol=1e-5)
    weights = noise(*upsampled.shape)
    gradients = (
        torch.autograd.grad((upsampled * weights).sum(), ours),
        torch.autograd.grad((expected * weights).sum(), theirs),
    )
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)
    if min(shape[1], max(shape[2:])) > 1:  # else both memory formats are the same
        assert upsampled.is_contiguous(memory_format=order)
        assert gradients[0][0].is_contiguous(memory_format=order)


def test_upsampling_by_products_takes_any_order_of_memory() -> None:
    x = noise(6, 2, 5, 3).permute(3, 1, 2, 0)
    torch.testing.assert_close(upsample_by_products(x), interpolated(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_gradients_of_upsampling_by_products(order: torch.memory_format) -> None:
    x = noise(2, 3, 3, 4).double().contiguous(memory_format=order).requires_grad_()
    assert torch.autograd.gradcheck(upsample_by_products, (x,))
    torch.testing.assert_close(upsample_by_products(x), interpolated(x), atol=1e-14, rtol=0)


@pytest.mark.parametrize("order", ORDERS)
def test_upsampling_by_products_in_bfloat16(order: torch.memory_format) -> None:
    x = noise(2, 8, 32, 24).bfloat16().contiguous(memory_format=order)
    upsampled, expected = upsample_by_products(x), interpolated(x.float())
    assert upsampled.dtype == torch.bfloat16
    rounding = 2.0**-8 * x.abs().max()  # largest rounding error of a number; both products and the weights add some
    assert (upsampled.float() - expected).abs().max() < 3 * rounding
    assert (upsampled.float() - expected).square().mean().sqrt() < 2.0**-8 * expected.square().mean().sqrt()


def test_a_constant_stays_constant_in_bfloat16() -> None:
    x = torch.full((1, 4, 40, 56), 0.9).bfloat16()
    for order in ORDERS:
        assert (upsample_by_products(x.contiguous(memory_format=order)) == x[0, 0, 0, 0]).all()


@pytest.mark.parametrize("order", ORDERS)
def test_autocast_makes_it_the_dtype_of_products(order: torch.memory_format) -> None:
    x = noise(1, 4, 6, 6).contiguous(memory_format=order)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert upsample_by_products(x).dtype == torch.bfloat16
        assert upsample_by_products(x.bfloat16()).dtype == torch.bfloat16


def test_a_matrix_is_made_once_and_serves_inspection_and_training() -> None:
    with torch.inference_mode():
        first = upsampling_matrix(11, torch.float32, torch.device("cpu"))
        upsample_by_products(noise(1, 2, 11, 11))
    assert upsampling_matrix(11, torch.float32, torch.device("cpu")) is first
    x = noise(1, 2, 11, 11).requires_grad_()
    upsample_by_products(x).sum().backward()
    assert x.grad is not None


class Names(TorchDispatchMode):
    """Records the names of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("order", ORDERS)
def test_off_the_cpu_nothing_is_interpolated(order: torch.memory_format) -> None:
    x = torch.empty(2, 8, 6, 10, device="meta").contiguous(memory_format=order)
    with Names() as operations:
        y = upsample_twice(x)
    assert not [name for name in operations.names if "upsample" in name]
    assert y.shape == (2, 8, 12, 20)
    assert y.stride() == interpolated(x).stride()


def test_on_the_cpu_it_stays_interpolation() -> None:
    x = noise(2, 8, 6, 10)
    with Names() as operations:
        y = upsample_twice(x)
    assert [name for name in operations.names if "upsample_bilinear2d" in name]
    assert torch.equal(y, interpolated(x))
