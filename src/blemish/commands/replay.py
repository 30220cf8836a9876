"""``blemish replay``: judge a part again, from its photograph and its detector in the storage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.detector import Detector
from blemish.devices import Device, resolve_device
from blemish.errors import BlemishError
from blemish.files import sha256_of_file
from blemish.learning.calibration import MARGIN
from blemish.record.places import storage_of
from blemish.record.record import VerdictRecord
from blemish.record.storage import Storage


@dataclass(frozen=True)
class Replay:
    """A verdict of the record, and what its detector says of its photograph now."""

    recorded: dict[str, Any]
    """The JSON of the verdict."""
    verdict: str
    score: float
    threshold: float

    @property
    def is_same(self) -> bool:
        """Whether the verdict is the same, and the score but for the rounding of another computer."""
        before = self.recorded
        is_close = math.isclose(self.score, before["score"], rel_tol=MARGIN)
        return bool(is_close and (self.verdict, self.threshold) == (before["verdict"], before["threshold"]))


def replayed(record: VerdictRecord, storage: Storage, verdict_id: int, device: Device = "auto") -> Replay:
    """Judge a part again.

    Raises
    ------
    BlemishError
        If there is no such verdict, or its photograph or its detector is not kept, or the file is another one.
    """
    name = f"{record.database.name}: verdict {verdict_id}"
    row, pictures = record.verdict(verdict_id), record.pictures(verdict_id)
    if row is None or pictures is None:
        raise BlemishError(f"{record.database.name}: has no verdict {verdict_id}; `GET /verdicts` lists them")
    if row["score"] is None:
        raise BlemishError(f"{name} was not inspected ({row['reason']}); there is nothing to replay")
    image, detector_file = storage.path(pictures.image), storage.detector(row["detector"])
    if image is None:
        raise BlemishError(
            f"{name}: its photograph is not kept (any more); `watch` keeps them with --storage, `serve` with --save"
        )
    if detector_file is None:
        raise BlemishError(f"{name}: its detector {row['detector']} is not kept in {storage.folder}")
    for path, digest in ((image, row["photograph"]), (detector_file, row["detector"])):
        if sha256_of_file(path) != digest:
            raise BlemishError(f"{path}: is not the file of verdict {verdict_id}, whose SHA-256 is {digest}")
    finding = Detector.load(detector_file, resolve_device(device)).inspect(image)
    return Replay(row, finding.verdict, finding.score, finding.threshold)


def replay_run(db: str, verdict_id: int, folder: Path | None, device: Device) -> bool:
    """Judge a part again, print both judgements, and return whether they are the same."""
    with VerdictRecord.open(db, must_exist=True) as record:
        pictures = record.pictures(verdict_id)
        if pictures is not None and pictures.storage is not None:
            storage = storage_of(record, pictures.storage, folder)
        else:  # what is missing is told by the replay
            storage = Storage(folder or ".")
        result = replayed(record, storage, verdict_id, device)
    row = result.recorded
    of = f"part {row['part']} of {row['product']}" if row["part"] is not None else row["product"]
    print(f"verdict {verdict_id}, {of}, {row['time']}")
    print(f"  recorded: {row['verdict']}, score {row['score']:.9g}, threshold {row['threshold']:.9g}")
    print(f"  replayed: {result.verdict}, score {result.score:.9g}, threshold {result.threshold:.9g}")
    print("the same" if result.is_same else "NOT the same")
    return result.is_same
