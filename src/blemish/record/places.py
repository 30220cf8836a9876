"""Where the pictures of a record are, for those who only read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BlemishError
from blemish.record.record import VerdictRecord
from blemish.record.rows import Json
from blemish.record.storage import Storage, id_of

PAGE = 500


def storage_of(record: VerdictRecord, storage_id: str, folder: Path | None = None) -> Storage:
    """A storage of a record, to read from.

    Parameters
    ----------
    storage_id : as the rows of its parts name it.
    folder : where it is now; None is where it was written.

    Raises
    ------
    BlemishError
        If it is not there.
    """
    known = record.storages().get(storage_id, {"folder": "?", "host": "?"})
    place = Path(known["folder"]) if folder is None else folder
    if id_of(place) != storage_id:
        was = f"it was written to {known['folder']} on {known['host']}"
        raise BlemishError(f"{place}: is not the storage with the pictures of these parts ({was}); give --storage")
    return Storage(place)


@dataclass(frozen=True)
class Reviewed:
    """Photographs of parts that people called good."""

    product: str
    paths: tuple[Path, ...]
    """One file for each photograph."""
    n_without_image: int
    """Further parts whose photograph is not kept (any more)."""
    defective: tuple[Path, ...]
    """Photographs of parts whose newest review says defective."""


def reviewed_parts(record: VerdictRecord, product: str | None = None, folder: Path | None = None) -> Reviewed:
    """The photographs of parts with a review, as the newest says, whose verdict was by the score.

    Parameters
    ----------
    product : None is the only one with reviews.
    folder : the storage; None is where it was written.

    Raises
    ------
    BlemishError
        If there is no such part, there are parts of several products, or the storage is not there.
    """
    rows = list[Json]()
    cursor: int | None = 0
    while cursor is not None:
        page, cursor = record.verdicts(product=product, reviewed=True, cursor=cursor, limit=PAGE, newest_first=False)
        rows += [row for row in page if row["verdict"] in ("good", "defective")]
    products = {row["product"] for row in rows if not row["review"]["is_defective"]}
    if not products:
        of = "" if product is None else f" of {product}"
        raise BlemishError(f"{record.database.name}: no part{of} has a review that calls it good; review some first")
    if len(products) > 1:
        raise BlemishError(
            f"{record.database.name}: has reviews of several products ({', '.join(sorted(products))}); give --product"
        )
    product = products.pop()
    good, defective, without = dict[str, Path](), dict[str, Path](), set[str]()
    storages = dict[str, Storage]()
    for row in rows:
        if row["product"] != product:
            continue
        name, path = row["photograph"] or str(row["id"]), _image_of(record, row["id"], folder, storages)
        if path is not None:
            (defective if row["review"]["is_defective"] else good)[name] = path
        elif not row["review"]["is_defective"]:
            without.add(name)
    return Reviewed(product, tuple(good.values()), len(without - good.keys()), tuple(defective.values()))


def _image_of(
    record: VerdictRecord, verdict_id: int, folder: Path | None, storages: dict[str, Storage]
) -> Path | None:
    """The file of a part's photograph; None if it is not kept (any more). ``storages`` keeps those that are found."""
    pictures = record.pictures(verdict_id)
    if pictures is None or pictures.storage is None or pictures.image is None:
        return None
    if pictures.storage not in storages:
        storages[pictures.storage] = storage_of(record, pictures.storage, folder)
    return storages[pictures.storage].path(pictures.image)
