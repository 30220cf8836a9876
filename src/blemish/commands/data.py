"""A survey of a dataset on the terminal: a table of what is there, and a line for each thing that is wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from blemish.data.survey import Group, Survey, survey

_MOST_LINES = 10  # of one kind of problem; a folder of a thousand broken files is told in ten
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def survey_run(path: Path, layout: str, as_json: bool) -> bool:
    """Look at a dataset with a progress bar, print what is found, and say whether it is fit to use."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading images")
        found = survey(path, layout, on_read=lambda done, total: progress.update(task, completed=done, total=total))
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        print_survey(found, Console())
    return found.is_fit_to_use


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
    console.print(_what_was_read(survey), soft_wrap=True, highlight=False)
    told = f"{_counted(n_errors, 'error')}, {_counted(n_warnings, 'warning')}"
    if n_errors:
        console.print(f"[bold red]{told}: mend the errors, they stop fit or evaluate.[/]", soft_wrap=True)
    elif n_warnings:
        console.print(f"[bold yellow]{told}: training will run; look at the warnings first.[/]", soft_wrap=True)
    else:
        console.print("[bold green]Nothing amiss: ready for training.[/]", soft_wrap=True)


def _what_was_read(survey: Survey) -> str:
    """What was looked for, so that silence on it means something."""
    n_images = sum(group.n_images for group in survey.groups)
    n_masks = sum(group.n_masks for group in survey.groups)
    found = Counter(problem.about for problem in survey.problems)
    return (
        f"{_counted(n_images, 'image')} and {_counted(n_masks, 'mask')} read: {found['unreadable']} faulty, "
        f"{found['leak']} both in train and test, {found['duplicate'] + found['contradiction']} otherwise twice."
    )


def _cells(group: Group) -> tuple[str, str, str, str, str]:
    masks = str(group.n_masks) if group.defect != "good" else "-"
    return escape(group.defect), str(group.n_images), masks, _sizes(group.sizes), _kinds(group.kinds)


def _sizes(sizes: dict[str, int]) -> str:
    """Up to three as they are; of more, the range of widths and heights."""
    if len(sizes) <= 3:
        return _each(sizes)
    widths, heights = zip(*(map(int, size.split("x")) for size in sizes), strict=True)
    return f"{len(sizes)} sizes, {min(widths)}-{max(widths)} x {min(heights)}-{max(heights)}"


def _kinds(kinds: dict[str, int]) -> str:
    return _each(kinds)


def _each(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return "\n".join(f"{name} ({count})" for name, count in counts.items())


def _print_problems(survey: Survey, console: Console) -> None:
    """Line by line, unwrapped, so that paths can be copied and lines can be searched."""
    shown: Counter[str] = Counter()
    total = Counter(problem.about for problem in survey.problems)
    for problem in survey.problems:
        shown[problem.about] += 1
        name = "LEAK" if problem.about == "leak" else problem.level
        style = "bold red" if problem.about == "leak" else _STYLES[problem.level]
        if shown[problem.about] <= _MOST_LINES:
            console.print(f"[{style}]{name}:[/] {escape(problem.text)}", soft_wrap=True, highlight=False)
        elif shown[problem.about] == total[problem.about]:
            more = total[problem.about] - _MOST_LINES
            console.print(
                f"[{style}]{name}:[/] {more} more like these ({problem.about}); --json lists all", soft_wrap=True
            )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
