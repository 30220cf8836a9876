"""DRÆM: a discriminatively trained reconstruction embedding for surface anomaly detection.

Zavrtanik, Kristan, Skočaj, ICCV 2021, https://arxiv.org/abs/2108.07610

    blemish fit parts/good --method draem --recipe small

One network repairs an image. A second network compares the repair with the image and classifies each pixel as normal
or anomalous. Both are trained together, on good images with textures pasted on them.

Where the paper and the authors' code differ, recipe ``paper`` follows the code, which produced the published numbers,
and ``paper-text`` follows the text:

- the discriminative network sees the reconstruction first, then the image;
- opacity from U[0.2, 1] (paper: U[0.1, 1]); the noise is thresholded at 0.5 (paper: at a random threshold, of which
  it does not give the range; we take U[0, 1], the noise's own where it is positive);
- 3 of 10 augmentations of the texture (paper: 3 of 7);
- good images are rotated by up to 90 degrees with probability 0.3 (paper: always, by up to 45);
- the learning rate falls to a fifth at 80 % and 90 % (paper: to a tenth after 400 and 600 of 700 epochs).

Differences from the authors' code:

- the noise is defined outside of the image, too, so a rotated mask has no empty corners; its lattice has a random
  phase;
- the order of the augmentations is random only among those that map grey values (``synthesis/photometric.py``);
- all recipes but these two reduce photographs by area averaging, not bilinearly.

Recipe ``small`` is ours, for two cores and minutes. Its discriminative network sees the image through an ImageNet
encoder (``methods/features.py``), which stays frozen: it decodes these features, the image and its repair, on patches
of 4x4 pixels. A narrow reconstructive network repairs the image at half its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from blemish.errors import BlemishError
from blemish.layers import Encoder, UNet, conv_norm_relu, double_conv, pad_to_multiple, upsample_twice
from blemish.losses import focal_loss, l2_loss, msgms_map, ssim_loss, ssim_map
from blemish.methods.base import Ingredients, Method, Settings, Stage, cosine_schedule, step_schedule
from blemish.methods.features import (
    EncoderKind,
    FeatureUNet,
    check_feature_widths,
    encoder_parameters,
    encoders_of,
    own_parameters,
)
from blemish.scoring import smoothed_maximum
from blemish.synthesis.geometry import randomly_rotate
from blemish.synthesis.pasted_textures import PAPER_AUGMENTATIONS, AnomalySettings, spoil
from blemish.synthesis.real_defects import DefectSettings


@dataclass(frozen=True)
class DRAEMSettings(Settings):
    """Network, damage and schedule. The defaults are the authors' code but for ``resizing``: see recipe ``paper``."""

    architecture: Literal["full", "discriminative", "reconstruction-ssim", "reconstruction-msgms"] = "full"
    """``full`` is DRÆM; the rest are rows of table 3: Disc., Recon.-AE and Recon.-AE_MSGMS."""
    reconstructive_widths: tuple[int, ...] = (128, 256, 512, 1024, 1024)
    discriminative_widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    patch_px: int = 1
    """Both networks work on patches of this side as if they were pixels: 2 is a quarter of the work. Ours."""
    encoder: EncoderKind = "trained"
    """``imagenet``: the discriminative network is a ``FeatureUNet``, with three ``discriminative_widths``. Ours."""
    encoder_rate: float = 0.0
    """Learning rate of the ImageNet encoder as a share of ``learning_rate``; 0 freezes it. Ours."""
    repair_reduction: int = 1
    """The reconstructive network repairs the image reduced by this factor. Ours."""
    anomalies: AnomalySettings = field(default_factory=AnomalySettings)
    rotation_probability: float = 0.3
    max_rotation_deg: float = 90.0
    epochs: int | None = 700
    iterations: int = 0
    """Training steps, if ``epochs`` is None."""
    learning_rate: float = 1e-4
    schedule: Literal["step", "cosine"] = "step"
    """``step``: times ``step_factor`` at each of ``milestones``. ``cosine``: 5 % warm-up, then to zero."""
    milestones: tuple[float, ...] = (0.8, 0.9)
    """Shares of the training, in (0, 1)."""
    step_factor: float = 0.2
    ema_decay: float = 0.0
    score_window_px: int = 21
    """Side of the square whose largest mean is the image score (eq. 5): odd, 21 at 256 px."""
    defects: DefectSettings = field(default_factory=DefectSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_widths("reconstructive_widths", "discriminative_widths")
        self.check_range("patch_px", "repair_reduction", least=1)
        self.check_range("learning_rate", above=0, most=1)
        self.check_range("max_rotation_deg", least=0, most=180)
        self.check_range("rotation_probability", "encoder_rate", "milestones", "step_factor", least=0, most=1)
        self.check_range("ema_decay", least=0, most=0.99999)
        self.check_window("score_window_px")
        if self.epochs is None and self.iterations < 1:
            raise BlemishError(f"setting iterations: {self.iterations} should be at least 1, as epochs is not set")
        if self.encoder == "imagenet":
            check_feature_widths("discriminative_widths", self.discriminative_widths)
        self.check_multiple(self.multiple_px)

    @property
    def multiple_px(self) -> int:
        """Both sides of an image are multiples of this, as the networks halve it a number of times."""
        repair_px = self.repair_reduction * self.patch_px * 2 ** (len(self.reconstructive_widths) - 1)
        encoder_px = self.patch_px * 2 ** (len(self.discriminative_widths) - 1)
        return math.lcm(repair_px, FeatureUNet.multiple_px if self.encoder == "imagenet" else encoder_px)


# --- the networks (section 3.1 and 3.2) ----------------------------------------------------------------------


def _decoder_widths(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Output channels of each decoder step: the width of the encoder two levels up; the last step repeats the first.

    (a, b, c, d) becomes (b, a, a).
    """
    return (*reversed(widths[:-2]), widths[0])


class ReconstructiveNetwork(nn.Module):
    """Repairs an image: an encoder-decoder without skip connections (section 3.1). 69.05 M parameters by default."""

    def __init__(self, widths: tuple[int, ...], patch_px: int = 1) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.encoder = Encoder(3 * patch_px**2, widths)
        n_in, self.ups, self.blocks = widths[-1], nn.ModuleList(), nn.ModuleList()
        for n_out in _decoder_widths(widths):
            self.ups.append(conv_norm_relu(n_in, n_in))
            self.blocks.append(double_conv(n_in, n_in, n_out))
            n_in = n_out
        self.head = nn.Conv2d(n_in, 3 * patch_px**2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 3, H, W), about [0, 1]
        x = F.pixel_unshuffle(images, self.patch_px)  # (B, 3 p^2, h, w) with p = patch_px, h = H / p, w = W / p
        x = self.encoder(x)[-1]  # (B, widths[-1], h / 2^n, w / 2^n), n = len(widths) - 1
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = block(up(upsample_twice(x)))  # (B, n_out, 2 h', 2 w'): twice the size at each step
        x = self.head(x)  # (B, 3 p^2, h, w)
        return F.pixel_shuffle(x, self.patch_px)  # (B, 3, H, W)


class DiscriminativeNetwork(UNet):
    """Compares the repair with the image: a U-Net (section 3.2). 28.37 M parameters by default."""

    def __init__(self, n_in: int, widths: tuple[int, ...], patch_px: int = 1) -> None:
        super().__init__(n_in, widths, _decoder_widths(widths), patch_px)


def _initialize(module: nn.Module) -> None:
    """The authors' initial weights: convolutions N(0, 0.02), batch norm N(1, 0.02), its bias 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


# --- the method ------------------------------------------------------------------------------------------------


class DRAEM(Method):
    """DRÆM, with the variants of its ablation study (table 3) as settings."""

    name = "draem"
    settings_type = DRAEMSettings
    settings: DRAEMSettings
    recipes: ClassVar[dict[str, Settings]] = {
        "paper": DRAEMSettings(resizing="bilinear"),
        "paper-text": DRAEMSettings(
            resizing="bilinear",
            anomalies=AnomalySettings(
                augmentations=PAPER_AUGMENTATIONS, min_threshold=0.0, max_threshold=1.0, min_opacity=0.1
            ),
            rotation_probability=1.0,
            max_rotation_deg=45.0,
            milestones=(400 / 700, 600 / 700),
            step_factor=0.1,
        ),
        "fast": DRAEMSettings(epochs=None, iterations=8_000, learning_rate=2e-4, schedule="cosine", ema_decay=0.999),
        "small": DRAEMSettings(
            encoder="imagenet",
            reconstructive_widths=(32, 64, 96, 128),
            discriminative_widths=(32, 64, 96),
            patch_px=4,
            repair_reduction=2,
            epochs=None,
            iterations=1200,
            learning_rate=2e-3,
            schedule="cosine",
            ema_decay=0.99,
        ),
    }

    def __init__(self, settings: DRAEMSettings | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        self.multiple_px = s.multiple_px
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            if s.architecture != "discriminative":
                self.reconstructive = ReconstructiveNetwork(s.reconstructive_widths, s.patch_px)
            if s.architecture in ("full", "discriminative"):
                n_in = 6 if s.architecture == "full" else 3
                self.discriminative: nn.Module
                if s.encoder == "imagenet":
                    self.discriminative = FeatureUNet(n_in, 2, s.discriminative_widths)
                else:
                    self.discriminative = DiscriminativeNetwork(n_in, s.discriminative_widths, s.patch_px)
            pretrained = {module for encoder in encoders_of(self) for module in encoder.modules()}
            for module in self.modules():
                if module not in pretrained:
                    _initialize(module)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]  # images: (B, 3, H, W)
        padded = pad_to_multiple(images, self.multiple_px)  # (B, 3, H', W'), multiples of multiple_px
        _, anomaly_map = self._reconstruct_and_detect(padded)  # (B, 1, H', W')
        anomaly_map = anomaly_map[..., :height, :width]  # (B, 1, H, W)
        image_score = smoothed_maximum(anomaly_map, self.settings.score_window_px)  # (B,); section 3.4, eq. 5
        return anomaly_map, image_score

    def _reconstruct_and_detect(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Reconstruction (B, 3, H / r, W / r) or None, and anomaly map (B, 1, H, W) float32.

        r is ``repair_reduction``. It is None if the architecture has no reconstructive network.
        """
        architecture = self.settings.architecture
        if architecture == "discriminative":
            return None, self._detect(images, images)  # (B, 1, H, W)
        reduced = self.reconstructive(self._reduced(images))  # (B, 3, H / r, W / r)
        reconstruction = self._enlarged(reduced)  # (B, 3, H, W)
        if architecture == "full":
            return reduced, self._detect(torch.cat([reconstruction, images], 1), images)  # (B, 1, H, W)
        if architecture == "reconstruction-ssim":
            similarity = ssim_map(reconstruction, images).mean(1, keepdim=True)  # (B, 1, H, W)
        else:
            similarity = msgms_map(reconstruction, images)  # (B, 1, H, W)
        return reduced, (1.0 - similarity).clamp_min(0.0)

    def _detect(self, pictures: Tensor, images: Tensor) -> Tensor:
        """Anomaly map (B, 1, H, W) float32 of what is compared (B, 3 or 6, H, W), and of images (B, 3, H, W)."""
        is_feature_net = isinstance(self.discriminative, FeatureUNet)
        logits = self.discriminative(pictures, images) if is_feature_net else self.discriminative(pictures)
        anomaly_map: Tensor = logits.float().softmax(1)[:, 1:]
        return anomaly_map

    def _reduced(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) as the reconstructive network sees them: (B, 3, H / r, W / r)."""
        reduction = self.settings.repair_reduction
        return F.avg_pool2d(images, reduction) if reduction > 1 else images

    def _enlarged(self, reduced: Tensor) -> Tensor:
        """A repair (B, 3, H / r, W / r) in the size of the image: (B, 3, H, W)."""
        reduction = float(self.settings.repair_reduction)
        if reduction == 1:
            return reduced
        return F.interpolate(reduced, scale_factor=reduction, mode="bilinear", align_corners=False)

    def part(self, name: str) -> DRAEM:
        """The trained reconstructive network with another similarity of image and repair, named as ``architecture``.

        The loss of both is the same (table 3, Recon.-AE and Recon.-AE_MSGMS).
        """
        similarities = ("reconstruction-ssim", "reconstruction-msgms")
        if self.settings.architecture not in similarities or name not in similarities:
            super().part(name)  # raises
        method = DRAEM(replace(self.settings, architecture=name))  # type: ignore[arg-type]
        method.reconstructive = self.reconstructive
        return method

    @property
    def pretrained(self) -> tuple[Tensor, ...]:
        return () if self.settings.encoder_rate else encoder_parameters(self)

    @property
    def uses_defects(self) -> bool:
        return self.settings.architecture in ("full", "discriminative")

    def stages(self) -> tuple[Stage, ...]:
        s = self.settings
        is_step = s.schedule == "step"
        schedule = step_schedule(s.milestones, s.step_factor) if is_step else cosine_schedule(0.05)
        return (
            Stage(
                "joint",
                own_parameters(self),
                slow_parameters=encoder_parameters(self) if s.encoder_rate else (),
                slow_rate=s.encoder_rate,
                iterations=s.iterations,
                epochs=s.epochs,
                batch_size=s.batch_size,
                learning_rate=s.learning_rate,
                schedule=schedule,
                ema_decay=s.ema_decay,
            ),
        )

    @torch.no_grad()
    def damage(
        self, images: Tensor, ingredients: Ingredients, generator: Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        spoiled, masks = spoil(images, ingredients.textures, generator, self.settings.anomalies)
        return {"damaged image": spoiled}, masks

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        s = self.settings
        images = randomly_rotate(images, s.rotation_probability, s.max_rotation_deg, generator)
        spoiled, masks = spoil(images, ingredients.textures, generator, s.anomalies)  # (B, 3, H, W), (B, 1, H, W)
        if ingredients.defects is not None:  # N real defects
            real = ingredients.defects.draw(len(images), generator, s.defects, images.device)
            spoiled, masks = torch.cat([spoiled, real.images]), torch.cat([masks, real.masks])  # (B + N, ...)
        reconstruction, anomaly_map = self._reconstruct_and_detect(spoiled)  # (B + N, 3, h, w), (B + N, 1, H, W)
        losses = {}
        if reconstruction is not None:  # eq. 2
            reconstruction = reconstruction[: len(images)]  # (B, 3, h, w): a real defect has no known good image
            good = self._reduced(images)  # (B, 3, h, w)
            losses["l2"] = l2_loss(reconstruction, good)
            losses["ssim"] = ssim_loss(reconstruction, good)
        if s.architecture in ("full", "discriminative"):  # eq. 3
            losses["focal"] = focal_loss(anomaly_map, masks)
        return losses

    @torch.no_grad()
    def explain(self, images: Tensor) -> dict[str, Tensor]:
        if self.settings.architecture == "discriminative":
            return {}
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.multiple_px)  # (B, 3, H', W')
        reconstruction = self._enlarged(self.reconstructive(self._reduced(padded)))  # (B, 3, H', W')
        return {"reconstruction": reconstruction[..., :height, :width].clamp(0.0, 1.0)}
