"""The contract of a method: what the loop, the detector and the tests may rely on."""

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
from blemish.settings import CheckedSettings

if TYPE_CHECKING:
    from blemish.synthesis.real_defects import DefectBank
    from blemish.synthesis.textures import TextureBank

OF_THE_SPEED = ("cuda_graphs",)
"""Settings that change no result."""


@dataclass(frozen=True)
class Settings(CheckedSettings):
    """What every method's settings begin with; a method adds its own. Frozen, and plain enough for JSON."""

    image_size_px: int = 256
    """Images are resized to this square before the network sees them."""
    batch_size: int = 8
    seed: int = 0
    """Of the initial weights; the loop takes it for the order of images and the damage, too."""
    cuda_graphs: bool = True
    """On a GPU, repeat a training step and an inspection as one launch. The same results, sooner; more memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("image_size_px", "batch_size", least=1)

    def of_the_result(self) -> dict[str, Any]:
        """All settings but those that change no result, for JSON."""
        return {name: value for name, value in asdict(self).items() if name not in OF_THE_SPEED}

    def check_widths(self, *names: str) -> None:
        """Refuse networks without blocks, or of blocks without channels."""
        self.check_range(*names, least=1)
        for name in names:
            if not getattr(self, name):
                raise BlemishError(f"setting {name}: empty; give the channels of one block or more, such as [16, 32]")

    def check_window(self, name: str) -> None:
        """Refuse the side of a square that has no centre, or is larger than the image."""
        side_px = getattr(self, name)
        if side_px % 2 == 0 or not 1 <= side_px <= self.image_size_px:
            raise BlemishError(
                f"setting {name}: {side_px} should be odd, so that it has a centre, and at most image_size_px, "
                f"{self.image_size_px}"
            )


@dataclass(frozen=True)
class Stage:
    """One training run over some of a method's parameters."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    iterations: int
    """Steps to take, if ``epochs`` is None."""
    batch_size: int
    learning_rate: float
    epochs: int | None = None
    """Passes over the training images, in place of ``iterations``."""
    schedule: Callable[[float], float] = field(default=lambda progress: 1.0)
    """Factor on the learning rate, given the share of the stage that is done, in [0, 1)."""
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    ema_decay: float = 0.0
    """Above 0, the stage ends with an exponential moving average of the weights in place of the last ones."""
    crop_px: Callable[[float], int] | None = None
    """Side of the random squares that training sees in place of whole images, given the share of the stage that is
    done; what is larger than the images means whole ones."""
    validate_every: int = 0
    """Steps between calls of ``Method.validate``; 0 for none. With them, the stage ends with the weights that did
    best."""
    patience: int = 0
    """Stop after so many validations in a row without a better one, counted from when training sees whole images; 0
    never stops early."""

    def n_iterations(self, n_images: int) -> int:
        """Steps of this stage for ``n_images`` training images."""
        return self.iterations if self.epochs is None else self.epochs * -(-n_images // self.batch_size)


class Chosen(NamedTuple):
    """What good images decided after training."""

    settings: dict[str, Any]
    """Settings of the method that took the place of those given."""
    value: float | None
    """How well the method does with them, as ``Method.validate`` says it; None if that was not asked."""


@dataclass(frozen=True)
class Ingredients:
    """What training brings along, and a detector never has."""

    textures: TextureBank | None = None
    """What simulated damage is made of, for a method with ``uses_textures``."""
    defects: DefectBank | None = None
    """Real defects that join the simulated ones, for a method with ``uses_defects``."""


class Learner(nn.Module, ABC):
    """What the training loop needs to know of a network."""

    settings: Settings

    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """What is trained, in this order."""

    @abstractmethod
    def loss(self, stage: Stage, images: Tensor, ingredients: Ingredients, generator: Generator) -> dict[str, Tensor]:
        """Named losses to be summed, of good images (a method spoils them first), float (B, 3, H, W) in [0, 1].

        ``generator`` is a CPU generator and the only source of randomness.
        """

    def observe(self) -> dict[str, Tensor]:
        """Scalars that the log shows beside the losses. Default: none."""
        return {}

    def validate(self, stage: Stage, images: Tensor) -> float:
        """How well the method does what ``stage`` trains, on good images it has not seen; higher is better.

        Called in inference mode for stages with ``validate_every``: (N, 3, H, W) float in [0, 1]. Always draws the
        same damage.
        """
        raise NotImplementedError(f"{type(self).__name__} has no validation")


class Method(Learner):
    """A network that learns from good images only, with the damage and the losses it learns by.

    Parameters
    ----------
    settings : the method's own frozen dataclass; None for its defaults.
    """

    name: ClassVar[str]
    settings_type: ClassVar[type[Settings]]
    recipes: ClassVar[Mapping[str, Settings]]
    exact: ClassVar[tuple[str, ...]] = ()
    """Modules that compute in float32 also where inspection is in bf16, for what they give is rounded to codes."""
    exact_on_cpu: ClassVar[tuple[str, ...]] = ()
    """Others that do so on a CPU only. On a GPU they compute as they do in training."""
    validation_share: ClassVar[float] = 0.0
    """Share of the good images kept from training for ``validate`` and ``finish``."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings if settings is not None else self.settings_type()

    @classmethod
    def build(cls, settings: Settings | None = None, codebook: str | Path | None = None) -> Self:
        """A new method; its weights are drawn from ``settings.seed``.

        Parameters
        ----------
        codebook : file of ``blemish pretrain``, for a method that builds on one; None takes the one that comes with
            blemish.

        Raises
        ------
        BlemishError
            If the method builds on none, or the file is none.
        """
        if codebook is not None:
            raise BlemishError(f"codebook {codebook}: {cls.name} builds on none; leave it out, or take dsr")
        return cls(settings)

    @classmethod
    def restored(cls, settings: Settings, tensors: Mapping[str, Tensor]) -> Self:
        """A method with these weights: a ``state_dict`` of one with the same settings.

        Raises
        ------
        RuntimeError
            If they do not fit.
        """
        method = cls(settings)
        method.load_state_dict(tensors)
        return method

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect: float (B, 3, H, W) in [0, 1] to anomaly maps (B, 1, H, W) and image scores (B,), both >= 0."""

    @property
    def uses_textures(self) -> bool:
        """Whether ``loss`` needs textures, with these settings."""
        return True

    @property
    def uses_defects(self) -> bool:
        """Whether real defects join the losses, with these settings."""
        return False

    @property
    def pretrained(self) -> tuple[Tensor, ...]:
        """What the method was given and does not train. Default: nothing."""
        return ()

    def finish(self, train: Tensor, validation: Tensor) -> Chosen:
        """Decide what is not trained, by good images: those of training, and those that it has not seen.

        Called once, after training. Default: nothing is decided.

        Parameters
        ----------
        train, validation : (N, 3, H, W) uint8; ``validation`` is empty for a method without a ``validation_share``.
        """
        return Chosen({}, None)

    @torch.no_grad()
    def explain(self, images: Tensor) -> dict[str, Tensor]:
        """Images worth seeing beside the map, by name: (B, 3, H, W) in [0, 1]. Default: none."""
        return {}


def step_schedule(milestones: Iterable[float], factor: float) -> Callable[[float], float]:
    """Multiply the rate by ``factor`` at each of ``milestones``, shares of the stage in [0, 1]."""
    marks = tuple(milestones)
    return lambda progress: factor ** sum(progress >= mark for mark in marks)


def cosine_schedule(warm_up: float) -> Callable[[float], float]:
    """Rise linearly over the first ``warm_up`` share of the stage, then fall to 0 along half a cosine."""

    def rate(progress: float) -> float:
        if progress < warm_up:
            return (progress + 1e-3) / (warm_up + 1e-3)
        return 0.5 * (1.0 + math.cos(math.pi * (progress - warm_up) / (1.0 - warm_up)))

    return rate
