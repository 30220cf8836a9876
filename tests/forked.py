"""Commands in processes of their own that start in a moment: forks of one that has loaded what takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["pytest", "torch", "cv2", "accelerate", "blemish.record.storage", "blemish.record.writer"]
)
"""One for all tests of a process, as the first that is started remains. It has no threads."""


class Forked:
    """``python -m blemish WORDS``, with the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(self, words: list[str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        for file in self._files:
            file.touch()
        self._process = CONTEXT.Process(target=_run, args=(words, *map(str, self._files)))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, f"it has not ended within {timeout} s"
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        output, errors = (file.read_text() for file in self._files)
        return output, errors

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _run(words: list[str], *files: str) -> None:
    for number, file in enumerate(files, 1):
        new = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(new, number)
        os.close(new)
    from blemish.cli import main

    main(words)
