"""The papers' tables, with the other methods in them: DRÆM 1 to 4; DSR 1 to 4 and 6; SSAE 2 to 4.

One row is one figure: `paper`, `table`, `dataset`, `method`, `setting` (empty for a method trained on good images
alone), `category` (or "average"), `metric`, `value_percent`, and a `note` where the figure is doubtful, was
corrected, or is quoted differently elsewhere. `sources.csv` has the reference and the protocol of each paper,
`test_sets.csv` the number of test images in each category of a dataset.
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
    dataset, category : the test images; `category` may be an average.
    method : its name in print; also methods that the paper compares with.
    setting : "" for the method as proposed, trained on good images alone.
    metric : as in `metrics.json`, or `tpr`, `tnr`, `ca` (classification accuracy).
    value_percent : from 0 to 100.
    note : why the figure is doubtful; "" if it is not.
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
    """A paper: the name of its method in print, its reference, and its evaluation protocol.

    `authors_protocol` is the name of the protocol that does what the authors' evaluation code does; "" if there is no
    such code.
    """

    paper: str
    method: str
    title: str
    authors: str
    published: str
    url: str
    protocol: str
    authors_protocol: str


@dataclass(frozen=True)
class TestSet:
    """The published test images of one category; `folder_names` are the folder names that stand for it."""

    dataset: str
    category: str
    folder_names: tuple[str, ...]
    n_good: int
    n_defective: int


@cache
def paper_figures() -> tuple[PaperFigure, ...]:
    """All figures, in the order of the papers."""
    return tuple(_figure(row) for paper in PAPERS for row in _rows(f"{paper}.csv"))


def _figure(row: dict[str, str]) -> PaperFigure:
    value_percent = float(row.pop("value_percent"))
    return PaperFigure(**row, value_percent=value_percent)


@cache
def sources() -> Mapping[str, Source]:
    """The papers by key; the keys are the names of our methods."""
    return {row["paper"]: Source(**row) for row in _rows("sources.csv")}


@cache
def test_sets() -> tuple[TestSet, ...]:
    """The test sets of the papers' figures, in the order of the papers' tables."""
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
    """The test set that a folder's name stands for, else None. "Metal Nut" and "metal-nut" are the same name."""
    name = folder_name.strip().lower().replace(" ", "_").replace("-", "_")
    return next((test_set for test_set in test_sets() if name in test_set.folder_names), None)


def paper_figure(method: str, dataset: str, category: str, metric: str) -> PaperFigure | None:
    """The published figure of one of our methods, trained on good images alone; None if there is none.

    The figure of the method's own paper is preferred to one that another paper quotes.

    Parameters
    ----------
    method : our name of the method, as in `metrics.json`.
    dataset, category : as in `TestSet`, or `AVERAGE` for all categories of the dataset.
    metric : as in `metrics.json`.
    """
    source = sources().get(method)
    if source is None:
        return None
    matches = _unsupervised_figures().get((source.method, dataset, category, metric), ())
    return min(matches, key=lambda figure: figure.paper != method, default=None)


@cache
def _unsupervised_figures() -> Mapping[tuple[str, str, str, str], list[PaperFigure]]:
    """Figures of methods trained on good images alone, by method, dataset, category and metric."""
    figures: dict[tuple[str, str, str, str], list[PaperFigure]] = {}
    for figure in paper_figures():
        if not figure.setting:
            figures.setdefault((figure.method, figure.dataset, figure.category, figure.metric), []).append(figure)
    return figures


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((files(__name__) / name).read_text(encoding="utf-8"))))
