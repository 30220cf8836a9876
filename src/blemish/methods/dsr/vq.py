"""DSR's VQ autoencoder: encodes an image as two maps of codebook vectors, and decodes them.

Zavrtanik, Kristan, Skočaj, ECCV 2022, https://arxiv.org/abs/2208.01521, sections 3.1 and 3.2; after VQ-VAE-2 (Razavi,
van den Oord, Vinyals, NeurIPS 2019).

    features_low   F_lo, at 1/8 of the image's size; its nearest codes in K_lo are Q_lo
    features_high  F_hi, at 1/4, from the image and Q_lo; its nearest codes in K_hi are Q_hi
    decode         the general object appearance decoder: (Q_lo, Q_hi) to the image I_gen

2.97 M parameters with both codebooks. It is trained once, on natural images (``vq_training.py``), and then frozen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.devices import kernels_for

MULTIPLE_PX = 8
"""The sides of images must be multiples of this."""
CHUNK = 256
"""Feature vectors that a CPU compares with all codes at a time: their distances to 4096 codes take 4 MB."""
GPU_CHUNK = 65536
"""Feature vectors that a GPU compares at a time: their distances to 4096 codes take 1 GB."""
BLOCK = 64
"""A search over codes first takes the minimum of each block of this many codes."""
N_CANDIDATES = 4
"""Candidates for the nearest code: selected by a product of bfloat16 numbers, then compared in float32."""


# --- codebooks (eq. 1) -------------------------------------------------------------------------------------------


@torch.no_grad()
def nearest_codes(vectors: Tensor, codes: Tensor) -> Tensor:
    """The index of the code nearest to each vector (eq. 1).

    Parameters
    ----------
    vectors : (M, D) float.
    codes : (N, D) float32.

    Returns
    -------
    (M,) int64 in [0, N); of equally near codes the first (on a GPU: the first of up to ``N_CANDIDATES``). Additional
    memory: ``CHUNK`` x N floats on a CPU, ``GPU_CHUNK`` x N and a fifth more on a GPU, M x N in an exported graph.
    """
    with torch.autocast(vectors.device.type, enabled=False):  # bf16 is too coarse to separate neighbours
        vectors = vectors.float()
        if vectors.device.type != "cpu" and not torch.compiler.is_compiling():
            return _nearest_by_candidates(vectors, codes)
        # |v - c|^2 / 2 without |v|^2 / 2, which is the same for all codes: |c|^2 / 2 - v.c
        half_squares = codes.square().sum(1) / 2  # (N,)
        if torch.compiler.is_compiling():  # a loop over chunks would be unrolled into the graph
            return _argmin(torch.addmm(half_squares, vectors, codes.T, alpha=-1))  # (M, N) -> (M,)
        # As a 1x1 convolution: oneDNN is faster than MKL's matrix product, on AMD twice as fast.
        kernels, indices = -codes[:, :, None, None], []  # (N, D, 1, 1)
        for chunk in torch.split(vectors, CHUNK):
            row = chunk.view(1, 1, *chunk.shape).permute(0, 3, 1, 2)  # (1, D, 1, CHUNK), channels last
            distances = F.conv2d(row, kernels, half_squares).permute(0, 2, 3, 1)  # (1, 1, CHUNK, N)
            indices.append(_argmin(distances.reshape(-1, len(codes))))  # (CHUNK,)
        return torch.cat(indices)  # (M,)


def _argmin(distances: Tensor) -> Tensor:
    """Index of the minimum of each row: (M, N) to (M,) int64; of equal values the first.

    ``amin`` takes a fraction of the time of ``argmin``. So it finds the block with the minimum, and ``argmin`` looks
    only into that block.
    """
    if distances.shape[1] % BLOCK:
        return distances.argmin(1)
    blocks = distances.view(distances.shape[0], -1, BLOCK)  # (M, N / BLOCK, BLOCK)
    block = blocks.amin(2).argmin(1)  # (M,)
    nearest = blocks.gather(1, block[:, None, None].expand(-1, 1, BLOCK))  # (M, 1, BLOCK)
    index: Tensor = block * BLOCK + nearest[:, 0].argmin(1)  # (M,)
    return index


def _nearest_by_candidates(vectors: Tensor, codes: Tensor) -> Tensor:
    """``nearest_codes`` for a GPU: few launches, and the host waits for none of them.

    Float32 products are slow on a GPU, and bfloat16 products are too coarse. So vectors and codes are split into sums
    of two bfloat16 parts, v = v1 + v2 and c = c1 + c2. One bfloat16 product, accumulated in float32, gives
    v.c - |c|^2 / 2 to about 2^-16 of |v| |c|. Float32 distances decide among the few codes with the largest values.

    Parameters
    ----------
    vectors : (M, D) float32.
    codes : (N, D) float32.

    Returns
    -------
    (M,) int64 in [0, N).
    """
    c1, c2 = _bfloat16_parts(codes, 2)  # (N, D) each
    half_squares = _bfloat16_parts(codes.square().sum(1, keepdim=True) / -2, 3)  # (N, 1) each
    n_more = len(half_squares) + -(3 * codes.shape[1] + len(half_squares)) % 8  # tensor cores need multiples of 8
    padding = c1.new_zeros(len(codes), n_more - len(half_squares))
    right = torch.cat([c1, c2, c1, *half_squares, padding], 1).T  # (3 D + n_more, N)
    indices = []
    for chunk in torch.split(vectors, GPU_CHUNK):  # (M', D), M' at most GPU_CHUNK
        v1, v2 = _bfloat16_parts(chunk, 2)  # (M', D) each
        left = torch.cat([v1, v1, v2, v1.new_ones(len(chunk), n_more)], 1)  # (M', 3 D + n_more)
        closeness = _product(left, right)  # (M', N): v1.c1 + v1.c2 + v2.c1 - |c|^2 / 2
        kernels = kernels_for(closeness)
        nearest = kernels.nearest_of_close if kernels is not None else nearest_of_close
        indices.append(nearest(closeness, chunk, codes, N_CANDIDATES))  # (M',)
    return torch.cat(indices)  # (M,)


def nearest_of_close(closeness: Tensor, vectors: Tensor, codes: Tensor, n_candidates: int) -> Tensor:
    """The nearest code of each vector, searched among the codes of the largest closeness.

    Parameters
    ----------
    closeness : (M, N) float32, larger for nearer codes, but not exact.
    vectors : (M, D) float32.
    codes : (N, D) float32.
    n_candidates : how many codes of the largest closeness are compared by float32 distances.

    Returns
    -------
    (M,) int64 in [0, N); of equally near codes the first.
    """
    candidates = _greatest(closeness, n_candidates).sort(1).values  # (M, n_candidates), sorted: ties take the first
    distances = (F.embedding(candidates, codes) - vectors[:, None]).square().sum(2)  # (M, n_candidates)
    return candidates.gather(1, distances.argmin(1, keepdim=True))[:, 0]  # (M,)


def _bfloat16_parts(x: Tensor, n_parts: int) -> list[Tensor]:
    """Split float32 ``x`` into bfloat16 tensors of the same shape. Each adds 8 bits of precision to their sum."""
    parts = [x.bfloat16()]
    while len(parts) < n_parts:
        x = x - parts[-1]
        parts.append(x.bfloat16())
    return parts


def _product(left: Tensor, right: Tensor) -> Tensor:
    """(M, K) bfloat16 times (K, N) bfloat16: (M, N) float32, accumulated in float32."""
    if left.device.type in ("cuda", "meta"):
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


def _greatest(closeness: Tensor, n_most: int) -> Tensor:
    """Indices of the greatest numbers of each row: (M, N) to (M, n_most) int64, in any order.

    The whole matrix is read only once: the greatest numbers are in the ``n_most`` blocks with the greatest maxima.
    """
    n_vectors, n_codes = closeness.shape
    if n_codes % BLOCK or n_codes < n_most * BLOCK:
        return closeness.topk(min(n_most, n_codes), 1, sorted=False).indices
    blocks = closeness.view(n_vectors, n_codes // BLOCK, BLOCK)  # (M, N / BLOCK, BLOCK)
    best = blocks.amax(2).topk(n_most, 1, sorted=False).indices  # (M, n_most)
    members = blocks.gather(1, best[:, :, None].expand(-1, -1, BLOCK)).flatten(1)  # (M, n_most BLOCK)
    positions = members.topk(n_most, 1, sorted=False).indices  # (M, n_most) in [0, n_most BLOCK)
    return torch.add(positions % BLOCK, best.gather(1, positions // BLOCK), alpha=BLOCK)  # (M, n_most)


class Codebook(nn.Module):
    """K: ``n_codes`` vectors of ``n_features`` numbers. Trained by moving averages of features, not by gradients."""

    codes: Tensor

    def __init__(self, n_codes: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(n_codes, n_features))

    def forward(self, features: Tensor) -> Tensor:  # (B, D, H, W) -> (B, H, W) int64, indices of the nearest codes
        indices = nearest_codes(as_vectors(features), self.codes)  # (B H W,)
        return indices.view(features.shape[0], *features.shape[2:])

    def look_up(self, indices: Tensor) -> Tensor:
        """Codes by index: (B, H, W) int64 to (B, D, H, W) float32."""
        return F.embedding(indices, self.codes).permute(0, 3, 1, 2)

    def quantized(self, features: Tensor) -> Tensor:
        """Features replaced by their nearest codes, (B, D, H, W) float32, with straight-through gradients."""
        return features + (self.look_up(self(features)) - features).detach()


def as_vectors(features: Tensor) -> Tensor:
    """(B, D, H, W) to (B * H * W, D)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


# --- the networks (figures 2 and 3) ------------------------------------------------------------------------------


class ResidualLayer(nn.Module):
    """y + conv1x1(ReLU(conv3x3(y))) without biases, where y = ReLU(x) because the authors' ReLU works in place."""

    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(n_features, n_hidden, 3, padding=1, bias=False)
        self.narrow = nn.Conv2d(n_hidden, n_features, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, n_features, H, W) -> (B, n_features, H, W)
        x = x.relu()
        change: Tensor = self.narrow(self.wide(x).relu())  # (B, n_hidden, H, W) -> (B, n_features, H, W)
        return x + change


def residual_stack(n_features: int, n_hidden: int, n_layers: int) -> nn.Sequential:
    """Residual layers and a ReLU."""
    return nn.Sequential(*(ResidualLayer(n_features, n_hidden) for _ in range(n_layers)), nn.ReLU())


def halve(n_in: int, n_out: int) -> nn.Conv2d:
    """4x4 convolution with stride 2: half the size."""
    return nn.Conv2d(n_in, n_out, 4, stride=2, padding=1)


def double(n_in: int, n_out: int) -> nn.ConvTranspose2d:
    """Transposed 4x4 convolution with stride 2: twice the size."""
    return nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)


def image_decoder(n_in: int, n_features: int, n_hidden: int, n_layers: int) -> nn.Sequential:
    """Decoder from features to an image of four times their size: (B, n_in, H, W) to (B, 3, 4H, 4W), about [0, 1]."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_features, 3, padding=1),  # (B, n_features, H, W)
        residual_stack(n_features, n_hidden, n_layers),
        double(n_features, n_features // 2),  # (B, n_features / 2, 2H, 2W)
        nn.ReLU(),
        double(n_features // 2, 3),  # (B, 3, 4H, 4W)
    )


class VQAutoencoder(nn.Module):
    """Quantized latent space encoder and general object appearance decoder. Image sides are multiples of 8 px."""

    def __init__(self, n_codes: int = 4096, n_features: int = 128, n_hidden: int = 64, n_layers: int = 2) -> None:
        super().__init__()
        n, shape = n_features, (n_features, n_hidden, n_layers)
        self.encoder_high = nn.Sequential(
            halve(3, n // 2), nn.ReLU(), halve(n // 2, n), nn.ReLU(), nn.Conv2d(n, n, 3, padding=1),
            residual_stack(*shape),
        )  # fmt: skip
        self.encoder_low = nn.Sequential(
            halve(n, n), nn.ReLU(), nn.Conv2d(n, n, 3, padding=1), residual_stack(*shape), nn.Conv2d(n, n, 1)
        )
        self.upsample_low = double(n, n)
        self.merge_high = nn.Conv2d(2 * n, n, 1)
        self.codebook_low, self.codebook_high = Codebook(n_codes, n), Codebook(n_codes, n)
        self.decoder = image_decoder(2 * n, *shape)

    def features_low(self, early: Tensor) -> Tensor:
        """F_lo from ``early`` = ``encoder_high(images)``: (B, D, H / 4, W / 4) to (B, D, H / 8, W / 8) float32."""
        features: Tensor = self.encoder_low(early)
        return features.float()

    def features_high(self, early: Tensor, quantized_low: Tensor) -> Tensor:
        """F_hi from ``encoder_high(images)`` and Q_lo (B, D, H / 8, W / 8): (B, D, H / 4, W / 4) float32."""
        joined = torch.cat([early, self.upsample_low(quantized_low)], 1)  # (B, 2 D, H / 4, W / 4)
        features: Tensor = self.merge_high(joined)  # (B, D, H / 4, W / 4)
        return features.float()

    def joined(self, quantized_low: Tensor, quantized_high: Tensor) -> Tensor:
        """Input of the decoders: Q_lo, enlarged, and Q_hi as (B, 2 D, H / 4, W / 4)."""
        return torch.cat([self.upsample_low(quantized_low), quantized_high], 1)

    def decode(self, quantized_low: Tensor, quantized_high: Tensor) -> Tensor:
        """I_gen: (B, D, H / 8, W / 8) and (B, D, H / 4, W / 4) to (B, 3, H, W) float32, about [0, 1]."""
        image: Tensor = self.decoder(self.joined(quantized_low, quantized_high))
        return image.float()

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Q_lo and Q_hi of images (B, 3, H, W) in [0, 1]: (B, D, H / 8, W / 8) and (B, D, H / 4, W / 4) float32."""
        early = self.encoder_high(images)  # (B, D, H / 4, W / 4)
        quantized_low = self.codebook_low.quantized(self.features_low(early))  # (B, D, H / 8, W / 8)
        features_high = self.features_high(early, quantized_low)  # (B, D, H / 4, W / 4)
        return quantized_low, self.codebook_high.quantized(features_high)

    def normalize(self) -> None:
        """Scale the codes of each level to unit variance, without changing the reconstructed images.

        Then DSR's loss L2(F~, Q) has the same weight for every codebook that blemish trains. The authors' codebook
        keeps its scale (``authors_weights.convert_codebook``).
        """
        self._rescale(1.0 / self.codebook_low.codes.std(), 1.0 / self.codebook_high.codes.std())

    def balance(self) -> None:
        """Scale features and codes so that the weights that read them are as large as in a new network.

        With codes of unit variance these weights may be so small that one optimizer step changes them completely.
        """
        with torch.random.fork_rng(devices=[]):
            new = VQAutoencoder(len(self.codebook_low.codes), self.merge_high.out_channels)
        pairs = zip(self._readers(), new._readers(), strict=True)
        self._rescale(*(weight.std() / new_weight.std() for weight, new_weight in pairs))

    def _readers(self) -> tuple[Tensor, Tensor]:
        """Views of the weights that are multiplied with Q_lo, and of those multiplied with Q_hi."""
        n = self.merge_high.out_channels
        return self.upsample_low.weight, self.decoder.get_parameter("0.weight")[:, n:]

    @torch.no_grad()
    def _rescale(self, low: Tensor, high: Tensor) -> None:
        """Multiply features and codes of each level by a factor, and divide the weights that read them by it."""
        for factor, convolution, codebook, reader in zip(
            (low, high),
            (self.encoder_low[-1], self.merge_high),
            (self.codebook_low, self.codebook_high),
            self._readers(),
            strict=True,
        ):
            for tensor in (*convolution.parameters(), codebook.codes):
                tensor.mul_(factor)
            reader.div_(factor)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 3, H, W) float32, about [0, 1]
        return self.decode(*self.encode(images))
