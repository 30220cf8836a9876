"""File writing that never leaves a half-written file, even if the process is killed or the disk is full."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from blemish.errors import BlemishError, NotNow, print_notices


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
        raise cannot_be_written(path, fault) from fault


def cannot_be_written(path: Path, error: OSError) -> BlemishError:
    """The mistake of a file that an error of the system keeps from being written."""
    if isinstance(error, FileNotFoundError):
        return BlemishError(f"{path}: cannot be written, as there is no folder {path.parent}; make it")
    if isinstance(error, IsADirectoryError):
        return BlemishError(f"{path}: cannot be written (Is a directory); choose the name of a file")
    return BlemishError(
        f"{path}: cannot be written ({error.strerror or error}); free the disk or choose another folder"
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all."""
    with replace_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # a file name may be in another encoding


def digest_of_file(path: Path) -> str:
    """A digest of a file's bytes, 16 characters, by which the same file is recognized under any name.

    Raises
    ------
    BlemishError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except OSError as error:
        raise BlemishError(f"{path}: cannot be read ({error.strerror or error})") from error


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hex: by it a record names a detector or a photograph for good."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_MOST_CHECKED_BYTES = 1 << 20


def check_own(path: Path, is_own: Callable[[bytes], bool]) -> None:
    """Check that a file that would be replaced is a result of blemish, or empty; devices and pipes are not asked.

    Parameters
    ----------
    is_own : tells it by the first bytes of the file, at most 1 MiB.

    Raises
    ------
    BlemishError
        If it is not, cannot be read, or is a folder.
    """
    try:
        if path.is_dir():
            raise BlemishError(f"{path}: is a folder; choose another --out")
        if not path.is_file():
            return
        with path.open("rb") as file:
            content = file.read(_MOST_CHECKED_BYTES)
    except OSError as error:
        raise BlemishError(f"{path}: cannot be read ({error.strerror or error}); choose another --out") from error
    if content and not is_own(content):
        raise BlemishError(f"{path}: is not a result of blemish; choose another --out")


def check_new(path: Path) -> None:
    """Check that there is no file at ``--out`` yet: a detector may have taken hours to train.

    Raises
    ------
    BlemishError
        If there is one.
    """
    if path.exists():
        raise BlemishError(f"--out {path}: exists already; choose another name")


def make_folder(path: Path, option: str = "--out") -> Path:
    """Create the folder ``path`` with its parents, check that files can be written to it, and return ``path``.

    Raises
    ------
    BlemishError
        If not; the message names the ``option`` by which another folder is chosen.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BlemishError(
            f"{path}: cannot write there ({error.strerror or error}); choose another {option}"
        ) from error
    return path


@contextmanager
def folder_for_files(path: Path) -> Iterator[Path]:
    """Make the folder ``path`` as ``make_folder`` does; if it is new and stays empty, it is removed at the end."""
    is_new = not path.exists()
    make_folder(path)
    try:
        yield path
    finally:
        if is_new:
            with suppress(OSError):  # it has files
                path.rmdir()


LOCK = ".blemish.lock"
"""The file in a folder of results that the process holds which writes there."""


@contextmanager
def owned_folder(path: Path, option: str = "--out") -> Iterator[Path]:
    """Make the folder ``path`` as ``make_folder`` does, and keep other processes from writing their results there.

    The lock is released at the end, and when the process dies. Of several processes that train together only the
    first holds it. A folder that is new and stays empty is removed at the end.

    Raises
    ------
    BlemishError
        If another run writes there, or nothing can be written there.
    """
    is_new = not path.exists()
    make_folder(path, option)
    if os.environ.get("RANK", "0") != "0":
        yield path
        return
    from filelock import FileLock, Timeout  # takes a tenth of a second to import

    file = path / LOCK
    holder = holder_of(file)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
        with file.open("r+") as text:  # not created: if it is gone, so is the lock on it
            text.write(f"process {os.getpid()} on {platform.node()}")
            text.truncate()
    except (Timeout, FileNotFoundError) as error:
        raise NotNow(f"{path}: {holder} writes there; wait for its end, or choose another {option}") from error
    except (OSError, NotImplementedError) as error:  # on some network drives
        print_notices([f"{path}: cannot be locked ({error}); let no other run write there"])
    try:
        yield path
    finally:
        with suppress(OSError):  # Windows refuses it as long as it is locked
            file.unlink()
        lock.release()
        if os.name == "nt":
            with suppress(OSError):
                file.unlink()
        if is_new:
            with suppress(OSError):  # it has files
                path.rmdir()


def holder_of(lock: Path) -> str:
    """Who holds a lock, in words."""
    try:
        return lock.read_text().strip() or "another process"
    except OSError:
        return "another process"
