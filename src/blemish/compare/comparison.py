"""Runs beside each other and beside the papers: mean and spread over seeds, by category. Pure: runs in, tables out.

All figures are in percent and differences in percentage points, as the papers print them.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from blemish.compare.papers import (
    AVERAGE,
    PaperFigure,
    TestSet,
    named_test_set,
    paper_figure,
    sources,
    test_sets,
)
from blemish.compare.runs import METRICS, Run

DECIMALS = 1
"""As many as the papers give; two figures that look alike in print are alike good."""


@dataclass(frozen=True)
class Column:
    """A method with a recipe and what else tells it from the others (`variant`); or a method as published."""

    method: str
    recipe: str
    variant: str = ""
    is_published: bool = False

    @property
    def label(self) -> str:
        """What stands at its head."""
        if self.is_published:
            return f"{sources()[self.method].method} published"
        return ", ".join(filter(None, (f"{self.method} {self.recipe}", self.variant)))


@dataclass(frozen=True)
class Cell:
    """One figure of a table.

    Attributes
    ----------
    mean_percent : over seeds; of a published figure, that.
    spread_points : sample standard deviation over seeds; None of less than two.
    seeds : that went into it; empty for published figures.
    difference_points : mean minus the figure that is published of the method; None where there is none.
    is_best : whether none of the row is better in print.
    figure : what is published; None of a measured figure, and of a mean over some published ones.
    """

    mean_percent: float
    spread_points: float | None = None
    seeds: tuple[int | None, ...] = ()
    difference_points: float | None = None
    is_best: bool = False
    figure: PaperFigure | None = None

    @property
    def source(self) -> str:
        """Paper and table of a published figure."""
        return f"{sources()[self.figure.paper].method} table {self.figure.table}" if self.figure else ""


@dataclass(frozen=True)
class Row:
    """One test set, or the mean over several; `cells` are in the order of the table's columns."""

    label: str
    cells: tuple[Cell | None, ...]
    n_good: int | None = None
    n_defective: int | None = None
    is_mean: bool = False


@dataclass(frozen=True)
class Table:
    """One metric under one protocol."""

    metric: str
    protocol: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def cells_of(self, column: Column) -> list[Cell]:
        """What a column holds, top to bottom, without its gaps."""
        index = self.columns.index(column)
        return [cell for row in self.rows if (cell := row.cells[index]) is not None]

    def n_seeds(self, column: Column) -> int | None:
        """The number of seeds, if it is the same in the whole column."""
        counts = {len(cell.seeds) for cell in self.cells_of(column)}
        return counts.pop() or None if len(counts) == 1 else None


@dataclass(frozen=True)
class Comparison:
    """Tables, those of one protocol one after the other; `protocols` has the heading of each protocol by its name.

    `warnings` is what a reader would otherwise be misled by, `sources` where the published figures come from.
    """

    tables: tuple[Table, ...]
    protocols: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Place:
    """A test set as it was evaluated; `known` is the published one that it is."""

    data: str
    n_good: int
    n_defective: int
    known: TestSet | None

    @classmethod
    def of(cls, run: Run) -> _Place:
        named = named_test_set(run.data)
        is_it = named and (named.n_good, named.n_defective) == (run.n_good, run.n_defective)
        return cls(
            named.category if named and is_it else run.data, run.n_good, run.n_defective, named if is_it else None
        )

    @property
    def order(self) -> tuple[int, str, int, int]:
        """Published test sets first, in the order of the papers."""
        rank = test_sets().index(self.known) if self.known else len(test_sets())
        return rank, self.data, self.n_good, self.n_defective


_Runs: TypeAlias = Mapping[tuple[Column, _Place], Sequence[Run]]


def compare(runs: Sequence[Run], metrics: Sequence[str] = METRICS) -> Comparison:
    """Table runs: for each protocol and metric, a row for each test set and a column for each method and recipe.

    Runs of one method and recipe that differ in another setting get columns of their own, named by it. What is
    published stands beside a test set only if it has the published number of good and defective images.

    Parameters
    ----------
    runs : in the order in which their columns are wanted.
    metrics : names in `METRICS`; one that no run has gets no table.
    """
    kept, repeats = _without_repeats(runs)
    variants = _variants(kept)
    recipes = _general_recipes(kept)
    tables = []
    for protocol in dict.fromkeys(run.protocol for run in kept):
        cells: dict[tuple[Column, _Place], list[Run]] = {}
        for run in kept:
            if run.protocol == protocol:
                column = Column(run.method, recipes[_identity(run), run.data], variants[_identity(run)])
                cells.setdefault((column, _Place.of(run)), []).append(run)
        tables += [table for metric in metrics if (table := _table(metric, protocol, cells)) is not None]
    warnings = (*_protocol_warnings(tables), *repeats, *_condition_warnings(kept), *_data_warnings(kept))
    return Comparison(tuple(tables), _protocols(kept, tables), warnings, _paper_notes(tables))


# --- which runs belong together ---------------------------------------------------------------------------------


def _general_recipes(runs: Sequence[Run]) -> dict[object, str]:
    """For each identity and test set, the recipe without the name of the test set, if that tells it from the others.

    `paper-carpet` on carpet and `paper-tile` on tile are one column, `paper`, unless that was tried on them, too.
    """
    taken = {(run.method, run.recipe, run.data) for run in runs}
    named: dict[object, str] = {}
    for run in runs:
        general = run.recipe.removesuffix(f"-{run.data}")
        named[_identity(run), run.data] = run.recipe if (run.method, general, run.data) in taken else general
    return named


def _identity(run: Run) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return run.method, run.recipe, tuple(sorted(run.options.items()))


def _without_repeats(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """A seed counts once for each test set: a second run of it says nothing of the spread."""
    kept: dict[object, Run] = {}
    notes = []
    for run in runs:
        first = kept.setdefault((_identity(run), run.protocol, _Place.of(run), run.seed), run)
        if first is not run:
            seed = "without a seed" if run.seed is None else f"seed {run.seed}"
            same = "with the same figures" if first.metrics == run.metrics else "with other figures"
            notes.append(
                f"{run.method} {run.recipe} on {run.data}, {seed}, is there twice, {same}: "
                f"{first.path} counts, {run.path} is left out"
            )
    return list(kept.values()), notes


def _variants(runs: Sequence[Run]) -> dict[object, str]:
    """For each identity, the options in which it differs from others of its method and recipe, in words."""
    named: dict[object, str] = {}
    for run in runs:
        others = [other.options for other in runs if (other.method, other.recipe) == (run.method, run.recipe)]
        names = sorted({name for options in others for name in options})
        differing = [name for name in names if len({options.get(name) for options in others}) > 1]
        words = (f"{name}={run.options[name]}" if name in run.options else f"no {name}" for name in differing)
        named[_identity(run)] = ", ".join(words).replace('"', "")
    return named


# --- one table --------------------------------------------------------------------------------------------------


def _table(metric: str, protocol: str, runs: _Runs) -> Table | None:
    columns = _columns(dict.fromkeys(column for column, _ in runs))
    places = sorted(dict.fromkeys(place for _, place in runs), key=lambda place: place.order)
    names = Counter(place.data for place in places)
    rows = []
    for place in places:
        is_plain = place.known or names[place.data] == 1
        label = place.data if is_plain else f"{place.data} ({place.n_good} good, {place.n_defective} defective)"
        cells = [_cell(metric, column, place, runs) for column in columns]
        rows.append(Row(label, tuple(_judged(columns, cells)), place.n_good, place.n_defective))
    rows += _mean_rows(metric, columns, places, runs)
    used = [index for index in range(len(columns)) if any(row.cells[index] is not None for row in rows)]
    if all(columns[index].is_published for index in used):
        return None
    chosen = tuple(replace(row, cells=tuple(row.cells[index] for index in used)) for row in rows)
    return Table(metric, protocol, tuple(columns[index] for index in used), chosen)


def _columns(ours: Iterable[Column]) -> list[Column]:
    """Ours, each method's recipes and variants together, followed by what is published of it."""
    given = list(ours)
    recipes = list(dict.fromkeys((column.method, column.recipe) for column in given))
    columns: list[Column] = []
    for method in dict.fromkeys(column.method for column in given):
        chosen = [column for column in given if column.method == method]
        columns += sorted(chosen, key=lambda column: recipes.index((column.method, column.recipe)))
        columns += [Column(method, "", is_published=True)] if method in sources() else []
    return columns


def _cell(metric: str, column: Column, place: _Place, runs: _Runs) -> Cell | None:
    if column.is_published:
        known = place.known
        return _published(paper_figure(column.method, known.dataset, known.category, metric)) if known else None
    values = _by_seed(metric, runs.get((column, place), ()))
    return _summary(list(values.values()), tuple(values)) if values else None


def _by_seed(metric: str, runs: Sequence[Run]) -> dict[int | None, float]:
    """Percent by seed, in the order of seeds."""
    ordered = sorted(runs, key=lambda run: -1 if run.seed is None else run.seed)
    return {run.seed: 100 * value for run in ordered if (value := run.metrics.get(metric)) is not None}


def _summary(values: Sequence[float], seeds: tuple[int | None, ...]) -> Cell:
    return Cell(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, seeds)


def _published(figure: PaperFigure | None) -> Cell | None:
    return None if figure is None else Cell(figure.value_percent, figure=figure)


def _judged(columns: Sequence[Column], cells: Sequence[Cell | None]) -> list[Cell | None]:
    """The same cells with their difference to what is published, and with the best of them marked."""
    published = {
        column.method: cell.mean_percent
        for column, cell in zip(columns, cells, strict=True)
        if column.is_published and cell
    }
    printed = [round(cell.mean_percent, DECIMALS) for cell in cells if cell]
    judged: list[Cell | None] = []
    for column, cell in zip(columns, cells, strict=True):
        if cell is None:
            judged.append(None)
            continue
        base = None if column.is_published else published.get(column.method)
        difference = None if base is None else cell.mean_percent - base
        is_best = len(printed) > 1 and round(cell.mean_percent, DECIMALS) == max(printed)
        judged.append(replace(cell, difference_points=difference, is_best=is_best))
    return judged


# --- means over categories --------------------------------------------------------------------------------------


def _mean_rows(metric: str, columns: Sequence[Column], places: Sequence[_Place], runs: _Runs) -> list[Row]:
    """For each published dataset, the mean over those of its categories that are there."""
    rows = []
    for dataset in dict.fromkeys(place.known.dataset for place in places if place.known):
        chosen = [place for place in places if place.known and place.known.dataset == dataset]
        n_all = sum(one.dataset == dataset for one in test_sets())
        if len(chosen) < 2:
            continue
        label = f"mean of all {n_all}" if len(chosen) == n_all else f"mean of these {len(chosen)}"
        cells = [_mean_cell(metric, column, dataset, chosen, n_all, runs) for column in columns]
        rows.append(Row(f"{dataset}, {label}", tuple(_judged(columns, cells)), is_mean=True))
    return rows


def _mean_cell(
    metric: str, column: Column, dataset: str, places: Sequence[_Place], n_all: int, runs: _Runs
) -> Cell | None:
    """The mean over categories, if the column has every one of them; the spread is that of the seeds' means."""
    if column.is_published and len(places) == n_all:
        return _published(paper_figure(column.method, dataset, AVERAGE, metric))
    cells = [_cell(metric, column, place, runs) for place in places]
    there = [cell for cell in cells if cell is not None]
    if len(there) < len(places):
        return None
    if column.is_published:
        return Cell(statistics.mean(cell.mean_percent for cell in there))
    by_seed = [_by_seed(metric, runs[column, place]) for place in places]
    if any(set(one) != set(by_seed[0]) for one in by_seed):  # other seeds in other categories: no seed has a mean
        return Cell(statistics.mean(cell.mean_percent for cell in there))
    return _summary([statistics.mean(one[seed] for one in by_seed) for seed in by_seed[0]], tuple(by_seed[0]))


# --- what a reader has to know ----------------------------------------------------------------------------------


def _protocols(runs: Sequence[Run], tables: Sequence[Table]) -> dict[str, str]:
    """Name and description of the tables' protocols, in their order."""
    words = {run.protocol: run.protocol_description for run in runs if run.protocol_description}
    names = dict.fromkeys(table.protocol for table in tables)
    return {name: f"{name} ({words[name]})" if name in words else name for name in names}


def _protocol_warnings(tables: Sequence[Table]) -> list[str]:
    number = len({table.protocol for table in tables})
    told = f"the runs were measured under {number} protocols: figures of one say nothing beside another's"
    return [told] if number > 1 else []


def _condition_warnings(runs: Sequence[Run]) -> list[str]:
    """Seeds that are averaged although they were trained on other images or in another precision."""
    groups: dict[object, list[Run]] = {}
    for run in runs:
        groups.setdefault((_identity(run), run.protocol, _Place.of(run)), []).append(run)
    told = []
    for group in groups.values():
        for name in sorted({name for run in group for name in run.conditions}):
            values = dict.fromkeys(run.conditions.get(name, "unknown") for run in group)
            if len(values) > 1:
                run = group[0]
                told.append(
                    f"{run.method} {run.recipe} on {run.data}: the seeds differ in {name}: {', '.join(values)}"
                )
    return told


def _data_warnings(runs: Sequence[Run]) -> list[str]:
    """Folders that are called as a published test set is, and hold other images."""
    notes = {}
    for place in dict.fromkeys(map(_Place.of, runs)):
        named = named_test_set(place.data)
        if named and not place.known:
            notes[place] = (
                f"{place.data} has {place.n_good} good and {place.n_defective} defective test images, "
                f"{named.dataset}'s {named.n_good} and {named.n_defective}: not held against the papers"
            )
    return list(notes.values())


def _paper_notes(tables: Sequence[Table]) -> tuple[str, ...]:
    """Where the published figures are printed and how they were measured; what is doubtful about single ones."""
    cells = [cell for table in tables for row in table.rows for cell in row.cells if cell and cell.figure]
    figures = [cell.figure for cell in cells if cell.figure]
    told = []
    for paper in dict.fromkeys(figure.paper for figure in figures):
        source, printed = sources()[paper], sorted({figure.table for figure in figures if figure.paper == paper})
        told.append(
            f"{source.method} paper ({source.published}, {source.url}), table{'s' * (len(printed) > 1)} "
            f"{' and '.join(printed)}; measured by its authors: {source.protocol}"
        )
    doubts = (
        f"{one.source}, {one.figure.category}: {one.figure.note}" for one in cells if one.figure and one.figure.note
    )
    return (*told, *dict.fromkeys(doubts))
