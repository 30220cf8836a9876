"""Worker processes: started, watched and stopped, here or on the node of a cluster. Does not import torch."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from blemish.fleet.cells import CELL, FAILED, LOG
from blemish.fleet.worker import DONE, STOPPED

POLL_S = 0.2
"""Seconds between two looks at a process."""


@dataclass(frozen=True)
class Outcome:
    """How the work at a cell ended."""

    name: str
    state: Literal["done", "failed", "left"]
    """``left`` if it was stopped."""
    reason: str = ""
    """Why it failed, in one line."""


class Worker:
    """A process that works at the cell of ``folder/cell.json``; its output goes to ``folder/log.txt``.

    It ends, with a checkpoint, when ``stop`` is called or this process dies.

    Parameters
    ----------
    environment : variables to set for it, besides those of this process.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self.is_stopped = folder, False
        command = [sys.executable, "-P", "-m", "blemish.fleet.worker", str(folder / CELL), "--stop-at-eof"]
        own_group: dict[str, object] = {"start_new_session": True}  # Ctrl-C goes to this process alone
        if os.name == "nt":
            own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
        variables = {**os.environ, "PYTHONFAULTHANDLER": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
        (folder / FAILED).unlink(missing_ok=True)  # of an earlier attempt
        with (folder / LOG).open("ab") as log:
            self.log_start = log.tell()
            log.write(f"--- {datetime.now():%Y-%m-%d %H:%M:%S} on {platform.node()}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                env={**variables, **(environment or {})}, **own_group,
            )  # type: ignore[call-overload]  # fmt: skip

    def stop(self) -> None:
        """Ask it to write its checkpoint and end."""
        self.is_stopped = True
        self._close_input()

    def _close_input(self) -> None:
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def outcome(self) -> Outcome | None:
        """How it ended; None as long as it works. The reason of a failure is then in ``failed.txt``."""
        code = self.process.poll()
        if code is None:
            return None
        self._close_input()
        name = self.folder.name
        if code == DONE:
            return Outcome(name, "done")
        if self.is_stopped and code in (STOPPED, -signal.SIGINT):
            return Outcome(name, "left")
        if not (self.folder / FAILED).exists():
            (self.folder / FAILED).write_text(f"{_ending(code)}\n", encoding="utf-8")
        return Outcome(name, "failed", (self.folder / FAILED).read_text(encoding="utf-8").strip())

    def wait(self) -> Outcome:
        """Wait for its end. If the wait is interrupted, stop it and wait on; at a second interrupt, do not wait."""
        try:
            while (outcome := self.outcome()) is None:
                time.sleep(POLL_S)  # Ray interrupts no wait for a process
        except BaseException:
            if not self.is_stopped:
                self.stop()
                self.process.wait()
            raise
        return outcome

    def notices(self) -> int:
        """How many lines of its log are notices for the user."""
        with (self.folder / LOG).open("rb") as log:
            log.seek(self.log_start)
            return sum(line.startswith(b"blemish: ") for line in log)


def _ending(code: int) -> str:
    """Why a process ended that could not say so itself."""
    if code >= 0:
        return f"interrupted (exit code {code})" if code == STOPPED else f"ended with exit code {code}; see {LOG}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "an unknown one"
    cause = ": out of memory?" if name == "SIGKILL" else f" ({LOG} may say more)"
    return f"killed by signal {-code} ({name}){cause}"
