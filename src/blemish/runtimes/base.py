"""The contract of a runtime: what a detector runs its trained method by."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.methods.base import Method, Settings


class Runtime(ABC):
    """Computes anomaly maps and image scores. Ready when it is made, and safe to call from several threads."""

    name: ClassVar[str]
    """As a detector's file has it."""
    device: torch.device
    """Where it takes images, and leaves what it computes."""

    def __init__(self, method_name: str, settings: Settings) -> None:
        self.method_name, self.settings = method_name, settings

    @abstractmethod
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect.

        Parameters
        ----------
        images : (B, 3, S, S) float32 in [0, 1] on ``device``, S being the method's image size.

        Returns
        -------
        Anomaly maps (B, 1, S, S) and image scores (B,), float32 >= 0, higher is worse.
        """

    def explain(self, images: Tensor) -> dict[str, Tensor]:
        """Images worth seeing beside the map, by name: (B, 3, S, S) float in [0, 1]. Default: none."""
        return {}

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What a detector's file holds of it."""

    @property
    def method(self) -> Method:
        """The trained network.

        Raises
        ------
        BlemishError
            If there is none any more, because it was exported.
        """
        raise BlemishError(
            f"this {self.method_name} was exported, and can only inspect; take the detector it was made from"
        )

    def to(self, device: torch.device) -> Runtime:
        """The same elsewhere, if it can run there. Default: it stays."""
        return self


def needed(name: str) -> Any:
    """A module of the ``export`` extra.

    Raises
    ------
    BlemishError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BlemishError(f'{name} is not installed; pip install "blemish[export]"') from error
