"""PatchCore: a memory of what patches of good images look like to a network that was trained on ImageNet.

Roth, Pemula, Zepeda, Schölkopf, Brox, Gehler, *Towards Total Recall in Industrial Anomaly Detection*, CVPR 2022,
https://arxiv.org/abs/2106.08265

    blemish fit parts/good --method patchcore

Nothing is trained and nothing is damaged: patches of good images are remembered, as few as still lie near all others,
and the anomaly map is the distance of each patch to the nearest remembered one.

Differences from the paper, and what it leaves open:

- recipes ``small`` and ``fast`` take features of the network that comes with blemish, EfficientNet-lite0's first
  stages; ``paper`` takes WideResNet-50-2, whose weights do not come with it (``backbone``);
- a feature is the mean of each channel over 3x3 positions, zero outside of the image, of each stage at its own
  resolution. The authors' code flattens the 3x3 neighbourhood and pools it to 1024 numbers;
- images are resized to the network's size and seen as a whole; the paper crops 224 px of 256;
- the coreset starts at a random patch; ``max_candidates`` of recipes other than ``paper`` takes a random part of all
  patches before, so that it takes seconds;
- features are projected for the coreset by a Gaussian matrix, and only if they have more dimensions than
  ``projection_dims``;
- the Gaussian that smooths the map is normalized over the pixels inside of the image; scipy's, which the authors
  take, mirrors it at the border;
- b of eq. 7, the size of the neighbourhood, is not in the paper; 9 is ours.

The settings of ``small`` and ``fast`` were chosen by simulated damage on held-out good images of bottle, pill and
magnetic tile (``benchmarks/patchcore_settings.py``, docs/results.md); no test image had a part in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.backbones import Backbone, layout_of, load_backbone
from blemish.devices import exactly
from blemish.errors import BlemishError
from blemish.layers import blur_matrix
from blemish.methods.base import Chosen, Ingredients, Method, Settings, Stage

SHIPPED = "shipped"
WIDE_RESNET = "wide_resnet50_2"
"""Stands for a file of its weights, which a user has to name: recipe ``paper``."""
CHUNK = 512
"""Remembered features that are compared at a time: 67 MB for 8 images with 64x64 patches each."""


@dataclass(frozen=True)
class PatchCoreSettings(Settings):
    """Features, memory and scores. The defaults are recipe ``small``."""

    backbone: str = SHIPPED
    """The frozen network: ``shipped``, or a file of weights; see ``blemish.backbones``."""
    stages: tuple[int, ...] = (2, 4)
    """Whose outputs are the features, counted from 0 and fine to coarse; layer2 of a ResNet is 1."""
    coreset_share: float = 1.0
    """Share of the patches of all good images that are remembered (section 3.2)."""
    max_vectors: int | None = 5_000
    """Remember at most this many, whatever their share: what an inspection costs is in proportion to it."""
    max_candidates: int | None = 20_000
    """Choose them among this many patches, drawn at random from all. None: among all, as the paper does."""
    projection_dims: int = 128
    """Dimensions in which the coreset is chosen, after a random projection (section 3.2)."""
    smoothing_px: float = 4.0
    """Sigma of the Gaussian that smooths the anomaly map (section 3.3), px of the resized image; 0 for none."""
    image_score: Literal["reweighted", "patch", "map"] = "map"
    """``reweighted``: the largest distance of a patch, weighted by how rare its nearest remembered one is (eq. 7);
    ``patch``: the largest distance itself; ``map``: the maximum of the smoothed map."""
    n_neighbours: int = 9
    """b of eq. 7: the remembered features nearest to the nearest one, itself included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("coreset_share", above=0, most=1)
        self.check_range("smoothing_px", least=0, most=self.short_px)
        self.check_range("stages", least=0)
        self.check_range("projection_dims", "n_neighbours", least=1)
        for name in ("max_vectors", "max_candidates"):
            if getattr(self, name) is not None:
                self.check_range(name, least=1)
        if not self.stages or any(b <= a for a, b in zip(self.stages, self.stages[1:], strict=False)):
            raise BlemishError(f"setting stages: {list(self.stages)} should be one or more, rising, such as [2, 4]")


# --- the memory (section 3.1 and 3.2) ----------------------------------------------------------------------------


def patch_features(outputs: list[Tensor]) -> Tensor:
    """Locally aware patch features (section 3.1, eq. 2).

    Parameters
    ----------
    outputs : (B, C_s, H_s, W_s) float, of the stages, fine to coarse.

    Returns
    -------
    (B, sum of C_s, H_0, W_0): means over 3x3 positions, zero outside of the image; coarser ones resized bilinearly.
    """
    size_hw = outputs[0].shape[-2:]
    means = [F.avg_pool2d(output, 3, 1, 1) for output in outputs]  # (B, C_s, H_s, W_s)
    return torch.cat([means[0], *(F.interpolate(mean, size_hw, mode="bilinear") for mean in means[1:])], 1)


def coreset(vectors: Tensor, n: int, generator: Generator) -> Tensor:
    """Greedy minimax facility location: which vectors leave none far from all of them (section 3.2, algorithm 1).

    Each is the one farthest from those before it; the first is drawn.

    Parameters
    ----------
    vectors : (N, D) float, any device.
    n : how many, at most N.
    generator : CPU generator, the only source of randomness.

    Returns
    -------
    (n,) int64 distinct rows of ``vectors``, on its device, in the order of their choice.
    """
    squares = vectors.square().sum(1)  # (N,)
    row = torch.randint(len(vectors), (1,), generator=generator).to(vectors.device)  # (1,)
    distances = torch.full_like(squares, math.inf)  # (N,) squared, to the nearest chosen one
    rows = []
    for _ in range(n):
        rows.append(row)
        centre = vectors.index_select(0, row)  # (1, D)
        to_centre = torch.addmv(squares, vectors, centre[0], alpha=-2.0) + centre.square().sum()  # (N,)
        distances = torch.minimum(distances, to_centre)
        distances.index_fill_(0, row, -math.inf)  # rounding may leave it above 0, and no row is taken twice
        row = distances.argmax(0, keepdim=True)
    return torch.cat(rows)


def projected(vectors: Tensor, n_dims: int, generator: Generator) -> Tensor:
    """Random linear projection (N, D) to (N, n_dims), which nearly keeps distances (Johnson, Lindenstrauss).

    Vectors that have no more dimensions than that stay as they are.
    """
    n_now = vectors.shape[1]
    if n_now <= n_dims:
        return vectors
    matrix = torch.randn(n_now, n_dims, generator=generator) / math.sqrt(n_dims)
    return vectors @ matrix.to(vectors.device)


def nearest_distances(queries: Tensor, memory: Tensor) -> Tensor:
    """Euclidean distance of each query to the nearest vector of the memory (eq. 6), in bounded memory; exportable.

    Parameters
    ----------
    queries : (B, Q, D) float32.
    memory : (N, D) float32.

    Returns
    -------
    (B, Q) float32 >= 0.
    """
    flat = queries.reshape(-1, queries.shape[2])  # (B Q, D)
    squares = memory.square().sum(1)  # (N,)
    partial = [  # (B Q,) each: squared distances without the squares of the queries
        torch.addmm(square, flat, vectors.T, alpha=-2.0).amin(1)
        for vectors, square in zip(
            torch.split(memory, CHUNK), torch.split(squares, CHUNK), strict=True
        )  # (n, D), (n,)
    ]
    nearest = torch.stack(partial).amin(0) + flat.square().sum(1)  # (B Q,)
    return nearest.clamp_min(0.0).sqrt().view(queries.shape[:2])


# --- the method --------------------------------------------------------------------------------------------------


class PatchCore(Method):
    """PatchCore. ``finish`` fills the memory; there is nothing to train.

    Parameters
    ----------
    backbone : the frozen network; None reads the one that the settings name.
    """

    name = "patchcore"
    settings_type = PatchCoreSettings
    settings: PatchCoreSettings
    exact = ("backbone",)
    memory: Tensor
    """(N, D) float32, the remembered features; one of zeros before ``finish``."""
    recipes: ClassVar[dict[str, Settings]] = {
        "paper": PatchCoreSettings(
            image_size_px=224, backbone=WIDE_RESNET, stages=(1, 2), coreset_share=0.1, max_vectors=None,
            max_candidates=None, image_score="reweighted",
        ),
        "fast": PatchCoreSettings(image_size_px=384, max_candidates=50_000, smoothing_px=6.0),
        "small": PatchCoreSettings(),
    }  # fmt: skip

    def __init__(self, settings: PatchCoreSettings | None = None, backbone: Backbone | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        n_stages = s.stages[-1] + 1
        if backbone is None:
            if s.backbone == WIDE_RESNET:
                raise BlemishError(
                    f"setting backbone: the weights of {WIDE_RESNET} do not come with blemish; give a file of them, "
                    f"as torchvision has it (--set backbone=FILE), or take recipe small"
                )
            backbone = load_backbone(None if s.backbone == SHIPPED else s.backbone, n_stages)
        if len(backbone.channels) < n_stages:
            raise BlemishError(
                f"setting stages: {list(s.stages)}, but backbone {s.backbone} has the stages 0 to "
                f"{len(backbone.channels) - 1}; name those that you want, as in --set 'stages=[1, 2]'"
            )
        self.backbone = backbone
        n_features = sum(backbone.channels[stage] for stage in s.stages)
        self.register_buffer("memory", torch.zeros(1, n_features))

    @classmethod
    def restored(cls, settings: Settings, tensors: Mapping[str, Tensor]) -> Self:
        assert isinstance(settings, PatchCoreSettings)
        network = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items() if name != "memory"}
        try:
            backbone = Backbone(layout_of(network))
        except (LookupError, ValueError) as error:
            raise RuntimeError(f"its backbone is incomplete: {error}") from error
        method = cls(settings, backbone)
        method.memory = tensors["memory"].clone()
        method.load_state_dict(tensors)
        return method

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        size_hw = images.shape[-2:]  # images: (B, 3, H, W)
        with exactly(images):
            features = self._features(images.float())  # (B, D, h, w)
            queries = features.flatten(2).transpose(1, 2)  # (B, h w, D)
            distances = nearest_distances(queries, self.memory)  # (B, h w)
            patch_map = distances.view(-1, 1, *features.shape[-2:])  # (B, 1, h, w)
            anomaly_map = self._smoothed(F.interpolate(patch_map, size_hw, mode="bilinear"))  # (B, 1, H, W)
            if self.settings.image_score == "map":
                return anomaly_map, anomaly_map.amax((1, 2, 3))  # (B,)
            return anomaly_map, self._image_score(queries, distances)

    def _features(self, images: Tensor) -> Tensor:
        """Patch features (B, D, h, w) of images (B, 3, H, W), at the resolution of the finest stage."""
        outputs = self.backbone(images)  # (B, C_s, H_s, W_s) each
        return patch_features([outputs[stage] for stage in self.settings.stages])

    def _image_score(self, queries: Tensor, distances: Tensor) -> Tensor:
        """s (B,) of queries (B, Q, D) and their distances (B, Q): eq. 7, or s* of eq. 6."""
        largest, place = distances.max(1)  # (B,) each: s*, and which query it is of
        if self.settings.image_score == "patch":
            return largest
        index = place.view(-1, 1, 1).expand(-1, 1, queries.shape[2])
        query = queries.gather(1, index)[:, 0]  # (B, D)
        to_memory = _distances(query, self.memory)  # (B, N)
        nearest = self.memory[to_memory.argmin(1)]  # (B, D): m*
        n_neighbours = min(self.settings.n_neighbours, len(self.memory))
        neighbours = _distances(nearest, self.memory).topk(n_neighbours, 1, largest=False).indices  # (B, b)
        exponents = to_memory.gather(1, neighbours)  # (B, b): |m_test - m| for m in N_b(m*)
        share = torch.exp(largest - exponents.logsumexp(1))  # (B,): of m* in the sum of eq. 7
        return ((1.0 - share) * largest).clamp_min(0.0)

    def _smoothed(self, anomaly_map: Tensor) -> Tensor:
        """Gaussian mean (B, 1, H, W) over the pixels inside of the image (section 3.3)."""
        sigma_px = self.settings.smoothing_px
        if not sigma_px:
            return anomaly_map
        window_px = 2 * int(4.0 * sigma_px + 0.5) + 1  # as scipy cuts it off
        height, width = anomaly_map.shape[-2:]
        rows, columns = (blur_matrix(side, window_px, sigma_px, anomaly_map.device) for side in (height, width))
        smoothed = (rows / rows.sum(1, keepdim=True)) @ anomaly_map  # (B, 1, H, W)
        return smoothed @ (columns / columns.sum(1, keepdim=True)).T  # (B, 1, H, W)

    # --- from good images --------------------------------------------------------------------------------------

    @property
    def uses_textures(self) -> bool:
        return False

    @property
    def pretrained(self) -> tuple[Tensor, ...]:
        return tuple(self.backbone.state_dict().values())

    def stages(self) -> tuple[Stage, ...]:
        return ()

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        raise NotImplementedError("PatchCore trains nothing")

    @torch.no_grad()
    def finish(self, train: Tensor, validation: Tensor) -> Chosen:
        """Fill the memory with a coreset of the patches of ``train`` (section 3.2); nothing is chosen."""
        s = self.settings
        self.eval()
        generator = Generator().manual_seed(s.seed)
        patches, n_patches = self._candidates(train, generator)  # (n, D), on the device of the network
        n_vectors = min(max(1, round(s.coreset_share * n_patches)), s.max_vectors or n_patches, len(patches))
        if n_vectors < len(patches):
            patches = patches[coreset(projected(patches, s.projection_dims, generator), n_vectors, generator)]
        self.memory = patches
        return Chosen({}, None)

    def _candidates(self, images: Tensor, generator: Generator) -> tuple[Tensor, int]:
        """Features (n, D) of at most ``max_candidates`` patches of images (N, 3, H, W) uint8, and how many there are.

        Which, is drawn once for all images; so no more than these are held in memory.
        """
        n_before, n_kept, n_patches = 0, 0, 0
        candidates, rows = torch.empty(0), torch.empty(0, dtype=torch.long)
        for batch in torch.split(images, self.settings.batch_size):
            features = self._features(batch.to(self.memory.device).float() / 255.0)  # (b, D, h, w)
            vectors = features.permute(0, 2, 3, 1).flatten(0, 2)  # (b h w, D)
            if not n_patches:
                n_patches = len(images) * features.shape[-2] * features.shape[-1]
                n = min(n_patches, self.settings.max_candidates or n_patches)
                rows = torch.randperm(n_patches, generator=generator)[:n].sort().values  # (n,)
                candidates = vectors.new_empty(n, vectors.shape[1])  # a list of parts would need twice the memory
            here = rows[(rows >= n_before) & (rows < n_before + len(vectors))] - n_before
            candidates[n_kept : n_kept + len(here)] = vectors[here.to(vectors.device)]
            n_before, n_kept = n_before + len(vectors), n_kept + len(here)
        return candidates, n_patches


def _distances(vectors: Tensor, memory: Tensor) -> Tensor:
    """Euclidean distances (B, N) of vectors (B, D) to all of the memory (N, D)."""
    squared = vectors.square().sum(1, keepdim=True) - 2.0 * vectors @ memory.T + memory.square().sum(1)  # (B, N)
    return squared.clamp_min(0.0).sqrt()
