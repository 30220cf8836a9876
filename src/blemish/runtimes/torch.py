"""Inspection with torch, by a prepared copy of the trained method: the same function with less work.

- Batch norm is folded into the convolution before it.
- On a CPU, a convolution and the ReLU after it are one oneDNN primitive, with the weights in oneDNN's own layout.
- On a CPU, instance norm is group norm with one channel in each group, which torch computes there without a change of
  memory layout. (On a GPU, group norm changes the layout twice and is slower than instance norm.)
- If the hardware has fast bf16 arithmetic, convolutions use it, except those with few channels, which read or write
  an image, and those that a method needs exact (``Method.exact``).
- On a GPU, a batch whose shape has occurred before is one launch, for up to four shapes (``graphs.py``).
"""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from blemish.devices import Precision, keep_freed_memory, kernels_for, resolve_precision
from blemish.methods.base import Method
from blemish.runtimes.base import Runtime
from blemish.runtimes.graphed import GraphedInspection

FEW_CHANNELS = 48
"""Convolutions with at most this many input or output channels are cheap and near the image: they stay in float32."""
LARGE = 10_000_000
"""Smallest number of parameters for which bf16 makes a network faster."""


class TorchRuntime(Runtime):
    """A trained method on its device, prepared for inspection. Later changes to the method have no effect.

    Parameters
    ----------
    method : is put into inference mode; the runtime shares its weights where possible.
    precision : precision of the convolutions: ``auto`` is bf16 for a large network if the hardware has fast bf16
        arithmetic, else float32.
    """

    name = "torch"

    def __init__(self, method: Method, precision: Precision = "auto") -> None:
        super().__init__(method.name, method.settings)
        self._method, self.requested_precision = method.eval().requires_grad_(False), precision
        keep_freed_memory()
        self.device = device_of(method)
        is_large = sum(parameter.numel() for parameter in method.parameters()) >= LARGE
        requested = "float32" if precision == "auto" and not is_large else precision
        self.precision = resolve_precision(requested, self.device)
        self.prepared = prepared(method, self.precision)
        uses_graphs = self.device.type == "cuda" and method.settings.cuda_graphs
        self._run = GraphedInspection(self.prepared) if uses_graphs else self.prepared
        blank = torch.zeros(1, 3, *method.settings.size_hw, device=self.device)
        self(blank.contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps, scores = self._run(images)  # (B, 1, S, S), (B,)
        return maps.float(), scores.float()

    @torch.inference_mode()
    def explain(self, images: Tensor) -> dict[str, Tensor]:
        return {name: picture.float() for name, picture in self.prepared.explain(images).items()}

    def tensors(self) -> dict[str, Tensor]:
        return self._method.state_dict()

    @property
    def method(self) -> Method:
        return self._method

    def to(self, device: torch.device) -> TorchRuntime:
        return TorchRuntime(self._method.to(device), self.requested_precision)


def device_of(method: Method) -> torch.device:
    """Return the device of a method's weights."""
    return next((tensor.device for tensor in method.state_dict().values()), torch.device("cpu"))


@torch.no_grad()
def prepared(method: Method, precision: Literal["float32", "bf16"]) -> Method:
    """Return a copy of a method in inference mode that computes the same with less work, for the method's device."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    on_cpu = device_of(method).type == "cpu"
    exact = method.exact + method.exact_on_cpu * on_cpu
    network: Method = _prepared(folded(method), dtype, exact, on_cpu)
    return network


class _Convolution(nn.Module):
    """A convolution, transposed or not, with the ReLU after it if there is one, in the precision ``dtype``.

    Convolutions with few channels stay in float32; one that reads an image returns ``dtype``.
    """

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d, has_relu: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.has_relu, groups = has_relu, convolution.groups
        self.next_dtype = dtype if convolution.out_channels > FEW_CHANNELS else torch.float32
        self.dtype = dtype = self.next_dtype if convolution.in_channels > FEW_CHANNELS else torch.float32
        self.is_transposed = isinstance(convolution, nn.ConvTranspose2d)
        stride, padding, dilation = [*convolution.stride], [*convolution.padding], [*convolution.dilation]
        self.geometry: tuple[Any, ...] = (stride, padding, dilation, groups)
        if self.is_transposed:
            self.geometry = (stride, padding, [*convolution.output_padding], groups, dilation)
        weight, bias, self.n_out = convolution.weight.detach().to(dtype), convolution.bias, convolution.out_channels
        if bias is not None:
            bias = bias.detach().to(dtype)
        if weight.is_cuda and self.n_out < 8 and not self.is_transposed and groups == 1:
            weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, 8 - self.n_out))  # tensor cores need at least 8 channels
            bias = None if bias is None else F.pad(bias, (0, 8 - self.n_out))
        self.is_onednn = weight.device.type == "cpu" and _onednn_knows(dtype) and not self.is_transposed
        self.ordered: dict[bool, Tensor] = {}
        """Weights in oneDNN's layout, for one image (True) and for several, chosen for the first image size.
        In another layout a convolution may take five times as long."""
        self.fuses: dict[torch.Size, bool] = {}
        """Whether cuDNN's fused kernel for convolution, bias and ReLU is correct, by the shape of the input."""
        self.weight: Tensor = weight if self.is_onednn else weight.contiguous(memory_format=torch.channels_last)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, n_out, H', W')
        x = x.to(self.dtype)
        if self.is_onednn:
            stride, padding, dilation, groups = self.geometry
            is_single = len(x) == 1
            weight = self.ordered.get(is_single)
            if weight is None:
                reorder, unordered = torch._C._nn.mkldnn_reorder_conv2d_weight, self.weight.to_mkldnn()
                weight = reorder(unordered, padding, stride, dilation, groups, [*x.shape])  # type: ignore[call-arg]
                self.ordered[is_single] = weight
            activation = "relu" if self.has_relu else "none"
            fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, weight, self.bias, padding, stride, dilation, groups, activation, [], ""
            )  # (B, n_out, H', W')
            return fused.to(self.next_dtype)
        if (kernels := kernels_for(x)) is not None:
            return self._on_gpu(x, kernels)
        x = self._convolved(x, self.bias)[:, : self.n_out]  # (B, n_out, H', W')
        return (x.relu_() if self.has_relu else x).to(self.next_dtype)

    def _convolved(self, x: Tensor, bias: Tensor | None) -> Tensor:
        convolve = F.conv_transpose2d if self.is_transposed else F.conv2d
        return convolve(x, self.weight, bias, *self.geometry)

    def _on_gpu(self, x: Tensor, kernels: ModuleType) -> Tensor:
        """Convolution, bias and ReLU in as few passes over memory as possible."""
        if self.bias is None:
            x = self._convolved(x, None)
            return (x.relu_() if self.has_relu else x).to(self.next_dtype)[:, : self.n_out]
        if self.fuses.get(x.shape):
            fused: Tensor = torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.geometry)
            return fused[:, : self.n_out]
        convolved = self._convolved(x, None).contiguous(memory_format=torch.channels_last)
        result: Tensor = kernels.add_bias(convolved, self.bias, self.has_relu, self.next_dtype)
        can_fuse = self.has_relu and self.next_dtype == self.dtype and not self.is_transposed
        if can_fuse and x.shape not in self.fuses:  # torch passes uninitialized memory to cuDNN: it may hold NaN
            torch.full_like(result, torch.nan)
            tolerance = 2**-6 * result.abs().amax().clamp_min(1.0)
            self.fuses[x.shape] = False
            with suppress(RuntimeError):  # cuDNN has no such kernel, or is not available
                fused = torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.geometry)
                self.fuses[x.shape] = bool(((fused - result).abs() <= tolerance).all())
        return result[:, : self.n_out]


def _onednn_knows(dtype: torch.dtype) -> bool:
    return torch._C._has_mkldnn and (dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())


def folded(module: Any) -> Any:
    """Return a copy of a module with batch norms folded into the convolutions before them, in each ``Sequential``."""
    result = copy(module)
    result._modules = {}
    parts = list(module.named_children())
    while parts:
        name, part = parts.pop(0)
        is_convolution = isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and isinstance(module, nn.Sequential)
        if is_convolution and parts and isinstance(parts[0][1], nn.BatchNorm2d):
            result._modules[name] = fuse_conv_bn_eval(part, parts.pop(0)[1], isinstance(part, nn.ConvTranspose2d))
        else:
            result._modules[name] = folded(part)
    return result


def _prepared(module: Any, dtype: torch.dtype, exact: tuple[str, ...], on_cpu: bool, path: str = "") -> Any:
    """Return a copy of a folded module with each convolution fused with the ReLU after it in a ``Sequential``."""
    result = copy(module)
    result._modules = {}
    parts = list(module.named_children())
    while parts:
        name, part = parts.pop(0)
        part_path = f"{path}{name}"
        part_dtype = torch.float32 if part_path in exact else dtype
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            has_relu = isinstance(module, nn.Sequential) and bool(parts) and isinstance(parts[0][1], nn.ReLU)
            del parts[: int(has_relu)]
            result._modules[name] = _Convolution(part, has_relu, part_dtype)
            if not on_cpu and parts and isinstance(parts[0][1], nn.InstanceNorm2d):
                result._modules[name].bias = None  # the norm would subtract it again
        elif isinstance(part, nn.InstanceNorm2d) and on_cpu:
            result._modules[name] = nn.GroupNorm(part.num_features, part.num_features, part.eps, affine=False)
        else:
            result._modules[name] = _prepared(part, part_dtype, exact, on_cpu, f"{part_path}.")
    return result
