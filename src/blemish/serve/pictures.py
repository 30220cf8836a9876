"""Pictures are saved in threads of their own: the disk is waited for while the network runs."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from blemish.errors import BlemishError, print_line
from blemish.inspection.stream import Judgement
from blemish.record.storage import Storage
from blemish.report.overlay import as_jpeg, overlay
from blemish.serve.jobs import Job

SAVED = ("overlays", "images")
"""What ``--save`` takes, beside ``none``."""


class Pictures:
    """Saves what is wanted of each photograph; a lack of pictures stops nothing.

    Parameters
    ----------
    saved : some of ``SAVED``. Overlays are drawn of photographs that are not good.
    """

    def __init__(self, storage: Storage, saved: Collection[str] = SAVED, n_threads: int = 2) -> None:
        self.storage, self.saved = storage, frozenset(saved)
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="pictures")
        self._images: dict[Job, Future[str | None]] = {}

    def begin(self, job: Job) -> None:
        """Begin to save a photograph that was accepted, as it was sent."""
        if "images" in self.saved:
            self._images[job] = self._pool.submit(self._save_image, job)

    def drawn(self, judgement: Judgement) -> bytes | None:
        """The overlay of a photograph, if one is wanted; takes time, but no disk."""
        if "overlays" not in self.saved or judgement.finding.verdict == "good":
            return None
        try:
            return as_jpeg(overlay(judgement.pixels, judgement.finding))
        except BlemishError as error:
            print_line(str(error))
            return None

    def finish(self, job: Job, drawn: bytes | None, then: Callable[[dict[str, Any]], None]) -> None:
        """Save the rest, then call ``then``, in another thread, with the columns that name the pictures."""

        def work() -> None:
            columns = dict[str, Any]()
            try:
                image = self._images.pop(job, None)  # begun before: it never waits for this thread
                if image is not None:
                    columns["image"] = image.result()
                if drawn is not None:
                    columns["overlay"] = self.storage.save_overlay(job.product, drawn, job.digest, job.arrived)
            except Exception:
                traceback.print_exc(file=sys.stderr)
            then(columns)

        self._pool.submit(work)

    def close(self) -> None:
        """Wait for what is being saved."""
        self._pool.shutdown()

    def _save_image(self, job: Job) -> str | None:
        return self.storage.save_image(job.product, job.content, job.digest, job.arrived)
