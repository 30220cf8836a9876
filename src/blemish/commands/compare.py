"""``blemish compare``: read runs, print their comparison, and write it as CSV, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from blemish.compare.comparison import Comparison, compare
from blemish.compare.page import comparison_page
from blemish.compare.runs import METRICS, find_runs
from blemish.compare.text import as_csv, as_markdown, print_comparison
from blemish.errors import BlemishError
from blemish.files import make_folder, write_text


def compare_run(paths: Sequence[Path], metrics: Sequence[str], out: Path | None) -> Comparison:
    """Compare the runs in `paths`; write `compare.csv`, `compare.md` and `compare.html` if `out` is given.

    Raises
    ------
    BlemishError
        If there are no runs to compare, or a file cannot be read.
    """
    runs, left_out = find_runs(paths)
    comparison = compare(runs, tuple(dict.fromkeys(metrics)) or METRICS)
    comparison = replace(comparison, warnings=(*comparison.warnings, *left_out))
    if not comparison.tables:
        names = ", ".join(metrics or METRICS)
        raise BlemishError(f"none of the {len(runs)} evaluations has {names}; choose other metrics")
    if out is not None:
        make_folder(out)
        write_text(out / "compare.csv", as_csv(comparison))
        write_text(out / "compare.md", as_markdown(comparison))
        write_text(out / "compare.html", comparison_page(comparison))
    print_comparison(comparison, Console())
    if out is not None:
        print(f"results in {out}: look at {out / 'compare.html'}")
    return comparison
