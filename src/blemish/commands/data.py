"""``blemish data``: a table of what a dataset holds, and a line for each problem."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from blemish.data.survey import Group, Survey, survey

_MOST_LINES = 10  # for one kind of problem, so that a thousand broken files do not fill the terminal
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def survey_run(path: Path, layout: str, as_json: bool, mask_values: str = "auto") -> bool:
    """Check a dataset with a progress bar, print the result, and return whether the dataset is fit to use."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading images")
        result = survey(
            path, layout, mask_values, on_read=lambda done, total: progress.update(task, completed=done, total=total)
        )
    if as_json:
        print(json.dumps(result.as_json(), indent=2))
    else:
        print_survey(result, Console())
    return result.is_fit_to_use


def print_survey(survey: Survey, console: Console) -> None:
    """Print the layout, the table, the problems and the verdict."""
    title = f"{escape(str(survey.root))}: layout [bold]{survey.layout}[/], recognized by {escape(survey.looks_like)}"
    console.print(title, soft_wrap=True, highlight=False)
    table = Table("split", "kind", "images", "masks", "sizes", "files")
    for column in (2, 3):
        table.columns[column].justify = "right"
    split = ""
    for group in survey.groups:
        if split and group.split != split:
            table.add_section()
        table.add_row(group.split if group.split != split else "", *_cells(group))
        split = group.split
    console.print(table)
    _print_problems(survey, console)
    n_errors = sum(problem.level == "error" for problem in survey.problems)
    n_warnings = sum(problem.level == "warning" for problem in survey.problems)
    console.print(_counts(survey), soft_wrap=True, highlight=False)
    totals = f"{_counted(n_errors, 'error')}, {_counted(n_warnings, 'warning')}"
    if n_errors:
        console.print(f"[bold red]{totals}: correct the errors, they stop fit or evaluate.[/]", soft_wrap=True)
    elif n_warnings:
        console.print(f"[bold yellow]{totals}: training will run; check the warnings first.[/]", soft_wrap=True)
    else:
        console.print("[bold green]No problems: ready for training.[/]", soft_wrap=True)


def _counts(survey: Survey) -> str:
    """How many files were read and what was checked, so that a missing message means that nothing was wrong."""
    n_images = sum(group.n_images for group in survey.groups)
    n_masks = sum(group.n_masks for group in survey.groups)
    n_problems = Counter(problem.about for problem in survey.problems)
    n_duplicates = n_problems["duplicate"] + n_problems["contradiction"]
    return (
        f"{_counted(n_images, 'image')} and {_counted(n_masks, 'mask')} read: {n_problems['unreadable']} unreadable, "
        f"{n_problems['leak']} in two splits, {n_duplicates} other duplicates."
    )


def _cells(group: Group) -> tuple[str, str, str, str, str]:
    masks = str(group.n_masks) if group.defect != "good" else "-"
    return escape(group.defect), str(group.n_images), masks, _sizes(group.sizes), _lines(group.kinds)


def _sizes(sizes: dict[str, int]) -> str:
    """Up to three sizes with their counts; for more, the range of widths and heights."""
    if len(sizes) <= 3:
        return _lines(sizes)
    widths, heights = zip(*(map(int, size.split("x")) for size in sizes), strict=True)
    return f"{len(sizes)} sizes, {min(widths)}-{max(widths)} x {min(heights)}-{max(heights)}"


def _lines(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return "\n".join(f"{name} ({count})" for name, count in counts.items())


def _print_problems(survey: Survey, console: Console) -> None:
    """Print each problem on one unwrapped line, so that paths can be copied and lines can be searched."""
    shown: Counter[str] = Counter()
    total = Counter(problem.about for problem in survey.problems)
    for problem in survey.problems:
        shown[problem.about] += 1
        label = "LEAK" if problem.about == "leak" else problem.level
        style = "bold red" if problem.about == "leak" else _STYLES[problem.level]
        if shown[problem.about] <= _MOST_LINES:
            console.print(f"[{style}]{label}:[/] {escape(problem.text)}", soft_wrap=True, highlight=False)
        elif shown[problem.about] == total[problem.about]:
            more = total[problem.about] - _MOST_LINES
            console.print(
                f"[{style}]{label}:[/] {more} more like these ({problem.about}); --json lists all", soft_wrap=True
            )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
