"""The base class of runtimes: a runtime runs the trained method of a detector."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.methods.base import Method, Settings


class Runtime(ABC):
    """Computes anomaly maps and image scores. Ready after construction, and safe to call from several threads."""

    name: ClassVar[str]
    """Name of the runtime in a detector's file."""
    device: torch.device
    """Device of the input images and of the results."""

    def __init__(self, method_name: str, settings: Settings) -> None:
        self.method_name, self.settings = method_name, settings

    @abstractmethod
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect a batch of images.

        Parameters
        ----------
        images : (B, 3, S, S) float32 in [0, 1] on ``device``, S being the method's image size.

        Returns
        -------
        Anomaly maps (B, 1, S, S) and image scores (B,), float32 >= 0, higher is worse.
        """

    def explain(self, images: Tensor) -> dict[str, Tensor]:
        """Return explanation images by name: (B, 3, S, S) float in [0, 1] each. Default: none."""
        return {}

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store in a detector's file."""

    @property
    def method(self) -> Method:
        """The trained network.

        Raises
        ------
        BlemishError
            If the detector was exported, so that the network is no longer available.
        """
        raise BlemishError("this detector was exported, and can only inspect; take the one that it was made from")

    def to(self, device: torch.device) -> Runtime:
        """Return the runtime on another device, if it supports it. Default: the runtime stays where it is."""
        return self


def needed(name: str, extra: str = "export") -> Any:
    """Import and return a module of an extra.

    Raises
    ------
    BlemishError
        If the module is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BlemishError(f'{name} is not installed; pip install "blemish[{extra}]"') from error
