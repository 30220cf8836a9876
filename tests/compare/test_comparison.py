"""The comparison itself, on figures that can be calculated by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from blemish.compare.comparison import Cell, Table, compare
from blemish.compare.papers import test_sets as published_test_sets
from blemish.compare.runs import METRICS, Run
from compare.evaluations import AUTHORS, run


def only_table(*runs: Run) -> Table:
    (table,) = compare(runs).tables
    return table


def cells(table: Table, label: str) -> dict[str, Cell | None]:
    (row,) = (row for row in table.rows if row.label == label)
    return {column.label: cell for column, cell in zip(table.columns, row.cells, strict=True)}


def cell(table: Table, label: str, column: str) -> Cell:
    chosen = cells(table, label)[column]
    assert chosen is not None
    return chosen


def test_mean_and_spread_are_over_seeds_and_the_paper_stands_beside_them() -> None:
    table = only_table(run(seed=2, auroc=0.97), run(seed=0, auroc=0.99), run(seed=1, auroc=0.98))
    ours, theirs = cell(table, "bottle", "draem small"), cell(table, "bottle", "DRÆM published")
    assert ours.mean_percent == pytest.approx(98.0)
    assert ours.spread_points == pytest.approx(1.0)  # of a sample: n - 1
    assert ours.seeds == (0, 1, 2)
    assert theirs.mean_percent == 99.2
    assert theirs.source == "DRÆM table 1"
    assert ours.difference_points == pytest.approx(-1.2)
    assert (ours.is_best, theirs.is_best) == (False, True)
    assert table.n_seeds(table.columns[0]) == 3
    assert table.n_seeds(table.columns[1]) is None


@pytest.mark.parametrize("protocol", ["256/1", "dsr-authors/1", "network/1"])
def test_under_another_protocol_the_papers_figure_is_shown_but_not_subtracted(protocol: str) -> None:
    table = only_table(run(protocol=protocol), run("pill", protocol=protocol))
    assert cell(table, "bottle", "DRÆM published").mean_percent == 99.2
    assert all(entry.difference_points is None for row in table.rows for entry in row.cells if entry)
    assert cell(table, "MVTec AD, mean of these 2", "DRÆM published").mean_percent == pytest.approx(99.05)


def test_a_mean_of_published_figures_is_subtracted_under_the_authors_protocol() -> None:
    table = only_table(run(auroc=0.99), run("pill", auroc=0.97))
    assert cell(table, "MVTec AD, mean of these 2", "draem small").difference_points == pytest.approx(98 - 99.05)


def test_one_seed_has_no_spread() -> None:
    assert cell(only_table(run()), "bottle", "draem small").spread_points is None


def test_best_is_what_looks_best_in_print_and_nothing_alone_is_best() -> None:
    tied = only_table(run(auroc=0.99204), run(auroc=0.9916, recipe="fast"))
    assert [entry.is_best for entry in cells(tied, "bottle").values() if entry] == [True, True, True]
    assert not cell(only_table(run("gasket")), "gasket", "draem small").is_best


def test_the_papers_are_left_out_where_the_test_images_differ() -> None:
    comparison = compare([run("screw", n_good=5, n_defective=7), run("Metal Nut", n_good=22, n_defective=93)])
    (table,) = comparison.tables
    assert cells(table, "screw")["DRÆM published"] is None
    assert cell(table, "metal_nut", "DRÆM published").mean_percent == 98.7
    (warning,) = comparison.warnings
    assert warning.startswith("screw has 5 good and 7 defective test images, MVTec AD's 41 and 119")


def test_data_that_no_paper_knows_keeps_its_name() -> None:
    assert [row.label for row in only_table(run("Metal Nut", n_good=5, n_defective=7)).rows] == ["Metal Nut"]


def test_the_same_name_with_other_images_is_another_row() -> None:
    table = only_table(
        run("screw"), run("screw", n_good=5, n_defective=7), run("screw", seed=1, n_good=6, n_defective=7)
    )
    labels = ["screw", "screw (5 good, 7 defective)", "screw (6 good, 7 defective)"]
    assert [row.label for row in table.rows] == labels


def test_protocols_never_share_a_table() -> None:
    comparison = compare([run(seed=0), run(seed=1, protocol="224 crop"), run(seed=2)])
    assert list(comparison.protocols) == [AUTHORS, "224 crop"]
    seeds = [cell(table, "bottle", "draem small").seeds for table in comparison.tables]
    assert seeds == [(0, 2), (1,)]
    assert "2 protocols" in comparison.warnings[0]
    assert not compare([run(seed=0), run(seed=1)]).warnings


def test_a_protocol_is_identified_by_its_name_and_shown_with_its_description() -> None:
    runs = [run(seed=0, protocol="256/1", protocol_description="no crop"), run(seed=1, protocol="256/1")]
    comparison = compare(runs)
    assert comparison.protocols == {"256/1": "256/1 (no crop)"}
    assert len(comparison.tables) == 1


def test_runs_that_differ_in_a_setting_are_not_averaged_and_are_named_by_it() -> None:
    first, second = {"anomalies.shape": '"perlin"', "x": "1"}, {"anomalies.shape": '"rectangle"', "x": "1"}
    table = only_table(
        run(options=first), run(seed=1, options=first), run(recipe="fast"),
        run(options=second), run(seed=1, options={"x": "1"}),
    )  # fmt: skip
    assert [column.label for column in table.columns] == [
        "draem small, anomalies.shape=perlin",
        "draem small, anomalies.shape=rectangle",
        "draem small, no anomalies.shape",
        "draem fast",
        "DRÆM published",
    ]
    assert [len(entry.seeds) for entry in cells(table, "bottle").values() if entry] == [2, 1, 1, 1, 0]


@pytest.mark.parametrize(("auroc", "agreement"), [(0.9, "with the same figures"), (0.8, "with different figures")])
def test_a_repeated_seed_counts_once_and_is_reported(auroc: float, agreement: str) -> None:
    comparison = compare([run(seed=0), run(seed=1), run(seed=0, auroc=auroc, path=Path("again"))])
    assert cell(comparison.tables[0], "bottle", "draem small").seeds == (0, 1)
    assert cell(comparison.tables[0], "bottle", "draem small").mean_percent == pytest.approx(90)
    (warning,) = comparison.warnings
    assert "seed 0, occurs twice" in warning
    assert agreement in warning
    assert "again is left out" in warning


def test_seeds_trained_on_different_numbers_of_images_are_reported() -> None:
    with_all, held_out = {"n_train": "209", "precision": "float32"}, {"n_train": "188", "precision": "float32"}
    comparison = compare([run(seed=0, conditions=with_all), run(seed=1, conditions=held_out), run("pill")])
    assert comparison.warnings == ("draem small on bottle: the seeds differ in n_train: 209, 188",)


def test_weights_without_a_seed_count_once_too() -> None:
    comparison = compare([run(seed=None), run(seed=None, path=Path("again"))])
    assert "without a seed" in comparison.warnings[0]


def test_the_mean_over_categories_has_the_spread_of_the_seeds_means() -> None:
    table = only_table(
        run("pill", 0, 0.80), run("pill", 1, 0.90), run("bottle", 0, 1.00), run("bottle", 1, 0.96),
        run("gasket", 0, 0.1),
    )  # fmt: skip
    ours = cell(table, "MVTec AD, mean of these 2", "draem small")
    assert ours.mean_percent == pytest.approx(91.5)  # of 90 and 93
    assert ours.spread_points == pytest.approx(2.12132)
    assert ours.seeds == (0, 1)
    theirs = cell(table, "MVTec AD, mean of these 2", "DRÆM published")
    assert theirs.mean_percent == pytest.approx((98.9 + 99.2) / 2)
    assert [row.label for row in table.rows] == ["bottle", "pill", "gasket", "MVTec AD, mean of these 2"]


def test_a_mean_over_different_seeds_has_no_spread_and_one_with_a_category_missing_is_none() -> None:
    unlike = only_table(run("pill", 0, 0.8), run("pill", 1, 0.9), run("bottle", 0, 0.95))
    ours = cell(unlike, "MVTec AD, mean of these 2", "draem small")
    assert (ours.mean_percent, ours.spread_points, ours.seeds) == (pytest.approx(90), None, ())
    incomplete = only_table(run("pill"), run("bottle"), run("pill", recipe="fast"))
    assert cells(incomplete, "MVTec AD, mean of these 2")["draem fast"] is None


def test_all_categories_are_held_against_the_printed_average() -> None:
    mvtec = [test_set.category for test_set in published_test_sets() if test_set.dataset == "MVTec AD"]
    table = only_table(*(run(category) for category in reversed(mvtec)))
    assert [row.label for row in table.rows] == [*mvtec, "MVTec AD, mean of all 15"]
    assert cell(table, "MVTec AD, mean of all 15", "DRÆM published").mean_percent == 98.0


def test_metrics_are_chosen_and_a_missing_metric_has_no_table() -> None:
    runs = [run(metrics=dict.fromkeys(METRICS) | {"image_auroc": 0.9, "pixel_ap": 0.5})]
    assert [table.metric for table in compare(runs).tables] == ["image_auroc", "pixel_ap"]
    assert [table.metric for table in compare(runs, ["pixel_ap", "pixel_aupro"]).tables] == ["pixel_ap"]
    assert compare(runs, ["image_ap"]).tables == ()


def test_sources_are_those_of_the_figures_shown_with_their_doubts() -> None:
    quoted = compare([run("KolektorSDD2", n_good=894, n_defective=110, metrics={"image_ap": 0.7})])
    assert cell(quoted.tables[0], "ksdd2", "DRÆM published").source == "DSR table 1"
    (source,) = quoted.sources
    assert source.startswith("DSR paper (ECCV 2022")
    leather = compare([run("leather", method="ssae", metrics={"pixel_auroc": 0.99})])
    assert "SSAE table 2, leather: SSAE table 4 gives 99.6" in leather.sources[1]
    assert compare([run("gasket")]).sources == ()


def test_a_method_that_no_paper_knows_stands_alone() -> None:
    table = only_table(run(method="mine"))
    assert [column.label for column in table.columns] == ["mine small"]


def test_recipes_named_after_their_test_sets_share_a_column() -> None:
    runs = [
        run("bottle", recipe="paper-bottle", options={"kernel": "5"}),
        run("pill", recipe="paper-pill", options={"kernel": "3"}),
        run("pill", recipe="paper-pill", options={"kernel": "3"}, seed=1, auroc=0.8),
    ]
    table = only_table(*runs)
    assert [column.label for column in table.columns] == ["draem paper", "DRÆM published"]
    assert cell(table, "pill", "draem paper").mean_percent == pytest.approx(85.0)
    separate = only_table(*runs, run("pill", recipe="paper"))
    assert {"draem paper", "draem paper-pill"} <= set(cells(separate, "pill"))
    (row,) = (row for row in only_table(run("pill", recipe="paper-object")).rows if row.label == "pill")
    assert row.cells[0] is not None


def test_the_same_recipe_on_other_test_sets_does_not_depend_on_the_order() -> None:
    """`paper-carpet` run on tile is not a seed of `paper-tile`, in whatever order the runs are given."""
    foreign = run("tile", recipe="paper-carpet", auroc=0.5)
    own = run("tile", recipe="paper-tile", seed=1, auroc=1.0)
    home = run("carpet", recipe="paper-carpet")
    for order in itertools.permutations([foreign, own, home]):
        tile = cells(only_table(*order), "tile")
        means = {label: entry.mean_percent for label, entry in tile.items() if entry}
        assert means["draem paper"] == pytest.approx(100.0)
        assert means["draem paper-carpet"] == pytest.approx(50.0)


def test_a_setting_that_is_not_the_recipes_is_named_although_all_runs_share_it() -> None:
    shared = {"options": {"iterations": "2", "batch_size": "8"}, "changed": ("iterations",)}
    table = compare([run(seed=0, **shared), run(seed=1, **shared)]).tables[0]
    assert table.columns[0].label == "draem small, iterations=2"
