"""A comparison as text: tidy CSV for programs, Markdown for a repository, tables for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as TerminalTable

from blemish.compare.comparison import DECIMALS, Cell, Column, Comparison, Row, Table
from blemish.metrics.names import TITLES

METRIC_NAMES = {name: title[0].upper() + title[1:] for name, title in TITLES.items()}
UNITS = "All figures in %; differences (Δ: ours minus published) in percentage points."
SPREAD = "Mean ± standard deviation over seeds (number of seeds in parentheses); a single seed has no spread."
BEST = "Bold: the best figure of its row, as printed."

CSV_COLUMNS = (
    "protocol", "metric", "data", "is_mean", "n_good", "n_defective", "method", "recipe", "variant", "is_published",
    "seeds", "n_seeds", "mean_percent", "spread_points", "difference_points", "is_best", "source",
)  # fmt: skip


def as_csv(comparison: Comparison) -> str:
    """One line per figure with the columns `CSV_COLUMNS`. Numbers are not rounded; missing values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in comparison.tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell is not None:
                    writer.writerow(_csv_line(table, row, column, cell))
    return text.getvalue()


def _csv_line(table: Table, row: Row, column: Column, cell: Cell) -> dict[str, object]:
    return {
        "protocol": table.protocol, "metric": table.metric, "data": row.label, "is_mean": row.is_mean,
        "n_good": row.n_good, "n_defective": row.n_defective, "method": column.method, "recipe": column.recipe,
        "variant": column.variant, "is_published": column.is_published,
        "seeds": " ".join("none" if seed is None else str(seed) for seed in cell.seeds),
        "n_seeds": len(cell.seeds) or None, "mean_percent": cell.mean_percent, "spread_points": cell.spread_points,
        "difference_points": cell.difference_points, "is_best": cell.is_best, "source": cell.source,
    }  # fmt: skip


# --- Markdown and terminal --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _CellText:
    """The text of one table cell: a value, and a suffix that is never bold."""

    value: str
    suffix: str = ""
    is_best: bool = False


def percent(value: float) -> str:
    """A figure with as many decimals as in the papers."""
    return f"{value:.{DECIMALS}f}"


def difference(points: float) -> str:
    """A difference with its sign; one that is printed as 0.0 has no sign."""
    rounded = round(points, DECIMALS)
    return f"{rounded:+.{DECIMALS}f}".replace("-", "−") if rounded else percent(0.0)


def spread(cell: Cell) -> str:
    """The spread as it is printed after a mean; "" if there is none."""
    return "" if cell.spread_points is None else f" ± {percent(cell.spread_points)}"


def seeds(number: int) -> str:
    """A number of seeds as text, such as "2 seeds"."""
    return f"{number} seed{'s' * (number != 1)}"


def _headings(table: Table) -> list[str]:
    heads = [METRIC_NAMES[table.metric]]
    for column in table.columns:
        number = table.n_seeds(column)
        heads.append(f"{column.label} ({number})" if number else column.label)
        heads += ["Δ"] * _has_difference(table, column)
    return heads


def _has_difference(table: Table, column: Column) -> bool:
    return any(cell.difference_points is not None for cell in table.cells_of(column))


def _texts(table: Table, row: Row) -> list[_CellText]:
    texts = []
    for column, cell in zip(table.columns, row.cells, strict=True):
        texts.append(_cell_text(cell, with_seeds=not table.n_seeds(column)))
        if _has_difference(table, column):
            points = cell.difference_points if cell else None
            texts.append(_CellText("" if points is None else difference(points)))
    return texts


def _cell_text(cell: Cell | None, *, with_seeds: bool) -> _CellText:
    if cell is None:
        return _CellText("–")
    number = f" ({len(cell.seeds)})" if with_seeds and cell.seeds else ""
    return _CellText(percent(cell.mean_percent), spread(cell) + number, cell.is_best)


def as_markdown(comparison: Comparison) -> str:
    """Markdown tables for GitHub, grouped under the name of their protocol."""
    lines = ["# Comparison", "", UNITS, SPREAD, BEST, ""]
    if comparison.warnings:
        lines += ["Warnings:", "", *(f"- {markdown(warning)}" for warning in comparison.warnings), ""]
    for protocol, heading in comparison.protocols.items():
        lines += [f"**Protocol:** {markdown(heading)}", ""]
        for table in comparison.tables:
            if table.protocol == protocol:
                lines += [*_markdown_table(table), ""]
    lines += [f"- {markdown(source)}" for source in comparison.sources]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: Table) -> Iterable[str]:
    heads = _headings(table)
    yield "| " + " | ".join(map(markdown, heads)) + " |"
    yield "|---" + "|---:" * (len(heads) - 1) + "|"
    for row in table.rows:
        texts = (
            f"**{text.value}**{text.suffix}" if text.is_best else text.value + text.suffix
            for text in _texts(table, row)
        )
        label = f"*{markdown(row.label)}*" if row.is_mean else markdown(row.label)
        yield "| " + " | ".join([label, *texts]) + " |"


def markdown(text: str) -> str:
    for mark in "\\|*_<[`":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the tables, grouped by protocol, then units, sources and warnings."""
    for protocol, heading in comparison.protocols.items():
        console.print(f"[bold]protocol:[/] {escape(heading)}", highlight=False)
        for table in comparison.tables:
            if table.protocol == protocol:
                console.print(_terminal_table(table))
    for line in (f"{UNITS} {SPREAD} {BEST}", *comparison.sources):
        console.print(escape(line), highlight=False, soft_wrap=True)
    for warning in comparison.warnings:
        console.print(f"[bold yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)


def _terminal_table(table: Table) -> TerminalTable:
    name, *heads = _headings(table)
    shown = TerminalTable(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown.add_column(name, overflow="fold")
    for head in heads:
        shown.add_column(escape(head), justify="right", overflow="fold")
    for row in table.rows:
        if row.is_mean:
            shown.add_section()
        texts = (
            f"[bold]{text.value}[/]{text.suffix}" if text.is_best else text.value + text.suffix
            for text in _texts(table, row)
        )
        shown.add_row(escape(row.label), *texts)
    return shown
