"""DSR's VQ autoencoder: images as two maps of codebook vectors, and back.

Zavrtanik, Kristan, Skočaj, ECCV 2022, https://arxiv.org/abs/2208.01521, sections 3.1 and 3.2; after VQ-VAE-2 (Razavi,
van den Oord, Vinyals, NeurIPS 2019).

    features_low   F_lo, 1/8 of the image's size, nearest codes of K_lo are Q_lo
    features_high  F_hi, 1/4, from the image and Q_lo; nearest codes of K_hi are Q_hi
    decode         the general object appearance decoder: (Q_lo, Q_hi) to the image I_gen

2.97 M parameters with both codebooks. It is trained once, on natural images (``pretraining.py``), and then frozen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.devices import kernels_for

MULTIPLE_PX = 8
"""What the sides of images are multiples of."""
CHUNK = 256
"""Feature vectors that a CPU compares with all codes at a time: the distances of 4096 codes take 4 MB."""
GPU_CHUNK = 65536
"""Feature vectors that other devices compare at a time: the distances of 4096 codes take 1 GB."""
BLOCK = 64
"""Codes whose least distance is found first."""
N_CANDIDATES = 4
"""Codes near to a vector by a product of bfloat16 numbers, among which float32 decides."""


# --- codebooks (eq. 1) -------------------------------------------------------------------------------------------


@torch.no_grad()
def nearest_codes(vectors: Tensor, codes: Tensor) -> Tensor:
    """Which code is nearest to each vector (eq. 1).

    Parameters
    ----------
    vectors : (M, D) float.
    codes : (N, D) float32.

    Returns
    -------
    (M,) int64 in [0, N); the first of several that are equally near (off the CPU: of up to ``N_CANDIDATES``). Memory
    beyond that: ``CHUNK`` x N floats, off the CPU ``GPU_CHUNK`` x N and a fifth more, in an exported graph M x N.
    """
    with torch.autocast(vectors.device.type, enabled=False):  # bf16 cannot tell neighbours apart
        vectors = vectors.float()
        if vectors.device.type != "cpu" and not torch.compiler.is_compiling():
            return _nearest_by_candidates(vectors, codes)
        half_squares = codes.square().sum(1) / 2
        if torch.compiler.is_compiling():  # a loop over positions would be unrolled into the graph
            return _argmin(torch.addmm(half_squares, vectors, codes.T, alpha=-1))
        kernels, indices = -codes[:, :, None, None], []  # oneDNN convolves faster than MKL multiplies, on AMD twice
        for part in torch.split(vectors, CHUNK):
            row = part.view(1, 1, *part.shape).permute(0, 3, 1, 2)  # (1, D, 1, CHUNK), channels last
            distances = F.conv2d(row, kernels, half_squares).permute(0, 2, 3, 1)
            indices.append(_argmin(distances.reshape(-1, len(codes))))
        return torch.cat(indices)


def _argmin(distances: Tensor) -> Tensor:
    """Where the least number of each row is: (M, N) to (M,) int64; the first of equals.

    A minimum takes a fraction of the time of its place: first the least of each block, then the place in one block.
    """
    if distances.shape[1] % BLOCK:
        return distances.argmin(1)
    blocks = distances.view(distances.shape[0], -1, BLOCK)
    block = blocks.amin(2).argmin(1)
    nearest = blocks.gather(1, block[:, None, None].expand(-1, 1, BLOCK))
    place: Tensor = block * BLOCK + nearest[:, 0].argmin(1)
    return place


def _nearest_by_candidates(vectors: Tensor, codes: Tensor) -> Tensor:
    """``nearest_codes`` in few launches, none of which the host waits for.

    The products of float32 numbers are slow on a GPU, those of bfloat16 numbers are too coarse. So vectors and codes
    are written as sums of two bfloat16 parts, v = v1 + v2 and c = c1 + c2, and one product of bfloat16 numbers,
    summed in float32, gives v.c - |c|^2 / 2 to about 2^-16 of |v| |c|. Of the few codes where that is greatest, the
    nearest is found in float32.

    Parameters
    ----------
    vectors : (M, D) float32.
    codes : (N, D) float32.

    Returns
    -------
    (M,) int64 in [0, N).
    """
    c1, c2 = _bfloat16_parts(codes, 2)
    half_squares = _bfloat16_parts(codes.square().sum(1, keepdim=True) / -2, 3)
    n_more = len(half_squares) + -(3 * codes.shape[1] + len(half_squares)) % 8  # tensor cores want multiples of 8
    padding = c1.new_zeros(len(codes), n_more - len(half_squares))
    right = torch.cat([c1, c2, c1, *half_squares, padding], 1).T  # (3 D + n_more, N)
    indices = []
    for part in torch.split(vectors, GPU_CHUNK):
        v1, v2 = _bfloat16_parts(part, 2)
        left = torch.cat([v1, v1, v2, v1.new_ones(len(part), n_more)], 1)  # (M, 3 D + n_more)
        closeness = _product(left, right)
        kernels = kernels_for(closeness)
        nearest = kernels.nearest_of_close if kernels is not None else nearest_of_close
        indices.append(nearest(closeness, part, codes, N_CANDIDATES))
    return torch.cat(indices)


def nearest_of_close(closeness: Tensor, vectors: Tensor, codes: Tensor, n_candidates: int) -> Tensor:
    """The nearest of the codes that are closest to each vector.

    Parameters
    ----------
    closeness : (M, N) float32, greater for nearer codes, but not exact.
    vectors : (M, D) float32.
    codes : (N, D) float32.
    n_candidates : codes of the greatest closeness, among which float32 distances decide.

    Returns
    -------
    (M,) int64 in [0, N), the first of equals.
    """
    candidates = _greatest(closeness, n_candidates).sort(1).values  # so that the first of equals is taken
    distances = (F.embedding(candidates, codes) - vectors[:, None]).square().sum(2)  # (M, n_candidates)
    return candidates.gather(1, distances.argmin(1, keepdim=True))[:, 0]


def _bfloat16_parts(x: Tensor, n_parts: int) -> list[Tensor]:
    """Bfloat16 tensors of float32 ``x``'s shape, whose sum is ``x`` to 8 bits for each of them."""
    parts = [x.bfloat16()]
    while len(parts) < n_parts:
        x = x - parts[-1]
        parts.append(x.bfloat16())
    return parts


def _product(left: Tensor, right: Tensor) -> Tensor:
    """(M, K) bfloat16 times (K, N) bfloat16: (M, N) float32, summed in float32."""
    if left.device.type in ("cuda", "meta"):
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


def _greatest(closeness: Tensor, n_most: int) -> Tensor:
    """Where the greatest numbers of each row are: (M, N) to (M, n_most) int64, in any order.

    The whole matrix is read once: those numbers lie in the ``n_most`` blocks of the greatest maxima.
    """
    n_vectors, n_codes = closeness.shape
    if n_codes % BLOCK or n_codes < n_most * BLOCK:
        return closeness.topk(min(n_most, n_codes), 1, sorted=False).indices
    blocks = closeness.view(n_vectors, n_codes // BLOCK, BLOCK)  # (M, N / BLOCK, BLOCK)
    best = blocks.amax(2).topk(n_most, 1, sorted=False).indices  # (M, n_most)
    members = blocks.gather(1, best[:, :, None].expand(-1, -1, BLOCK)).flatten(1)  # (M, n_most BLOCK)
    places = members.topk(n_most, 1, sorted=False).indices  # (M, n_most) in [0, n_most BLOCK)
    return torch.add(places % BLOCK, best.gather(1, places // BLOCK), alpha=BLOCK)


class Codebook(nn.Module):
    """K: ``n_codes`` vectors of ``n_features`` numbers. Moved by averages of features, not by gradients."""

    codes: Tensor

    def __init__(self, n_codes: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(n_codes, n_features))

    def forward(self, features: Tensor) -> Tensor:  # (B, D, H, W) -> (B, H, W) int64, the nearest codes
        return nearest_codes(as_vectors(features), self.codes).view(features.shape[0], *features.shape[2:])

    def look_up(self, indices: Tensor) -> Tensor:
        """Codes by number: (B, H, W) int64 to (B, D, H, W) float32."""
        return F.embedding(indices, self.codes).permute(0, 3, 1, 2)

    def quantized(self, features: Tensor) -> Tensor:
        """Nearest codes in place of features, (B, D, H, W) float32; gradients go straight through to the features."""
        return features + (self.look_up(self(features)) - features).detach()


def as_vectors(features: Tensor) -> Tensor:
    """(B, D, H, W) to (B * H * W, D)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


# --- the networks (figures 2 and 3) ------------------------------------------------------------------------------


class ResidualLayer(nn.Module):
    """y + conv1x1(ReLU(conv3x3(y))) without biases; y = ReLU(x), as the authors' ReLU works in place."""

    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(n_features, n_hidden, 3, padding=1, bias=False)
        self.narrow = nn.Conv2d(n_hidden, n_features, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, n_features, H, W) -> the same
        x = x.relu()
        change: Tensor = self.narrow(self.wide(x).relu())
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
    """Features at a quarter of the size to an image: (B, n_in, H, W) to (B, 3, 4H, 4W), about [0, 1]."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_features, 3, padding=1),
        residual_stack(n_features, n_hidden, n_layers),
        double(n_features, n_features // 2),
        nn.ReLU(),
        double(n_features // 2, 3),
    )


class VQAutoencoder(nn.Module):
    """Quantized latent space encoder and general object appearance decoder. Sides are multiples of 8 px."""

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
        """F_lo of ``encoder_high(images)``: (B, D, H / 4, W / 4) to (B, D, H / 8, W / 8)."""
        features: Tensor = self.encoder_low(early)
        return features.float()

    def features_high(self, early: Tensor, quantized_low: Tensor) -> Tensor:
        """F_hi of ``encoder_high(images)`` and Q_lo, (B, D, H / 8, W / 8): (B, D, H / 4, W / 4)."""
        features: Tensor = self.merge_high(torch.cat([early, self.upsample_low(quantized_low)], 1))
        return features.float()

    def joined(self, quantized_low: Tensor, quantized_high: Tensor) -> Tensor:
        """What decoders see: Q_lo, enlarged, and Q_hi as (B, 2 D, H / 4, W / 4)."""
        return torch.cat([self.upsample_low(quantized_low), quantized_high], 1)

    def decode(self, quantized_low: Tensor, quantized_high: Tensor) -> Tensor:
        """I_gen: (B, D, H / 8, W / 8) and (B, D, H / 4, W / 4) to (B, 3, H, W) float32, about [0, 1]."""
        image: Tensor = self.decoder(self.joined(quantized_low, quantized_high))
        return image.float()

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Q_lo and Q_hi of images (B, 3, H, W) in [0, 1]: (B, D, H / 8, W / 8) and (B, D, H / 4, W / 4) float32."""
        early = self.encoder_high(images)
        quantized_low = self.codebook_low.quantized(self.features_low(early))
        return quantized_low, self.codebook_high.quantized(self.features_high(early, quantized_low))

    def normalize(self) -> None:
        """Scale the codes of either level to unit variance; images stay the same.

        DSR's L2(F~, Q) is then of the same weight whatever the codebook.
        """
        self._rescale(1.0 / self.codebook_low.codes.std(), 1.0 / self.codebook_high.codes.std())

    def balance(self) -> None:
        """Scale features so that what reads them has weights as large as those training begins with.

        Behind codes of unit variance they may be so small that a step of an optimizer is a leap.
        """
        with torch.random.fork_rng(devices=[]):
            new = VQAutoencoder(len(self.codebook_low.codes), self.merge_high.out_channels)
        mine, theirs = self._readers(), new._readers()
        self._rescale(*(one.std() / other.std() for one, other in zip(mine, theirs, strict=True)))

    def _readers(self) -> tuple[Tensor, Tensor]:
        """The weights that read Q_lo, and those that read Q_hi (views)."""
        n = self.merge_high.out_channels
        return self.upsample_low.weight, self.decoder.get_parameter("0.weight")[:, n:]

    @torch.no_grad()
    def _rescale(self, low: Tensor, high: Tensor) -> None:
        """Multiply features and codes of either level, and divide what reads them."""
        for level, convolution, codebook, reader in zip(
            (low, high),
            (self.encoder_low[-1], self.merge_high),
            (self.codebook_low, self.codebook_high),
            self._readers(),
            strict=True,
        ):
            for tensor in (*convolution.parameters(), codebook.codes):
                tensor.mul_(level)
            reader.div_(level)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 3, H, W) float32, about [0, 1]
        return self.decode(*self.encode(images))
