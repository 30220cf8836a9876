"""The line of one product: photographs wait, are decoded, judged in the one stream of judgements, and recorded."""

from __future__ import annotations

import math
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.detector import Detector
from blemish.errors import BlemishError, TooManyPixels
from blemish.inspection.sources import Photograph, photographs
from blemish.inspection.stream import AHEAD_PX, BATCH_SIZE, TOGETHER_PX, Judgement, judge
from blemish.record.rows import NewVerdict
from blemish.serve.decoding import Decoders
from blemish.serve.jobs import Full, Job, NotReady, as_json
from blemish.serve.pictures import Pictures

JUDGES_ON_CPU = 2
"""Threads that judge, each with its part of the cores: what the service does beside would otherwise let them wait."""
BUSY_S = 1.0
"""Until there is likely to be room in a full queue, at least."""


class Recorder(Protocol):
    """Commits verdicts in the background: a ``record.writer.Writer``."""

    def put(self, new: NewVerdict) -> Future[int]:
        """Commit a verdict; the future is its id."""


@dataclass(frozen=True)
class Served:
    """A detector that is served: loaded, warm, and kept as a file under its digest."""

    detector: Detector
    digest: str
    """SHA-256 of its file, hex."""

    def warm(self) -> None:
        """Judge a few empty photographs, one by one and together, so that the first real one takes no longer.

        Together as many as the network sees at once: of small ones the line takes more, in several batches.
        """
        height, width = self.detector.framing.tile_hw
        n_together = min(BATCH_SIZE, max(1, TOGETHER_PX // (height * width)))
        blank = np.full((height, width, 3), 128, np.uint8)
        for n in (1, n_together):
            list(judge(self.detector, photographs([blank] * n), Judgement.row))


class Line:
    """The photographs of one product, from acceptance to commit.

    Parameters
    ----------
    served : the detector that judges.
    places : how many photographs may be accepted and not yet recorded.
    pictures : saves them.
    tell : called with each row that was committed.
    """

    def __init__(
        self,
        product: str,
        served: Served,
        decoders: Decoders,
        recorder: Recorder,
        *,
        places: int,
        pictures: Pictures,
        tell: Callable[[NewVerdict, dict[str, Any]], None],
    ) -> None:
        self.product, self.served, self.places = product, served, places
        self._decoders, self._recorder, self._pictures, self._tell = decoders, recorder, pictures, tell
        self._lock = threading.Lock()
        self._empty, self._changed = threading.Condition(self._lock), threading.Condition(self._lock)
        self._encoded, self._decoded = deque[Job](), deque[Job]()
        self._n_open = self._n_px = 0
        self._is_ending = self._is_ended = False
        self._pace_s = 0.1
        n_judges = JUDGES_ON_CPU if served.detector.runtime.device.type == "cpu" else 1
        names = [f"line {product} {number}" for number in range(n_judges)]
        self._threads = [threading.Thread(target=self._judge_all, name=name, daemon=True) for name in names]

    # --- from any thread ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Warm the detector and begin to judge."""
        self.served.warm()
        for thread in self._threads:
            thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether it is warm and judges."""
        return not self._is_ending and all(thread.is_alive() for thread in self._threads)

    @property
    def n_open(self) -> int:
        """How many photographs are accepted and not yet recorded."""
        return self._n_open

    def take_places(self, n: int = 1) -> None:
        """Take places for photographs that are about to be accepted.

        Raises
        ------
        Full
            If there are not so many.
        NotReady
            If it is not warm yet, or about to end.
        """
        with self._lock:
            if not self.is_ready:
                raise NotReady(f"{self.product}: is not ready; try again in a few seconds")
            if self._n_open + n > self.places:
                retry_after_s = max(BUSY_S, n * self._pace_s, 0.5 * self.places * self._pace_s)
                text = f"{self.product}: {self._n_open} photographs wait, of {self.places} at most"
                raise Full(f"{text}; send them later, or more slowly", math.ceil(min(retry_after_s, 60.0)))
            self._n_open += n

    def give_back(self, n: int = 1) -> None:
        """Give places back for which no photograph came."""
        with self._lock:
            self._n_open -= n
            self._empty.notify_all()

    def accept(self, job: Job) -> None:
        """Take in a photograph, for which a place was taken. ``job.done`` is its verdict."""
        job.bits = self.served.detector.bits
        self._pictures.begin(job)
        with self._lock:
            self._encoded.append(job)
        self._decode_more()

    def late(self, job: Job) -> None:
        """Record that the deadline of a photograph has come before its verdict, unless it is decided already."""
        if job.claim():
            self._not_inspected(job, f"late: it was not judged in {job.ms / 1000:.3g} s")
            with self._lock:
                if job in self._encoded:
                    self._encoded.remove(job)

    def replace(self, served: Served) -> None:
        """Judge with another detector, which is warm, from now on; nothing waits for it."""
        with self._lock:
            self.served = served
            self._changed.notify_all()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until every photograph that was accepted is recorded."""
        with self._empty:
            return self._empty.wait_for(lambda: self._n_open <= 0, timeout_s)

    def close(self) -> None:
        """Judge and record what was accepted, and end."""
        self._is_ending = True
        if any(thread.is_alive() for thread in self._threads):
            self.drain()
        with self._lock:
            self._is_ended = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    # --- decoding ----------------------------------------------------------------------------------------------

    def _decode_more(self) -> None:
        """Let the next photographs be decoded, as long as their pixels fit into memory; one always does."""
        started = list[tuple[Job, Future[NDArray[np.uint8]]]]()
        with self._lock:
            while self._encoded and (self._n_px == 0 or self._n_px + self._encoded[0].n_px <= AHEAD_PX):
                job = self._encoded.popleft()
                if not job.is_claimed:
                    self._n_px += job.n_px
                    started.append((job, self._decoders.submit(job.content, job.bits)))
        for job, future in started:
            future.add_done_callback(lambda future, job=job: self._take_pixels(job, future))  # type: ignore[misc]

    def _take_pixels(self, job: Job, future: Future[NDArray[np.uint8]]) -> None:
        """Hand a decoded photograph on, or record why there is none."""
        try:
            job.pixels = future.result()
            with self._lock:
                self._decoded.append(job)
                self._changed.notify()
            return
        except BlemishError as error:
            job.fault = error
        except BaseException as error:  # the decoders are closed, or a fault of blemish
            job.fault = BlemishError(f"image: could not be decoded ({type(error).__name__}: {error})")
        if job.claim():
            self._not_inspected(job, str(job.fault))
        self._release(job)

    def _release(self, job: Job) -> None:
        """Forget the pixels of a photograph; the next may be decoded."""
        job.pixels = None
        with self._lock:
            self._n_px -= job.n_px
        self._decode_more()

    # --- judging -----------------------------------------------------------------------------------------------

    def _judge_all(self) -> None:
        """Judge until it is closed; with another detector, begin again."""
        while not self._is_ended:
            served, taken = self.served, dict[Job, None]()
            try:
                work = partial(self._record, served)
                for job in judge(served.detector, self._incoming(served, taken), work):
                    del taken[job]
                    self._release(job)
            except Exception as error:  # a fault costs the photographs that it meets, never those after them
                traceback.print_exc(file=sys.stderr)
                reason = _fault(error)
                for job in taken:
                    if job.claim():
                        self._not_inspected(job, reason, served)
                    self._release(job)

    def _incoming(self, served: Served, taken: dict[Job, None]) -> Iterator[Photograph | None]:
        """The photographs as they are decoded, and None whenever there is none; ends when another detector comes.

        Parameters
        ----------
        taken : gets those that are yielded.
        """
        while True:
            if not self._decoded:
                yield None
            with self._lock:
                self._changed.wait_for(lambda: self._decoded or self._is_ended or self.served is not served)
                if self._is_ended or self.served is not served:
                    return
                job = self._decoded.popleft()
            if job.is_claimed:
                self._release(job)
                continue
            if job.bits != served.detector.bits:  # it was accepted before this detector came
                job.bits = served.detector.bits
                self._decoders.submit(job.content, job.bits).add_done_callback(
                    lambda future, job=job: self._take_pixels(job, future)  # type: ignore[misc]
                )
                continue
            assert job.pixels is not None
            taken[job] = None
            yield Photograph(job.pixels, "image", columns={"job": job})

    def _record(self, served: Served, judgement: Judgement) -> Job:
        """Hand the row of a judgement to be committed, with its pictures saved."""
        job: Job = judgement.photograph.columns["job"]
        if not job.claim():
            return job
        try:
            finding = judgement.checked().finding
            drawn = self._pictures.drawn(judgement)
        except BlemishError as error:
            self._not_inspected(job, str(error), served)
            return job
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._not_inspected(job, _fault(error), served)
            return job
        columns = {
            "verdict": finding.verdict,
            "reason": "; ".join(finding.unlike) or None,
            "score": finding.score,
            "threshold": finding.threshold,
            "is_defective": finding.is_defective,
            "regions": finding.row()["regions"],
            "unlike": list(finding.unlike),
        }
        self._finish(job, served, columns, drawn)
        return job

    def _not_inspected(self, job: Job, reason: str, served: Served | None = None) -> None:
        """Finish a photograph without a judgement."""
        served = served or self.served
        threshold = served.detector.threshold.value
        self._finish(job, served, {"verdict": "not_inspected", "reason": reason, "threshold": threshold}, None)

    def _finish(self, job: Job, served: Served, columns: dict[str, Any], drawn: bytes | None) -> None:
        """Save the pictures and commit the row; then the photograph is answered, and its place free."""
        self._pace_s += 0.1 * (min(job.ms / 1000 / max(1, self._n_open), 10.0) - self._pace_s)

        def commit(pictures: dict[str, Any]) -> None:
            new = job.verdict(detector=served.digest, **columns, **pictures)
            self._recorder.put(new).add_done_callback(lambda future: committed(new, future))

        def committed(new: NewVerdict, future: Future[int]) -> None:
            try:
                row = as_json(new, future.result())
                self._tell(new, row)
                job.done.set_result(row)
            except BaseException as error:  # the database refuses it, or is away at the end: it is not recorded
                job.done.set_exception(error)
            job.content = b""
            self.give_back()

        self._pictures.finish(job, drawn, commit)


def _fault(error: Exception) -> str:
    return f"fault while it was judged: {type(error).__name__}: {' '.join(str(error).split())}"


def is_too_large(job: Job) -> bool:
    """Whether a photograph was refused by its size, once a decoder could tell."""
    return isinstance(job.fault, TooManyPixels)
