"""What `blemish compare` writes and prints: the same figures as CSV, Markdown, page and terminal table."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from blemish.cli.options import MetricName
from blemish.commands.compare import compare_run
from blemish.compare.comparison import Comparison, compare
from blemish.compare.page import comparison_page
from blemish.compare.runs import METRICS
from blemish.compare.text import CSV_COLUMNS, as_csv, as_markdown, difference, print_comparison
from blemish.errors import BlemishError
from compare.evaluations import evaluation, run
from report.test_page import Content


@pytest.fixture
def comparison() -> Comparison:
    runs = [run("bottle", 0, 0.990), run("bottle", 1, 0.994), run("metal_nut", 0, 0.5), run("gasket", 0, 0.7)]
    return compare([*runs, run("bottle", 0, 0.8, recipe="fast", protocol="224 crop")])


def test_the_csv_has_a_line_for_each_figure_in_full(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(comparison))))
    assert tuple(rows[0]) == CSV_COLUMNS
    ours, theirs = rows[:2]
    assert (ours["data"], ours["method"], ours["recipe"], ours["seeds"]) == ("bottle", "draem", "small", "0 1")
    assert float(ours["mean_percent"]) == pytest.approx(99.2)
    assert float(ours["spread_points"]) == pytest.approx(0.28284, abs=1e-5)
    assert float(ours["difference_points"]) == pytest.approx(0)
    assert (theirs["source"], theirs["is_published"], theirs["mean_percent"]) == ("DRÆM table 1", "True", "99.2")
    places = [(row["protocol"], row["data"]) for row in rows if row["is_published"] == "False"]
    mean = "MVTec AD, mean of these 2"
    assert places == [("draem-authors/1", name) for name in ("bottle", "metal_nut", "gasket", mean)] + [
        ("224 crop", "bottle")
    ]


def test_the_markdown_tables(comparison: Comparison) -> None:
    text = as_markdown(comparison)
    assert "All figures in %" in text
    table = text[text.index("**Protocol:** draem-authors/1") :].splitlines()[2:8]
    assert table == [
        "| Image AUROC | draem small | Δ | DRÆM published |",
        "|---|---:|---:|---:|",
        "| bottle | **99.2** ± 0.3 (2) | 0.0 | **99.2** |",
        "| metal\\_nut | 50.0 (1) | −48.7 | **98.7** |",
        "| gasket | 70.0 (1) |  | – |",
        "| *MVTec AD, mean of these 2* | 74.6 | −24.4 | **99.0** |",
    ]
    assert (
        text.index("2 protocols") < text.index("draem-authors/1") < text.index("224 crop") < text.index("arxiv.org")
    )


def test_a_number_of_seeds_common_to_the_column_is_in_its_header() -> None:
    text = as_markdown(compare([run(seed=seed, auroc=0.9) for seed in range(3)]))
    assert "| Image AUROC | draem small (3) | Δ | DRÆM published |" in text
    assert "| bottle | 90.0 ± 0.0 | −9.2 | **99.2** |" in text


@pytest.mark.parametrize(("points", "text"), [(1.26, "+1.3"), (-0.04, "0.0"), (0.04, "0.0"), (-12.0, "−12.0")])
def test_differences_have_a_sign(points: float, text: str) -> None:
    assert difference(points) == text


@pytest.mark.parametrize("width", [160, 40])
def test_the_terminal_loses_no_figure(comparison: Comparison, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, record=True)
    print_comparison(comparison, console)
    text = console.export_text()
    for words in ("99.2", "0.3", "50.0", "−48.7", "98.7", "protocol: 224 crop", "warning: ", "arxiv.org"):
        assert words in text


def test_the_page_holds_the_figures_the_protocols_and_the_sources(comparison: Comparison) -> None:
    page = Content(comparison_page(comparison))
    assert not page.open
    for words in (
        "Protocol: draem-authors/1",
        "Protocol: 224 crop",
        "± 0.3",
        "−48.7 · 1 seed",
        "98.7",
        "2 protocols",
    ):
        assert words in page.text
    assert page.tags.count("table") == 2
    assert ("class", "mean") in page.attributes
    assert "DRÆM paper (ICCV 2021" in page.text
    assert "average precision" not in page.text  # explained only if the runs have this metric


def test_the_page_needs_no_network_and_no_script(comparison: Comparison) -> None:
    html = comparison_page(comparison)
    assert {"script", "link", "iframe", "img"}.isdisjoint(Content(html).tags)
    assert not re.search(r"(src|href)=|url\(|@import", html)
    assert "prefers-color-scheme: dark" in html


def test_what_is_not_trusted_is_escaped() -> None:
    nasty = "<script>alert(1)</script>|*x*"
    with_options = [run(options={nasty: "1"}), run(options={nasty: "2"})]
    comparison = compare([run(nasty, method=nasty, recipe=nasty, protocol=nasty), *with_options])
    page = Content(comparison_page(comparison))
    assert "script" not in page.tags
    assert page.text.count(nasty) >= 6
    (row,) = [line for line in as_markdown(comparison).splitlines() if line.startswith("| \\<script>")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_the_command_writes_three_files_and_reports_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "b" / "detector.blemish").touch()
    compare_run([tmp_path / "runs"], ["pixel_ap"], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["compare.csv", "compare.html", "compare.md"]
    for path in (tmp_path / "out").iterdir():
        text = path.read_text(encoding="utf-8")
        assert "60.0" in text
        assert "Image AUROC" not in text
        assert ("b is left out" in text) == (path.suffix != ".csv")
    assert "compare.html" in capsys.readouterr().out


def test_a_metric_that_no_run_has_is_reported(tmp_path: Path) -> None:
    evaluation(tmp_path)
    with pytest.raises(BlemishError, match="none of the 1 evaluations has pixel_aupro"):
        compare_run([tmp_path], ["pixel_aupro"], None)


def test_the_command_line_offers_all_metrics() -> None:
    assert MetricName.__args__ == METRICS  # type: ignore[attr-defined]


def test_comparing_does_not_load_torch() -> None:
    code = "import sys, blemish.commands.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
