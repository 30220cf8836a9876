"""Who works at a cell: the process that holds the lock in its folder. The system releases it when a process dies."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blemish.errors import print_notices
from blemish.files import holder_of

WAIT_S = 1.0


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Hold a lock; as long as another process holds it, wait, and say so.

    After the death of a machine, a network share may take a minute or two to release its locks.
    """
    from filelock import FileLock, Timeout  # takes a tenth of a second to import

    file = FileLock(lock)
    n_tries = 0
    while True:
        holder = holder_of(lock)
        try:
            file.acquire(timeout=0)
            break
        except Timeout:
            n_tries += 1
            if n_tries == 2:  # at the first, someone may only have looked whether it is held
                print_notices([f"{lock.parent}: {holder} works at it; this waits for its end"])
            time.sleep(WAIT_S)
        except (OSError, NotImplementedError) as error:  # on some network drives
            print_notices([f"{lock.parent}: cannot be locked ({error}); let no other run write there"])
            break
    try:
        lock.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        file.release()


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock; false where locks do not work, or nothing may be written."""
    if not lock.exists():
        return False
    from filelock import FileLock, Timeout

    file = FileLock(lock)
    try:
        file.acquire(timeout=0)
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
    file.release()
    return False
