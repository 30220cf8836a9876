"""What several commands share: options made from a dataclass, choices, and exit codes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, make_dataclass
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Parameter
from docstring_parser import parse_from_object

from blemish.errors import BlemishError

MetricName = Literal["image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro", "pixel_auspro_05"]
DEFECT_FOUND, USER_ERROR, NOT_INSPECTED, INTERNAL_ERROR, TEMPORARY, INTERRUPTED = 1, 2, 3, 70, 75, 130


def unset_options(kind: type, *, only: Collection[str] = (), without: Collection[str] = ()) -> type:
    """A dataclass's fields as the options of a command, with their docstrings as its help; None where not set.

    A command that takes only some of them names these by ``only``, so that a new field does not become its option.
    """
    helps = {parameter.arg_name: parameter.description for parameter in parse_from_object(kind).params}
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.name not in without and (not only or field.name in only)]
    options: list[tuple[str, Any, Any]] = [
        (name, Annotated[hints[name] | None, Parameter(help=helps[name])], None) for name in names
    ]
    made = make_dataclass(kind.__name__, options, frozen=True)
    made.__module__ = kind.__module__  # otherwise cyclopts takes it for one of Python's own types
    flat: type = Parameter(name="*")(made)
    return flat


def set_values(options: object | None) -> dict[str, Any]:
    """The options that the user set, by name."""
    return {name: value for name, value in vars(options).items() if value is not None} if options is not None else {}


@Parameter(name="*")
@dataclass(frozen=True)
class GridOptions:
    """How a grid of trainings is worked at: by `fleet fit` and `study table`."""

    only: Annotated[
        list[str] | None,
        Parameter(
            negative="", consume_multiple=True,
            help="Train only these: rows of the plan; variants or categories of a table, such as disc bottle "
            "(`study tables` lists them).",
        ),
    ] = None  # fmt: skip
    jobs: Annotated[
        int | None,
        Parameter(
            help="Trainings at the same time: each has a GPU of its own if there are as many, and its share of the "
            "cores. Default: 1; with --ray as many as the cluster has room for."
        ),
    ] = None
    ray: Annotated[
        str | None,
        Parameter(
            help="Address of a Ray cluster that does the work: auto, HOST:6379, ray://HOST:10001, or local to start "
            'one on this machine (needs `pip install "blemish[fleet]"`). --out and the data have to be under the '
            "same paths on all nodes."
        ),
    ] = None
    dry_run: Annotated[
        bool,
        Parameter(
            negative="",
            help="Train nothing: print what is to do, and how long it will take on this machine, after timing a few "
            "steps.",
        ),
    ] = False


@Parameter(name="*")
@dataclass(frozen=True)
class OutputOptions:
    """What carries verdicts elsewhere: of `watch` and `serve`."""

    mqtt: Annotated[
        str | None,
        Parameter(help="Publish each verdict: mqtt://[user:password@]host[:port][/prefix], or mqtts://..."),
    ] = None
    webhook: Annotated[str | None, Parameter(help="Post each verdict to http://... or https://...")] = None
    modbus: Annotated[
        str | None,
        Parameter(
            help="Show verdicts to a PLC: [host]:port[/product], such as :5020 (for this machine alone) or "
            "0.0.0.0:502 (for all)."
        ),
    ] = None
    csv: Annotated[str | None, Parameter(help="Add each verdict to this file.")] = None

    def addresses(self) -> tuple[str, ...]:
        """The addresses of the outputs; raises BlemishError if an option has that of another kind."""
        from blemish.outputs.addresses import addresses_of

        return tuple(addresses_of(**set_values(self)))


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers >= 0 from text such as "0,1,2".

    Raises
    ------
    BlemishError
        If it is something else; the message names the option.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise BlemishError(f"--{option} {text}: should be whole numbers, such as 0,1,2")
    return [int(part) for part in parts]
