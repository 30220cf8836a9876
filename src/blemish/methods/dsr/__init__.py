"""DSR: a dual subspace re-projection network for surface anomaly detection.

Zavrtanik, Kristan, Skočaj, ECCV 2022, https://arxiv.org/abs/2208.01521

    blemish fit parts/good --method dsr --recipe small

An image is encoded as two maps of codes. Two decoders turn the codes back into images: the general decoder
reconstructs the image as it is, and the object-specific decoder, which has only seen good parts, reconstructs it
without its defects. A third network compares the two reconstructions. Anomalies are simulated by replacing codes, so
no textures are needed.

The codes, their encoder and the general decoder (stage 1, figures 2 and 3) are in ``vq.py``; their weights come with
the package and are not trained further. Stage 2 trains the object-specific decoder (``networks.py``) and the
detection module on simulated anomalies (``damage.py``), stage 3 the upsampling module (section 3.7).

Where the paper and the authors' code differ, recipe ``paper`` follows the code, which produced the published numbers,
and ``paper-text`` follows the text in the points that are marked T:

- M has the size of the image, but is trained on masks as coarse as the damaged map of codes;
- T the upsampling module sees I_spc, I_gen and M (paper: image and M; ``upsampling`` = image);
- T the reach n of an anomaly is at least a fifth of the codes (paper: lambda_s), and is drawn for each level;
- T a code is replaced by one near to the feature that it stands for (paper: near to the code; ``latent.ranking``);
- half of the anomalies are on both levels, the other half on one of them; if only the low level is damaged, Q_hi
  stays clean;
- the learning rate of stage 3 is constant: the authors' loop ends before the steps at which their rate would fall
  (its 20,000 steps are the paper's; their published command takes 50,000).

Differences from the authors' code: the codebook that comes with blemish has unit variance
(``VQAutoencoder.normalize``), so that the loss on features has a known weight; a codebook that was converted from
theirs keeps its scale, and so the loss has the weight that it has there. All recipes but these two rank near codes (a
table, which costs nothing) and reduce photographs by area averaging.

The VQ autoencoder always computes in float32: in bf16, a tenth of the codes would be others.

Real defects, if there are any (section 4.2), are added to the focal loss of both stages, in stage 2 with masks as
coarse as the codes of the high level. The paper does not say what table 6 does without L_img. As nothing would then
train the object-specific image decoder, we let the general decoder decode both.

Recipe ``small`` is ours, for two cores and minutes. Its detection module sees the general reconstruction through a
frozen ImageNet encoder (``methods/features.py``). Its subspace restriction changes the features in place of making
them anew (``networks.ResidualRestriction``). Half of its damage are the smudges of stage 3: replaced codes alone look
like coloured noise, and real defects do not. Their noise is cut at random from 0.5 to 0.8, so that most are small, as
defects are. A grey photograph is reconstructed without colour, so that colour cannot
give damage away. It has no object-specific image decoder (table 6, without L_img), which takes a third of a step and
changes nothing that we could measure, and no upsampling module: after two minutes of training on smudges, that module
harms the anomaly map of real defects more than it helps. It rotates neither good images nor real defects (in its few
steps it learns parts in the orientation of the photographs).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Generator, Tensor, nn

from blemish.devices import exactly
from blemish.graphs import side_by_side
from blemish.layers import UNet, pad_to_multiple
from blemish.losses import focal_loss, l2_loss
from blemish.methods.base import (
    Chosen,
    Ingredients,
    Method,
    Settings,
    Stage,
    cosine_schedule,
    step_schedule,
)
from blemish.methods.dsr.codebook import empty_autoencoder, load_codebook
from blemish.methods.dsr.damage import Damaged, coarse, grey_where, with_replaced_codes, with_spoiled_areas
from blemish.methods.dsr.networks import ObjectSpecificDecoder, ResidualRestriction, SubspaceRestriction, initialize
from blemish.methods.dsr.settings import RECIPES
from blemish.methods.dsr.settings import DSRSettings as DSRSettings
from blemish.methods.dsr.vq import MULTIPLE_PX, Codebook, VQAutoencoder
from blemish.methods.features import FeatureUNet, encoders_of, own_parameters
from blemish.scoring import smoothed_maximum
from blemish.synthesis.geometry import randomly_rotate
from blemish.synthesis.pasted_textures import AnomalySettings, spoil
from blemish.synthesis.textures import TextureBank

# --- the method ------------------------------------------------------------------------------------------------


class DSR(Method):
    """DSR, with its ablations (tables 5 and 6) as settings.

    Parameters
    ----------
    codebook : the VQ autoencoder of stage 1, which is not trained; None takes the one that comes with blemish.
    """

    name = "dsr"
    settings_type = DSRSettings
    settings: DSRSettings
    exact = ("vq.encoder_high", "vq.encoder_low", "vq.upsample_low", "vq.merge_high", "vq.decoder")
    exact_on_cpu = ("restriction_low", "restriction_high")
    recipes = RECIPES

    def __init__(self, settings: DSRSettings | None = None, codebook: VQAutoencoder | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        self.vq = codebook if codebook is not None else load_codebook()
        self.vq.requires_grad_(False)
        n_features = self.vq.codebook_low.codes.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            restriction = ResidualRestriction if s.restriction == "residual" else SubspaceRestriction
            self.restriction_low = restriction(n_features, s.restriction_widths)
            self.restriction_high = restriction(n_features, s.restriction_widths)
            if s.image_weight:
                self.decoder = ObjectSpecificDecoder(n_features, s.decoder_widths).apply(initialize)
            self.detection = self._module(6)
            if s.encoder == "trained":
                self.detection.apply(initialize)
            if s.upsampling != "none":
                self.upsampling = self._module(8 if s.upsampling == "reconstructions" else 5)
        self._neighbours: dict[Codebook, Tensor] = {}  # neighbour tables of the two codebooks; only while training

    def _module(self, n_in: int) -> nn.Module:
        """A detection or upsampling module of ``n_in`` channels: 5.61 M parameters by default."""
        s = self.settings
        if s.encoder == "imagenet":
            return FeatureUNet(n_in, 2, s.detection_widths)
        return UNet(n_in, s.detection_widths, tuple(reversed(s.detection_widths[:-1])), s.patch_px, nn.InstanceNorm2d)

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

    def part(self, name: str) -> DSR:
        """``no-upsampling``: the trained method without the upsampling module, DSR_U- (table 6)."""
        if name != "no-upsampling" or self.settings.upsampling == "none":
            super().part(name)  # raises
        method = DSR(replace(self.settings, upsampling="none"), self.vq)
        for child in ("restriction_low", "restriction_high", "decoder", "detection"):
            if hasattr(self, child):
                setattr(method, child, getattr(self, child))
        return method

    # --- inspection -------------------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]  # images: (B, 3, H, W)
        padded = pad_to_multiple(images, self.settings.multiple_px)  # (B, 3, H', W'), multiples of multiple_px
        specific, general = self._reconstruct(padded)  # (B, 3, H', W') each
        anomaly_map = self._detect(specific, general)  # (B, 1, H', W')
        image_score = smoothed_maximum(anomaly_map[..., :height, :width], self.settings.score_window_px)  # (B,)
        upsampled = self._upsample(padded, specific, general, anomaly_map)  # (B, 1, H', W')
        return upsampled[..., :height, :width], image_score

    def _reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """I_spc and I_gen of images (B, 3, H, W): (B, 3, H, W) float32 each."""
        with exactly(images):  # in bf16, 6 to 13 % of an image's codes are others
            low, high = self.vq.encode(images.float())  # (B, D, H / 8, W / 8), (B, D, H / 4, W / 4)
        restored_low, restored_high, general = side_by_side(
            images.device,
            lambda: self.restriction_low(low),  # (B, D, H / 8, W / 8)
            lambda: self.restriction_high(high),  # (B, D, H / 4, W / 4)
            lambda: self._general(low, high),  # (B, 3, H, W)
        )
        return self._coloured_as(images, self._specific(restored_low, restored_high)), self._coloured_as(
            images, general
        )

    def _general(self, low: Tensor, high: Tensor) -> Tensor:
        """I_gen (B, 3, H, W) float32 of Q_lo (B, D, H / 8, W / 8) and Q_hi (B, D, H / 4, W / 4) (section 3.2)."""
        with exactly(low):
            return self.vq.decode(low, high)

    def _specific(self, features_low: Tensor, features_high: Tensor) -> Tensor:
        """I_spc (B, 3, H, W) of F~_lo (B, D, H / 8, W / 8) and F~_hi (B, D, H / 4, W / 4) (section 3.3)."""
        with exactly(features_low):
            joined = self.vq.joined(
                self.vq.codebook_low.quantized(features_low), self.vq.codebook_high.quantized(features_high)
            )  # (B, 2 D, H / 4, W / 4)
        image: Tensor = self.decoder(joined) if self.settings.image_weight else self.vq.decoder(joined).float()
        return image

    def _coloured_as(self, images: Tensor, reconstruction: Tensor) -> Tensor:
        """A reconstruction (B, 3, H, W), with ``keep_grey`` without colour where the image has none."""
        return grey_where(images, reconstruction) if self.settings.keep_grey else reconstruction

    def _detect(self, specific: Tensor, general: Tensor) -> Tensor:
        """M (B, 1, H, W) float32 (section 3.4) of I_spc and I_gen, (B, 3, H, W) each."""
        logits = _classify(self.detection, torch.cat([specific, general], 1), general)  # (B, 2, H, W)
        return logits.float().softmax(1)[:, 1:]  # (B, 1, H, W)

    def _upsample(self, images: Tensor, specific: Tensor, general: Tensor, anomaly_map: Tensor) -> Tensor:
        """M_r (B, 1, H, W) float32 (section 3.5)."""
        if self.settings.upsampling == "none":
            return anomaly_map
        inputs = [images] if self.settings.upsampling == "image" else [specific, general]
        inputs += [1.0 - anomaly_map, anomaly_map]
        logits = _classify(self.upsampling, torch.cat(inputs, 1), images)  # (B, 2, H, W)
        return logits.float().softmax(1)[:, 1:]  # (B, 1, H, W)

    @torch.no_grad()
    def explain(self, images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        reconstructions = self._reconstruct(pad_to_multiple(images, self.settings.multiple_px))  # (B, 3, H', W') each
        names = ("object-specific", "general")
        return {
            name: reconstruction[..., :height, :width].clamp(0.0, 1.0)
            for name, reconstruction in zip(names, reconstructions, strict=True)
        }

    # --- training ---------------------------------------------------------------------------------------------

    @property
    def uses_textures(self) -> bool:
        return self.settings.anomalies == "image" or self.settings.smudges.source == "textures"

    @property
    def uses_defects(self) -> bool:
        return True

    @property
    def pretrained(self) -> tuple[Tensor, ...]:
        frozen = (self.vq, *encoders_of(self))
        return tuple(tensor for part in frozen for tensor in part.state_dict().values())

    def stages(self) -> tuple[Stage, ...]:
        s = self.settings
        upsampling = own_parameters(self.upsampling) if s.upsampling != "none" else ()
        fixed = {*upsampling, *self.vq.parameters()}
        cosine = cosine_schedule(0.05)
        detection = Stage(
            "detection",
            tuple(parameter for parameter in own_parameters(self) if parameter not in fixed),
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
            upsampling,
            iterations=s.upsampling_iterations,
            batch_size=s.batch_size,
            learning_rate=s.learning_rate,
            schedule=cosine if s.schedule == "cosine" else step_schedule((), 1.0),
            ema_decay=s.ema_decay,
        )

    @torch.no_grad()
    def damage(
        self, images: Tensor, ingredients: Ingredients, generator: Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        with exactly(images):
            damage = self._damage(images.float(), ingredients.textures, generator)
        pictures = {
            "decoded codes": self._coloured_as(images, self._general(damage.low, damage.high)),
            "decoded codes, damaged": self._coloured_as(
                images, self._general(damage.damaged_low, damage.damaged_high)
            ),
        }
        return {name: picture.clamp(0.0, 1.0) for name, picture in pictures.items()}, damage.masks

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        if stage.name == "upsampling":
            return self._upsampling_loss(images, ingredients, generator)
        s = self.settings
        images = randomly_rotate(images, s.rotation_probability, s.max_rotation_deg, generator)
        with torch.no_grad():
            with exactly(images):
                damage = self._damage(images.float(), ingredients.textures, generator)
            general = self._coloured_as(
                images, self._general(damage.damaged_low, damage.damaged_high)
            )  # (B, 3, H, W)
        restored_low = self.restriction_low(damage.damaged_low)  # (B, D, H / 8, W / 8)
        restored_high = self.restriction_high(damage.damaged_high)  # (B, D, H / 4, W / 4)
        with nullcontext() if s.image_weight else torch.no_grad():  # without a loss on it, nothing learns from it
            specific = self._coloured_as(images, self._specific(restored_low, restored_high))  # (B, 3, H, W)
        losses = {}  # eq. 3
        if s.feature_weight:
            difference = l2_loss(restored_low, damage.low) + l2_loss(restored_high, damage.high)
            losses["features"] = s.feature_weight * difference
        if s.image_weight:
            losses["image"] = s.image_weight * l2_loss(specific, images)
        pairs, masks = torch.cat([specific.detach(), general], 1), damage.masks  # (B, 6, H, W), (B, 1, H, W)
        if ingredients.defects is not None:  # N real defects
            real = ingredients.defects.draw(len(images), generator, s.defects, images.device)
            with torch.no_grad():
                pairs = torch.cat([pairs, torch.cat(self._reconstruct(real.images), 1)])  # (B + N, 6, H, W)
            masks = torch.cat([masks, coarse(real.masks, MULTIPLE_PX // 2)])  # (B + N, 1, H, W)
        losses["focal"] = focal_loss(self._detect(pairs[:, :3], pairs[:, 3:]), masks)
        return losses

    def _damage(self, images: Tensor, textures: TextureBank | None, generator: Generator) -> Damaged:
        """Good images (B, 3, H, W) float32 with simulated anomalies (section 3.6), the first of them smudges."""
        s, n_smudged = self.settings, round(self.settings.smudged_share * len(images))
        if s.anomalies == "image":
            return with_spoiled_areas(self.vq, images, textures, generator, AnomalySettings(s.anomaly_probability))
        smudged, others, parts = images[:n_smudged], images[n_smudged:], []
        if len(smudged):
            smudges = replace(s.smudges, probability=s.anomaly_probability)
            parts += [with_spoiled_areas(self.vq, smudged, textures, generator, smudges, keep_grey=s.keep_grey)]
        if len(others):
            parts += [
                with_replaced_codes(self.vq, others, generator, s.anomaly_probability, s.latent, self._neighbours)
            ]
        return Damaged(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _upsampling_loss(self, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        """Loss of stage 3: M_r of images with simulated smudges (section 3.7)."""
        s = self.settings
        images = randomly_rotate(images, s.smudge_rotation_probability, s.max_rotation_deg, generator)
        spoiled, masks = spoil(images, ingredients.textures, generator, s.smudges)  # (B, 3, H, W), (B, 1, H, W)
        if ingredients.defects is not None:  # N real defects
            real = ingredients.defects.draw(len(images), generator, s.defects, images.device)
            spoiled, masks = torch.cat([spoiled, real.images]), torch.cat([masks, real.masks])  # (B + N, ...)
        with torch.no_grad():
            specific, general = self._reconstruct(spoiled)  # (B + N, 3, H, W) each
            anomaly_map = self._detect(specific, general)  # (B + N, 1, H, W)
        return {"focal": focal_loss(self._upsample(spoiled, specific, general, anomaly_map), masks)}

    def finish(self, train: Tensor, validation: Tensor) -> Chosen:
        self._neighbours = {}  # free 64 MB that inspection does not need
        return super().finish(train, validation)


def _classify(module: nn.Module, pictures: Tensor, image: Tensor) -> Tensor:
    """Logits (B, 2, H, W) of pictures (B, n, H, W); a ``FeatureUNet`` sees ``image`` (B, 3, H, W), too."""
    logits: Tensor = module(pictures, image.clamp(0.0, 1.0)) if isinstance(module, FeatureUNet) else module(pictures)
    return logits
