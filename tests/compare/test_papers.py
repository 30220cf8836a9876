"""The papers' tables: complete, consistent with themselves and with each other, and in the package."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from blemish.compare import papers
from blemish.compare.papers import (
    AVERAGE,
    PaperFigure,
    named_test_set,
    paper_figure,
    paper_figures,
    sources,
)
from blemish.compare.papers import test_sets as published_test_sets

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
MVTEC = [test_set.category for test_set in published_test_sets() if test_set.dataset == "MVTec AD"]
OBJECTS = tuple(category for category in MVTEC if category not in TEXTURES)
COLUMNS: dict[tuple[str, str, str, str, str], dict[str, PaperFigure]] = defaultdict(dict)
for figure in paper_figures():
    column = COLUMNS[figure.paper, figure.table, figure.method, figure.setting, figure.metric]
    assert figure.category not in column, f"twice: {figure}"
    column[figure.category] = figure


def test_every_table_has_its_columns_and_the_columns_all_fifteen_categories() -> None:
    counts = Counter((paper, table) for paper, table, *_ in COLUMNS)
    assert counts == {
        ("draem", "1"): 7, ("draem", "2"): 8, ("draem", "3"): 33, ("draem", "4"): 31, ("dsr", "1"): 8,
        ("dsr", "2"): 17, ("dsr", "3"): 7, ("dsr", "4"): 5, ("dsr", "6"): 12, ("ssae", "2"): 13,
        ("ssae", "3"): 13, ("ssae", "4"): 5,
    }  # fmt: skip
    assert len(MVTEC) == 15
    for (paper, table, *_), column in COLUMNS.items():
        if (paper, table) in {
            ("draem", "1"),
            ("draem", "2"),
            ("dsr", "3"),
            ("dsr", "4"),
            ("ssae", "2"),
            ("ssae", "3"),
        }:
            assert set(column) >= {*MVTEC, AVERAGE}
        if (paper, table) == ("ssae", "4"):
            assert set(column) == {*TEXTURES, "average of textures"}


@pytest.mark.parametrize(
    ("name", "categories"),
    [(AVERAGE, MVTEC), ("average of textures", TEXTURES), ("average of objects", OBJECTS)],
)
def test_averages_are_the_means_of_their_categories(name: str, categories: tuple[str, ...]) -> None:
    checked = 0
    for key, column in COLUMNS.items():
        if name in column and set(categories) <= set(column):
            mean = sum(column[category].value_percent for category in categories) / len(categories)
            is_mean = abs(mean - column[name].value_percent) <= 0.0501
            assert is_mean or "Mean of the" in column[name].note, (key, mean)
            checked += 1
    assert checked >= 26


def test_a_figure_quoted_in_two_papers_is_the_same_or_noted() -> None:
    groups: dict[tuple[str, ...], list[PaperFigure]] = defaultdict(list)
    for quote in paper_figures():
        groups[quote.dataset, quote.method, quote.setting, quote.category, quote.metric].append(quote)
    repeated = [quotes for quotes in groups.values() if len(quotes) > 1]
    assert len(repeated) > 100
    for quotes in repeated:
        assert len({quote.value_percent for quote in quotes if not quote.note}) <= 1, quotes


def test_classification_accuracy_lies_between_the_two_rates() -> None:
    checked = 0
    for (paper, table, method, setting, metric), column in COLUMNS.items():
        rate_columns = [COLUMNS.get((paper, table, method, setting, rate)) for rate in ("tpr", "tnr")]
        if metric == "ca" and all(rate_columns):
            rates = [rate_column[AVERAGE].value_percent for rate_column in rate_columns if rate_column]
            accuracy = column[AVERAGE]
            assert min(rates) <= accuracy.value_percent <= max(rates) or "Cannot be right" in accuracy.note
            checked += 1
    assert checked == 6


def test_values_and_sources_are_well_formed() -> None:
    assert set(sources()) == {entry.paper for entry in paper_figures()}
    assert all(0 <= entry.value_percent <= 100 for entry in paper_figures())
    known = {"image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "tpr", "tnr", "ca"}
    assert {entry.metric for entry in paper_figures()} == known
    assert all(source.url.startswith("https://") and source.protocol for source in sources().values())


@pytest.mark.parametrize(
    ("method", "category", "metric", "percent"),
    [
        ("draem", "bottle", "pixel_ap", 86.5), ("draem", "pill", "image_auroc", 98.9),
        ("draem", "screw", "pixel_auroc", 97.6), ("draem", "average", "pixel_ap", 68.4),
        ("dsr", "transistor", "image_auroc", 97.8), ("dsr", "transistor", "pixel_ap", 41.1),
        ("dsr", "average", "image_auroc", 98.2), ("ssae", "pill", "image_auroc", 99.5),
        ("ssae", "screw", "pixel_auroc", 99.7), ("ssae", "average", "pixel_auroc", 99.1),
    ],
)  # fmt: skip
def test_what_is_published_of_our_methods(method: str, category: str, metric: str, percent: float) -> None:
    figure = paper_figure(method, "MVTec AD", category, metric)
    assert figure is not None
    assert figure.value_percent == percent
    assert figure.paper == method


def test_a_quote_stands_in_where_the_own_paper_is_silent_and_nothing_is_made_up() -> None:
    quoted = paper_figure("draem", "KSDD2", "ksdd2", "image_ap")
    assert quoted is not None
    assert (quoted.paper, quoted.table, quoted.value_percent) == ("dsr", "1", 77.8)
    unsupervised = paper_figure("dsr", "KSDD2", "ksdd2", "pixel_ap")
    assert unsupervised is not None
    assert unsupervised.value_percent == 61.4
    assert paper_figure("draem", "MVTec AD", "bottle", "pixel_aupro") is None
    assert paper_figure("patchcore", "MVTec AD", "bottle", "image_auroc") is None


def test_a_supervised_figure_never_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    supervised = tuple(entry for entry in paper_figures() if entry.setting)
    assert any((entry.method, entry.metric) == ("DSR", "pixel_ap") for entry in supervised)
    monkeypatch.setattr(papers, "paper_figures", lambda: supervised)
    papers._unsupervised_figures.cache_clear()
    substitute = paper_figure("dsr", "KSDD2", "ksdd2", "pixel_ap")
    papers._unsupervised_figures.cache_clear()
    assert substitute is None


def test_test_sets_are_those_of_the_datasets() -> None:
    mvtec = [test_set for test_set in published_test_sets() if test_set.dataset == "MVTec AD"]
    assert sum(test_set.n_good for test_set in mvtec) == 467
    assert sum(test_set.n_defective for test_set in mvtec) == 1258
    metal_nut = named_test_set("Metal Nut")
    assert metal_nut is not None
    assert metal_nut.category == "metal_nut"
    assert named_test_set("gasket") is None
