"""What can be said of a cell before it is trained: whether its options are right, and how many steps it takes."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

from blemish.data.layouts import open_dataset
from blemish.errors import BlemishError
from blemish.evaluation.protocols import protocol_named
from blemish.fleet.cells import Cell
from blemish.learning.options import plain
from blemish.learning.sizes import with_size
from blemish.methods import build
from blemish.methods.base import Stage


def n_steps(cell: Cell) -> int:
    """Number of training steps of a cell; with early stopping the largest.

    Raises
    ------
    BlemishError
        If a path does not exist, data are of no known layout, or a method, recipe, setting or protocol is wrong.
    """
    options = cell.fit_options
    for name in ("textures", "codebook", "defects", "defect_masks", "calibration"):
        path = getattr(options, name)
        if isinstance(path, Path) and not path.exists():
            raise BlemishError(f"{name} {path}: no such file or folder; check the path")
    for evaluation in cell.evaluations:
        protocol_named(evaluation.protocol)
        if not evaluation.data.exists():
            raise BlemishError(f"evaluation {evaluation.name}: {evaluation.data}: no such file or folder")
    stages = stages_of(cell)
    n_good = n_good_images(cell)
    return sum(stage.n_iterations(n_good) for stage in stages)


def n_good_images(cell: Cell) -> int:
    """How many images an epoch of a cell counts: all good training images of its dataset, also those held out."""
    options = cell.fit_options
    return _n_good(options.data, options.layout)


def stages_of(cell: Cell) -> tuple[Stage, ...]:
    """The training stages of a cell, without their parameters.

    Raises
    ------
    BlemishError
        If the method, the recipe, a setting or the codebook is wrong.
    """
    options = with_size(cell.fit_options)
    codebook = None if options.codebook is None else str(options.codebook)
    return _stages(options.method, options.recipe, json.dumps(plain(options.settings)), codebook)


@functools.lru_cache(maxsize=256)
def _stages(method: str, recipe: str, settings: str, codebook: str | None) -> tuple[Stage, ...]:
    """Stages of a network that is built for them, which may take seconds, and dropped."""
    network = build(method, recipe, settings=json.loads(settings), codebook=codebook)
    return tuple(replace(stage, parameters=()) for stage in network.stages())


@functools.lru_cache(maxsize=1024)
def _n_good(data: Path, layout: str) -> int:
    """Number of good training images of a dataset."""
    return len(open_dataset(data, layout, only="train").train)
