"""Inspection by torch, of a trained method made ready for it: the same function, less work.

- Batch norm is folded into the convolution before it.
- On a CPU, a convolution and the ReLU behind it are one primitive of oneDNN, with weights in the order it wants them.
- On a CPU, instance norm is group norm with a channel in each group, which torch can do there without changing the
  memory layout. (On a GPU group norm changes it twice, and is the slower one.)
- Where the hardware multiplies in bf16, so do the convolutions, but for those of few channels, which see or write an
  image, and those that a method wants exact (``Method.exact``).
- On a GPU, batches of a size that comes again are one launch, for up to four sizes (``graphs.py``).
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
"""Convolutions that read or write no more are cheap, and near the image: they stay in float32."""
LARGE = 10_000_000
"""Parameters from which on a network gains by bf16."""


class TorchRuntime(Runtime):
    """A trained method where its weights lie, made ready to inspect. Later changes of the method are not seen.

    Parameters
    ----------
    method : put into inference mode; shares what weights it can.
    precision : of the convolutions: ``auto`` is bf16 for a large network where the hardware multiplies in it, else
        float32.
    """

    name = "torch"

    def __init__(self, method: Method, precision: Precision = "auto") -> None:
        super().__init__(method.name, method.settings)
        self._method, self.asked_precision = method.eval().requires_grad_(False), precision
        keep_freed_memory()
        self.device = device_of(method)
        is_large = sum(parameter.numel() for parameter in method.parameters()) >= LARGE
        asked = "float32" if precision == "auto" and not is_large else precision
        self.precision = resolve_precision(asked, self.device)
        self.prepared = prepared(method, self.precision)
        uses_graphs = self.device.type == "cuda" and method.settings.cuda_graphs
        self._run = GraphedInspection(self.prepared) if uses_graphs else self.prepared
        side_px = method.settings.image_size_px
        self(torch.zeros(1, 3, side_px, side_px, device=self.device).contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps, scores = self._run(images)
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
        return TorchRuntime(self._method.to(device), self.asked_precision)


def device_of(method: Method) -> torch.device:
    """Where a method's weights lie."""
    return next((tensor.device for tensor in method.state_dict().values()), torch.device("cpu"))


@torch.no_grad()
def prepared(method: Method, precision: Literal["float32", "bf16"]) -> Method:
    """A copy of a method in inference mode that does the same with less work, for where its weights lie."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    on_cpu = device_of(method).type == "cpu"
    exact = method.exact + method.exact_on_cpu * on_cpu
    network: Method = _prepared(folded(method), dtype, exact, on_cpu)
    return network


class _Convolution(nn.Module):
    """A convolution, transposed or not, and the ReLU behind it if there is one, in the precision ``dtype``.

    Convolutions of few channels stay in float32; one that sees an image hands on ``dtype``.
    """

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d, has_relu: bool, dtype: torch.dtype) -> None:
        super().__init__()
        one, self.has_relu = convolution, has_relu
        self.next_dtype = dtype if one.out_channels > FEW_CHANNELS else torch.float32
        self.dtype = dtype = self.next_dtype if one.in_channels > FEW_CHANNELS else torch.float32
        self.is_transposed = isinstance(one, nn.ConvTranspose2d)
        stride, padding, dilation = ([*values] for values in (one.stride, one.padding, one.dilation))
        self.geometry: tuple[Any, ...] = (stride, padding, dilation, one.groups)
        if self.is_transposed:
            self.geometry = (stride, padding, [*one.output_padding], one.groups, dilation)
        weight, bias, self.n_out = one.weight.detach().to(dtype), one.bias, one.out_channels
        if bias is not None:
            bias = bias.detach().to(dtype)
        if weight.is_cuda and self.n_out < 8 and not self.is_transposed and one.groups == 1:
            weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, 8 - self.n_out))  # fewer channels than tensor cores take
            bias = None if bias is None else F.pad(bias, (0, 8 - self.n_out))
        self.is_onednn = weight.device.type == "cpu" and _onednn_knows(dtype) and not self.is_transposed
        self.ordered: dict[bool, Tensor] = {}
        """Weights as oneDNN wants them, for one image and for several, of the size seen first. In another order than
        its own a convolution may take five times as long."""
        self.fuses: dict[torch.Size, bool] = {}
        """Whether cuDNN's one kernel for convolution, bias and ReLU is right for inputs of this shape."""
        self.weight: Tensor = weight if self.is_onednn else weight.contiguous(memory_format=torch.channels_last)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, n_out, H', W')
        x = x.to(self.dtype)
        if self.is_onednn:
            stride, padding, dilation, groups = self.geometry
            is_single = len(x) == 1
            weight = self.ordered.get(is_single)
            if weight is None:
                order, plain = torch._C._nn.mkldnn_reorder_conv2d_weight, self.weight.to_mkldnn()
                weight = order(plain, padding, stride, dilation, groups, [*x.shape])  # type: ignore[call-arg]
                self.ordered[is_single] = weight
            behind = "relu" if self.has_relu else "none"
            fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, weight, self.bias, padding, stride, dilation, groups, behind, [], ""
            )
            return fused.to(self.next_dtype)
        if (kernels := kernels_for(x)) is not None:
            return self._on_gpu(x, kernels)
        x = self._convolved(x, self.bias)[:, : self.n_out]
        return (x.relu_() if self.has_relu else x).to(self.next_dtype)

    def _convolved(self, x: Tensor, bias: Tensor | None) -> Tensor:
        convolve = F.conv_transpose2d if self.is_transposed else F.conv2d
        return convolve(x, self.weight, bias, *self.geometry)

    def _on_gpu(self, x: Tensor, kernels: ModuleType) -> Tensor:
        """In as few passes over memory as can be."""
        if self.bias is None:
            x = self._convolved(x, None)
            return (x.relu_() if self.has_relu else x).to(self.next_dtype)[:, : self.n_out]
        if self.fuses.get(x.shape):
            fused: Tensor = torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.geometry)
            return fused[:, : self.n_out]
        plain = self._convolved(x, None).contiguous(memory_format=torch.channels_last)
        result: Tensor = kernels.add_bias(plain, self.bias, self.has_relu, self.next_dtype)
        can_fuse = self.has_relu and self.next_dtype == self.dtype and not self.is_transposed
        if can_fuse and x.shape not in self.fuses:  # torch hands cuDNN memory that may hold what is no number
            torch.full_like(result, torch.nan)
            tolerance = 2**-6 * result.abs().amax().clamp_min(1.0)
            self.fuses[x.shape] = False
            with suppress(RuntimeError):  # where cuDNN has no such kernel, or is not there
                fused = torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.geometry)
                self.fuses[x.shape] = bool(((fused - result).abs() <= tolerance).all())
        return result[:, : self.n_out]


def _onednn_knows(dtype: torch.dtype) -> bool:
    return torch._C._has_mkldnn and (dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())


def folded(module: Any) -> Any:
    """A copy of a module in which batch norms have gone into the convolutions before them, in each ``Sequential``."""
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
    """A copy of a folded module whose convolutions are fused with a ReLU that follows them in a ``Sequential``."""
    result = copy(module)
    result._modules = {}
    parts = list(module.named_children())
    while parts:
        name, part = parts.pop(0)
        here = f"{path}{name}"
        part_dtype = torch.float32 if here in exact else dtype
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            has_relu = isinstance(module, nn.Sequential) and bool(parts) and isinstance(parts[0][1], nn.ReLU)
            del parts[: int(has_relu)]
            result._modules[name] = _Convolution(part, has_relu, part_dtype)
            if not on_cpu and parts and isinstance(parts[0][1], nn.InstanceNorm2d):
                result._modules[name].bias = None  # which the norm would take away again
        elif isinstance(part, nn.InstanceNorm2d) and on_cpu:
            result._modules[name] = nn.GroupNorm(part.num_features, part.num_features, part.eps, affine=False)
        else:
            result._modules[name] = _prepared(part, part_dtype, exact, on_cpu, f"{here}.")
    return result
