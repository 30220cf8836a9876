"""The service: products, each with its line; every photograph that is accepted ends as one row of the record."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blemish.data.reading import MAX_PIXELS
from blemish.devices import Device, Precision
from blemish.errors import TooManyPixels
from blemish.inspection.stream import AHEAD_PX
from blemish.outputs.delivery import OutputState
from blemish.record.record import VerdictRecord
from blemish.record.rows import NewVerdict
from blemish.record.storage import Storage
from blemish.record.writer import Writer
from blemish.serve.catalogue import Catalogue
from blemish.serve.decoding import TIMEOUT_S, Decoders, Reader, check_header, read_content
from blemish.serve.feed import Feed
from blemish.serve.jobs import Job, Json, NotAPhotograph, NotReady, TooLarge, UnknownProduct
from blemish.serve.line import Line, Served, is_too_large
from blemish.serve.metrics import Metrics
from blemish.serve.monitoring import Monitor
from blemish.serve.pictures import SAVED, Pictures

RECORD_S = 5.0
"""Beyond the deadline the record is waited for so long."""


@dataclass(frozen=True)
class Limits:
    """What the service accepts, and how long it takes at most."""

    deadline_s: float = 10.0
    """After so long a photograph is answered as not inspected."""
    places: int = 64
    """Photographs of a product that may be accepted and not yet recorded."""
    max_bytes: int = 50_000_000
    """Of a photograph as sent."""
    max_px: int = MAX_PIXELS
    body_s: float = 30.0
    """A body that has not come whole after so long is given up."""
    n_decoders: int = 2
    decode_s: float = TIMEOUT_S


class Service:
    """Judges photographs of several products at once.

    Parameters
    ----------
    record : with all verdicts.
    writer : commits new ones to it.
    storage : keeps pictures and detectors.
    limits : what is accepted.
    saved : which pictures are kept; some of ``pictures.SAVED``.
    read : what the decoders do.
    device, precision : of detectors that are loaded.
    """

    def __init__(
        self,
        record: VerdictRecord,
        writer: Writer,
        storage: Storage,
        *,
        limits: Limits | None = None,
        saved: Sequence[str] = SAVED,
        read: Reader = read_content,
        device: Device = "auto",
        precision: Precision = "auto",
    ) -> None:
        self.record, self.writer, self.storage = record, writer, storage
        self.limits, self.pictures = limits or Limits(), Pictures(storage, saved)
        self.feed = Feed()
        self.catalogue = Catalogue(
            record, storage, serve=self.serve, served=self._served, end=self._end, device=device, precision=precision,
            tell=self._tell_event,
        )  # fmt: skip
        self.monitor = Monitor(record, self._tell_event)
        self.metrics = Metrics(lambda: self.health() | {"products": self.products()})
        self.outputs: Callable[[], Sequence[OutputState]] = lambda: ()
        """How the outputs stand."""
        self.decoders = Decoders(self.limits.n_decoders, self.limits.decode_s, read)
        self.started = time.time()
        self.is_stopping = False
        self._lines: dict[str, Line] = {}
        self._lock = threading.Lock()

    # --- products ----------------------------------------------------------------------------------------------

    def serve(self, product: str, served: Served) -> None:
        """Judge photographs of a product with a detector from now on; returns when it is warm."""
        line = self._lines.get(product)
        self.monitor.begin(product, served)
        if line is not None:
            served.warm()
            line.replace(served)
            return
        line = Line(
            product,
            served,
            self.decoders,
            self.writer,
            places=self.limits.places,
            pictures=self.pictures,
            tell=self._tell,
        )
        line.start()
        self._lines[product] = line

    def _end(self, product: str) -> None:
        """Serve a product no more; returns when what was accepted is recorded."""
        self._lines.pop(product).close()
        self.monitor.end(product)

    def _served(self, product: str) -> Served | None:
        """The detector of a product; None if there is no such product."""
        return self._lines[product].served if product in self._lines else None

    def line(self, product: str) -> Line:
        """The line of a product; raises UnknownProduct."""
        try:
            return self._lines[product]
        except KeyError:
            names = ", ".join(sorted(self._lines)) or "none"
            raise UnknownProduct(f"{product}: no such product; served are {names}") from None

    def products(self) -> list[Json]:
        """What is served, by name."""
        return [self.product(name) for name in sorted(self._lines)]

    def product(self, name: str) -> Json:
        """What is served of a product; raises UnknownProduct."""
        line = self.line(name)
        detector = line.served.detector
        return {
            "name": name,
            "method": detector.method_name,
            "detector": line.served.digest,
            "threshold": detector.threshold.value,
            "promise": detector.threshold.explain(),
            "false_reject_rate": detector.threshold.false_reject_rate if detector.threshold.is_promised else None,
            "min_area_px": detector.min_area_px,
            "bits": detector.bits,
            "keep_days": self.catalogue.keep_days.get(name) or self.storage.keep_days,
            "size_wh": [detector.size_hw[1], detector.size_hw[0]],
            "is_ready": line.is_ready and self.writer.is_healthy,
            "waiting": line.n_open,
            "places": line.places,
            "drift": [asdict(state) | {"text": state.text} for state in self.monitor.states(name)],
        }

    # --- photographs -------------------------------------------------------------------------------------------

    def admit(self, product: str, n: int = 1) -> Line:
        """Take places in the line of a product, before the bodies of the photographs are read.

        Raises
        ------
        UnknownProduct, NotReady, Full
            If they cannot be accepted.
        """
        line = self.line(product)
        if self.is_stopping:
            raise NotReady("the service is about to end; try again in a few seconds")
        if not self.writer.is_healthy:
            raise NotReady("the record cannot be written at the moment; try again in a few seconds")
        line.take_places(n)
        return line

    async def inspect(
        self,
        product: str,
        content: bytes,
        *,
        part: str | None = None,
        lot: str | None = None,
        name: str | None = None,
        source: str = "http",
    ) -> Json:
        """Judge a photograph; returns the JSON of its verdict once its row is committed.

        Raises
        ------
        UnknownProduct, NotReady, Full, TooLarge
            If it is not accepted.
        NotAPhotograph
            If it was accepted, but cannot be decoded.
        """
        line = self.admit(product)
        return await self.judge_admitted(line, content, part=part, lot=lot, name=name, source=source)

    async def judge_admitted(self, line: Line, content: bytes, **about: Any) -> Json:
        """Judge a photograph for which a place was taken; see ``inspect``."""
        try:
            job = self._job(line.product, content, about)
        except BaseException:
            line.give_back()
            raise
        line.accept(job)
        done = asyncio.wrap_future(job.done)
        left_s = self.limits.deadline_s - (time.monotonic() - job.began_s)
        if not (await asyncio.wait([done], timeout=left_s))[0]:
            line.late(job)
            if not (await asyncio.wait([done], timeout=RECORD_S))[0]:
                raise NotReady("the record cannot be written at the moment; the photograph gets its row when it can")
        row = await done
        if job.fault is not None and row["verdict"] == "not_inspected" and row["reason"] == str(job.fault):
            raise NotAPhotograph(str(job.fault), row, is_too_large=is_too_large(job))
        return row

    def check_sizes(self, contents: Sequence[bytes]) -> None:
        """Check photographs of which all or none are to be accepted; raises TooLarge."""
        for content in contents:
            self._size_wh(content)

    def _size_wh(self, content: bytes) -> tuple[int, int] | None:
        """Width and height by the header, if it tells; raises TooLarge if that is too much."""
        if len(content) > self.limits.max_bytes:
            raise TooLarge(f"image: has more than {self.limits.max_bytes / 1e6:g} MB; send a smaller photograph")
        try:
            return check_header(content, self.limits.max_px)
        except TooManyPixels as error:
            raise TooLarge(str(error)) from error

    def _job(self, product: str, content: bytes, about: Mapping[str, Any]) -> Job:
        size_wh = self._size_wh(content)
        n_px = size_wh[0] * size_wh[1] if size_wh is not None else AHEAD_PX
        return Job(product, content, n_px, size_wh, **about)

    def _tell(self, new: NewVerdict, row: Json) -> None:
        """Tell all who have to know of a verdict that was committed."""
        self.metrics.take(row)
        self.monitor.take(row)
        self.feed.tell("verdict", row, new.product)

    def _tell_event(self, event: Json) -> None:
        self.feed.tell("event", event, event["product"])

    # --- reviews -----------------------------------------------------------------------------------------------

    def review(self, number: int, is_defective: bool, by: str | None, note: str | None) -> Json:
        """Record what a person says of a part; raises LookupError if there is no such verdict."""
        review = self.record.review(number, is_defective, by, note)
        self.feed.tell("review", {"id": number, "review": review})
        return review

    # --- running -----------------------------------------------------------------------------------------------

    def faults(self) -> list[str]:
        """Why the service is not ready, in lines; none if it is."""
        faults = [f"{name}: is not warm" for name, line in self._lines.items() if not line.is_ready]
        if not self._lines:
            faults.append("no product is served")
        if not self.writer.is_healthy:
            faults.append("the record cannot be written")
        if self.is_stopping:
            faults.append("the service is about to end")
        return faults

    def health(self) -> Json:
        """How it goes."""
        faults = self.faults()
        return {
            "is_ready": not faults,
            "faults": faults,
            "running_s": round(time.time() - self.started, 1),
            "waiting": sum(line.n_open for line in self._lines.values()),
            "not_yet_written": self.writer.n_waiting,
            "decoders_died": self.decoders.n_died,
            "readers": self.feed.n_readers,
            "pictures": self.storage.fault or "are saved",
            "picture_bytes": self.storage.n_bytes,
            "outputs": [asdict(state) for state in self.outputs()],
        }

    def stop_accepting(self) -> None:
        """Accept nothing more, and end the live feeds; what was accepted is still judged."""
        self.is_stopping = True
        self.feed.close()

    def close(self) -> None:
        """Judge and record what was accepted, then end. Record, writer and storage are the caller's."""
        self.stop_accepting()
        for line in self._lines.values():
            line.close()
        self.decoders.close()
        self.pictures.close()
        self.monitor.close()
