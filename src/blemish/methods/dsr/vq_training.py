"""Stage 1 of DSR: the VQ autoencoder is trained on natural images (DSR section 3.7, eq. 2).

Codes are not trained by gradients: each code follows a moving average of the features that are nearest to it (van den
Oord et al., *Neural Discrete Representation Learning*, appendix A.1). The authors' code of this stage is not public.
Our choices are:

- codes start as features of the first batch, and a code that is hardly used is replaced by a feature of the current
  batch, so that all 4096 are used;
- the first steps may skip quantization;
- half of the images are mirrored, and training sees random crops of ``crop_px``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn

from blemish.errors import BlemishError
from blemish.losses import l2_loss
from blemish.methods.base import Ingredients, Learner, Settings, Stage, cosine_schedule, step_schedule
from blemish.methods.dsr.vq import MULTIPLE_PX, Codebook, VQAutoencoder, as_vectors
from blemish.synthesis.draw import drawn
from blemish.synthesis.geometry import randomly_mirror_and_turn

GRACE = 1.5
"""A new code starts with this multiple of the minimum use. If it stays unused, it is replaced again after 40 steps;
if it is used, it moves at once to the features that use it."""


@dataclass(frozen=True)
class VQSettings(Settings):
    """Network, codebooks and schedule. The defaults are the paper's: recipe ``paper``."""

    batch_size: int = 32
    n_codes: int = 4096
    n_features: int = 128
    n_hidden: int = 64
    """Filters of the hidden convolution in a residual layer."""
    n_layers: int = 2
    """Residual layers in a stack."""
    commitment: float = 0.25
    """Lambda_1 of eq. (2)."""
    decay: float = 0.99
    """Decay of the moving averages that codes follow."""
    revive_below: float = 0.03
    """A code used less than this share of the average use is replaced by a feature of the batch. 0: never. Ours."""
    continuous_steps: int = 0
    """This many steps at the start skip quantization, until the features are meaningful. Ours."""
    crop_px: int = 256
    """Side of the random crops that training sees."""
    iterations: int = 200_000
    learning_rate: float = 2e-4
    schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("n_codes", "n_hidden", "n_layers", "iterations", least=1)
        self.check_range("n_features", least=2)
        self.check_range("learning_rate", above=0, most=1)
        self.check_range("commitment", least=0)
        self.check_range("decay", least=0, most=0.9999)
        self.check_range("revive_below", least=0, most=1)
        if self.crop_px < MULTIPLE_PX or self.crop_px % MULTIPLE_PX or self.image_size_px % MULTIPLE_PX:
            raise BlemishError(
                f"settings crop_px, image_size_px: {self.crop_px}, {self.image_size_px} should be multiples of "
                f"{MULTIPLE_PX}"
            )

    def network(self) -> VQAutoencoder:
        """The network that these settings describe, with weights drawn from ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return VQAutoencoder(self.n_codes, self.n_features, self.n_hidden, self.n_layers)


class CodebookAverage(nn.Module):
    """Moving averages for a codebook: uses of each code per step, and the sum of the features nearest to it."""

    counts: Tensor
    """(N,) float32, uses of each code per step."""
    sums: Tensor
    """(N, D) float32, sum of the features nearest to each code, per step."""

    def __init__(self, codebook: Codebook, decay: float, revive_below: float) -> None:
        super().__init__()
        self.decay, self.revive_below = decay, revive_below
        self.register_buffer("counts", torch.zeros(len(codebook.codes)))
        self.register_buffer("sums", torch.zeros_like(codebook.codes))

    @torch.no_grad()
    def update(self, codebook: Codebook, vectors: Tensor, indices: Tensor, generator: Generator) -> None:
        """Move the codes after a batch.

        Parameters
        ----------
        vectors : (M, D) float32 features.
        indices : (M,) int64, the nearest code of each vector.
        generator : CPU generator that draws the features for new codes.
        """
        n_codes = len(self.counts)
        counts = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(vectors[:, 0]))  # (N,)
        sums = torch.zeros_like(self.sums).index_add_(0, indices, vectors)  # (N, D)
        if dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        average_use = counts.sum() / n_codes
        self.counts.lerp_(counts, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        n = len(vectors)
        new_codes = vectors[drawn(lambda g: torch.randint(n, (n_codes,), generator=g), generator, vectors.device)]
        is_dead = self.counts < self.revive_below * average_use  # (N,)
        new_count = average_use * self.revive_below * GRACE
        self.counts.copy_(torch.where(is_dead, new_count, self.counts))
        self.sums.copy_(torch.where(is_dead[:, None], new_codes * new_count, self.sums))
        total = self.counts.sum()  # Laplace smoothing avoids a division by almost 0
        smoothed = (self.counts + 1e-5) * (total / (total + n_codes * 1e-5))  # (N,)
        codebook.codes.copy_(self.sums / smoothed[:, None])

    @torch.no_grad()
    def follow(self, codebook: Codebook) -> None:
        """Start from the current codes, all with equal use."""
        self.counts.fill_(1.0)
        self.sums.copy_(codebook.codes)

    def n_used(self) -> Tensor:
        """How many codes are used more than a new, unused code: a scalar."""
        return (self.counts > GRACE * self.revive_below * self.counts.mean()).sum()

    def perplexity(self) -> Tensor:
        """exp of the entropy of the codes' use: a scalar, at most the number of codes."""
        share = self.counts / self.counts.sum()
        perplexity: Tensor = torch.special.entr(share).sum().exp()
        return perplexity


class VQTraining(Learner):
    """Stage 1: trains a VQ autoencoder on natural images."""

    recipes: ClassVar[dict[str, VQSettings]] = {
        "paper": VQSettings(),
        "small": VQSettings(
            batch_size=8, crop_px=128, continuous_steps=300, iterations=10_000, learning_rate=1e-3, schedule="cosine"
        ),
    }
    settings: VQSettings
    n_steps: Tensor
    """Training steps so far: scalar int64."""

    def __init__(self, settings: VQSettings, start: VQAutoencoder | None = None) -> None:
        """``start`` is a network of the same shape to continue from; None starts with a new network."""
        super().__init__()
        self.settings, self.autoencoder = settings, settings.network()
        self.register_buffer("n_steps", torch.tensor(0))
        self.average_low, self.average_high = (
            CodebookAverage(codebook, settings.decay, settings.revive_below) for codebook in self._codebooks
        )
        if start is not None:
            self.n_steps.fill_(settings.continuous_steps)
            self.autoencoder.load_state_dict(start.state_dict())
            self.autoencoder.balance()
        if start is not None or not settings.revive_below:  # else the first batch initializes the codes
            for average, codebook in zip((self.average_low, self.average_high), self._codebooks, strict=True):
                average.follow(codebook)

    @property
    def _codebooks(self) -> tuple[Codebook, Codebook]:
        return self.autoencoder.codebook_low, self.autoencoder.codebook_high

    def stages(self) -> tuple[Stage, ...]:
        s = self.settings
        return (
            Stage(
                "vq",
                tuple(self.autoencoder.parameters()),
                iterations=s.iterations,
                batch_size=s.batch_size,
                learning_rate=s.learning_rate,
                schedule=cosine_schedule(0.02) if s.schedule == "cosine" else step_schedule((), 1.0),
                crop_px=lambda progress: s.crop_px,
            ),
        )

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        network = self.autoencoder
        if self.training:
            self.n_steps.add_(1)
        images = randomly_mirror_and_turn(
            images, generator, horizontally=True, vertically=False, quarter_turns=False
        )  # fmt: skip
        early = network.encoder_high(images)  # (B, D, H / 4, W / 4)
        low, commitment_low = self._quantize(
            network.features_low(early), network.codebook_low, self.average_low, generator
        )  # (B, D, H / 8, W / 8), scalar
        high, commitment_high = self._quantize(
            network.features_high(early, low), network.codebook_high, self.average_high, generator
        )  # (B, D, H / 4, W / 4), scalar
        return {
            "l2": l2_loss(network.decode(low, high), images),
            "commit_low": commitment_low,
            "commit_high": commitment_high,
        }

    def _quantize(
        self, features: Tensor, codebook: Codebook, average: CodebookAverage, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Nearest codes (B, D, H, W), straight-through, and the commitment loss; updates the codebook in training."""
        indices = codebook(features)  # (B, H, W) int64
        codes = codebook.look_up(indices)  # (B, D, H, W)
        commitment = self.settings.commitment * l2_loss(features, codes)  # scalar
        if self.training:
            average.update(codebook, as_vectors(features.detach()), indices.flatten(), generator)
        quantized = features + (codes - features).detach()  # (B, D, H, W)
        is_continuous = self.n_steps <= self.settings.continuous_steps  # scalar bool
        return torch.where(is_continuous, features, quantized), torch.where(is_continuous, 0.0, commitment)

    def observe(self) -> dict[str, Tensor]:
        averages = {"low": self.average_low, "high": self.average_high}
        return {
            f"{name}_{level}": getattr(average, name)()
            for name in ("perplexity", "n_used")
            for level, average in averages.items()
        }
