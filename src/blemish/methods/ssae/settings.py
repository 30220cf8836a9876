"""Settings of SSAE, and its recipes: the paper's for textures, objects and each category, and ours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from blemish.errors import BlemishError
from blemish.methods.base import Settings
from blemish.methods.features import EncoderKind, FeatureUNet, check_feature_widths
from blemish.methods.ssae.heatmaps import Difference
from blemish.synthesis.modified_patches import CorruptionSettings, Kind


@dataclass(frozen=True)
class SSAESettings(Settings):
    """Network, damage, objective, schedule and scoring. The defaults are recipe ``paper``, for textures at 512 px."""

    image_size_px: int = 512
    objective: Literal["filter", "amplify", "ensemble", "segment"] = "filter"
    """``filter``: objective (1); ``amplify``: objective (4); ``ensemble``: a network for each objective, and the
    maximum of both heatmaps at every pixel (section 4.3); ``segment``: a segmentation loss on the damage, which the
    paper advises against (section 4.4)."""
    balance: float = 0.5
    """Lambda of both objectives: the weight of the modified area; the rest has the weight 1 - lambda."""
    widths: tuple[int, ...] = (64, 128, 256)
    """Filters of the encoder's blocks, and in reverse order of the decoder's."""
    encoder: EncoderKind = "trained"
    """``imagenet``: the network is a ``ResidualFilter``, with three widths, for objective ``filter`` alone. Ours."""
    filters_per_dilation: int = 64
    kernel: int = 3
    """Filter size f of the dilated convolutions: 3 or 5."""
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    n_stacks: int = 4
    patch_px: int = 1
    """The network works on patches of this side as if they were pixels. Ours."""
    corruption: CorruptionSettings = field(default_factory=CorruptionSettings)
    flip_horizontally: bool = True
    flip_vertically: bool = True
    quarter_turns: bool = True
    """Good images are mirrored and rotated by multiples of 90 degrees, if the product allows it."""
    iterations: int = 20000
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    ema_decay: float = 0.0
    crops: tuple[float, ...] = (0.5, 0.75, 1.0)
    """Progressive training: sides of the crops as shares of the image's side, each for an equal part of training."""
    validate_every: int = 200
    """Steps between validations of objective (4), which tends to overfit: training ends with the weights that find
    simulated damage best on the validation images, including a kind of damage that it was not trained on."""
    patience: int = 10
    """Objective (4) stops after this many validations in a row without an improvement, counted from the first one on
    whole images. 0: never."""
    difference: Difference = "squared"
    """Difference of image and repair: the mean over channels of (X - F(X))^2, or of 1 - SSIM; or, with encoder
    imagenet, 1 - cosine similarity of the encoder's first features (``features``, ours), or its geometric mean with
    the first (``joined``, ours)."""
    mean_px: int = 11
    """Side k of the means that smooth the heatmap (eq. 3): odd."""
    n_means: int = 2
    """How often the heatmap is smoothed (n)."""
    correction: int = 0
    """Exponent t of 1 - avgmap (eq. 14); 0 for textures."""
    is_aligned: bool = False
    """Whether the product is at the same position in all images, as objects often are. Only then is t chosen, too."""
    is_chosen: bool = True
    """Choose k, n and t after training, on good images with simulated damage, instead of using the three above."""
    image_score: Literal["sum", "max"] = "sum"
    """Image score: the sum of the heatmap (the paper's), or its maximum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("iterations", "patch_px", "widths", "dilations", "filters_per_dilation", "n_stacks", least=1)
        self.check_range("kernel", "mean_px", least=1)
        self.check_range("n_means", "correction", "validate_every", "patience", least=0)
        self.check_range("learning_rate", above=0, most=1)
        self.check_range("balance", least=0, most=1)
        self.check_range("ema_decay", least=0, most=0.99999)
        if self.kernel % 2 == 0 or self.mean_px % 2 == 0:
            raise BlemishError(f"settings kernel, mean_px: {self.kernel}, {self.mean_px} should both be odd")
        if not self.dilations:
            raise BlemishError("setting dilations: none; give at least one, such as [1, 2, 4]")
        if not self.crops or not all(0.0 < share <= 1.0 for share in self.crops):
            raise BlemishError(f"setting crops: {self.crops} should be shares of the image's side, in (0, 1]")
        if self.encoder == "imagenet":
            check_feature_widths("widths", self.widths)
            if self.objective != "filter":
                raise BlemishError(f"setting objective: {self.objective} needs encoder trained; filter takes either")
        elif self.difference in ("features", "joined"):
            raise BlemishError(
                f"setting difference: {self.difference} needs encoder imagenet; take squared or ssim without it"
            )
        self.check_multiple(self.multiple_px)

    @property
    def multiple_px(self) -> int:
        """The sides of the network's input are multiples of this."""
        is_pretrained = self.encoder == "imagenet"
        return FeatureUNet.multiple_px if is_pretrained else int(self.patch_px * 2 ** len(self.widths))


# --- recipes (section 4.1 and 4.3) -------------------------------------------------------------------------------

_TEXTURE = SSAESettings()
_OBJECT = replace(
    _TEXTURE,
    image_size_px=256,
    kernel=5,
    flip_horizontally=False,
    flip_vertically=False,
    quarter_turns=False,
    is_aligned=True,
)


def _category(
    base: SSAESettings,
    difference: Difference,
    *,
    size_px: int = 512,
    kernel: int = 3,
    allowed: str = "",
    kinds: tuple[Kind, ...] = ("elastic",),
    rotation: float = 0.0,
) -> SSAESettings:
    """Settings for a category; ``allowed`` contains h and v for flips, q for quarter turns."""
    return replace(
        base,
        difference=difference,
        image_size_px=size_px,
        kernel=kernel,
        flip_horizontally="h" in allowed,
        flip_vertically="v" in allowed,
        quarter_turns="q" in allowed,
        corruption=CorruptionSettings(kinds=kinds, rotation_probability=rotation),
    )


_OCCLUDED: tuple[Kind, ...] = ("elastic", "occlusion")
CATEGORIES: dict[str, SSAESettings] = {
    "carpet": _category(_TEXTURE, "ssim", allowed="hvq"),
    "grid": _category(_TEXTURE, "squared", allowed="hvq"),
    "leather": _category(_TEXTURE, "squared", allowed="hvq"),
    "tile": _category(_TEXTURE, "ssim", allowed="hvq"),
    "wood": _category(_TEXTURE, "squared", allowed="hv"),
    "bottle": _category(_OBJECT, "ssim", size_px=256, kernel=5, allowed="hvq"),
    "cable": _category(_OBJECT, "ssim", size_px=384, kinds=_OCCLUDED),
    "capsule": _category(_OBJECT, "ssim"),
    "hazelnut": _category(_OBJECT, "squared", allowed="hvq"),
    "metal_nut": _category(_OBJECT, "ssim", size_px=384, allowed="q"),  # a mirrored nut is a defect: "flip"
    "pill": _category(_OBJECT, "squared"),
    "screw": _category(_OBJECT, "squared", allowed="q", kinds=_OCCLUDED),  # a mirrored thread is a defect
    "toothbrush": _category(_OBJECT, "squared", size_px=384, allowed="h"),
    "transistor": _category(_OBJECT, "ssim", size_px=256, kernel=5, kinds=_OCCLUDED, rotation=0.5),
    "zipper": _category(_OBJECT, "ssim", allowed="h"),
}
"""Settings for the categories of MVTec AD. The difference, the damage, and for textures the size and f are the
paper's. Sizes and f of objects, flips and turns are our choice; the paper names 256, 384 or 512 px and f 3 or 5."""

RECIPES: dict[str, Settings] = {
    "paper": _TEXTURE,
    "paper-object": _OBJECT,
    **{f"paper-{name}": settings for name, settings in CATEGORIES.items()},
    "fast": replace(
        _OBJECT,
        kernel=3,
        corruption=CorruptionSettings(kinds=_OCCLUDED),
        batch_size=8,
        iterations=6000,
        learning_rate=5e-4,
        schedule="cosine",
        ema_decay=0.999,
        difference="ssim",
        image_score="max",
    ),
    "small": replace(
        _OBJECT,
        encoder="imagenet",
        batch_size=8,
        widths=(32, 64, 96),
        n_stacks=2,
        filters_per_dilation=24,
        dilations=(1, 2, 4, 8),
        kernel=3,
        balance=0.05,
        corruption=CorruptionSettings(kinds=_OCCLUDED),
        iterations=1000,
        learning_rate=2e-3,
        schedule="cosine",
        ema_decay=0.99,
        crops=(1.0,),
        difference="joined",
        image_score="max",
    ),
}
