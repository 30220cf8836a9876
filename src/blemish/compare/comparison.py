"""Compare runs with each other and with the papers: mean and spread over seeds, by category. Pure functions.

Figures are in percent, differences in percentage points, as the papers print them.
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
"""Decimals in print, as many as the papers give. Two figures that are equal in print count as equally good."""


@dataclass(frozen=True)
class Column:
    """A method with its recipe, or a published method. `variant` names what differs from it, or from others."""

    method: str
    recipe: str
    variant: str = ""
    is_published: bool = False

    @property
    def label(self) -> str:
        """The heading of the column."""
        if self.is_published:
            return f"{sources()[self.method].method} published"
        return ", ".join(filter(None, (f"{self.method} {self.recipe}", self.variant)))


@dataclass(frozen=True)
class Cell:
    """One figure of a table.

    Attributes
    ----------
    mean_percent : mean over seeds, or the published figure.
    spread_points : sample standard deviation over seeds; None for fewer than two seeds.
    seeds : the seeds that the mean is taken over; empty for published figures.
    difference_points : mean minus the published figure of the same method and protocol; None if there is none.
    is_best : whether no figure in the row is better in print.
    figure : the published figure; None for a measured figure and for a mean over several published figures.
    """

    mean_percent: float
    spread_points: float | None = None
    seeds: tuple[int | None, ...] = ()
    difference_points: float | None = None
    is_best: bool = False
    figure: PaperFigure | None = None

    @property
    def paper(self) -> str:
        """The paper that prints a published figure; "" for a measured figure or a mean."""
        return self.figure.paper if self.figure else ""

    @property
    def source(self) -> str:
        """Paper and table of a published figure."""
        return f"{sources()[self.figure.paper].method} table {self.figure.table}" if self.figure else ""


@dataclass(frozen=True)
class Row:
    """One test set, or the mean over several. `cells` are in the order of the table's columns."""

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
        """The cells of one column from top to bottom, without the empty ones."""
        index = self.columns.index(column)
        return [cell for row in self.rows if (cell := row.cells[index]) is not None]

    def n_seeds(self, column: Column) -> int | None:
        """The number of seeds if all cells of the column have the same number, else None."""
        counts = {len(cell.seeds) for cell in self.cells_of(column)}
        return counts.pop() or None if len(counts) == 1 else None


@dataclass(frozen=True)
class Comparison:
    """All tables, grouped by protocol.

    `protocols` maps the name of each to its heading, `warnings` lists what could mislead a reader, `sources` where
    the published figures come from.
    """

    tables: tuple[Table, ...]
    protocols: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class _EvaluatedSet:
    """The test images of a run; `published` is the papers' test set if name and numbers of images agree."""

    data: str
    n_good: int
    n_defective: int
    published: TestSet | None

    @classmethod
    def of(cls, run: Run) -> _EvaluatedSet:
        published = named_test_set(run.data)
        if published and (published.n_good, published.n_defective) != (run.n_good, run.n_defective):
            published = None
        return cls(published.category if published else run.data, run.n_good, run.n_defective, published)

    @property
    def order(self) -> tuple[int, str, int, int]:
        """Sort key: published test sets first, in the papers' order."""
        rank = test_sets().index(self.published) if self.published else len(test_sets())
        return rank, self.data, self.n_good, self.n_defective


_Runs: TypeAlias = Mapping[tuple[Column, _EvaluatedSet], Sequence[Run]]


def compare(runs: Sequence[Run], metrics: Sequence[str] = METRICS) -> Comparison:
    """Tabulate runs: for each protocol and metric, one row per test set and one column per method and recipe.

    Runs of one method and recipe that differ in a setting get columns of their own, named after it; a setting that is
    not the recipe's is always named.
    Published figures are shown only for test sets with the published numbers of good and defective images.

    Parameters
    ----------
    runs : in the order in which their columns are shown.
    metrics : names in `METRICS`; a metric that no run has gets no table.
    """
    kept, repeats = _without_repeats(runs)
    variants = _variants(kept)
    recipes = _general_recipes(kept)
    tables = []
    for protocol in dict.fromkeys(run.protocol for run in kept):
        cells: dict[tuple[Column, _EvaluatedSet], list[Run]] = {}
        for run in kept:
            if run.protocol == protocol:
                column = Column(run.method, recipes[_identity(run), run.data], variants[_identity(run)])
                cells.setdefault((column, _EvaluatedSet.of(run)), []).append(run)
        tables += [table for metric in metrics if (table := _table(metric, protocol, cells)) is not None]
    warnings = (*_protocol_warnings(tables), *repeats, *_condition_warnings(kept), *_data_warnings(kept))
    return Comparison(tuple(tables), _protocols(kept, tables), warnings, _paper_notes(tables))


# --- which runs belong together ---------------------------------------------------------------------------------


def _general_recipes(runs: Sequence[Run]) -> dict[object, str]:
    """For each identity and test set, the recipe name without the name of the test set, if that stays unique.

    `paper-carpet` on carpet and `paper-tile` on tile share the column `paper`, unless a recipe `paper` was run on
    these test sets, too.
    """
    taken = {(run.method, run.recipe, run.data) for run in runs}
    recipes: dict[object, str] = {}
    for run in runs:
        general = run.recipe.removesuffix(f"-{run.data}")
        recipes[_identity(run), run.data] = run.recipe if (run.method, general, run.data) in taken else general
    return recipes


def _identity(run: Run) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return run.method, run.recipe, tuple(sorted(run.options.items()))


def _without_repeats(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs without repeated seeds, and a warning for each repeat: it would falsify the spread over seeds."""
    kept: dict[object, Run] = {}
    warnings = []
    for run in runs:
        first = kept.setdefault((_identity(run), run.protocol, _EvaluatedSet.of(run), run.seed), run)
        if first is not run:
            seed = "without a seed" if run.seed is None else f"seed {run.seed}"
            agreement = "the same figures" if first.metrics == run.metrics else "different figures"
            warnings.append(
                f"{run.method} {run.recipe} on {run.data}, {seed}, occurs twice, with {agreement}: "
                f"{first.path} is used, {run.path} is left out"
            )
    return list(kept.values()), warnings


def _variants(runs: Sequence[Run]) -> dict[object, str]:
    """For each identity, the options in which it differs from its recipe or from other runs of it, as text."""
    variants: dict[object, str] = {}
    for run in runs:
        siblings = [sibling for sibling in runs if (sibling.method, sibling.recipe) == (run.method, run.recipe)]
        names = sorted({name for sibling in siblings for name in sibling.options})
        is_equal = {name for name in names if len({sibling.options.get(name) for sibling in siblings}) == 1}
        differing = [name for name in names if name not in is_equal or name in run.changed]
        texts = (f"{name}={run.options[name]}" if name in run.options else f"no {name}" for name in differing)
        variants[_identity(run)] = ", ".join(texts).replace('"', "")
    return variants


# --- one table --------------------------------------------------------------------------------------------------


def _table(metric: str, protocol: str, runs: _Runs) -> Table | None:
    columns = _columns(dict.fromkeys(column for column, _ in runs))
    evaluated = sorted(dict.fromkeys(images for _, images in runs), key=lambda images: images.order)
    names = Counter(images.data for images in evaluated)
    rows = []
    for images in evaluated:
        is_unique = images.published or names[images.data] == 1
        counts = f"{images.n_good} good, {images.n_defective} defective"
        label = images.data if is_unique else f"{images.data} ({counts})"
        cells = _with_differences(protocol, columns, [_cell(metric, column, images, runs) for column in columns])
        rows.append(Row(label, tuple(cells), images.n_good, images.n_defective))
    rows += _mean_rows(metric, protocol, columns, evaluated, runs)
    used = [index for index in range(len(columns)) if any(row.cells[index] is not None for row in rows)]
    if all(columns[index].is_published for index in used):
        return None
    chosen = (replace(row, cells=tuple(row.cells[index] for index in used)) for row in rows)
    return Table(metric, protocol, tuple(columns[index] for index in used), tuple(chosen))


def _columns(ours: Iterable[Column]) -> list[Column]:
    """All columns: for each method its recipes and variants, followed by the published column."""
    measured = list(ours)
    recipes = list(dict.fromkeys((column.method, column.recipe) for column in measured))
    columns: list[Column] = []
    for method in dict.fromkeys(column.method for column in measured):
        chosen = [column for column in measured if column.method == method]
        columns += sorted(chosen, key=lambda column: recipes.index((column.method, column.recipe)))
        columns += [Column(method, "", is_published=True)] if method in sources() else []
    return columns


def _cell(metric: str, column: Column, images: _EvaluatedSet, runs: _Runs) -> Cell | None:
    if column.is_published:
        if (test_set := images.published) is None:
            return None
        return _published(paper_figure(column.method, test_set.dataset, test_set.category, metric))
    values = _by_seed(metric, runs.get((column, images), ()))
    return _summary(list(values.values()), tuple(values)) if values else None


def _by_seed(metric: str, runs: Sequence[Run]) -> dict[int | None, float]:
    """The metric in percent for each seed, sorted by seed."""
    ordered = sorted(runs, key=lambda run: -1 if run.seed is None else run.seed)
    return {run.seed: 100 * value for run in ordered if (value := run.metrics.get(metric)) is not None}


def _summary(values: Sequence[float], seeds: tuple[int | None, ...]) -> Cell:
    return Cell(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, seeds)


def _published(figure: PaperFigure | None) -> Cell | None:
    return Cell(figure.value_percent, figure=figure) if figure else None


def _with_differences(protocol: str, columns: Sequence[Column], cells: Sequence[Cell | None]) -> list[Cell | None]:
    """The cells with the best ones marked, and with their differences to figures published under this protocol."""
    published = {
        column.method: cell.mean_percent
        for column, cell in zip(columns, cells, strict=True)
        if column.is_published and cell and sources()[cell.paper or column.method].authors_protocol == protocol
    }
    printed = [round(cell.mean_percent, DECIMALS) for cell in cells if cell]
    marked: list[Cell | None] = []
    for column, cell in zip(columns, cells, strict=True):
        if cell is None:
            marked.append(None)
            continue
        base = None if column.is_published else published.get(column.method)
        difference = None if base is None else cell.mean_percent - base
        is_best = len(printed) > 1 and round(cell.mean_percent, DECIMALS) == max(printed)
        marked.append(replace(cell, difference_points=difference, is_best=is_best))
    return marked


# --- means over categories --------------------------------------------------------------------------------------


def _mean_rows(
    metric: str, protocol: str, columns: Sequence[Column], evaluated: Sequence[_EvaluatedSet], runs: _Runs
) -> list[Row]:
    """For each published dataset, the mean over those of its categories that were evaluated."""
    rows = []
    for dataset in dict.fromkeys(images.published.dataset for images in evaluated if images.published):
        chosen = [images for images in evaluated if images.published and images.published.dataset == dataset]
        n_all = sum(test_set.dataset == dataset for test_set in test_sets())
        if len(chosen) < 2:
            continue
        label = f"mean of all {n_all}" if len(chosen) == n_all else f"mean of these {len(chosen)}"
        means = [_mean_cell(metric, column, dataset, chosen, n_all, runs) for column in columns]
        cells = _with_differences(protocol, columns, means)
        rows.append(Row(f"{dataset}, {label}", tuple(cells), is_mean=True))
    return rows


def _mean_cell(
    metric: str, column: Column, dataset: str, categories: Sequence[_EvaluatedSet], n_all: int, runs: _Runs
) -> Cell | None:
    """The mean over categories, if the column has all of them. The spread is that of the means of each seed."""
    if column.is_published and len(categories) == n_all:
        return _published(paper_figure(column.method, dataset, AVERAGE, metric))
    cells = [_cell(metric, column, category, runs) for category in categories]
    present = [cell for cell in cells if cell is not None]
    if len(present) < len(categories):
        return None
    if column.is_published:
        return Cell(statistics.mean(cell.mean_percent for cell in present))
    by_seed = [_by_seed(metric, runs[column, category]) for category in categories]
    seeds = tuple(by_seed[0])
    if any(set(values) != set(seeds) for values in by_seed):  # categories with different seeds: no mean per seed
        return Cell(statistics.mean(cell.mean_percent for cell in present))
    return _summary([statistics.mean(values[seed] for values in by_seed) for seed in seeds], seeds)


# --- warnings and sources ---------------------------------------------------------------------------------------


def _protocols(runs: Sequence[Run], tables: Sequence[Table]) -> dict[str, str]:
    """Headings of the tables' protocols by name, in the order of the tables."""
    descriptions = {run.protocol: run.protocol_description for run in runs if run.protocol_description}
    names = dict.fromkeys(table.protocol for table in tables)
    return {name: f"{name} ({descriptions[name]})" if name in descriptions else name for name in names}


def _protocol_warnings(tables: Sequence[Table]) -> list[str]:
    n = len({table.protocol for table in tables})
    return [f"the runs were measured under {n} protocols; compare figures only within one"] if n > 1 else []


def _condition_warnings(runs: Sequence[Run]) -> list[str]:
    """Warn of seeds that are averaged although their numbers of training images or their precisions differ."""
    groups: dict[object, list[Run]] = {}
    for run in runs:
        groups.setdefault((_identity(run), run.protocol, _EvaluatedSet.of(run)), []).append(run)
    warnings = []
    for group in groups.values():
        for name in sorted({name for run in group for name in run.conditions}):
            values = dict.fromkeys(run.conditions.get(name, "unknown") for run in group)
            if len(values) > 1:
                run = group[0]
                warnings.append(
                    f"{run.method} {run.recipe} on {run.data}: the seeds differ in {name}: {', '.join(values)}"
                )
    return warnings


def _data_warnings(runs: Sequence[Run]) -> list[str]:
    """Warn of data named like a published test set, but with different numbers of images."""
    warnings = []
    for images in dict.fromkeys(map(_EvaluatedSet.of, runs)):
        namesake = named_test_set(images.data)
        if namesake and not images.published:
            warnings.append(
                f"{images.data} has {images.n_good} good and {images.n_defective} defective test images, "
                f"{namesake.dataset}'s {namesake.n_good} and {namesake.n_defective}: not compared with the papers"
            )
    return warnings


def _paper_notes(tables: Sequence[Table]) -> tuple[str, ...]:
    """Where the published figures are printed, how they were measured, and which of them are doubtful."""
    cells = [cell for table in tables for row in table.rows for cell in row.cells if cell and cell.figure]
    figures, notes = [cell.figure for cell in cells if cell.figure], []
    for paper in dict.fromkeys(figure.paper for figure in figures):
        source, printed = sources()[paper], sorted({figure.table for figure in figures if figure.paper == paper})
        notes.append(
            f"{source.method} paper ({source.published}, {source.url}), table{'s' * (len(printed) > 1)} "
            f"{' and '.join(printed)}; measured by its authors: {source.protocol}"
        )
    noted = [(cell.source, cell.figure) for cell in cells if cell.figure and cell.figure.note]
    doubts = (f"{source}, {figure.category}: {figure.note}" for source, figure in noted)
    return (*notes, *dict.fromkeys(doubts))
