"""``blemish replay`` on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from blemish.settings import Device


def replay(db: str, verdict: int, /, *, storage: Path | None = None, device: Device = "auto") -> None:
    """Judge a part of the record again, from its photograph and its detector as they were kept.

    Example: `blemish replay line/verdicts.db 17`

    Exit code: 0 verdict and score are the same, 1 they are not, 2 a mistake, such as that the photograph is not kept.

    Parameters
    ----------
    db
        The database of `serve` or `watch`: a file, or postgresql://user:password@host/name.
    verdict
        Id of the verdict.
    storage
        Folder of the pictures, if it is not where they were saved.
    device
        auto takes CUDA if there is one.
    """
    from blemish.commands.replay import replay_run

    sys.exit(0 if replay_run(db, verdict, storage, device) else 1)
