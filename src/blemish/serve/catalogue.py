"""Which detector judges which product: kept in the record, so that a restart goes on with what was set last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blemish.artifact import artifact_at
from blemish.data.reading import BITS
from blemish.detector import Detector
from blemish.devices import Device, Precision
from blemish.errors import BlemishError
from blemish.learning.recalibrating import with_rule
from blemish.record.record import VerdictRecord
from blemish.record.retention import KEEP_DAYS
from blemish.record.storage import Storage
from blemish.serve.detectors import load, load_kept
from blemish.serve.jobs import Conflict, Json, Refused, UnknownProduct
from blemish.serve.line import Served
from blemish.serve.recalibration import of_network, recalibrated


def added_products(known: Mapping[str, Json]) -> set[str]:
    """Of the products of a record, those that were added while a service ran, which go on at its next start."""
    return {name for name, about in known.items() if about["settings"].get("given", "") is None}


class Catalogue:
    """Changes what is served. Each change is a new file in the storage, an event, and taken without a gap.

    Parameters
    ----------
    serve : lets a product be judged by a detector; returns when it is.
    served : the detector that judges a product; None if there is no such product.
    end : serves a product no more; returns when what was accepted is recorded.
    tell : called with the JSON of each event.
    """

    def __init__(
        self,
        record: VerdictRecord,
        storage: Storage,
        *,
        serve: Callable[[str, Served], None],
        served: Callable[[str], Served | None],
        end: Callable[[str], None],
        tell: Callable[[Json], None],
        device: Device = "auto",
        precision: Precision = "auto",
    ) -> None:
        self.record, self.storage = record, storage
        self._serve, self._served, self._end, self._tell = serve, served, end, tell
        self._device, self._precision = device, precision
        self._lock = threading.Lock()
        self.keep_days = dict[str, float]()
        """Of products; those that are not here, or have 0, are kept as the storage says."""

    def open(self, given: Mapping[str, Path]) -> None:
        """Serve the products that are given, and those that were added while it ran before.

        A product whose given file is the same as at the last start goes on with the detector that was set since.

        Raises
        ------
        BlemishError
            If a detector cannot be loaded, what was set last is in another storage, or nothing is to be served. Then
            nothing is recorded.
        """
        known = self.record.product_settings()
        added = added_products(known)
        if not given and not added:
            raise BlemishError("--product: nothing is to be served; give NAME=DETECTOR")
        begun = dict[str, tuple[Served, bool]]()
        for name in dict.fromkeys([*given, *sorted(added)]):
            about = known.get(name)
            if about is not None:
                self.keep_days[name] = about["settings"].get(KEEP_DAYS, 0.0)
            file = load(given[name], self.storage, self._device, self._precision) if name in given else None
            digest = file.digest if file is not None else None
            if about is None or about["settings"].get("given") != digest:
                assert file is not None
                begun[name] = file, True
            elif self.storage.detector(about["detector"]) is not None:
                begun[name] = load_kept(about["detector"], self.storage, self._device, self._precision), False
            else:
                missing = f"{name}: the detector that was set last, {about['detector'][:12]}, is not in --storage"
                remedy = "give the one where it is, or copy its file from detectors/ there"
                raise BlemishError(f"{missing} {self.storage.folder}; {remedy}")
        for name, (served, is_new) in begun.items():
            if not is_new:
                self._serve(name, served)
                continue
            value = served.detector.threshold.value
            text = f"{name}: is judged by {served.digest[:12]}, threshold {value:.4g}"
            self._take(name, served, text, "detector", {"given": served.digest})

    def put(
        self,
        name: str,
        *,
        detector: str | None = None,
        threshold: float | None = None,
        min_area_px: int | None = None,
        bits: int | None = None,
        keep_days: float | None = None,
        by: str | None = None,
    ) -> None:
        """Add a product, or change what is given of it.

        Parameters
        ----------
        detector : SHA-256 of one in the storage, or the path of a file on the machine of the service.
        keep_days : pictures of its older parts are removed; 0 keeps them as long as those of other products.
        by : who wants it, for the log.

        Raises
        ------
        Refused
            If it cannot be done.
        """
        with self._lock:
            before = self._served(name)
            is_same = all(each is None for each in (detector, threshold, min_area_px, bits))
            if before is not None and is_same and keep_days is None:
                given = "detector, threshold, min_area_px, bits or keep_days"
                raise Refused(f"{name}: nothing is to change; give {given}")
            if detector is None and before is None:
                raise Refused(f"{name}: no such product; give a detector to add it")
            if bits is not None and bits not in BITS:
                raise Refused(f"bits: {bits} should be one of {', '.join(map(str, BITS))}")
            if min_area_px is not None and min_area_px < 0:
                raise Refused(f"min_area_px: {min_area_px} should be a number of pixels, 0 or more")
            try:
                base = before if detector is None else self._found(detector)
                assert base is not None
                new = base.detector
                is_other = threshold not in (None, new.threshold.value) or min_area_px not in (None, new.min_area_px)
                if is_other:
                    new = with_rule(new, None, threshold=threshold, min_area_px=min_area_px).detector
            except BlemishError as error:
                raise Refused(str(error)) from error
            if bits not in (None, new.bits):
                new = copy(new)
                new.bits = bits
            served = base if new is base.detector else self._kept(of_network(new, base.digest))
            kind = "detector" if detector is not None else "threshold"
            text = f"{name}: is judged by {served.digest[:12]}, threshold {new.threshold.value:.4g}"
            settings: dict[str, Any] = {"given": None} if before is None else {}
            if keep_days is not None:
                settings[KEEP_DAYS] = keep_days
                kept = f"pictures are kept {f'{keep_days:g} days' if keep_days else 'as those of other products'}"
                text, kind = (f"{name}: {kept}", "storage") if is_same else (f"{text}, {kept}", kind)
            self._take(name, served, text, kind, settings, by=by)

    def remove(self, name: str, by: str | None = None) -> None:
        """Serve a product no more, once what was accepted is recorded. Its verdicts stay.

        Raises
        ------
        Refused
            If there is no such product.
        RecordAway
            If the record cannot be used.
        """
        with self._lock:
            served = self._served(name)
            if served is None:
                raise UnknownProduct(f"{name}: no such product")
            self.record.product_settings()  # a record that is away refuses it here, before anything has changed
            self._end(name)
            self.record.remove_product(name)
            self.keep_days.pop(name, None)
            self._record(name, f"{name}: is served no more", "detector", {"detector_before": served.digest}, by)

    def recalibrate(
        self,
        name: str,
        false_rejects: float | None = None,
        *,
        take: bool = False,
        expected: float | None = None,
        by: str | None = None,
    ) -> Json:
        """A new threshold from reviews: what it would mean, and it is taken if that is asked for.

        Parameters
        ----------
        expected : the threshold that was told before; if it is another one by now, nothing is taken.
        by : who wants it, for the log.

        Raises
        ------
        Refused
            If it cannot be done.
        """
        with self._lock:
            before = self._served(name)
            if before is None:
                raise Refused(f"{name}: no such product")
            found = recalibrated(name, before.detector, before.digest, self.record, self.storage, false_rejects)
            row = found.row() | {"taken": take, "detector": before.digest}
            if not take:
                return row
            now = found.detector.threshold.value
            if expected is not None and expected != now:
                raise Conflict(f"{name}: the threshold would be {now:.9g}, not {expected:.9g}; look at it again")
            served = self._kept(of_network(found.detector, before.digest))
            text = f"{name}: threshold {now:.4g} from reviews, {found.before.value:.4g} before"
            details = {key: row[key] for key in ("threshold", "threshold_before", "n_good", "promise")}
            self._take(name, served, text, "threshold", details=details, by=by)
            return row | {"detector": served.digest}

    # --- files --------------------------------------------------------------------------------------------------

    def _found(self, detector: str) -> Served:
        """The detector that a digest or a path names."""
        if self.storage.detector(detector) is not None:
            return load_kept(detector, self.storage, self._device, self._precision)
        try:
            path = artifact_at(Path(detector))
            is_file = path.is_file()
        except (OSError, ValueError):  # such as a name that is too long
            is_file = False
        if not is_file:
            raise Refused(f"detector: {detector[:200]!r} is no digest of one that was served, and no file here")
        return load(path, self.storage, self._device, self._precision)

    def _kept(self, detector: Detector) -> Served:
        """A detector that was changed, as a file in the storage."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "detector.blemish"
            detector.save(path)
            return Served(detector, self.storage.add_detector(path))

    def _take(
        self,
        name: str,
        served: Served,
        text: str,
        kind: str,
        settings: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
        by: str | None = None,
    ) -> None:
        """Serve a detector from now on, and record that."""
        before = self._served(name)
        known = self.record.product_settings().get(name, {}).get("settings", {})
        about = {**known, **(settings or {}), "threshold": served.detector.threshold.value,
                 "min_area_px": served.detector.min_area_px, "bits": served.detector.bits}  # fmt: skip
        if served is not before:
            self._serve(name, served)
        self.record.set_product(name, served.digest, about)
        self.keep_days[name] = about.get(KEEP_DAYS, 0.0)
        told = {"detector": served.digest, "detector_before": before.digest if before else None, **(details or {})}
        self._record(name, text, kind, told, by)

    def _record(self, name: str, text: str, kind: str, details: Mapping[str, Any], by: str | None) -> None:
        """Record an event, and tell it."""
        if by is not None:
            text, details = f"{text} (by {by})", {**details, "by": by}
        self._tell(self.record.add_event(kind, text, name, details))
