"""The contract of a method: what the training loop, the detector and the tests rely on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor, nn

from blemish.errors import BlemishError
from blemish.settings import MIN_SIDE_PX, CheckedSettings, Resizing

if TYPE_CHECKING:
    from blemish.synthesis.real_defects import DefectBank
    from blemish.synthesis.textures import TextureBank

SPEED_SETTINGS = ("cuda_graphs",)
"""Settings that change the speed but not the results."""

SIZE_SETTINGS = ("image_size_px", "image_width_px")
"""Settings of the size of the network's input."""


@dataclass(frozen=True)
class Settings(CheckedSettings):
    """The settings that all methods share; a method's subclass adds its own. Frozen, and serializable as JSON."""

    image_size_px: int = 256
    """Images are resized to this height, and to this width, too, before the network sees them."""
    image_width_px: int | None = None
    """Images are resized to this width instead, so that parts that are not square are not squeezed."""
    resizing: Resizing = "area"
    """``area``: pixels are averaged where an image shrinks, so thin defects are kept. ``bilinear``: as the authors of
    DRÆM and DSR do, which takes every n-th pixel of a large image."""
    batch_size: int = 8
    seed: int = 0
    """Seed of the initial weights; the training loop also uses it for the order of images and the damage."""
    cuda_graphs: bool = True
    """On a GPU, launch a training step or an inspection as one CUDA graph: same results, faster, more memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("batch_size", least=1)
        self.check_range("image_size_px", least=MIN_SIDE_PX)
        if self.image_width_px is not None:
            self.check_range("image_width_px", least=MIN_SIDE_PX)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the network's input, px."""
        return self.image_size_px, self.image_width_px or self.image_size_px

    @property
    def short_px(self) -> int:
        """The shorter side of the network's input, px."""
        return min(self.size_hw)

    @property
    def multiple_px(self) -> int:
        """Both sides of the network's input are multiples of this."""
        return 1

    def check_multiple(self, multiple_px: int, least_px: int = 0) -> None:
        """Raise BlemishError if a side of the network's input is not a multiple, or is too short."""
        for name, side_px in zip(SIZE_SETTINGS, self.size_hw, strict=True):
            if side_px % multiple_px or side_px < least_px:
                start = f", from {least_px} on" if least_px else ""
                raise BlemishError(f"setting {name}: {side_px} should be a multiple of {multiple_px}{start}")

    def result_settings(self) -> dict[str, Any]:
        """The settings that affect the results, for JSON: all but ``SPEED_SETTINGS``."""
        return {name: value for name, value in asdict(self).items() if name not in SPEED_SETTINGS}

    def check_widths(self, *names: str) -> None:
        """Raise BlemishError if a setting of widths is empty or has a width below 1."""
        self.check_range(*names, least=1)
        for name in names:
            if not getattr(self, name):
                raise BlemishError(f"setting {name}: empty; give the channels of one block or more, such as [16, 32]")

    def check_window(self, name: str) -> None:
        """Raise BlemishError if the side of a square window is even, below 1 or larger than the image."""
        side_px = getattr(self, name)
        if side_px % 2 == 0 or not 1 <= side_px <= self.short_px:
            raise BlemishError(
                f"setting {name}: {side_px} should be odd, so that it has a centre, and at most the shorter side of "
                f"the image, {self.short_px}"
            )


@dataclass(frozen=True)
class Stage:
    """One training run of a subset of a method's parameters."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    iterations: int
    """Steps to take, if ``epochs`` is None."""
    batch_size: int
    learning_rate: float
    epochs: int | None = None
    """Passes over all good images, instead of ``iterations``; those that are held out count, too."""
    schedule: Callable[[float], float] = field(default=lambda progress: 1.0)
    """Maps the progress of the stage, in [0, 1), to a factor on the learning rate."""
    slow_parameters: tuple[nn.Parameter, ...] = ()
    """Further parameters, which are trained with ``slow_rate`` times the learning rate: those that are pretrained."""
    slow_rate: float = 1.0
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    ema_decay: float = 0.0
    """Above 0, the stage ends with an exponential moving average of the weights instead of the last weights."""
    crop_px: Callable[[float], int] | None = None
    """Maps the progress of the stage, in [0, 1), to the side of the random crops that training sees instead of whole
    images. A side larger than the images means whole images."""
    validate_every: int = 0
    """Steps between calls of ``Method.validate``; 0 for none. If it is set, the stage ends with the weights that
    validated best."""
    patience: int = 0
    """Stop after this many validations in a row without an improvement, counted from the first one on whole images; 0
    never stops early."""

    def groups(self) -> list[dict[str, Any]]:
        """What the stage trains as groups for an optimizer; ``rate_factor`` multiplies the learning rate."""
        groups = ((self.parameters, 1.0), (self.slow_parameters, self.slow_rate))
        return [{"params": list(parameters), "rate_factor": factor} for parameters, factor in groups if parameters]

    def n_iterations(self, n_good: int) -> int:
        """Steps of this stage for ``n_good`` good images, of which some may be held out.

        As many as the papers' authors take, who hold out none.
        """
        return self.iterations if self.epochs is None else self.epochs * -(-n_good // self.batch_size)


class Chosen(NamedTuple):
    """The settings that were chosen on good images after training."""

    settings: dict[str, Any]
    """Settings of the method that replace the configured ones."""
    value: float | None
    """The validation result with these settings, as in ``Method.validate``; None if nothing was validated."""


@dataclass(frozen=True)
class Ingredients:
    """Data that training needs besides good images. A detector does not contain it."""

    textures: TextureBank | None = None
    """Textures for the simulated damage, for a method with ``uses_textures``."""
    defects: DefectBank | None = None
    """Real defects to train on besides the simulated ones, for a method with ``uses_defects``."""
    largest_share: float | None = None
    """Largest share of an image that may be damaged, for a method with ``limits_damage``."""


class Learner(nn.Module, ABC):
    """The interface of a network to the training loop."""

    settings: Settings

    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The training stages, in order."""

    @abstractmethod
    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        """Named scalar losses on good images; the training loop adds them up.

        Parameters
        ----------
        images : (B, 3, H, W) float in [0, 1], good images; the method simulates damage on them.
        generator : CPU generator, the only source of randomness.
        """

    def observe(self) -> dict[str, Tensor]:
        """Scalars to log besides the losses. Default: none."""
        return {}

    def validate(self, stage: Stage, images: Tensor) -> float:
        """How well the method does on what ``stage`` trains; higher is better.

        Called in inference mode for stages with ``validate_every``. It draws the same damage at each call.

        Parameters
        ----------
        images : (N, 3, H, W) float in [0, 1], good images that training has not seen.
        """
        raise NotImplementedError(f"{type(self).__name__} has no validation")


class Method(Learner):
    """A detection method: the network, its simulated damage and its losses. It learns from good images.

    Parameters
    ----------
    settings : the method's own frozen dataclass; None for its defaults.
    """

    name: ClassVar[str]
    settings_type: ClassVar[type[Settings]]
    recipes: ClassVar[Mapping[str, Settings]]
    exact: tuple[str, ...] = ()
    """Modules that compute in float32 even when inspection runs in bf16, because their output is rounded to codes."""
    exact_on_cpu: tuple[str, ...] = ()
    """Further modules that do so on a CPU only. On a GPU they compute as in training."""
    validation_share: ClassVar[float] = 0.0
    """Share of the good images that is kept out of training, for ``validate`` and ``finish``."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings if settings is not None else self.settings_type()

    @classmethod
    def build(cls, settings: Settings | None = None, codebook: str | Path | None = None) -> Self:
        """A new method; its weights are drawn from ``settings.seed``.

        Parameters
        ----------
        codebook : file of ``blemish pretrain``, for a method that needs a codebook; None takes the one that comes
            with blemish.

        Raises
        ------
        BlemishError
            If the method needs no codebook, or the file is not a codebook.
        """
        if codebook is not None:
            raise BlemishError(f"codebook {codebook}: {cls.name} needs no codebook; leave it out, or take dsr")
        return cls(settings)

    @classmethod
    def restored(cls, settings: Settings, tensors: Mapping[str, Tensor]) -> Self:
        """A method with the weights of ``tensors``, the ``state_dict`` of a method with the same settings.

        Raises
        ------
        RuntimeError
            If the tensors do not match the network.
        """
        method = cls(settings)
        method.load_state_dict(tensors)
        return method

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect images (B, 3, H, W) float in [0, 1]: anomaly maps (B, 1, H, W) and image scores (B,), both >= 0."""

    @property
    def uses_textures(self) -> bool:
        """Whether ``loss`` needs textures, with these settings."""
        return True

    @property
    def uses_defects(self) -> bool:
        """Whether ``loss`` can use real defects, with these settings."""
        return False

    @property
    def limits_damage(self) -> bool:
        """Whether ``loss`` needs ``modified_patches.largest_share`` of the good images, with these settings."""
        return False

    @property
    def pretrained(self) -> tuple[Tensor, ...]:
        """Pretrained tensors, which the method does not train. Default: none."""
        return ()

    @torch.no_grad()
    def damage(
        self, images: Tensor, ingredients: Ingredients, generator: Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What ``loss`` trains on: good images as the method damages them, for people to look at.

        Parameters
        ----------
        images : (B, 3, H, W) float in [0, 1], good images.
        generator : CPU generator, the only source of randomness.

        Returns
        -------
        Pictures by name, (B, 3, H, W) float in [0, 1], and the masks of the damage, (B, 1, H, W) float in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__} does not show its damage")

    def part(self, name: str) -> Method:
        """A part of the trained method that is a detection method of its own, as in an ablation; weights are shared.

        After this, ``finish`` chooses its settings. Default: there are none.

        Raises
        ------
        BlemishError
            If there is no such part.
        """
        raise BlemishError(f"{self.name} with these settings has no part {name!r}")

    def finish(self, train: Tensor, validation: Tensor) -> Chosen:
        """Choose, on good images, the settings that are not trained.

        Called once, after training. Default: nothing is chosen.

        Parameters
        ----------
        train, validation : (N, 3, H, W) uint8, the images of training and those it has not seen. ``validation`` is
            empty for a method without a ``validation_share``.
        """
        return Chosen({}, None)

    @torch.no_grad()
    def explain(self, images: Tensor) -> dict[str, Tensor]:
        """Images to show next to the anomaly map, by name: (B, 3, H, W) in [0, 1]. Default: none."""
        return {}


def step_schedule(milestones: Iterable[float], factor: float) -> Callable[[float], float]:
    """Multiply the learning rate by ``factor`` at each of ``milestones``, shares of the stage in [0, 1]."""
    shares = tuple(milestones)
    return lambda progress: factor ** sum(progress >= share for share in shares)


def cosine_schedule(warm_up: float) -> Callable[[float], float]:
    """Rise linearly over the first ``warm_up`` share of the stage, then fall to 0 along half a cosine."""

    def rate(progress: float) -> float:
        if progress < warm_up:
            return (progress + 1e-3) / (warm_up + 1e-3)
        return 0.5 * (1.0 + math.cos(math.pi * (progress - warm_up) / (1.0 - warm_up)))

    return rate
