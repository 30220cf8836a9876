"""Settings of DSR: networks, damage and schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from blemish.errors import BlemishError
from blemish.methods.base import Settings
from blemish.methods.dsr.vq import MULTIPLE_PX
from blemish.methods.features import EncoderKind, FeatureUNet, check_feature_widths
from blemish.synthesis.pasted_textures import AnomalySettings
from blemish.synthesis.real_defects import DefectSettings
from blemish.synthesis.replaced_codes import LatentSettings


@dataclass(frozen=True)
class DSRSettings(Settings):
    """Networks, damage and schedule of stages 2 and 3. The defaults are the authors' code: recipe ``paper``."""

    restriction: Literal["bottleneck", "residual"] = "bottleneck"
    """The subspace restriction: the paper's, without skip connections, or one that changes the features (ours)."""
    restriction_widths: tuple[int, ...] = (128, 256, 512)
    decoder_widths: tuple[int, ...] = (256, 512, 1024)
    """Channels of the object-specific decoder: its first convolution, then the outputs of its two blocks."""
    detection_widths: tuple[int, ...] = (64, 128, 256, 256)
    """Channels of the detection module and of the upsampling module."""
    encoder: EncoderKind = "trained"
    """``imagenet``: these two modules are a ``FeatureUNet`` each, with three widths, and see I_gen or the image
    through a frozen encoder, too. Ours."""
    patch_px: int = 1
    """These two modules work on patches of this side as if they were pixels: 2 is a quarter of the work. Ours."""
    anomalies: Literal["latent", "image"] = "latent"
    """``image`` pastes textures on the image, as DRÆM does: the ablation DSR_img (table 6)."""
    latent: LatentSettings = field(default_factory=LatentSettings)
    anomaly_probability: float = 0.5
    """Share of the samples of stage 2 that are damaged."""
    smudged_share: float = 0.0
    """Share of the samples of stage 2 that are damaged by the smudges of stage 3, in the image, in place of replaced
    codes. Ours."""
    keep_grey: bool = False
    """A photograph without colour is reconstructed, and damaged by smudges, without colour. Ours."""
    rotation_probability: float = 0.4
    max_rotation_deg: float = 90.0
    feature_weight: float = 1.0
    """Lambda_2 of eq. 3; 0 is DSR_L_img (table 6)."""
    image_weight: float = 10.0
    """Lambda_3 of eq. 3; 0 is DSR_L_feat (table 6), without an object-specific image decoder."""
    iterations: int = 100_000
    learning_rate: float = 2e-4
    upsampling: Literal["reconstructions", "image", "none"] = "reconstructions"
    """Input of the upsampling module besides M; ``none`` is DSR_U- (table 6), without this module."""
    smudges: AnomalySettings = field(default_factory=lambda: AnomalySettings(source="colours"))
    """The simulated damage of stage 3."""
    smudge_rotation_probability: float = 0.3
    upsampling_iterations: int = 20_000
    schedule: Literal["step", "cosine"] = "step"
    """``step``: x0.1 at 80 % of stage 2. ``cosine``: 5 % warm-up, then to zero."""
    ema_decay: float = 0.0
    score_window_px: int = 21
    """Side of the square whose largest mean is the image score: odd, 21 at 256 px."""
    defects: DefectSettings = field(default_factory=DefectSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("iterations", "upsampling_iterations", "patch_px", least=1)
        self.check_widths("restriction_widths", "decoder_widths", "detection_widths")
        self.check_range("feature_weight", "image_weight", least=0)
        self.check_range("learning_rate", above=0, most=1)
        self.check_range("max_rotation_deg", least=0, most=180)
        self.check_range("anomaly_probability", "smudged_share", "rotation_probability", least=0, most=1)
        self.check_range("smudge_rotation_probability", least=0, most=1)
        self.check_range("ema_decay", least=0, most=0.99999)
        if self.feature_weight == self.image_weight == 0:
            raise BlemishError("settings feature_weight, image_weight: both are 0; set at least one above 0")
        if len(self.decoder_widths) != 3:
            raise BlemishError(f"setting decoder_widths: {self.decoder_widths} should be 3 numbers")
        if self.encoder == "imagenet":
            check_feature_widths("detection_widths", self.detection_widths)
        self.check_multiple(self.multiple_px, 2 * self.multiple_px)
        self.check_window("score_window_px")

    @property
    def multiple_px(self) -> int:
        """Images are padded so that both sides are multiples of this."""
        restriction = MULTIPLE_PX * 2 ** (len(self.restriction_widths) - 1)
        decoder = 4 * MULTIPLE_PX // 2  # the image decoder halves maps of 1/4 of the size twice
        detection = self.patch_px * 2 ** (len(self.detection_widths) - 1)
        if self.encoder == "imagenet":
            detection = FeatureUNet.multiple_px
        return math.lcm(restriction, decoder, detection)


# --- recipes -----------------------------------------------------------------------------------------------------

RECIPES: dict[str, Settings] = {
    "paper": DSRSettings(resizing="bilinear", latent=LatentSettings(ranking="features")),
    "paper-text": DSRSettings(resizing="bilinear", latent=LatentSettings(min_reach=0.05), upsampling="image"),
    "fast": DSRSettings(
        iterations=9_000, upsampling_iterations=1_000, learning_rate=4e-4, schedule="cosine", ema_decay=0.999
    ),
    "small": DSRSettings(
        encoder="imagenet", batch_size=4, restriction="residual", restriction_widths=(32, 64, 96),
        detection_widths=(32, 64, 96), image_weight=0.0, smudged_share=0.5, keep_grey=True, rotation_probability=0.0,
        smudges=AnomalySettings(source="colours", max_threshold=0.8), upsampling="none", iterations=800,
        learning_rate=2e-3, schedule="cosine", ema_decay=0.99,
        defects=DefectSettings(turn=False),
    ),
}  # fmt: skip
