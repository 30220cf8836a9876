"""The command line: parse, call, print. A file for each command; nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import re
import sys
import traceback
from typing import NoReturn

from cyclopts import App, CycloptsError

from blemish.cli.calibrate import calibrate
from blemish.cli.combine import combine
from blemish.cli.compare import compare
from blemish.cli.console import lost_output, prepare_console, silence_libraries
from blemish.cli.convert import convert
from blemish.cli.data import data
from blemish.cli.demo import demo
from blemish.cli.evaluate import evaluate
from blemish.cli.export import export
from blemish.cli.fit import fit
from blemish.cli.fleet import fleet
from blemish.cli.inspect import inspect
from blemish.cli.options import INTERNAL_ERROR, INTERRUPTED, USER_ERROR
from blemish.cli.pretrain import pretrain
from blemish.cli.replay import replay
from blemish.cli.serve import serve
from blemish.cli.study import study
from blemish.cli.tune import tune
from blemish.cli.watch import watch
from blemish.errors import BlemishError

app = App(
    name="blemish",
    help="Learn from photographs of good parts only; find and outline the defects.",
    help_epilogue="First result: `blemish demo`. On your own parts: `blemish fit parts/good`.",
    help_format="markdown",
    suppress_keyboard_interrupt=False,  # main reports it, with how to continue
)
for command in (
    data, fit, tune, calibrate, combine, inspect, watch, evaluate, export, compare, demo, pretrain, convert, study,
    fleet, replay, serve,
):  # fmt: skip
    app.command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 done, 1 a defect was found (if asked for), 2 a user's mistake, 70 a fault of blemish, 130 stopped.
    ``watch`` has two more; see its help.
    """
    prepare_console()
    silence_libraries()
    share_cores()
    code = _run(sys.argv[1:] if arguments is None else arguments)
    if (lost := lost_output()) is not None:
        print(f"blemish: {lost}", file=sys.stderr)
        code = code or USER_ERROR
    sys.exit(code)


def share_cores() -> None:
    """Let a thread that waits for another one leave its core to other programs soon.

    The threads of a convolution wait for the slowest one. By default GNU OpenMP, which torch loads, has them do so
    300,000 times before they sleep; beside another busy program, which has the core that the slowest needs, a step of
    training then takes up to six times as long. 2,000 times cost nothing where the cores are idle. It counts only if
    it is set before torch is loaded.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def _run(words: list[str]) -> int:
    """Run a command and return its exit code; mistakes are printed."""
    try:
        if any(re.fullmatch(r"(--[\w-]+=)?", word) for word in words):
            raise BlemishError("an argument is empty, perhaps because a variable of the shell is not set")
        app(words, exit_on_error=False, print_error=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BlemishError as error:
        print(f"blemish: {error}", file=sys.stderr)
        return USER_ERROR
    except CycloptsError as error:
        print(f"blemish: {' '.join(str(error).split())} See blemish --help.", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt as stop:
        print(f"blemish: {str(stop) or 'stopped'}", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:  # a full disk, say, in the middle of something
        print(f"blemish: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return USER_ERROR
    except Exception as error:  # a fault of blemish: must not be taken for a defect (exit code 1)
        if _is_out_of_memory(error):
            remedy = "a smaller --set batch_size or image_size_px, or smaller networks, need less"
            print(f"blemish: not enough memory; {remedy}", file=sys.stderr)
            return USER_ERROR
        traceback.print_exc()
        return INTERNAL_ERROR
    return 0


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory of the machine or of the GPU was missing: torch raises RuntimeErrors, which only say so."""
    text = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in text or "CUDA out of memory" in text
