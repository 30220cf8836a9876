"""A table of a paper as sheets of text: what the page, the Markdown file and the terminal show. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blemish.compare.text import METRIC_NAMES, difference, percent
from blemish.metrics.names import MEANINGS
from blemish.studies.tables.base import PaperTable
from blemish.studies.tables.results import MEAN, Figure, Ordering

NOTHING = "–"
_NAMES = {"tpr": "TPR", "tnr": "TNR", "ca": "CA"}
_MEANINGS = {
    "tpr": "share of defective images that are rejected",
    "tnr": "share of good images that pass",
    "ca": "share of images that are classified correctly",
}


@dataclass(frozen=True)
class Sheet:
    """One table to show.

    Attributes
    ----------
    title, meaning : its heading, and a line below it.
    heads : of its columns; the first is that of the lines' names.
    lines : texts of its cells, as many as ``heads``.
    n_means : how many of the last lines are means.
    """

    title: str
    meaning: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    n_means: int = 0


def sheets_of(table: PaperTable, figures: Sequence[Figure], orderings: Sequence[Ordering]) -> list[Sheet]:
    """One sheet for each metric; of a table by variants also one for each category."""
    if table.by == "category":
        return [
            _by_category(table, metric, [figure for figure in figures if figure.metric == metric])
            for metric in table.metrics
        ]
    sheets = [_by_variant(table, metric, figures, orderings) for metric in table.metrics]
    categories = list(dict.fromkeys(figure.category for figure in figures if figure.category != MEAN))
    if len(categories) > 1:
        sheets.append(_each_category(table, figures, categories))
    return sheets


def name_of_metric(metric: str) -> str:
    """Its title."""
    return _NAMES.get(metric) or METRIC_NAMES[metric]


def _by_category(table: PaperTable, metric: str, figures: Sequence[Figure]) -> Sheet:
    heads, lines = ["category"], []
    has_difference = {
        variant.key: any(figure.difference_points is not None for figure in figures if figure.variant == variant)
        for variant in table.variants
    }
    is_published = {
        variant.key: any(figure.published is not None for figure in figures if figure.variant == variant)
        for variant in table.variants
    }
    for variant in table.variants:
        heads += [variant.label] + [f"{variant.label}, paper"] * is_published[variant.key]
        heads += ["Δ"] * has_difference[variant.key]
    categories = list(dict.fromkeys(figure.category for figure in figures))
    for category in categories:
        line = [category]
        for variant in table.variants:
            figure = next(one for one in figures if (one.variant, one.category) == (variant, category))
            line += [_ours(figure)] + [_number(figure.published)] * is_published[variant.key]
            line += [_signed(figure.difference_points)] * has_difference[variant.key]
        lines.append(tuple(line))
    if len(categories) == 2:  # a single category and its mean
        lines = lines[:1]
    return Sheet(
        f"{name_of_metric(metric)}, %", _meaning(metric), tuple(heads), tuple(lines), int(len(categories) > 2)
    )


def _by_variant(table: PaperTable, metric: str, figures: Sequence[Figure], orderings: Sequence[Ordering]) -> Sheet:
    means = {figure.variant.key: figure for figure in figures if (figure.metric, figure.category) == (metric, MEAN)}
    against = {ordering.variant.key: ordering for ordering in orderings if ordering.metric == metric}
    has_difference = any(figure.difference_points is not None for figure in means.values())
    is_published = any(figure.published is not None for figure in means.values())
    heads = ["", "ours"] + ["paper"] * is_published + ["Δ"] * has_difference
    if table.reference:
        label = table.variant(table.reference).label
        heads += [f"ours − {label}", f"paper − {label}", "same sign"]
    lines = []
    for variant in table.variants:
        figure = means[variant.key]
        line = [variant.label, _ours(figure)] + [_number(figure.published)] * is_published
        line += [_signed(figure.difference_points)] * has_difference
        if table.reference:
            ordering = against.get(variant.key)
            line += [NOTHING] * 3 if ordering is None else _ordering(ordering)
        lines.append(tuple(line))
    n = len({figure.category for figure in figures} - {MEAN})
    n_published = len(table.dataset.categories)
    is_part = n < n_published and is_published
    mean_of = f"; ours: mean of {n} {'category' if n == 1 else 'categories'}" if n > 1 or is_part else ""
    mean_of += f", the paper's: of {n_published}" if is_part else ""
    return Sheet(f"{name_of_metric(metric)}, %", f"{_meaning(metric)}{mean_of}", tuple(heads), tuple(lines))


def _each_category(table: PaperTable, figures: Sequence[Figure], categories: Sequence[str]) -> Sheet:
    heads = ["", *(f"{category}: {name_of_metric(metric)}" for category in categories for metric in table.metrics)]
    of = {(figure.variant.key, figure.category, figure.metric): figure for figure in figures}
    lines = tuple(
        (
            variant.label,
            *(_ours(of[variant.key, category, metric]) for category in categories for metric in table.metrics),
        )
        for variant in table.variants
    )
    return Sheet("Each category, %", "ours", tuple(heads), lines)


def _ordering(ordering: Ordering) -> list[str]:
    holds = {None: NOTHING, True: "yes", False: "no"}[ordering.holds]
    return [_signed(ordering.ours), _signed(ordering.published), holds]


def _ours(figure: Figure) -> str:
    if figure.mean is None:
        return NOTHING
    spread = "" if figure.spread is None else f" ± {percent(figure.spread)}"
    return f"{percent(figure.mean)}{spread}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else percent(value)


def _signed(points: float | None) -> str:
    return NOTHING if points is None else difference(points)


def _meaning(metric: str) -> str:
    return _MEANINGS.get(metric) or MEANINGS[metric]
