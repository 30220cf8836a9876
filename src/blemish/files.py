"""File writing that never leaves a half-written file, even if the process is killed or the disk is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blemish.errors import BlemishError


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Write to a temporary file beside ``path`` and rename it once it is on disk; an existing file stays until then.

    Raises
    ------
    BlemishError
        If the folder cannot be written to or the disk is full; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        fault = (
            error if isinstance(error, OSError) else error.__context__
        )  # torch.save wraps an OSError in a RuntimeError
        if not isinstance(fault, OSError):
            raise
        reason = fault.strerror or fault
        raise BlemishError(f"{path}: cannot be written ({reason}); free the disk or choose another folder") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all."""
    with replace_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # a file name may be in another encoding


def make_folder(path: Path) -> Path:
    """Create the folder ``path`` with its parents, check that files can be written to it, and return ``path``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BlemishError(f"{path}: cannot write there ({error.strerror or error}); choose another --out") from error
    return path
