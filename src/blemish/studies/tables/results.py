"""What the cells of a table gave, beside the paper's figures. Without torch; all figures are in percent."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.compare.comparison import DECIMALS
from blemish.compare.papers import AVERAGE, PaperFigure, paper_figures, sources, test_sets
from blemish.fleet.cells import METRICS
from blemish.studies.tables.base import TEXTURES, PaperTable, Variant
from blemish.studies.tables.plan import Category, Request, cell_name, evaluation_name

MEAN = "mean"


@dataclass(frozen=True)
class Figure:
    """One figure of a table: ours over seeds, and the paper's.

    Attributes
    ----------
    category : its name, or ``MEAN`` over all that are given.
    by_seed : ours, percent; empty if nothing is known yet.
    published : the paper's, percent; None if it prints none.
    difference_points : ours minus the paper's, percentage points; None unless both are measured alike, on the same
        images.
    """

    variant: Variant
    category: str
    metric: str
    by_seed: dict[int, float]
    published: float | None
    difference_points: float | None

    @property
    def mean(self) -> float | None:
        """Ours, over seeds."""
        return statistics.mean(self.by_seed.values()) if self.by_seed else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, percentage points; None for fewer than two."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None


@dataclass(frozen=True)
class Ordering:
    """A variant against the variant of reference: the difference of ours, and that of the paper's, points."""

    variant: Variant
    metric: str
    ours: float | None
    published: float | None

    @property
    def holds(self) -> bool | None:
        """Whether both differences have the same sign in print; None if one is not known, or the paper sees none."""
        if self.ours is None or self.published is None or not round(self.published, DECIMALS):
            return None
        return round(self.ours, DECIMALS) * self.published > 0


def figures_of(request: Request, out: Path) -> list[Figure]:
    """All figures of a table: for each metric and variant those of the categories, then their mean."""
    table, figures = request.table, list[Figure]()
    for metric in table.metrics:
        for variant in table.variants:
            of_categories = []
            for category in request.categories:
                by_seed = _by_seed(request, out, variant, category, metric)
                is_printed = table.by == "category" or len(table.dataset.categories) == 1
                published = _published(table, variant, category.name, metric) if is_printed else None
                comparable = _is_comparable(table, variant, category)
                of_categories.append(_figure(variant, category.name, metric, by_seed, published, comparable))
            figures += [*of_categories, _mean(request, variant, metric, of_categories)]
    return figures


def orderings_of(table: PaperTable, figures: Sequence[Figure]) -> list[Ordering]:
    """Each variant against the one of reference, by the means; empty if the table has none."""
    means = {(figure.variant.key, figure.metric): figure for figure in figures if figure.category == MEAN}
    orderings = []
    for metric in table.metrics if table.reference else ():
        base = means[table.reference, metric]
        for variant in table.variants:
            if variant.key != table.reference:
                figure = means[variant.key, metric]
                ours, theirs = _minus(figure.mean, base.mean), _minus(figure.published, base.published)
                orderings.append(Ordering(variant, metric, ours, theirs))
    return orderings


def deviations(request: Request, left_out: Sequence[str], unfinished: Sequence[str]) -> list[str]:
    """What is not as in the paper, a sentence each."""
    table, lines = request.table, []
    if request.recipe != "paper":
        lines.append(f"trained with recipe {request.recipe}, not paper: other networks and a shorter training")
    if request.settings:
        lines.append(f"trained with other settings: {json.dumps(dict(request.settings))}")
    if table.dataset.categories:
        names = {category.name for category in request.categories}
        if missing := [name for name in table.dataset.categories if name not in names]:
            n = len(table.dataset.categories)
            lines.append(
                f"{len(names)} of {n} categories, over which our means are; the paper's are over all; not given: "
                f"{', '.join(missing)}"
            )
    for category in request.categories:
        known = _test_set(table, category)
        if table.dataset.categories and known != (category.n_good, category.n_defective) and known is not None:
            lines.append(
                f"{category.name} has {category.n_good} good and {category.n_defective} defective test images, not "
                f"the published {known[0]} and {known[1]}"
            )
    if table.method == "draem" and request.textures is None:
        lines.append("generated textures in place of the Describable Textures (give --textures)")
    if len(request.seeds) == 1:
        lines.append("one seed, so how much figures vary from training to training is not known")
    if not sources()[table.paper].authors_protocol:
        lines.append(
            f"measured under protocol {table.protocol}, which may not be that of the paper: no difference is given"
        )
    return [*lines, *table.remarks, *left_out, *unfinished]


def rows(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Lines of the CSV file."""
    return [
        {
            "variant": figure.variant.key, "category": figure.category, "metric": figure.metric,
            "seeds": " ".join(map(str, figure.by_seed)), "mean_percent": figure.mean, "spread_points": figure.spread,
            "published_percent": figure.published, "difference_points": figure.difference_points,
        }
        for figure in figures
    ]  # fmt: skip


def _by_seed(request: Request, out: Path, variant: Variant, category: Category, metric: str) -> dict[int, float]:
    values = {}
    for seed in request.seeds:
        folder = out / cell_name(category, variant, seed) / evaluation_name(request.table, variant)
        if (folder / METRICS).exists():
            value = json.loads((folder / METRICS).read_text(encoding="utf-8")).get(metric)
            if value is not None:
                values[seed] = 100.0 * value
    return values


def _figure(
    variant: Variant,
    category: str,
    metric: str,
    by_seed: dict[int, float],
    published: float | None,
    is_comparable: bool,
) -> Figure:
    mean = statistics.mean(by_seed.values()) if by_seed else None
    return Figure(variant, category, metric, by_seed, published, _minus(mean, published) if is_comparable else None)


def _mean(request: Request, variant: Variant, metric: str, figures: Sequence[Figure]) -> Figure:
    """The mean over the categories, for each seed that all of them have."""
    table = request.table
    seeds = [seed for seed in request.seeds if figures and all(seed in figure.by_seed for figure in figures)]
    by_seed = {seed: statistics.mean(figure.by_seed[seed] for figure in figures) for seed in seeds}
    printed = [figure.published for figure in figures if figure.published is not None]
    is_whole = not table.dataset.categories or len(figures) == len(table.dataset.categories)
    average = "average of textures" if table.dataset.categories == TEXTURES else AVERAGE
    published = _published(table, variant, average, metric) if is_whole or table.by == "variant" else None
    if published is None and printed and len(printed) == len(figures):
        published = statistics.mean(printed)  # of these categories
    is_alike = all(_is_comparable(table, variant, category) for category in request.categories)
    is_comparable = is_alike and (is_whole or table.by == "category")
    return _figure(variant, MEAN, metric, by_seed, published, is_comparable)


def _published(table: PaperTable, variant: Variant, category: str, metric: str) -> float | None:
    """The figure that the paper prints, in this table if it is there, else in another."""
    method, setting = variant.published
    candidates = [
        figure
        for figure in paper_figures()
        if (figure.method, figure.setting, figure.metric) == (method, setting, metric)
        and (figure.dataset, figure.category) == (table.dataset.name, category)
    ]
    return min(candidates, key=lambda figure: _rank(table, figure)).value_percent if candidates else None


def _rank(table: PaperTable, figure: PaperFigure) -> tuple[bool, bool]:
    return figure.paper != table.paper, f"table {figure.table}" != table.printed


def _test_set(table: PaperTable, category: Category) -> tuple[int, int] | None:
    """The published numbers of good and defective test images."""
    for test_set in test_sets():
        if (test_set.dataset, test_set.category) == (table.dataset.name, category.name):
            return test_set.n_good, test_set.n_defective
    return None


def _is_comparable(table: PaperTable, variant: Variant, category: Category) -> bool:
    """Whether ours and the paper's are measured alike: under its authors' protocol, on as many test images."""
    is_theirs = variant.method in ("", table.method) and sources()[table.paper].authors_protocol == table.protocol
    return is_theirs and _test_set(table, category) == (category.n_good, category.n_defective)


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
