"""From a table of a paper and the user's data to the cells that have to be trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blemish.compare.papers import named_test_set
from blemish.data import layouts
from blemish.data.layouts import name_of, open_dataset
from blemish.data.listing import list_images
from blemish.errors import BlemishError
from blemish.evaluation.protocols import protocol_named
from blemish.fleet.cells import Cell, Evaluation
from blemish.settings import Device
from blemish.studies.tables.base import PaperTable, Variant
from blemish.synthesis.textures import N_PROCEDURAL


@dataclass(frozen=True)
class Category:
    """A dataset that a table is measured on.

    Attributes
    ----------
    name : of the category, as in the papers' tables.
    path : its folder.
    n_good, n_defective : its test images.
    n_defects : its training images with a real defect.
    """

    name: str
    path: Path
    n_good: int
    n_defective: int
    n_defects: int = 0


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes
    ----------
    only : names of variants or categories; empty for all.
    settings : settings of the method that replace those of the recipe, in all cells.
    """

    table: PaperTable
    categories: tuple[Category, ...]
    recipe: str = "small"
    seeds: tuple[int, ...] = (0,)
    textures: Path | None = None
    other_textures: Path | None = None
    device: Device = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.seeds or len({*self.seeds}) < len(self.seeds):
            raise BlemishError(f"--seeds {','.join(map(str, self.seeds))}: give each seed once, such as 0,1,2")
        known = {*self.known_parts}
        if unknown := [part for part in self.only if part not in known]:
            raise BlemishError(
                f"--only {' '.join(unknown)}: not a part of {self.table.name}; there are: "
                f"{', '.join(self.known_parts)}"
            )

    @property
    def known_parts(self) -> list[str]:
        """What ``only`` may name."""
        names = [variant.key for variant in self.table.variants]
        return [*names, *(category.name for category in self.categories)]

    def has(self, variant: Variant, category: Category) -> bool:
        """Whether ``only`` leaves this cell in: it names the variant, or the category, or both."""
        keys = {key.key for key in self.table.variants} & {*self.only}
        names = {*self.only} - keys
        return (not keys or variant.key in keys) and (not names or category.name in names)


def categories_of(table: PaperTable, paths: Sequence[Path]) -> tuple[Category, ...]:
    """The datasets among ``paths``, or directly below them, in the order of the papers' tables.

    Raises
    ------
    BlemishError
        If a path holds no dataset, another one than the table's, one without defective test images, or a category
        that another path is, too.
    """
    found: dict[str, Category] = {}
    for path in paths:
        for folder in _folders(table, path):
            category = _category(table, folder)
            if category.name in found:
                raise BlemishError(f"{folder}: is {category.name}, and so is {found[category.name].path}; give one")
            found[category.name] = category
    order = [*table.dataset.categories, *sorted({*found} - {*table.dataset.categories})]
    return tuple(found[name] for name in order if name in found)


def _folders(table: PaperTable, path: Path) -> list[Path]:
    """The path itself, or the categories directly below it, if it is a folder of them."""
    if not path.exists():
        raise BlemishError(f"{path}: no such folder; give folders of {table.dataset.name}")
    if path.is_dir() and not any(layouts.LAYOUTS[name].lacks(path) is None for name in table.dataset.layouts):
        below = [child for child in sorted(path.iterdir()) if child.is_dir() and _is_of(table, child)]
        if below:
            return below
    return [path]


def _is_of(table: PaperTable, folder: Path) -> bool:
    is_laid_out = any(layouts.LAYOUTS[name].lacks(folder) is None for name in table.dataset.layouts)
    return is_laid_out and (not table.dataset.categories or _name(table, folder) in table.dataset.categories)


def _name(table: PaperTable, folder: Path) -> str:
    """The category that a folder's name stands for, or the name itself."""
    test_set = named_test_set(name_of(folder))
    return test_set.category if test_set is not None and test_set.dataset == table.dataset.name else name_of(folder)


def _category(table: PaperTable, folder: Path) -> Category:
    name, known = _name(table, folder), table.dataset.categories
    if not _is_of(table, folder):
        categories = f": {', '.join(known)}" if known else ""
        raise BlemishError(
            f"{folder}: is none of the folders of {table.dataset.name} that {table.name} is measured on; give them, "
            f"named as they are published{categories}"
        )
    dataset = open_dataset(folder)
    defective = [sample.is_defective for sample in dataset.test]
    if not any(defective) or all(defective):
        raise BlemishError(f"{folder}: lacks good or defective test images; give the whole dataset")
    n_defective = sum(defective)
    return Category(name, folder, len(defective) - n_defective, n_defective, len(dataset.train_defective))


def evaluation_name(table: PaperTable, variant: Variant) -> str:
    """Folder of the evaluation of a variant, below that of its cell."""
    protocol = table.protocol.replace("/", "-")
    return f"{protocol}-{variant.part}" if variant.part else protocol


def cell_name(category: Category, variant: Variant, seed: int) -> str:
    """Name of the cell whose training a variant is evaluated from."""
    return f"{category.name}-{variant.of or variant.key}-{seed}"


def cells_of(request: Request) -> tuple[list[Cell], list[str]]:
    """The cells of a table, and lines about what is left out because something is not given.

    Returns
    -------
    All cells that the data allow, also those that ``only`` leaves out (see ``wanted``): a folder's plan holds all.
    """
    table, cells, notices = request.table, list[Cell](), list[str]()
    for variant in table.variants:
        if variant.of:
            continue
        evaluated = [variant] + [part for part in table.variants if part.of == variant.key]
        if missing := _missing(request, variant):
            notices.append(f"{variant.label} ({variant.key}) is left out: {missing}")
            continue
        for category in request.categories:
            if (wanted := variant.options.get("n_defects", 0)) > category.n_defects:
                notices.append(
                    f"{variant.label} on {category.name} is left out: {category.path} has {category.n_defects} "
                    f"training images with a defect, not {wanted}"
                )
                continue
            for seed in request.seeds:
                cells.append(_cell(request, category, variant, evaluated, seed))
    return cells, notices


def wanted(request: Request, cells: Collection[Cell]) -> list[str]:
    """Names of the cells that ``only`` asks for, in the order of the plan."""
    names = {
        cell_name(category, variant, seed)
        for category in request.categories
        for variant in request.table.variants
        for seed in request.seeds
        if request.has(variant, category)
    }
    return [cell.name for cell in cells if cell.name in names]


def merged(old: Sequence[Cell], new: Sequence[Cell], out: Path) -> list[Cell]:
    """The cells of the plan in ``out`` with those of another table added, so that both tables share a folder.

    An earlier cell keeps its options; evaluations are added.

    Raises
    ------
    BlemishError
        If the earlier plan is not one of tables.
    """
    for cell in old:
        names = [evaluation.name.startswith(evaluation.protocol.replace("/", "-")) for evaluation in cell.evaluations]
        if not names or not all(names):
            raise BlemishError(
                f"{out}: holds trainings of `fleet fit` ({cell.name}); choose another --out for tables"
            )
    cells = {cell.name: cell for cell in old}
    for cell in new:
        earlier = cells[cell.name].evaluations if cell.name in cells else ()
        evaluations = {evaluation.name: evaluation for evaluation in (*earlier, *cell.evaluations)}
        cells[cell.name] = replace(cell, evaluations=tuple(evaluations.values()))
    return [*cells.values()]


def _missing(request: Request, variant: Variant) -> str:
    """What a variant needs and the user has not given, in words; "" if nothing."""
    if variant.needs == "other_textures" and request.other_textures is None:
        return "it needs --other-textures, a folder of other photographs than --textures"
    anomalies = variant.settings.get("anomalies")
    n = anomalies.get("n_textures", 0) if isinstance(anomalies, Mapping) else 0
    n_given = len(list_images(request.textures, recursive=True)) if request.textures is not None else N_PROCEDURAL
    return f"there are {n_given} textures; give more by --textures" if n > n_given else ""


def _cell(request: Request, category: Category, variant: Variant, evaluated: Sequence[Variant], seed: int) -> Cell:
    table = request.table
    method = variant.method or table.method
    resizing = protocol_named(table.protocol).images  # trained on images that are resized as for the evaluation
    settings = {"resizing": resizing, **request.settings} if resizing is not None else request.settings
    per_category = method == "ssae" and request.recipe == "paper" and table.dataset.name == "MVTec AD"
    options: dict[str, Any] = {
        "data": category.path,
        "method": method,
        "recipe": f"paper-{category.name}" if per_category else request.recipe,
        "seed": seed,
        "textures": request.other_textures if variant.needs == "other_textures" else request.textures,
        "device": request.device,
        "calibration": table.calibration,
        "settings": _both(settings, variant.settings, table.name),
        **variant.options,
    }
    if variant.needs == "defects":
        options["defects"] = category.path
    evaluations = tuple(
        Evaluation(evaluation_name(table, part), category.path, table.protocol, part=part.part) for part in evaluated
    )
    return Cell(cell_name(category, variant, seed), options, evaluations)


def _both(theirs: Mapping[str, Any], ours: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Nested settings of the user and of the table. BlemishError if both set the same."""
    result = dict(theirs)
    for name, value in ours.items():
        if name not in theirs:
            result[name] = value
        elif isinstance(value, Mapping) and isinstance(theirs[name], Mapping):
            result[name] = _both(theirs[name], value, table)
        else:
            raise BlemishError(f"--set {name}: {table} varies this setting itself; leave it out")
    return result
