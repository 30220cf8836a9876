"""PatchCore: the distance of each patch to its nearest neighbour among the patches of good images.

Roth, Pemula, Zepeda, Schölkopf, Brox, Gehler, *Towards Total Recall in Industrial Anomaly Detection*, CVPR 2022,
https://arxiv.org/abs/2106.08265

    blemish fit parts/good --method patchcore

Nothing is trained. A backbone that was trained on photographs of everything describes each patch of the good images
by a vector of features; a thinned memory of these vectors is what the method knows (section 3.1 and 3.2). What is far
from all of them is anomalous (section 3.3).

Differences from the paper:

- the backbone is the one that comes with blemish, EfficientNet-lite0, or another EfficientNet-lite given as a file;
  the paper's WideResNet-50-2 is not there, so no recipe is called ``paper``;
- features of a stage are averaged over 3x3 positions, and upsampled to the finest stage; the paper also resizes each
  feature vector to 1024 numbers, which is for wider backbones;
- the coreset is chosen from a random part of the patches (``n_candidates``), so that it takes seconds;
- the image score is the maximum of the smoothed anomaly map; ``image_score`` = patch is eq. 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from blemish.backbones import Backbone, backbone_of, load_backbone
from blemish.errors import BlemishError
from blemish.layers import blur_matrix
from blemish.methods.base import Chosen, Ingredients, Method, Settings, Stage

BATCH = 16
"""Images whose features are computed at a time."""
CHUNK = 4096
"""Vectors of the memory that are compared at a time, which bounds the space that the distances take."""


@dataclass(frozen=True)
class PatchCoreSettings(Settings):
    """Backbone, memory and scoring. The defaults are recipe ``small``."""

    backbone: str = ""
    """File of an EfficientNet-lite (``backbones.load_backbone``); empty for the one that comes with blemish."""
    stages: tuple[int, ...] = (2, 4)
    """Which stages of the backbone, counted from 0, describe a patch: the finest first."""
    window: int = 3
    """Side of the square over which features are averaged, in positions of a stage: odd (p of section 3.1)."""
    n_vectors: int = 8_000
    """Vectors in the memory, if the good images have as many patches."""
    n_candidates: int = 40_000
    """Patches, drawn at random from all of the good images, among which the coreset is chosen."""
    projection: int = 64
    """Random projections of a vector that the choice of the coreset compares (section 3.2)."""
    blur_sigma_px: float = 4.0
    """Width of the Gaussian that smooths the anomaly map, px."""
    image_score: Literal["map", "patch"] = "map"
    """``map``: the maximum of the anomaly map. ``patch``: eq. 7, the largest distance of a patch, less where its
    neighbours in the memory are far from each other."""
    n_neighbours: int = 9
    """Neighbours in the memory that eq. 7 compares (b)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("stages", least=0)
        self.check_range("n_vectors", "n_candidates", "projection", "n_neighbours", least=1)
        self.check_range("blur_sigma_px", least=0)
        self.check_window("window")
        if not self.stages or [*self.stages] != sorted({*self.stages}):
            raise BlemishError(
                f"setting stages: {self.stages} should be some of the backbone's, rising, such as [2, 4]"
            )


class PatchCore(Method):
    """PatchCore.

    Parameters
    ----------
    backbone : describes the patches; None takes the one of the settings.
    memory : (M, C) float, the vectors of good patches; None until ``finish`` has chosen them.
    """

    name = "patchcore"
    settings_type = PatchCoreSettings
    settings: PatchCoreSettings
    memory: Tensor
    """(M, C) float32."""
    recipes: ClassVar[dict[str, Settings]] = {
        "small": PatchCoreSettings(),
        "fast": PatchCoreSettings(image_size_px=512, n_vectors=20_000, n_candidates=100_000, blur_sigma_px=8.0),
    }
    exact = ("backbone",)

    def __init__(
        self,
        settings: PatchCoreSettings | None = None,
        backbone: Backbone | None = None,
        memory: Tensor | None = None,
    ) -> None:
        super().__init__(settings)
        s = self.settings
        n_stages = max(s.stages) + 1
        self.backbone = backbone if backbone is not None else load_backbone(s.backbone or None, n_stages)
        if n_stages > len(self.backbone.widths):
            raise BlemishError(
                f"setting stages: {s.stages}, but the backbone has {len(self.backbone.widths)}, counted from 0"
            )
        n_features = sum(self.backbone.widths[stage] for stage in s.stages)
        self.register_buffer("memory", memory if memory is not None else torch.zeros(1, n_features))

    @classmethod
    def restored(cls, settings: Settings, tensors: Mapping[str, Tensor]) -> Self:
        assert isinstance(settings, PatchCoreSettings)
        prefix = "backbone."
        weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        return cls(settings, backbone_of(weights), tensors["memory"])

    # --- inspection (section 3.3) ---------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self._features(images)  # (B, C, h, w)
        n_images, n_features, height, width = features.shape
        vectors = features.permute(0, 2, 3, 1).reshape(-1, n_features)  # (B h w, C)
        distances = nearest_distances(vectors, self.memory).view(n_images, 1, height, width)  # (B, 1, h, w)
        large = F.interpolate(distances, images.shape[-2:], mode="bilinear", align_corners=False)  # (B, 1, H, W)
        anomaly_map = _smoothed(large, self.settings.blur_sigma_px)  # (B, 1, H, W)
        if self.settings.image_score == "map":
            return anomaly_map, anomaly_map.amax((1, 2, 3))
        return anomaly_map, self._image_score(vectors.view(n_images, -1, n_features), distances.flatten(1))

    def _features(self, images: Tensor) -> Tensor:
        """Locally aware patch features (B, C, h, w) of images (B, 3, H, W), as fine as the finest stage (eq. 2)."""
        window, stages = self.settings.window, self.backbone(images.float())  # (B, C_k, h_k, w_k) each
        pooled = [F.avg_pool2d(stages[stage], window, 1, window // 2) for stage in self.settings.stages]
        size_hw = pooled[0].shape[-2:]
        coarse = [F.interpolate(x, size_hw, mode="bilinear", align_corners=False) for x in pooled[1:]]
        return torch.cat([pooled[0], *coarse], 1)

    def _image_score(self, vectors: Tensor, distances: Tensor) -> Tensor:
        """Eq. 7: (B,) of the patches' vectors (B, P, C) and their distances to the memory (B, P)."""
        largest, worst = distances.max(1)  # (B,), (B,)
        index = worst.view(-1, 1, 1).expand(-1, 1, vectors.shape[2])  # (B, 1, C)
        worst_vectors = vectors.gather(1, index)[:, 0]  # (B, C)
        to_memory = _distances(worst_vectors, self.memory)  # (B, M)
        nearest = self.memory[to_memory.argmin(1)]  # (B, C)
        n_neighbours = min(self.settings.n_neighbours, len(self.memory))
        neighbours = _distances(nearest, self.memory).topk(n_neighbours, dim=1, largest=False).indices  # (B, b)
        share = to_memory.gather(1, neighbours).softmax(1)[:, 0]  # (B,); the nearest is its own first neighbour
        return (1.0 - share) * largest

    # --- what it learns (section 3.2) -----------------------------------------------------------------------------

    @property
    def uses_textures(self) -> bool:
        return False

    @property
    def pretrained(self) -> tuple[Tensor, ...]:
        return tuple(self.backbone.state_dict().values())

    def stages(self) -> tuple[Stage, ...]:
        """None: nothing is trained."""
        return ()

    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        raise NotImplementedError("nothing of patchcore is trained")

    @torch.no_grad()
    def finish(self, train: Tensor, validation: Tensor) -> Chosen:
        """Fill the memory with a coreset of the patches of ``train``, (N, 3, H, W) uint8."""
        s, device = self.settings, self.memory.device
        generator = Generator().manual_seed(s.seed)
        n_each = -(-s.n_candidates // len(train))
        candidates = []
        for batch in torch.split(train, BATCH):
            features = self.eval()._features(batch.to(device).float() / 255.0)  # (B, C, h, w)
            vectors = features.flatten(2).mT  # (B, h w, C)
            order = torch.rand(vectors.shape[:2], generator=generator).argsort(1)[:, :n_each, None]  # (B, n_each, 1)
            index = order.to(device).expand(-1, -1, vectors.shape[2])  # (B, n_each, C)
            candidates.append(vectors.gather(1, index).flatten(0, 1))
        pool = torch.cat(candidates)  # (K, C)
        self.memory = pool[coreset(pool, s.n_vectors, s.projection, generator)]
        return Chosen({}, None)


def nearest_distances(vectors: Tensor, memory: Tensor) -> Tensor:
    """Euclidean distance of vectors (P, C) to their nearest of the memory (M, C): (P,) float32. Exportable."""
    squares = vectors.square().sum(1)  # (P,)
    nearest = torch.full_like(squares, torch.inf)
    for chunk in torch.split(memory, CHUNK):
        products = vectors @ chunk.mT  # (P, m)
        nearest = torch.minimum(nearest, (chunk.square().sum(1) - 2.0 * products).amin(1))
    return (squares + nearest).clamp_min(0.0).sqrt()


def _distances(vectors: Tensor, memory: Tensor) -> Tensor:
    """Euclidean distances of vectors (B, C) to all of the memory (M, C): (B, M)."""
    squares = vectors.square().sum(1, keepdim=True) + memory.square().sum(1) - 2.0 * vectors @ memory.mT
    return squares.clamp_min(0.0).sqrt()


def coreset(vectors: Tensor, n: int, n_projections: int, generator: Generator) -> Tensor:
    """Greedy choice of ``n`` vectors such that each vector is near to one of them (algorithm 1).

    Parameters
    ----------
    vectors : (K, C) float.
    n : at most so many are chosen.
    n_projections : distances are those of so many random projections (Johnson and Lindenstrauss).
    generator : CPU generator of the projections and of the first choice.

    Returns
    -------
    (n,) int64, the indices of the chosen vectors in the order of their choice; all, if there are no more than ``n``.
    """
    if len(vectors) <= n:
        return torch.arange(len(vectors), device=vectors.device)
    if n_projections < vectors.shape[1]:
        projection = torch.randn(vectors.shape[1], n_projections, generator=generator).to(vectors.device)
        vectors = vectors @ projection / n_projections**0.5  # (K, n_projections)
    squares = vectors.square().sum(1)  # (K,)
    index = torch.randint(len(vectors), (1,), generator=generator).to(vectors.device)  # (1,)
    distance, chosen = torch.full_like(squares, torch.inf), []  # squared distance to the nearest chosen vector
    for _ in range(n):
        chosen.append(index)
        centre = vectors.index_select(0, index)  # (1, C)
        to_centre = torch.addmv(squares + squares[index], vectors, centre[0], alpha=-2.0)  # (K,)
        distance = torch.minimum(distance, to_centre)
        index = distance.argmax(keepdim=True)  # (1,)
    return torch.cat(chosen)


def _smoothed(maps: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of maps (B, 1, H, W) whose window's weights inside of the image sum to 1."""
    if sigma_px == 0:
        return maps
    window_px = 2 * int(4.0 * sigma_px + 0.5) + 1
    rows = blur_matrix(maps.shape[-2], window_px, sigma_px, maps.device)  # (H, H)
    columns = blur_matrix(maps.shape[-1], window_px, sigma_px, maps.device)  # (W, W)
    rows, columns = rows / rows.sum(1, keepdim=True), columns / columns.sum(1, keepdim=True)
    return rows @ maps @ columns.mT
