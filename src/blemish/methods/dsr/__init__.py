"""DSR: a dual subspace re-projection network for surface anomaly detection.

Zavrtanik, Kristan, Skočaj, ECCV 2022, https://arxiv.org/abs/2208.01521

    blemish fit parts/good --method dsr --recipe small

An image becomes two maps of codes, which two decoders make into images: a general one, which shows what is there,
and one that has only seen good parts and shows what should be there. A third network compares the two. Anomalies are
simulated among the codes, so no textures are needed.

The codes, their encoder and the general decoder (stage 1, figures 2 and 3) are ``vq.py``; they come with the package
and stay as they are. Stage 2 trains the object-specific decoder and the detection module, stage 3 the upsampling
module (section 3.7).

Where the paper and the authors' code differ, the defaults (recipe ``paper``) follow the code, from which the
published numbers came:

- M has the size of the image, but is trained on masks as coarse as the damaged map of codes;
- the upsampling module sees I_spc, I_gen and M (paper: image and M; ``upsampling`` = image);
- the reach n of an anomaly is at least a fifth of the codes (paper: lambda_s), drawn for either level;
- half of the anomalies are on both levels, else on either; of those on the low one alone, Q_hi is the clean one;
- the learning rate of stage 3 stays as it is: the authors' loop ends before the steps at which theirs would fall
  (its 20,000 steps are the paper's; their published command takes 50,000).

And where we differ from the authors' code: which code is near to which is one table (``synthesis/latent.py``); the
features' distances are those of a codebook of unit variance (``VQAutoencoder.normalize``). Real defects, if there
are any (section 4.2), join the focal loss of both stages: in stage 2 with masks as coarse as the high level's codes.
What table 6 does without L_img is not said: as nothing would train the object-specific image decoder then, we read
that the general one decodes both. Recipe ``small`` works on patches of 2x2 pixels with narrow networks, turns no good
image and no real defect (in its few steps it learns to draw parts as they lie), and leaves the upsampling module out:
trained on smudges for two minutes, it takes more from the map of real defects than it gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from blemish.graphs import side_by_side
from blemish.layers import Encoder, UNet, conv_norm_relu, double_conv, pad_to_multiple, upsample_twice
from blemish.losses import focal_loss, l2_loss
from blemish.methods.base import Chosen, Ingredients, Method, Settings, Stage, cosine_schedule, step_schedule
from blemish.methods.dsr.codebook import empty_autoencoder, load_codebook
from blemish.methods.dsr.settings import DSRSettings as DSRSettings
from blemish.methods.dsr.vq import MULTIPLE_PX, VQAutoencoder, double, image_decoder
from blemish.scoring import smoothed_maximum
from blemish.synthesis.draw import coin, drawn, worth
from blemish.synthesis.geometry import randomly_rotate
from blemish.synthesis.pasted_textures import AnomalySettings, spoil
from blemish.synthesis.perlin import perlin_masks
from blemish.synthesis.real_defects import DefectSettings
from blemish.synthesis.replaced_codes import grid_mask, neighbour_table, replace_codes
from blemish.synthesis.textures import TextureBank

# --- the networks (sections 3.3 to 3.5) ----------------------------------------------------------------------


class SubspaceRestriction(nn.Module):
    """Codes of anything to features of a good part: no skips (figure 4). 7.82 M parameters by default."""

    def __init__(self, n_features: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = Encoder(n_features, widths, nn.InstanceNorm2d)
        n_now, self.ups, self.blocks = widths[-1], nn.ModuleList(), nn.ModuleList()
        for n_out in reversed(widths[:-1]):
            self.ups.append(conv_norm_relu(n_now, n_out, nn.InstanceNorm2d))
            self.blocks.append(double_conv(n_out, n_out, n_out, nn.InstanceNorm2d))
            n_now = n_out
        self.head = nn.Conv2d(n_now, n_features, 3, padding=1)

    def forward(self, quantized: Tensor) -> Tensor:  # Q (B, D, h, w) -> F~, the same shape, float32
        x = self.encoder(quantized)[-1]
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = block(up(upsample_twice(x)))
        features: Tensor = self.head(x)
        return features.float()


class ObjectSpecificDecoder(nn.Module):
    """Joined Q~_lo and Q~_hi to I_spc (section 3.3). 9.42 M parameters by default."""

    def __init__(self, n_features: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        first, second, third = widths
        self.layers = nn.Sequential(
            double_conv(2 * n_features, first, second, nn.InstanceNorm2d), nn.MaxPool2d(2),
            double_conv(second, second, third, nn.InstanceNorm2d), nn.MaxPool2d(2),
            nn.Conv2d(third, 64, 1), double(64, 64), nn.ReLU(), double(64, 64), nn.ReLU(),
            image_decoder(64, 128, 64, 2),
        )  # fmt: skip

    def forward(self, joined: Tensor) -> Tensor:  # (B, 2 D, H / 4, W / 4) -> (B, 3, H, W) float32, about [0, 1]
        image: Tensor = self.layers(joined)
        return image.float()


def _initialize(module: nn.Module) -> None:
    """The authors' start for the image decoder and the detection module: N(0, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)


# --- the method ------------------------------------------------------------------------------------------------


class Damaged(NamedTuple):
    """A batch of good images in codes, and the same with anomalies."""

    low: Tensor
    """Q_lo (B, D, H / 8, W / 8) float32."""
    high: Tensor
    """Q_hi (B, D, H / 4, W / 4) float32."""
    damaged_low: Tensor
    damaged_high: Tensor
    masks: Tensor
    """(B, 1, H, W) float, 1 where codes were replaced: as coarse as the level they are of."""


class DSR(Method):
    """DSR, with its ablations (tables 5 and 6) as settings.

    Parameters
    ----------
    codebook : the VQ autoencoder of stage 1; None for the one that comes with blemish. It is not trained.
    """

    name = "dsr"
    settings_type = DSRSettings
    settings: DSRSettings
    exact = ("vq.encoder_high", "vq.encoder_low", "vq.upsample_low", "vq.merge_high", "vq.decoder")
    exact_on_cpu = ("restriction_low", "restriction_high")
    recipes: ClassVar[dict[str, Settings]] = {
        "paper": DSRSettings(),
        "fast": DSRSettings(
            iterations=9_000, upsampling_iterations=1_000, learning_rate=4e-4, schedule="cosine", ema_decay=0.999
        ),
        "small": DSRSettings(
            image_size_px=128, batch_size=4, restriction_widths=(64, 96, 128), decoder_widths=(128, 128, 256),
            detection_widths=(24, 48, 64, 64), patch_px=2, rotation_probability=0.0, upsampling="none",
            iterations=2_400, learning_rate=1e-3, schedule="cosine", ema_decay=0.99, score_window_px=11,
            defects=DefectSettings(turn=False),
        ),
    }  # fmt: skip

    def __init__(self, settings: DSRSettings | None = None, codebook: VQAutoencoder | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        self.vq = codebook if codebook is not None else load_codebook()
        self.vq.requires_grad_(False)
        n_features = self.vq.codebook_low.codes.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            self.restriction_low = SubspaceRestriction(n_features, s.restriction_widths)
            self.restriction_high = SubspaceRestriction(n_features, s.restriction_widths)
            if s.image_weight:
                self.decoder = ObjectSpecificDecoder(n_features, s.decoder_widths).apply(_initialize)
            self.detection = self._u_net(6).apply(_initialize)
            if s.upsampling != "none":
                self.upsampling = self._u_net(8 if s.upsampling == "reconstructions" else 5)
        self._neighbours: list[Tensor] = []  # of the low and the high codebook, in training only

    def _u_net(self, n_in: int) -> UNet:
        """A detection or upsampling module: 5.61 M parameters by default."""
        widths = self.settings.detection_widths
        up_widths = tuple(reversed(widths[:-1]))
        return UNet(n_in, widths, up_widths, self.settings.patch_px, nn.InstanceNorm2d)

    @classmethod
    def build(cls, settings: Settings | None = None, codebook: str | Path | None = None) -> Self:
        assert settings is None or isinstance(settings, DSRSettings)
        return cls(settings, load_codebook(codebook) if codebook is not None else None)

    @classmethod
    def restored(cls, settings: Settings, tensors: Mapping[str, Tensor]) -> Self:
        assert isinstance(settings, DSRSettings)
        codebook = {name.removeprefix("vq."): tensor for name, tensor in tensors.items() if name.startswith("vq.")}
        method = cls(settings, codebook=empty_autoencoder(codebook))
        method.load_state_dict(tensors)
        return method

    # --- inspection -------------------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.settings.multiple_px)
        specific, general = self._reconstruct(padded)
        anomaly_map = self._detect(specific, general)
        score = smoothed_maximum(anomaly_map[..., :height, :width], self.settings.score_window_px)
        return self._upsample(padded, specific, general, anomaly_map)[..., :height, :width], score

    def _reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """I_spc and I_gen, (B, 3, H, W) float32."""
        low, high = self.vq.encode(images)
        restored_low, restored_high, general = side_by_side(
            images.device,
            lambda: self.restriction_low(low),
            lambda: self.restriction_high(high),
            lambda: self.vq.decode(low, high),
        )
        return self._specific(restored_low, restored_high), general

    def _specific(self, features_low: Tensor, features_high: Tensor) -> Tensor:
        """I_spc (B, 3, H, W) of F~_lo and F~_hi (section 3.3)."""
        joined = self.vq.joined(
            self.vq.codebook_low.quantized(features_low), self.vq.codebook_high.quantized(features_high)
        )
        image: Tensor = self.decoder(joined) if self.settings.image_weight else self.vq.decoder(joined).float()
        return image

    def _detect(self, specific: Tensor, general: Tensor) -> Tensor:
        """M (B, 1, H, W) float32 (section 3.4)."""
        logits: Tensor = self.detection(torch.cat([specific, general], 1))
        return logits.float().softmax(1)[:, 1:]

    def _upsample(self, images: Tensor, specific: Tensor, general: Tensor, anomaly_map: Tensor) -> Tensor:
        """M_r (B, 1, H, W) float32 (section 3.5)."""
        if self.settings.upsampling == "none":
            return anomaly_map
        beside = [images] if self.settings.upsampling == "image" else [specific, general]
        logits: Tensor = self.upsampling(torch.cat([*beside, 1.0 - anomaly_map, anomaly_map], 1))
        return logits.float().softmax(1)[:, 1:]

    @torch.no_grad()
    def explain(self, images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        pictures = self._reconstruct(pad_to_multiple(images, self.settings.multiple_px))
        names = ("object-specific", "general")
        return {name: one[..., :height, :width].clamp(0.0, 1.0) for name, one in zip(names, pictures, strict=True)}

    # --- training ---------------------------------------------------------------------------------------------

    @property
    def uses_textures(self) -> bool:
        return self.settings.anomalies == "image" or self.settings.smudges.source == "textures"

    @property
    def uses_defects(self) -> bool:
        return True

    @property
    def pretrained(self) -> tuple[Tensor, ...]:
        return tuple(self.vq.state_dict().values())

    def stages(self) -> tuple[Stage, ...]:
        s = self.settings
        upsampling = set(self.upsampling.parameters()) if s.upsampling != "none" else set()
        fixed = upsampling | set(self.vq.parameters())
        cosine = cosine_schedule(0.05)
        detection = Stage(
            "detection",
            tuple(one for one in self.parameters() if one not in fixed),
            iterations=s.iterations,
            batch_size=s.batch_size,
            learning_rate=s.learning_rate,
            schedule=cosine if s.schedule == "cosine" else step_schedule((0.8,), 0.1),
            ema_decay=s.ema_decay,
        )
        if s.upsampling == "none":
            return (detection,)
        return detection, Stage(
            "upsampling",
            tuple(self.upsampling.parameters()),
            iterations=s.upsampling_iterations,
            batch_size=s.batch_size,
            learning_rate=s.learning_rate,
            schedule=cosine if s.schedule == "cosine" else step_schedule((), 1.0),
            ema_decay=s.ema_decay,
        )

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        if stage.name == "upsampling":
            return self._upsampling_loss(images, ingredients, generator)
        s = self.settings
        images = randomly_rotate(images, s.rotation_probability, s.max_rotation_deg, generator)
        with torch.no_grad():
            damage = self._damage(images, ingredients.textures, generator)
            general = self.vq.decode(damage.damaged_low, damage.damaged_high)
        restored_low = self.restriction_low(damage.damaged_low)
        restored_high = self.restriction_high(damage.damaged_high)
        specific = self._specific(restored_low, restored_high)
        losses = {}  # eq. 3
        if s.feature_weight:
            difference = l2_loss(restored_low, damage.low) + l2_loss(restored_high, damage.high)
            losses["features"] = s.feature_weight * difference
        if s.image_weight:
            losses["image"] = s.image_weight * l2_loss(specific, images)
        pairs, masks = torch.cat([specific.detach(), general], 1), damage.masks
        if ingredients.defects is not None:
            real = ingredients.defects.draw(len(images), generator, s.defects, images.device)
            with torch.no_grad():
                pairs = torch.cat([pairs, torch.cat(self._reconstruct(real.images), 1)])
            masks = torch.cat([masks, _coarse(real.masks, MULTIPLE_PX // 2)])
        losses["focal"] = focal_loss(self._detect(pairs[:, :3], pairs[:, 3:]), masks)
        return losses

    def _damage(self, images: Tensor, textures: TextureBank | None, generator: Generator) -> Damaged:
        """Section 3.6."""
        s = self.settings
        early = self.vq.encoder_high(images)
        low = self.vq.codebook_low(self.vq.features_low(early))
        quantized_low = self.vq.codebook_low.look_up(low)
        high = self.vq.codebook_high(self.vq.features_high(early, quantized_low))
        quantized_high = self.vq.codebook_high.look_up(high)
        if s.anomalies == "image":
            spoiled, masks = spoil(images, textures, generator, AnomalySettings(s.anomaly_probability))
            return Damaged(quantized_low, quantized_high, *self.vq.encode(spoiled), masks)

        n, device = len(images), images.device
        if not self._neighbours:
            self._neighbours = [neighbour_table(one.codes) for one in (self.vq.codebook_low, self.vq.codebook_high)]
        table_low, table_high = self._neighbours
        is_spoiled, on_both, rather_low = drawn(
            lambda g: (coin(s.anomaly_probability, n, g), coin(0.5, n, g), coin(0.5, n, g)), generator, device
        )
        on_low, on_high = is_spoiled & (on_both | rather_low), is_spoiled & (on_both | ~rather_low)
        mask = perlin_masks(n, (images.shape[-2], images.shape[-1]), generator, device)[:, None].float()
        mask_low, mask_high = (mask * on_level.view(-1, 1, 1, 1) for on_level in (on_low, on_high))
        cells_low = grid_mask(mask_low, (low.shape[-2], low.shape[-1]))
        damaged_low = self.vq.codebook_low.look_up(replace_codes(low, cells_low, table_low, generator, s.latent))
        is_twice = on_low & on_high
        twice = worth(is_twice)
        if len(twice):  # F_hi follows from the damaged Q_lo
            features_high = self.vq.features_high(early[twice], damaged_low[twice])
            following = self.vq.codebook_high(features_high)
            following = torch.where(is_twice[twice].view(-1, 1, 1), following, high[twice])
            high = high.index_copy(0, twice, following)
        cells_high = grid_mask(mask_high, (high.shape[-2], high.shape[-1]))
        damaged_high = self.vq.codebook_high.look_up(replace_codes(high, cells_high, table_high, generator, s.latent))
        is_low = on_low.view(-1, 1, 1, 1)
        masks = torch.where(is_low, _coarse(mask_low, MULTIPLE_PX), _coarse(mask_high, MULTIPLE_PX // 2))
        return Damaged(quantized_low, quantized_high, damaged_low, damaged_high, masks)

    def _upsampling_loss(self, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        """Stage 3: M_r of images with smudges (section 3.7)."""
        s = self.settings
        images = randomly_rotate(images, s.smudge_rotation_probability, s.max_rotation_deg, generator)
        spoiled, masks = spoil(images, ingredients.textures, generator, s.smudges)
        if ingredients.defects is not None:
            real = ingredients.defects.draw(len(images), generator, s.defects, images.device)
            spoiled, masks = torch.cat([spoiled, real.images]), torch.cat([masks, real.masks])
        with torch.no_grad():
            specific, general = self._reconstruct(spoiled)
            anomaly_map = self._detect(specific, general)
        return {"focal": focal_loss(self._upsample(spoiled, specific, general, anomaly_map), masks)}

    def finish(self, train: Tensor, validation: Tensor) -> Chosen:
        self._neighbours = []  # 64 MB that inspection needs no more
        return super().finish(train, validation)


def _coarse(masks: Tensor, cell_px: int) -> Tensor:
    """Masks (B, 1, H, W) of whole cells: what touches a cell fills it."""
    cells = F.max_pool2d(masks, cell_px)
    return F.interpolate(cells, scale_factor=float(cell_px), mode="nearest")
