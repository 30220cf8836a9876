"""Which file is which in the folders of weights that the authors of DRÆM and DSR released.

Of each category, DSR has the files ``RUN_PART_CATEGORY.pckl`` beside one codebook; DRÆM has ``RUN_CATEGORY_.pckl``
and ``RUN_CATEGORY__seg.pckl``. RUN is what the authors call a training; it is DSR in the released files of DSR.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from blemish.compare.papers import test_sets
from blemish.data.listing import shortened
from blemish.errors import BlemishError, print_notices
from blemish.methods.authors_weights import DSR_PARTS

CODEBOOK = "vq_model_pretrained_128_4096.pckl"
"""DSR's codebook, the same for all categories."""
RECONSTRUCTIVE, DISCRIMINATIVE = "reconstructive", "discriminative"
SUBFOLDER = "checkpoints"
"""Where the authors' code looks for the files."""
WEIGHTS_SUFFIX, _SEG = ".pckl", "_seg"


class _Name(NamedTuple):
    """What the name of a file says."""

    run: str
    part: str
    category: str


@dataclass(frozen=True)
class _Layout:
    """How one method's files are called."""

    title: str
    command: str
    example: str
    """The names, in words."""
    parts: tuple[str, ...]
    read: Callable[[str, str | None, Iterable[str]], _Name | None]
    """What a file's name says, from the run and the categories that the user named; None if it is no part."""
    name: Callable[[_Name], str]
    shared: tuple[str, ...] = ()
    """Names of files that all categories need."""


def draem_files(folder: Path, categories: Sequence[str] = (), run: str | None = None) -> dict[str, dict[str, Path]]:
    """The files of DRÆM's authors: by category, ``RECONSTRUCTIVE`` and ``DISCRIMINATIVE``.

    A category's name may hold underscores, and so may the run's. So the category is one of MVTec AD's, one of
    ``categories``, or, with ``run``, what follows it.

    Parameters
    ----------
    folder : holds the files, or the folder ``checkpoints`` with them.
    categories : which to look for; none for all that are there.
    run : what the names begin with, if there are files of several runs.

    Raises
    ------
    BlemishError
        If the folder, a category, a run or a part of a category is missing, or a file's category cannot be told.
    """
    return _find(_DRAEM, folder, categories, run)[1]


def dsr_files(
    folder: Path, categories: Sequence[str] = (), run: str | None = None
) -> tuple[Path, dict[str, dict[str, Path]]]:
    """The files of DSR's authors: the codebook, and by category and part (``authors_weights.DSR_PARTS``) the others.

    Parameters and errors as of ``draem_files``.
    """
    found_in, files = _find(_DSR, folder, categories, run)
    return found_in / CODEBOOK, files


# --- names -----------------------------------------------------------------------------------------------------


def _read_dsr_name(name: str, run: str | None, categories: Iterable[str]) -> _Name | None:
    match = re.fullmatch(rf"(?:(.*)_)?({'|'.join(DSR_PARTS)})_(.+){re.escape(WEIGHTS_SUFFIX)}", name)
    return _Name(match[1] or "", match[2], match[3]) if match else None


def _dsr_name(name: _Name) -> str:
    return "_".join(filter(None, name)) + WEIGHTS_SUFFIX


def _read_draem_name(name: str, run: str | None, categories: Iterable[str]) -> _Name | None:
    match = re.fullmatch(rf"(.+)_({_SEG})?{re.escape(WEIGHTS_SUFFIX)}", name)
    if match is None:
        return None
    stem, part = match[1], DISCRIMINATIVE if match[2] else RECONSTRUCTIVE
    if run and stem.startswith(f"{run}_"):
        return _Name(run, part, stem.removeprefix(f"{run}_"))
    known = {folder for test_set in test_sets() for folder in test_set.folder_names if test_set.dataset == "MVTec AD"}
    ends = [category for category in {*categories, *known} if f"_{stem}".endswith(f"_{category}")]
    category = max(ends, key=len, default="")  # metal_nut, not nut
    return _Name(stem.removesuffix(category).removesuffix("_") if category else stem, part, category)


def _draem_name(name: _Name) -> str:
    return (
        "_".join(filter(None, (name.run, name.category)))
        + "_"
        + _SEG * (name.part == DISCRIMINATIVE)
        + WEIGHTS_SUFFIX
    )


_DRAEM = _Layout(
    "DRÆM",
    "draem",
    "RUN_CATEGORY_.pckl and RUN_CATEGORY__seg.pckl",
    (RECONSTRUCTIVE, DISCRIMINATIVE),
    _read_draem_name,
    _draem_name,
)
_DSR = _Layout(
    "DSR",
    "dsr",
    f"{CODEBOOK}, RUN_{DSR_PARTS[0]}_CATEGORY.pckl and so on",
    DSR_PARTS,
    _read_dsr_name,
    _dsr_name,
    (CODEBOOK,),
)


# --- the folder ------------------------------------------------------------------------------------------------


def _find(
    layout: _Layout, folder: Path, categories: Sequence[str], run: str | None
) -> tuple[Path, dict[str, dict[str, Path]]]:
    """The folder that holds the files, and the files by category and part."""
    folder = _located(layout, folder)
    names = {name: layout.read(name, run, categories) for name in _weights(folder)}
    strangers = [name for name, parsed in names.items() if parsed is None and name not in layout.shared]
    if strangers:
        print_notices([f"{folder}: no part of {layout.title}, not used: {shortened(strangers)}"])
    parsed_names = {name: parsed for name, parsed in names.items() if parsed is not None}
    if run is not None:
        runs = sorted({parsed.run for parsed in parsed_names.values()})
        if run not in runs:
            raise BlemishError(f"{folder}: no files of the run {run}; there are: {', '.join(filter(None, runs))}")
        parsed_names = {name: parsed for name, parsed in parsed_names.items() if parsed.run == run}
    unclear = [name for name, parsed in parsed_names.items() if not parsed.category]
    if unclear and not categories:
        raise BlemishError(
            f"{folder}: the category cannot be told from {shortened(unclear)}; give it as --category, or what "
            f"precedes it as --run"
        )
    files: dict[str, list[tuple[_Name, Path]]] = defaultdict(list)
    for name, parsed in parsed_names.items():
        if parsed.category:
            files[parsed.category].append((parsed, folder / name))
    wanted = list(dict.fromkeys(categories)) or sorted(files)
    if unknown := [category for category in wanted if category not in files]:
        raise BlemishError(f"{folder}: no files of {', '.join(unknown)}; there are: {', '.join(sorted(files))}")
    for category in wanted:
        if len(runs := sorted({parsed.run for parsed, _ in files[category]})) > 1:
            raise BlemishError(f"{folder}: {category} is there of the runs {', '.join(runs)}; choose one by --run")
    _check_complete(layout, folder, {category: files[category] for category in wanted})
    by_part = {category: {parsed.part: path for parsed, path in files[category]} for category in wanted}
    return folder, {category: {part: paths[part] for part in layout.parts} for category, paths in by_part.items()}


def _check_complete(layout: _Layout, folder: Path, files: Mapping[str, Sequence[tuple[_Name, Path]]]) -> None:
    """Raise BlemishError that names all incomplete categories, and what they lack."""
    lacks = [f"{name}, which all categories need" for name in layout.shared if not (folder / name).exists()]
    has_shared, complete = not lacks, []
    for category, parts in files.items():
        run, there = parts[0][0].run, {parsed.part for parsed, _ in parts}
        missing = [layout.name(_Name(run, part, category)) for part in layout.parts if part not in there]
        if missing:
            lacks.append(f"of {category} {shortened(missing)}")
        else:
            complete.append(category)
    if lacks:
        choose = (
            f", or choose from the complete ones by --category: {', '.join(complete)}"
            if complete and has_shared
            else ""
        )
        raise BlemishError(f"{folder}: incomplete, missing are {'; '.join(lacks)}: copy them there{choose}")


def _located(layout: _Layout, folder: Path) -> Path:
    """The folder with the files: this one, or ``checkpoints`` in it."""
    if not folder.is_dir():
        if not folder.exists():
            raise BlemishError(f"{folder}: no such folder; give the one with the authors' files")
        is_archive = folder.suffix.lower() in (".zip", ".gz", ".tar", ".7z", ".rar")
        remedy = "unpack it, and give the folder" if is_archive else "give the folder that holds it"
        raise BlemishError(f"{folder}: is a file; {remedy}")
    holding = [place for place in (folder, folder / SUBFOLDER) if place.is_dir() and _holds(layout, place)]
    if len(holding) == 2:
        raise BlemishError(
            f"{folder}: holds files of {layout.title} itself and in {SUBFOLDER}; give {holding[1]}, or "
            f"a folder with only those to convert"
        )
    if holding:
        return holding[0]
    hint = ""
    for other in (_DRAEM, _DSR):
        if other is not layout and (_holds(other, folder) or _holds(other, folder / SUBFOLDER)):
            hint = f", but those of {other.title} (blemish convert {other.command})"
    raise BlemishError(
        f"{folder}: holds no files of {layout.title}'s authors{hint}; give the folder with {layout.example}"
    )


def _holds(layout: _Layout, folder: Path) -> bool:
    return any(layout.read(name, None, ()) for name in _weights(folder))


def _weights(folder: Path) -> list[str]:
    """Names of the authors' kind of files in a folder; hidden ones, which macOS adds to archives, are not."""
    return sorted(path.name for path in folder.glob(f"*{WEIGHTS_SUFFIX}") if not path.name.startswith("."))
