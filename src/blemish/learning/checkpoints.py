"""Reading of the checkpoint of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from blemish.errors import BlemishError

CHECKPOINT_FORMAT = 2  # must be equal to resume from a checkpoint


def read_checkpoint(path: Path, fingerprint: str) -> dict[str, Any]:
    """Read a checkpoint that ``Trainer`` wrote, with torch's ``weights_only``.

    Raises
    ------
    BlemishError
        If it is damaged, or belongs to a run with another fingerprint.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BlemishError(f"{path}: the checkpoint cannot be read; delete it to start again") from error
    if checkpoint["fingerprint"] != fingerprint:
        raise BlemishError(
            f"{path}: is of a run with other settings or images, or of another version of blemish; resume with "
            f"those, or give another --out"
        )
    return checkpoint


def as_here(state: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """Return a saved optimizer state with the options of this device: the checkpoint may come from another device."""
    options = ("lr", "fused", "capturable", "foreach")
    groups = [
        {**saved, **{name: group[name] for name in options if name in group}}
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}
