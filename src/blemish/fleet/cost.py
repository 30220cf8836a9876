"""What a grid will cost: the time of a training step of each kind of cell, measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from blemish.fleet.cells import Cell
from blemish.fleet.states import duration
from blemish.fleet.steps import n_good_images
from blemish.learning.graphed import N_WARM_UP
from blemish.learning.ingredients import ingredients_of
from blemish.learning.sizes import with_size
from blemish.learning.training import Trainer
from blemish.methods import build
from blemish.methods.base import Stage

N_TIMED = 2
"""Steps that are timed, after those that warm up."""
_PROGRESS = (1 / 6, 1 / 2, 5 / 6)
"""Where in a stage of growing crops a step is timed."""


def training_s(cells: Sequence[Cell], report: Callable[[str], None] = print) -> list[float]:
    """The expected time of training each cell on this machine, s; without validation, calibration and evaluation.

    A few steps of each kind of cell are taken and timed, on random images, with the cell's own ingredients.

    Raises
    ------
    BlemishError
        If the device is not available, or textures or defects cannot be read.
    """
    stages: dict[str, list[tuple[Stage, float]]] = {}
    times_s = []
    for cell in cells:
        if cell.kind not in stages:
            stages[cell.kind] = _timed(cell)
            named = f"{cell.options['method']} ({cell.options['recipe']}), as in {cell.name}"
            steps = ", ".join(f"{stage.name} {duration(step_s, 'ms')}" for stage, step_s in stages[cell.kind])
            report(f"a step of {named}: {steps}" if steps else f"{named}: takes no steps; its time is not estimated")
        n_good = n_good_images(cell)
        times_s.append(sum(stage.n_iterations(n_good) * step_s for stage, step_s in stages[cell.kind]))
    return times_s


def _timed(cell: Cell) -> list[tuple[Stage, float]]:
    """The stages of a cell, each with the time of one of its steps, s."""
    options = with_size(cell.fit_options)
    method = build(options.method, options.recipe, 0, options.settings, options.codebook)
    stages = method.stages()
    if not stages:
        return []
    n_images = 2 * max(stage.batch_size for stage in stages)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n_images, 3, *method.settings.size_hw), dtype=torch.uint8, generator=generator)
    ingredients = ingredients_of(
        method, options.textures, options.defects, options.defect_masks, mask_values=options.mask_values,
        n_defects=options.n_defects, good_images=images,
    )  # fmt: skip
    trainer = Trainer(method, images, ingredients, device=options.device, precision=options.precision)
    return [(stage, _step_s(trainer, stage)) for stage in stages]


def _step_s(trainer: Trainer, stage: Stage) -> float:
    objective, optimizer = trainer._begin(stage)
    progress = (0.0,) if stage.crop_px is None else _PROGRESS
    times_s = []
    for side_px in [trainer._side_px(stage, share) for share in progress]:
        take_step = trainer.step(stage, objective, optimizer, stage.batch_size, side_px)
        for _ in range(N_WARM_UP + 1 if trainer.uses_graphs else 1):
            take_step()
        began_s = _now_s(trainer.device)
        for _ in range(N_TIMED):
            take_step()
        times_s.append((_now_s(trainer.device) - began_s) / N_TIMED)
    trainer.accelerator.free_memory(objective, optimizer)
    return sum(times_s) / len(times_s)


def _now_s(device: Any) -> float:
    """The time after all pending work on the device is done, s."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
