"""Files as the authors of DRÆM and DSR released them: names, tensors and shapes, with random numbers.

Written from the description in ``docs/guide.md``, without any network of blemish.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

State = dict[str, Tensor]
RUN_OF_DRAEM = "DRAEM_seg_large_ae_large_0.0001_800_bs8"
CODEBOOK = "vq_model_pretrained_128_4096.pckl"
N_FEATURES = 128


class Weights:
    """Random tensors; or, with ``is_small_file``, constants that take no space in a file, whatever their shape.

    What the networks give is as large as of trained ones: float32 is too coarse to compare larger numbers to 1e-5.
    """

    def __init__(self, seed: int = 0, is_small_file: bool = False) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.is_small_file = is_small_file

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        if self.is_small_file:
            return torch.full((1,) * len(shape), 0.01).expand(shape)
        return torch.randn(shape, generator=self.generator) * scale

    def convolution(
        self, name: str, n_in: int, n_out: int, side: int = 3, bias: bool = True, scale: float = 1.0
    ) -> State:
        weight = self(n_out, n_in, side, side, scale=scale * math.sqrt(2.0 / (n_in * side**2)))
        return {f"{name}.weight": weight} | ({f"{name}.bias": self(n_out, scale=0.1)} if bias else {})

    def transposed(self, name: str, n_in: int, n_out: int, scale: float = 1.0) -> State:
        weight = self(n_in, n_out, 4, 4, scale=scale * math.sqrt(2.0 / (n_in * 4)))
        return {f"{name}.weight": weight, f"{name}.bias": self(n_out, scale=0.1)}

    def residual_stack(self, name: str) -> State:
        state: State = {}
        for layer in (0, 1):
            block = f"{name}._layers.{layer}._block"
            state |= self.convolution(f"{block}.1", 128, 64, bias=False)
            state |= self.convolution(f"{block}.3", 64, 128, side=1, bias=False)
        return state

    def batch_norm(self, name: str, n: int) -> State:
        counted = {f"{name}.num_batches_tracked": torch.tensor(7)}
        statistics = {f"{name}.running_mean": self(n, scale=0.1), f"{name}.running_var": self(n).abs() + 0.5}
        return {f"{name}.weight": self(n, scale=0.1) + 1.0, f"{name}.bias": self(n, scale=0.1)} | statistics | counted

    def block(self, name: str, widths: Sequence[int], has_norms: bool, first_layer: int = 0) -> State:
        """Convolutions, each followed by a norm (with tensors, or without any) and a ReLU: three layers a piece."""
        state: State = {}
        for number, (n_in, n_out) in enumerate(pairwise(widths)):
            layer = first_layer + 3 * number
            state |= self.convolution(f"{name}.{layer}", n_in, n_out)
            state |= self.batch_norm(f"{name}.{layer + 1}", n_out) if has_norms else {}
        return state


def codebook_state(weights: Weights) -> State:
    """``vq_model_pretrained_128_4096.pckl``, with the moving averages that only training uses."""
    state: State = {}
    for level in ("_vq_vae_top", "_vq_vae_bot"):
        state |= {f"{level}._embedding.weight": weights(4096, N_FEATURES, scale=0.3)}
        state |= {f"{level}._ema_w": weights(4096, N_FEATURES), f"{level}._ema_cluster_size": weights(4096)}
    state |= weights.convolution("_encoder_b._conv_1", 3, 64, 4) | weights.convolution(
        "_encoder_b._conv_2", 64, 128, 4
    )
    state |= weights.convolution("_encoder_b._conv_3", 128, 128) | weights.residual_stack(
        "_encoder_b._residual_stack"
    )
    state |= weights.convolution("_encoder_t._conv_1", 128, 128, 4)
    state |= weights.convolution("_encoder_t._conv_2", 128, 128) | weights.residual_stack(
        "_encoder_t._residual_stack"
    )
    state |= weights.convolution("_pre_vq_conv_bot", 256, 128, 1) | weights.convolution(
        "_pre_vq_conv_top", 128, 128, 1
    )
    state |= weights.convolution("_decoder_b._conv_1", 256, 128) | weights.residual_stack(
        "_decoder_b._residual_stack"
    )
    state |= weights.transposed("_decoder_b._conv_trans_1", 128, 64)
    return (
        state
        | weights.transposed("_decoder_b._conv_trans_2", 64, 3, 0.2)
        | weights.transposed("upsample_t", 128, 128)
    )


def dsr_states(
    weights: Weights,
    restriction: tuple[int, int, int] = (128, 256, 512),
    decoder: tuple[int, int, int] = (256, 512, 1024),
    detection: tuple[int, int, int, int] = (64, 128, 256, 256),
) -> dict[str, State]:
    """The five files of a category of DSR, by the part that their names contain."""
    first, second, third = decoder
    image_recon = weights.block("block1", (256, first, second), False)
    image_recon |= weights.block("block2", (second, second, third), False)
    image_recon |= weights.convolution("pre_vq_conv", third, 64, 1) | weights.transposed("upblock1", 64, 64)
    image_recon |= weights.transposed("upblock2", 64, 64) | weights.convolution("_conv_1", 64, 128)
    image_recon |= weights.residual_stack("_residual_stack") | weights.transposed("_conv_trans_1", 128, 64)
    image_recon |= weights.transposed("_conv_trans_2", 64, 3, 0.04)
    return {
        "subspace_restriction_lo": _restriction(weights, restriction),
        "subspace_restriction_hi": _restriction(weights, restriction),
        "image_recon_module": image_recon,
        "anomaly_det_module": _u_net(weights, 6, detection),
        "upsample_module": _u_net(weights, 8, detection),
    }


def _restriction(weights: Weights, widths: tuple[int, int, int]) -> State:
    a, b, c = widths
    state = weights.block("unet.encoder.block1", (N_FEATURES, a, a), False)
    state |= weights.block("unet.encoder.block2", (a, b, b), False)
    state |= weights.block("unet.encoder.block3", (b, c, c), False)
    state |= weights.block("unet.decoder.up2", (c, b), False, 1) | weights.block("unet.decoder.db2", (b, b, b), False)
    state |= weights.block("unet.decoder.up3", (b, a), False, 1) | weights.block("unet.decoder.db3", (a, a, a), False)
    return state | weights.convolution("unet.decoder.fin_out.0", a, N_FEATURES)


def _u_net(weights: Weights, n_in: int, widths: tuple[int, int, int, int]) -> State:
    a, b, c, d = widths
    state: State = {}
    for number, (before, after) in enumerate(((n_in, a), (a, b), (b, c), (c, d)), 1):
        state |= weights.block(f"unet.encoder.block{number}", (before, after, after), False)
    for number, (before, after, skip) in enumerate(((d, c, c), (c, b, b), (b, a, a)), 1):
        state |= weights.block(f"unet.decoder.up{number}", (before, after), False, 1)
        state |= weights.block(f"unet.decoder.db{number}", (after + skip, after, after), False)
    return state | weights.convolution("unet.decoder.fin_out.0", a, 2, scale=0.05)


def draem_states(
    weights: Weights,
    reconstructive: tuple[int, ...] = (128, 256, 512, 1024, 1024),
    discriminative: tuple[int, ...] = (64, 128, 256, 512, 512, 512),
) -> tuple[State, State]:
    """The two files of a category of DRÆM: of the reconstructive and of the discriminative network."""
    recon: State = {}
    for number, (before, after) in enumerate(zip((3, *reconstructive), reconstructive, strict=False), 1):
        recon |= weights.block(f"encoder.block{number}", (before, after, after), True)
    a, b, c, d, e = reconstructive
    for number, (before, after) in enumerate(((e, c), (c, b), (b, a), (a, a)), 1):
        recon |= weights.block(f"decoder.up{number}", (before, before), True, 1)
        recon |= weights.block(f"decoder.db{number}", (before, before, after), True)
    recon |= weights.convolution("decoder.fin_out.0", a, 3)

    seg: State = {}
    for number, (before, after) in enumerate(zip((6, *discriminative), discriminative, strict=False), 1):
        seg |= weights.block(f"encoder_segment.block{number}", (before, after, after), True)
    a, b, c, d, e, f = discriminative
    steps = ("_b", f, d, e), ("1", d, c, d), ("2", c, b, c), ("3", b, a, b), ("4", a, a, a)
    for step, before, after, skip in steps:
        seg |= weights.block(f"decoder_segment.up{step}", (before, after), True, 1)
        seg |= weights.block(f"decoder_segment.db{step}", (after + skip, after, after), True)
    return recon, seg | weights.convolution("decoder_segment.fin_out.0", a, 2)


# --- folders -----------------------------------------------------------------------------------------------------


def write_dsr(
    folder: Path, *categories: str, run: str = "DSR", codebook: State | None = None, **states: State
) -> None:
    """A folder of the authors of DSR; by default files of full shape that take little space."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny = Weights(is_small_file=True)
    torch.save(codebook if codebook is not None else codebook_state(tiny), folder / CODEBOOK)
    for category in categories:
        for part, state in (states or dsr_states(tiny)).items():
            torch.save(state, folder / f"{run}_{part}_{category}.pckl")


def write_draem(
    folder: Path, *categories: str, run: str = RUN_OF_DRAEM, states: tuple[State, State] | None = None
) -> None:
    """A folder of the authors of DRÆM; by default files of full shape that take little space."""
    folder.mkdir(parents=True, exist_ok=True)
    reconstructive, discriminative = states or draem_states(Weights(is_small_file=True))
    for category in categories:
        torch.save(reconstructive, folder / f"{run}_{category}_.pckl")
        torch.save(discriminative, folder / f"{run}_{category}__seg.pckl")
