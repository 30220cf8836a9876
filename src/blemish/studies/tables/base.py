"""What a table or figure of a paper is made of: the trainings that it needs, and what it prints. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
"""The categories of MVTec AD that SSAE's tables call textures."""


@dataclass(frozen=True)
class Dataset:
    """The data of a table: what folders it takes.

    Attributes
    ----------
    name : as in the papers' tables.
    layouts : layouts of ``data.layouts`` that a folder may have.
    categories : names of ``compare.papers.test_sets``; empty if any folder of the layout is one.
    """

    name: str
    layouts: tuple[str, ...]
    categories: tuple[str, ...] = ()


MVTEC = Dataset(
    "MVTec AD",
    ("mvtec",),
    (
        "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
        "toothbrush", "transistor", "wood", "zipper",
    ),
)  # fmt: skip
MVTEC_TEXTURES = Dataset("MVTec AD", ("mvtec",), TEXTURES)
KSDD2 = Dataset("KSDD2", ("ksdd2",), ("ksdd2",))
DAGM = Dataset("DAGM", ("dagm",))


@dataclass(frozen=True)
class Variant:
    """One row or column of a table: one training of each category and seed, or a part of another variant's.

    Attributes
    ----------
    key : its name in folders, in CSV files and for ``--only``.
    label : its name in print.
    published : method and setting in the papers' tables (``compare.papers``); empty if nothing is published.
    settings : settings of the method that replace those of the recipe.
    options : further options of ``fit``.
    method : the method; "" for that of the table.
    needs : an option of the table without which it is left out: ``other_textures``, ``defects``.
    of, part : it is this part (``Method.part``) of the trained variant ``of``.
    """

    key: str
    label: str
    published: tuple[str, str] = ("", "")
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""
    needs: Literal["", "other_textures", "defects"] = ""
    of: str = ""
    part: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table or figure of a paper that is a grid of trainings and their evaluations.

    Attributes
    ----------
    name : for the command line, such as "draem-3".
    paper, printed : the paper (a key of ``compare.papers.sources``), and the table or figure in it.
    title : in one line.
    method : the method that is trained.
    dataset : the data that it is measured on.
    metrics : names as in ``metrics.json``, in the order of the paper.
    variants : rows or columns.
    protocol : under which its figures are measured.
    by : what the lines of the printed table are: categories, or variants (averaged over categories).
    reference : key of the variant that the others are compared with; "" for none.
    calibration : as of ``fit``: "none" trains on all good images, as the authors do; None holds some out.
    remarks : what always deviates from the paper.
    """

    name: str
    paper: str
    printed: str
    title: str
    method: str
    dataset: Dataset
    metrics: tuple[str, ...]
    variants: tuple[Variant, ...]
    protocol: str
    by: Literal["category", "variant"] = "category"
    reference: str = ""
    calibration: Literal["none"] | None = "none"
    remarks: tuple[str, ...] = ()

    def variant(self, key: str) -> Variant:
        """The variant of a key."""
        return next(variant for variant in self.variants if variant.key == key)
