"""A cell: one training with its evaluations, in a folder of its own below that of the grid. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from blemish.errors import BlemishError
from blemish.inspection.sources import as_disks_compare, portable
from blemish.learning.options import FitOptions, plain

CELL, LOG, FAILED, LOCK = "cell.json", "log.txt", "failed.txt", ".cell.lock"
"""Files in the folder of a cell, beside those of its run."""
PLAN = "plan.json"
"""The file in the folder of a grid that lists its cells."""
DETECTOR, SUMMARY = "detector.blemish", "summary.json"
"""The files of a run; the summary is written last."""
METRICS = "metrics.json"
"""The file of an evaluation that is written last."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of a cell's detector, into the folder ``name`` below the cell's.

    Raises
    ------
    BlemishError
        If the name is not one that every file system takes.
    """

    name: str
    data: Path
    """Dataset with test images; a relative path is made absolute."""
    protocol: str
    """A name in ``evaluation.protocols.PROTOCOLS``."""
    layout: str = "auto"
    mask_values: str = "auto"
    part: str = ""
    """Evaluate only this part of the trained method (``Method.part``); "" for the whole."""

    def __post_init__(self) -> None:
        _check_name("evaluation", self.name)
        object.__setattr__(self, "data", Path(self.data).absolute())


@dataclass(frozen=True)
class Cell:
    """One training, and the evaluations of its detector.

    Raises
    ------
    BlemishError
        If a name is not one that every file system takes, two evaluations have the same, or an option is wrong.
    """

    name: str
    """Folder below that of the grid."""
    options: Mapping[str, Any]
    """Fields of ``learning.options.FitOptions``. Those that are missing get their defaults, relative paths are made
    absolute, and all values are such as JSON holds."""
    evaluations: tuple[Evaluation, ...] = field(default=())

    def __post_init__(self) -> None:
        _check_name("cell", self.name)
        try:
            options = FitOptions.from_dict(self.options)
        except (BlemishError, TypeError) as error:  # TypeError: there are no data
            reason = error if isinstance(error, BlemishError) else "no data; give a folder of good images"
            raise BlemishError(f"cell {self.name}: {reason}") from error
        values = {name: _json_value(value) for name, value in vars(options).items()}
        object.__setattr__(self, "options", values)
        object.__setattr__(self, "evaluations", tuple(self.evaluations))
        check_unique([evaluation.name for evaluation in self.evaluations], f"evaluations of {self.name}")

    @property
    def fit_options(self) -> FitOptions:
        """The options, checked."""
        return FitOptions.from_dict(self.options)

    @property
    def kind(self) -> str:
        """What a step of training costs depends on: equal for cells whose steps take as long as each other's."""
        costly = ["method", "recipe", "settings", "precision", "device", "image_size", "tile"]
        costly += ["data"] if self.options["image_size"] == "auto" else []
        options = {name: self.options[name] for name in costly}
        return json.dumps({**options, "with_defects": self.options["defects"] is not None}, sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        """This cell as ``cell.json`` and ``plan.json`` hold it."""
        evaluations = [{**asdict(evaluation), "data": str(evaluation.data)} for evaluation in self.evaluations]
        return {"name": self.name, "options": dict(self.options), "evaluations": evaluations}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The cell of ``to_json``."""
        evaluations = tuple(Evaluation(**evaluation) for evaluation in content["evaluations"])
        return cls(content["name"], content["options"], evaluations)


def check_unique(names: Iterable[str], what: str) -> None:
    """Check that no two names are the same on disks that ignore letter case.

    Raises
    ------
    BlemishError
        If two are.
    """
    by_form: dict[str, str] = {}
    for name in names:
        form = as_disks_compare(name)
        if form in by_form:
            raise BlemishError(
                f"two {what} are called {by_form[form]} and {name}, which may be one folder; rename one"
            )
        by_form[form] = name


def _check_name(noun: str, name: str) -> None:
    is_of_run = name.lower() in (PLAN, CELL, LOG, FAILED, DETECTOR, SUMMARY, "config.yaml")
    if not name or is_of_run or portable(name) != name:
        remedy = f"; {portable(name)} would do" if name and not is_of_run else ""
        raise BlemishError(f"{noun} {name!r}: cannot be the name of a folder on every file system{remedy}")


def _json_value(value: Any) -> Any:
    return str(value.absolute()) if isinstance(value, Path) else plain(value)
