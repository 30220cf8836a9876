"""The command line: parse, call, print. A file for each command; nothing heavy is imported before it is needed."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from io import TextIOWrapper
from typing import NoReturn

from cyclopts import App, CycloptsError

from blemish.cli.compare import compare
from blemish.cli.convert import convert
from blemish.cli.data import data
from blemish.cli.demo import demo
from blemish.cli.evaluate import evaluate
from blemish.cli.export import export
from blemish.cli.fit import fit
from blemish.cli.inspect import inspect
from blemish.cli.options import INTERNAL_ERROR, INTERRUPTED, USER_ERROR
from blemish.cli.pretrain import pretrain
from blemish.cli.study import study
from blemish.cli.tune import tune
from blemish.errors import BlemishError

app = App(
    name="blemish",
    help="Learn from photographs of good parts only; find and outline the defects.",
    help_epilogue="First result: `blemish demo`. On your own parts: `blemish fit parts/good`.",
    help_format="markdown",
    suppress_keyboard_interrupt=False,  # main reports it, with how to continue
)
for command in (data, fit, tune, inspect, evaluate, export, compare, demo, pretrain, convert, study):
    app.command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 done, 1 a defect was found (if asked for), 2 a user's mistake, 70 a fault of blemish, 130 stopped.
    """
    _print_any_character()
    _silence_libraries()
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except BlemishError as error:
        print(f"blemish: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except CycloptsError as error:
        print(f"blemish: {' '.join(str(error).split())} See blemish --help.", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt as stop:
        print(f"blemish: {stop or 'stopped'}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # a full disk, say, in the middle of something
        print(f"blemish: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except Exception:  # a fault of blemish: must not be taken for a defect (exit code 1)
        traceback.print_exc()
        sys.exit(INTERNAL_ERROR)
    sys.exit(0)


def _print_any_character() -> None:
    """Let names that the console's encoding lacks appear escaped (``\\u90e8``), instead of stopping the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence_libraries() -> None:
    """Let warnings of libraries appear only if asked for (``python -W default``): what matters is told by blemish."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
