"""SSAE: a self-supervised autoencoder that filters out defects, with stacked dilated convolutions.

Bauer, Nakajima, Müller, *Self-Supervised Training with Autoencoders for Visual Anomaly Detection*,
https://arxiv.org/abs/2206.11723

    blemish fit parts/good --method ssae --recipe small

One network is trained to repair images of good parts in which a patch was modified. So it reproduces normal areas and
replaces anomalous ones. The anomaly map shows what it changes.

There is no other public implementation. Where the paper is silent or ambiguous, we chose:

- a stack of dilated convolutions is linear; batch norm and ReLU come after its 3x3 convolution (section 3.3);
- both sums of objectives (1) and (4) are over one image, and a batch is the mean over its images; M and |X - X^| are
  squared together with the error they weight, as the norms say; the second term of (4) is divided by the sum of
  |X - X^|, which replaces M;
- transposed convolutions double the size exactly; images are padded to a multiple of 8 px;
- a mean over k x k pixels near the border uses only the pixels inside the image;
- 1 - SSIM is that of DRÆM (11x11 Gaussian window), averaged over channels;
- the average heatmap of eq. (14) is per pixel, so objects must be aligned, as they are in MVTec AD;
- sizes and strengths of the damage, batch size and length of the training are ours; n, k and t are chosen on good
  images with simulated damage, after training (``finish``);
- progressive training uses crops of half, three quarters and all of the image's side, for a third of the time each;
- objective (4) stops when pixel AUROC on simulated damage of another kind no longer rises;
- patches are limited to half the image's width (``corruption.limit``), up to which figure 9 finds what theorem 2
  states. The theorem's own limit is there, too, from the variance of all pixels of all good images, divided by their
  range squared, both between the 1 % and the 99 % quantile;
- 1 - avgmap is never below 0, and each network of the ensemble has its own average heatmap;
- textures for occlusions are augmented as in DRÆM.

Recipe ``small`` is ours, for two cores and minutes: its network changes an image by what an ImageNet encoder sees of
it (``networks.ResidualFilter``), and image and repair are compared in pixels and in the encoder's first features
(``heatmaps.joined_map``). ``small`` and
``fast`` score an image by the maximum of its heatmap: after a short training an error remains everywhere, and in a
sum it hides a small defect.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.layers import pad_to_multiple
from blemish.methods.base import (
    Chosen,
    Ingredients,
    Method,
    Stage,
    cosine_schedule,
    step_schedule,
)
from blemish.methods.features import encoders_of, own_parameters
from blemish.methods.ssae.heatmaps import (
    CORRECTIONS,
    N_MEANS,
    Choice,
    choices,
    corrected_map,
    damage_auroc,
    difference_map,
    feature_difference_map,
    joined_map,
    mean_sides_px,
    smooth_map,
)
from blemish.methods.ssae.networks import Autoencoder, ResidualFilter, network_for
from blemish.methods.ssae.settings import RECIPES, SSAESettings
from blemish.synthesis.geometry import randomly_mirror_and_turn
from blemish.synthesis.modified_patches import CorruptionSettings, corrupt

NETWORKS = {"filter": "filter", "amplify": "amplifier", "segment": "segmenter"}
"""The network that each objective trains."""
CHOSEN = ("n_means", "mean_px", "correction")
"""Settings that ``finish`` chooses on good images: n, k and t."""
VALIDATION_DAMAGE = CorruptionSettings(kinds=("elastic", "swap"), limit="none")
MAX_VALIDATED = 50
"""At most this many validation images get simulated damage; the average heatmap uses all validation images."""
N_COPIES = 4
"""Damaged copies of each validation image."""


# --- the objectives (section 3.1) --------------------------------------------------------------------------------


def filter_objective(repair: Tensor, image: Tensor, mask: Tensor, balance: float) -> dict[str, Tensor]:
    """Objective (1): reproduce the good area, and repair the modified one.

    Parameters
    ----------
    repair, image : (B, 3, H, W) float, F(X^) and X.
    mask : (B, 1, H, W) float in [0, 1], the real-valued M.
    balance : lambda in [0, 1], the weight of the modified area.

    Returns
    -------
    Two scalars >= 0 to be added: ``keep``, (1 - balance) |(1 - M)(F - X)|^2 / |1 - M|_1, and ``repair``,
    balance |M (F - X)|^2 / |M|_1, means over the batch; a term is 0 for an image without such an area.
    """
    error = repair.float() - image  # (B, 3, H, W)
    return {
        "keep": (1.0 - balance) * _weighted_square(error, 1.0 - mask),
        "repair": balance * _weighted_square(error, mask),
    }


def amplify_objective(
    repair: Tensor, image: Tensor, modified: Tensor, mask: Tensor, balance: float
) -> dict[str, Tensor]:
    """Objective (4): reproduce the good area, and maximize the error in the modified one, weighted by the change.

    Parameters
    ----------
    repair, image, modified : (B, 3, H, W) float, F(X^), X and X^.
    mask : (B, 1, H, W) float in [0, 1], the real-valued M.
    balance : lambda in [0, 1], the weight of the modified area.

    Returns
    -------
    Two scalars to be added: ``keep`` as in ``filter_objective``, and ``amplify`` <= 0,
    - balance |W (F - X)|^2 / |W|_1 with W = |X - X^|.
    """
    error = repair.float() - image  # (B, 3, H, W)
    return {
        "keep": (1.0 - balance) * _weighted_square(error, 1.0 - mask),
        "amplify": -balance * _weighted_square(error, (image - modified).abs()),
    }


def segmentation_loss(output: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Section 4.4: the network as a segmenter, binary cross-entropy of its output, averaged over channels.

    Parameters
    ----------
    output : (B, 3, H, W) float in (0, 1).
    mask : (B, 1, H, W) float in [0, 1], the real-valued M.

    Returns
    -------
    One scalar >= 0: ``segmentation``.
    """
    with torch.autocast(output.device.type, enabled=False):
        probability = output.float().mean(1, keepdim=True).clamp(1e-6, 1.0 - 1e-6)  # (B, 1, H, W)
        return {"segmentation": F.binary_cross_entropy(probability, mask.float())}


def _weighted_square(error: Tensor, weight: Tensor) -> Tensor:
    """|W E|^2 / |W|_1 of each image, averaged over the batch: a scalar; 0 for an image whose weights are all 0.

    ``error`` is (B, 3, H, W), ``weight`` is (B, 1, H, W) or (B, 3, H, W).
    """
    weight = weight.expand_as(error)  # (B, 3, H, W)
    total = (weight * error).square().sum((1, 2, 3))  # (B,)
    return (total / weight.sum((1, 2, 3)).clamp_min(1e-6)).mean()


# --- the method --------------------------------------------------------------------------------------------------


class SSAE(Method):
    """The self-supervised autoencoder, with one of the two objectives or an ensemble of both."""

    name = "ssae"
    settings_type = SSAESettings
    settings: SSAESettings
    average_map: Tensor
    """(n_networks, 1, H, W) mean heatmap of good images for each network (eq. 13), of the network's size."""
    recipes = RECIPES
    validation_share = 0.05

    def __init__(self, settings: SSAESettings | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            for objective, name in NETWORKS.items():
                if s.objective == objective or (s.objective == "ensemble" and objective != "segment"):
                    setattr(self, name, network_for(s))
        self.register_buffer("average_map", torch.zeros(len(self.networks), 1, *s.size_hw))

    @property
    def networks(self) -> list[Autoencoder | ResidualFilter]:
        """The networks that the objective trains: one or two."""
        return [getattr(self, name) for name in NETWORKS.values() if hasattr(self, name)]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        s, maps = self.settings, []
        for number, network in enumerate(self.networks):
            heatmap = self._heatmap(network, images)  # (B, 1, H, W)
            smooth = smooth_map(heatmap, s.n_means, s.mean_px)  # (B, 1, H, W)
            average = self.average_map[number : number + 1]  # (1, 1, S, S)
            average = F.interpolate(average, images.shape[-2:], mode="bilinear")  # (1, 1, H, W)
            maps.append(corrected_map(smooth, average, s.correction))  # (B, 1, H, W)
        anomaly_map = maps[0] if len(maps) == 1 else torch.maximum(*maps)  # (B, 1, H, W)
        image_score = anomaly_map.sum((1, 2, 3)) if s.image_score == "sum" else anomaly_map.amax((1, 2, 3))  # (B,)
        return anomaly_map, image_score

    def part(self, name: str) -> SSAE:
        """``filter`` or ``amplify``: the trained network of one objective; ``finish`` chooses its n, k and t."""
        if not hasattr(self, NETWORKS.get(name, "")):
            super().part(name)  # raises
        method = SSAE(replace(self.settings, objective=name))  # type: ignore[arg-type]
        setattr(method, NETWORKS[name], getattr(self, NETWORKS[name]))
        return method.to(self.average_map.device)

    def stages(self) -> tuple[Stage, ...]:
        s = self.settings
        return tuple(
            Stage(
                objective,
                own_parameters(getattr(self, name)),
                iterations=s.iterations,
                batch_size=s.batch_size,
                learning_rate=s.learning_rate,
                schedule=cosine_schedule(0.05) if s.schedule == "cosine" else step_schedule((), 1.0),
                ema_decay=s.ema_decay,
                crop_px=self._crop_px,
                validate_every=s.validate_every if objective == "amplify" else 0,
                patience=s.patience,
            )
            for objective, name in NETWORKS.items()
            if hasattr(self, name)
        )

    def _crop_px(self, progress: float) -> int:
        """Side of the crops at this progress: the shares of ``crops`` in turn, in multiples of ``multiple_px``."""
        share = self.settings.crops[int(progress * len(self.settings.crops))]
        multiple_px = self.settings.multiple_px
        return multiple_px * max(1, round(share * self.settings.short_px / multiple_px))

    @property
    def pretrained(self) -> tuple[Tensor, ...]:
        return tuple(tensor for encoder in encoders_of(self) for tensor in encoder.state_dict().values())

    @property
    def uses_textures(self) -> bool:
        return "occlusion" in self.settings.corruption.kinds

    @property
    def limits_damage(self) -> bool:
        return self.settings.corruption.limit == "theorem"

    @torch.no_grad()
    def damage(
        self, images: Tensor, ingredients: Ingredients, generator: Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        corruption, share = self.settings.corruption, ingredients.largest_share
        modified, masks = corrupt(images, ingredients.textures, generator, corruption, share)
        return {"modified image": modified}, masks

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        s = self.settings
        images = randomly_mirror_and_turn(
            images, generator,
            horizontally=s.flip_horizontally, vertically=s.flip_vertically, quarter_turns=s.quarter_turns,
        )  # fmt: skip
        modified, masks = corrupt(  # (B, 3, H, W), (B, 1, H, W)
            images, ingredients.textures, generator, s.corruption, ingredients.largest_share
        )
        output = getattr(self, NETWORKS[stage.name])(modified)  # (B, 3, H, W)
        if stage.name == "filter":
            return filter_objective(output, images, masks, s.balance)
        if stage.name == "amplify":
            return amplify_objective(output, images, modified, masks, s.balance)
        return segmentation_loss(output, masks)

    # --- settings chosen on good images (section 4.1) ------------------------------------------------------------

    def validate(self, stage: Stage, images: Tensor) -> float:
        """Pixel AUROC on ``images`` with damage that is hard to see: in [0, 1], 0 if no damage is visible."""
        s, network = self.settings, getattr(self, NETWORKS[stage.name])
        modified, masks = self._damaged(images)  # (N * copies, 3, H, W), (N * copies, 1, H, W)
        heatmaps = smooth_map(self._differences(network, modified), s.n_means, s.mean_px)  # (N * copies, 1, H, W)
        auroc = damage_auroc(heatmaps, masks)
        return 0.0 if math.isnan(auroc) else auroc

    @torch.no_grad()
    def finish(self, train: Tensor, validation: Tensor) -> Chosen:
        """Choose n, k and t on ``validation`` with simulated damage, and compute its average heatmap."""
        images = validation.to(self.average_map.device).float() / 255.0  # (N, 3, H, W)
        best = max(self.choices(images), key=lambda choice: choice.pixel_auroc)
        is_known = not math.isnan(best.pixel_auroc)  # NaN: on images without variance no damage is visible
        chosen = {name: getattr(best, name) for name in CHOSEN} if self.settings.is_chosen and is_known else {}
        s = self.settings = replace(self.settings, **chosen)
        maps = [smooth_map(self._differences(network, images), s.n_means, s.mean_px) for network in self.networks]
        self.average_map.copy_(torch.stack([heatmaps.mean(0) for heatmaps in maps]))  # eq. 13
        return Chosen(chosen, best.pixel_auroc if is_known else None)

    @torch.no_grad()
    def choices(self, images: Tensor) -> list[Choice]:
        """The combinations of n, k and t that ``finish`` chooses from, each with its pixel AUROC.

        Without ``is_chosen`` it is only the configured combination.

        Parameters
        ----------
        images : (N, 3, H, W) float good images in [0, 1], N >= 2.
        """
        self.eval()
        images = images[:MAX_VALIDATED]
        modified, masks = self._damaged(images)  # (N * copies, 3, H, W), (N * copies, 1, H, W)
        good = [self._differences(network, images) for network in self.networks]  # (N, 1, H, W) each
        damaged = [self._differences(network, modified) for network in self.networks]  # (N * copies, 1, H, W) each
        s = self.settings
        if not s.is_chosen:
            return choices(good, damaged, masks, (s.n_means,), (s.mean_px,), (s.correction,))
        exponents = CORRECTIONS[s.difference] if s.is_aligned else (0,)
        return choices(good, damaged, masks, N_MEANS, mean_sides_px(s.short_px), exponents)

    def _damaged(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``N_COPIES`` damaged copies of each of at most 50 images, and their masks (bool).

        (N, 3, H, W) to (N * copies, 3, H, W) and (N * copies, 1, H, W).

        The damage is the same at each call and for any training settings. It keeps the colours of the image, so a
        heatmap that reacts only to foreign colours does not do well on it.
        """
        copies = images[:MAX_VALIDATED].repeat_interleave(N_COPIES, 0)  # (N * copies, 3, H, W)
        generator = Generator().manual_seed(self.settings.seed)
        modified, masks = corrupt(copies, None, generator, VALIDATION_DAMAGE)
        return modified, masks > 0

    def _differences(self, network: Autoencoder | ResidualFilter, images: Tensor) -> Tensor:
        """Heatmaps (N, 1, H, W) of any number of images (N, 3, H, W), computed in batches of 8."""
        return torch.cat([self._heatmap(network, batch) for batch in torch.split(images, 8)])

    def _heatmap(self, network: Autoencoder | ResidualFilter, images: Tensor) -> Tensor:
        """Heatmap (B, 1, H, W) before it is smoothed: how images (B, 3, H, W) differ from their repair (eq. 2).

        With the segmentation loss it is the output of the network itself.
        """
        output = _repaired(network, images)  # (B, 3, H, W)
        if self.settings.objective == "segment":
            return output.mean(1, keepdim=True)
        difference = self.settings.difference
        if isinstance(network, ResidualFilter) and difference in ("features", "joined"):
            features = feature_difference_map(network.change.encoder, images, output)
            return (
                features
                if difference == "features"
                else joined_map(features, difference_map(images, output, "squared"))
            )
        return difference_map(images, output, difference)

    @torch.no_grad()
    def explain(self, images: Tensor) -> dict[str, Tensor]:
        names = {"filter": "reconstruction", "amplifier": "amplified"}  # a segmenter's output is its map
        return {
            heading: _repaired(getattr(self, name), images) for name, heading in names.items() if hasattr(self, name)
        }


def _repaired(network: Autoencoder | ResidualFilter, images: Tensor) -> Tensor:
    """F(X) (B, 3, H, W) for images (B, 3, H, W) of any size."""
    height, width = images.shape[-2:]
    padded: Tensor = network(pad_to_multiple(images, network.multiple_px))  # (B, 3, H', W'), multiples of multiple_px
    return padded[..., :height, :width].clamp(0.0, 1.0)
