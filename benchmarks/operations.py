"""Count the operations of a training step on a GPU at full size (recipe ``paper``), without a GPU.

    .venv/bin/python benchmarks/operations.py

Each operation is a kernel launch, and at small batches a GPU mostly waits for launches. A step is that of the
training loop in float32: draw a batch, simulate damage, forward with the losses, backward, fused optimizer. It runs
on torch's ``meta`` device, which computes nothing and raises an error where a GPU would make the host wait. Counted
are the operations on tensors of the device, except those that only view or allocate tensors; ``host`` counts
operations on tensors of the host. Damage is random, so the numbers are means over several steps. Writes
``results/operations.json``, with the most frequent operations of each stage.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blemish.learning.ingredients import ingredients_of
from blemish.learning.training import Trainer
from blemish.methods import build
from blemish.methods.base import Method, Stage
from machine import RESULTS, table, write

META = torch.device("meta", 0)
N_STEPS = 4
N_MOST = 12
FREE = {
    "detach", "alias", "lift_fresh", "_unsafe_view",
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided",
}  # fmt: skip
"""Operations that launch no kernel although their schema does not show it."""


class OperationCounter(TorchDispatchMode):
    """Counts aten operations by name: on the device, and on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.on_device, self.on_host = Counter[str](), Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not _is_view(func) and func.overloadpacket.__name__ not in FREE:
            leaves = tree_leaves((args, kwargs, result))
            is_on_device = any(leaf.device.type == META.type for leaf in leaves if isinstance(leaf, torch.Tensor))
            (self.on_device if is_on_device else self.on_host)[func.overloadpacket.__name__] += 1
        return result


def _is_view(func: Any) -> bool:
    """Whether an operation returns a view of an input."""
    aliases = [argument.alias_info for argument in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


@contextmanager
def as_if_on_a_gpu() -> Iterator[None]:
    """Use ``meta`` in place of a GPU: allow it for fused optimizers; switch off autocast and pinned memory."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(torch, "autocast", lambda *_, **__: nullcontext()))
        stack.enter_context(patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor))
        devices = "torch.optim.optimizer._get_fused_kernels_supported_devices"
        stack.enter_context(patch(devices, lambda: ["cpu", "cuda", "meta"]))
        yield


def trainer_on_meta(method: Method, batch: int) -> Trainer:
    """The trainer of a method, with networks, images and textures on ``meta``."""
    side_px = method.settings.image_size_px
    images = torch.zeros(4 * batch, 3, side_px, side_px, dtype=torch.uint8)
    return Trainer(method, images, ingredients_of(method, good_images=images), device=META, precision="float32")


def counted(trainer: Trainer, stage: Stage, batch: int) -> tuple[Counter[str], Counter[str]]:
    """Operations of ``N_STEPS`` steps on the device and on the host, after one that creates the optimizer's state."""
    objective, optimizer = trainer._begin(replace(stage, optimizer=partial(stage.optimizer, fused=True)))
    step = trainer.step(stage, objective, optimizer, batch, None)
    step()
    with OperationCounter() as counter:
        for _ in range(N_STEPS):
            step()
    return counter.on_device, counter.on_host


def rows_of(name: str, batch: int) -> list[dict[str, Any]]:
    """One row for each training stage of a method."""
    side = {"image_size_px": 256} if name == "ssae" else {}
    method = build(name, "paper", settings=side)
    rows = []
    with as_if_on_a_gpu():
        trainer = trainer_on_meta(method, batch)
        for stage in method.stages():
            on_device, on_host = counted(trainer, stage, batch)
            row = {"method": name, "stage": stage.name, "batch": batch, "side_px": method.settings.image_size_px}
            row |= {"operations": _mean(on_device.total()), "host": _mean(on_host.total())}
            rows.append(row | {"most": {kind: _mean(n) for kind, n in on_device.most_common(N_MOST)}})
    return rows


def _mean(n: int) -> float:
    return round(n / N_STEPS, 1)


def main() -> None:
    """Count, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["draem", "dsr", "ssae"])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--quick", action="store_true", help="batch 8 only")
    parser.add_argument("--out", type=Path, default=RESULTS / "operations.json")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for batch in [8] if arguments.quick else arguments.batches:
        for name in arguments.methods:
            rows += rows_of(name, batch)
            write(arguments.out, {"n_steps": N_STEPS, "rows": rows})
    print(table([{name: value for name, value in row.items() if name != "most"} for row in rows]))


if __name__ == "__main__":
    main()
