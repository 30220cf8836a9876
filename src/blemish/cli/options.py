"""What several commands share: options of a dataclass, values of options, and exit codes."""

from __future__ import annotations

from dataclasses import fields, make_dataclass
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Parameter
from docstring_parser import parse_from_object

MetricName = Literal["image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro"]
DEFECT_FOUND, USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 1, 2, 70, 130


def none_given(kind: type, *without: str) -> type:
    """A dataclass's fields as options of a command, their docstrings as its help; None for what is not given."""
    helps = {parameter.arg_name: parameter.description for parameter in parse_from_object(kind).params}
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.name not in without]
    options: list[tuple[str, Any, Any]] = [
        (name, Annotated[hints[name] | None, Parameter(help=helps[name])], None) for name in names
    ]
    made = make_dataclass(kind.__name__, options, frozen=True)
    made.__module__ = kind.__module__  # else cyclopts takes it for a type of Python's own
    flat: type = Parameter(name="*")(made)
    return flat
