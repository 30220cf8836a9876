"""Where the pictures of a record are, for those who only read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BlemishError
from blemish.record.record import VerdictRecord
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
    defective: tuple[Path, ...] = ()
    """Photographs of parts whose newest review says defective."""


def reviewed_good(record: VerdictRecord, product: str | None = None, folder: Path | None = None) -> Reviewed:
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
    found, defective, without, products = dict[str, Path](), dict[str, Path](), set[str](), set[str]()
    storages = dict[str, Storage]()
    cursor: int | None = 0
    while cursor is not None:
        rows, cursor = record.verdicts(product=product, reviewed=True, cursor=cursor, limit=PAGE, newest_first=False)
        for row in rows:
            if row["verdict"] not in ("good", "defective"):
                continue
            is_good = not row["review"]["is_defective"]
            if is_good:
                products.add(row["product"])
            name = row["photograph"] or str(row["id"])
            pictures = record.pictures(row["id"])
            if pictures is None or pictures.storage is None or pictures.image is None:
                without.update([name] * is_good)
                continue
            if pictures.storage not in storages:
                storages[pictures.storage] = storage_of(record, pictures.storage, folder)
            path = storages[pictures.storage].path(pictures.image)
            if path is None:
                without.update([name] * is_good)
            else:
                (found if is_good else defective)[name] = path
    if not products:
        of = "" if product is None else f" of {product}"
        raise BlemishError(f"{record.database.name}: no part{of} has a review that calls it good; review some first")
    if len(products) > 1:
        raise BlemishError(
            f"{record.database.name}: has reviews of several products ({', '.join(sorted(products))}); give --product"
        )
    return Reviewed(products.pop(), tuple(found.values()), len(without - found.keys()), tuple(defective.values()))
