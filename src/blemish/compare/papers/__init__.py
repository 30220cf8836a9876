"""The papers' own tables: DRÆM 1, 2 and 4; DSR 1 to 4 and 6; SSAE 2 to 4, with what other methods score in them.

One row is one figure: `paper`, `table`, `dataset`, `method`, `setting` (what is special about it, empty for a method
trained on good images alone), `category` (or "average"), `metric`, `value_percent`, and a `note` where the figure is
doubtful, was corrected, or is quoted differently elsewhere. `sources.csv` says where each paper is found and how it
measured; `test_sets.csv` how many test images each category of a dataset has.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

PAPERS = ("draem", "dsr", "ssae")
AVERAGE = "average"
"""The category of a mean over all categories of a dataset."""


@dataclass(frozen=True)
class PaperFigure:
    """One figure of one table of a paper.

    Attributes
    ----------
    paper, table : where it is printed; `paper` is a key of `sources`.
    dataset, category : what was tested; `category` may be an average.
    method : by its name in print; also methods that the paper quotes.
    setting : "" for training on good images alone with the method as proposed.
    metric : as in `metrics.json`, or `tpr`, `tnr`, `ca` (classification accuracy).
    value_percent : in 0 to 100.
    note : what is doubtful about it.
    """

    paper: str
    table: str
    dataset: str
    method: str
    setting: str
    category: str
    metric: str
    value_percent: float
    note: str = ""


@dataclass(frozen=True)
class Source:
    """A paper: its method's name in print, where it is found, and how it measured."""

    paper: str
    method: str
    title: str
    authors: str
    published: str
    url: str
    protocol: str


@dataclass(frozen=True)
class TestSet:
    """The published test images of one category; `folder_names` is what its folder may be called."""

    dataset: str
    category: str
    folder_names: tuple[str, ...]
    n_good: int
    n_defective: int


@cache
def paper_figures() -> tuple[PaperFigure, ...]:
    """Every figure, in the papers' order."""
    return tuple(_figure(row) for paper in PAPERS for row in _rows(f"{paper}.csv"))


def _figure(row: dict[str, str]) -> PaperFigure:
    value_percent = float(row.pop("value_percent"))
    return PaperFigure(**row, value_percent=value_percent)


@cache
def sources() -> Mapping[str, Source]:
    """The papers by their keys, which are the names of our methods."""
    return {row["paper"]: Source(**row) for row in _rows("sources.csv")}


@cache
def test_sets() -> tuple[TestSet, ...]:
    """The test sets that the papers' figures are of, in the order in which tables list them."""
    return tuple(
        TestSet(
            row["dataset"],
            row["category"],
            tuple(row["folder_names"].split()),
            int(row["n_good"]),
            int(row["n_defective"]),
        )
        for row in _rows("test_sets.csv")
    )


def named_test_set(folder_name: str) -> TestSet | None:
    """The test set that a folder's name stands for; spelling ("Metal Nut", "metal-nut") does not matter."""
    name = folder_name.strip().lower().replace(" ", "_").replace("-", "_")
    return next((one for one in test_sets() if name in one.folder_names), None)


def paper_figure(method: str, dataset: str, category: str, metric: str) -> PaperFigure | None:
    """What is published of one of our methods, trained on good images alone: its own paper's figure, else a quote.

    Parameters
    ----------
    method : our name of it, as in `detector.method`.
    dataset, category : as in `TestSet`, or `AVERAGE` for all categories of the dataset.
    metric : as in `metrics.json`.
    """
    source = sources().get(method)
    if source is None:
        return None
    found = _by_place().get((source.method, dataset, category, metric), ())
    return min(found, key=lambda figure: figure.paper != method, default=None)


@cache
def _by_place() -> Mapping[tuple[str, str, str, str], list[PaperFigure]]:
    places: dict[tuple[str, str, str, str], list[PaperFigure]] = {}
    for one in paper_figures():
        if not one.setting:
            places.setdefault((one.method, one.dataset, one.category, one.metric), []).append(one)
    return places


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((files(__name__) / name).read_text(encoding="utf-8"))))
