"""The record of every part: verdicts, reviews, events, products, and what outputs still have to deliver."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from blemish.record import outbox, queries
from blemish.record.database import Database
from blemish.record.database import RecordAway as RecordAway
from blemish.record.rows import (
    VERDICTS,
    Json,
    event_json,
    iso,
    review_json,
    short,
    storable,
    verdict_json,
)
from blemish.record.rows import Message as Message
from blemish.record.rows import NewVerdict as NewVerdict
from blemish.record.tables import events, products, reviews, storages, verdicts


class Pictures(NamedTuple):
    """The pictures of a part, relative to the folder of its storage."""

    storage: str | None
    """Id of the storage."""
    image: str | None
    overlay: str | None


class VerdictRecord:
    """The record in a database; its methods may be called in any thread.

    Each raises ``database.RecordAway`` if the database cannot be used at the moment.

    Parameters
    ----------
    database : open; see ``open``.
    outputs : names; each verdict and event that is added waits for each of them, see ``due``.
    """

    def __init__(self, database: Database, outputs: tuple[str, ...] = ()) -> None:
        self.database = database
        self.outputs = outputs
        self.storage: str | None = None
        """Id of the folder that this process saves pictures to."""

    @classmethod
    def open(cls, url_or_path: str, *, must_exist: bool = False) -> Self:
        """Open a record; a new one is made, one of an earlier version brought up to date.

        Parameters
        ----------
        url_or_path : file of a SQLite database, or ``postgresql://user:password@host:port/name``.
        must_exist : make no new record.

        Raises
        ------
        BlemishError
            If it cannot be opened, is the database of another program, or of a newer blemish.
        """
        return cls(Database(url_or_path, must_exist=must_exist))

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- verdicts -----------------------------------------------------------------------------------------------

    def add(self, new: Sequence[NewVerdict]) -> list[int]:
        """Record verdicts, all or none, and return their ids; they are on disk when it returns.

        One that has been recorded before, by its ``key``, keeps its id.
        """
        if not new:
            return []
        with self.database.transaction(writes=True) as connection:
            ids = queries.ids_of(connection, [verdict.key for verdict in new])
            missing = [verdict.row(self.storage) for verdict in new if verdict.key not in ids]
            if missing:
                statement = sa.insert(verdicts).returning(verdicts.c.key, verdicts.c.id, sort_by_parameter_order=True)
                added = {row.key: row.id for row in connection.execute(statement, missing)}
                outbox.put(connection, self.outputs, verdict_ids=list(added.values()))
                ids |= added
        return [ids[verdict.key] for verdict in new]

    def verdict(self, verdict_id: int) -> Json | None:
        """The JSON of a verdict with all its reviews, newest first; None if there is no such verdict."""
        verdict_id = queries.possible(verdict_id)
        with self.database.transaction() as connection:
            row = connection.execute(sa.select(verdicts).where(verdicts.c.id == verdict_id)).mappings().first()
            if row is None:
                return None
            every = sa.select(reviews).where(reviews.c.verdict_id == verdict_id).order_by(reviews.c.id.desc())
            all_reviews = [review_json(review) for review in connection.execute(every).mappings()]
        return verdict_json(row, next(iter(all_reviews), None)) | {"reviews": all_reviews}

    def verdicts(
        self,
        *,
        product: str | None = None,
        since: float | None = None,
        until: float | None = None,
        verdict: str | None = None,
        reviewed: bool | None = None,
        part: str | None = None,
        lot: str | None = None,
        cursor: int | None = None,
        limit: int = 50,
        newest_first: bool = True,
    ) -> tuple[list[Json], int | None]:
        """A page of verdicts, and the cursor of the next page; None at the end.

        Each verdict is on one page, also if others are added in the meantime.

        Parameters
        ----------
        since, until : s since 1970; from ``since`` on, before ``until``.
        reviewed : only those with a review, or only those without.
        cursor : from the page before.
        """
        filters = queries.filters(product, since, until, verdict, reviewed, part, lot)
        with self.database.transaction() as connection:
            return queries.page(connection, filters, cursor, limit, newest_first)

    def counts(self, product: str | None = None, since: float | None = None) -> dict[str, int]:
        """How many parts have which verdict."""
        numbers = (sa.func.count().filter(verdicts.c.verdict == verdict) for verdict in VERDICTS)
        statement = sa.select(*numbers).select_from(verdicts).where(*queries.filters(product, since))
        with self.database.transaction() as connection:
            return dict(zip(VERDICTS, connection.execute(statement).one(), strict=True))

    def rates(
        self, product: str | None, since: float, n_buckets: int, until: float | None = None
    ) -> list[dict[str, Any]]:
        """How many parts have which verdict, in equal spans of time.

        Parameters
        ----------
        since, until : s since 1970; ``until`` is now by default.

        Returns
        -------
        One dictionary for each span, oldest first: ``time`` (ISO 8601, its start) and the counts.
        """
        end = time.time() if until is None else until
        width_s = max(end - since, 1e-3) / n_buckets
        number = self._floor((verdicts.c.time - since) / width_s).label("number")
        statement = sa.select(number, verdicts.c.verdict, sa.func.count()).group_by(number, verdicts.c.verdict)
        with self.database.transaction() as connection:
            rows = connection.execute(statement.where(*queries.filters(product, since, end))).all()
        buckets = [{"time": iso(since + index * width_s), **dict.fromkeys(VERDICTS, 0)} for index in range(n_buckets)]
        for index, verdict, n in rows:
            buckets[min(int(index), n_buckets - 1)][verdict] += n
        return buckets

    def _floor(self, value: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
        """A number >= 0 without its fraction."""
        return sa.cast(value if self.database.is_sqlite else sa.func.floor(value), sa.Integer)

    def latest_id(self) -> int:
        """The id of the newest verdict; 0 if there is none."""
        with self.database.transaction() as connection:
            return connection.execute(sa.select(sa.func.max(verdicts.c.id))).scalar() or 0

    # --- reviews ------------------------------------------------------------------------------------------------

    def review(self, verdict_id: int, is_defective: bool, by: str | None = None, note: str | None = None) -> Json:
        """Record what somebody says of a part, and return the JSON of the review.

        Raises
        ------
        LookupError
            If there is no such verdict.
        """
        with self.database.transaction(writes=True) as connection:
            known = sa.select(verdicts.c.id).where(verdicts.c.id == queries.possible(verdict_id))
            if connection.execute(known).first() is None:
                raise LookupError(f"there is no verdict {verdict_id}")
            values = {"verdict_id": verdict_id, "time": time.time(), "is_defective": is_defective}
            row = values | {"by": storable(by), "note": storable(note)}
            connection.execute(sa.insert(reviews).values(row))
        return review_json(row)

    # --- events -------------------------------------------------------------------------------------------------

    def add_event(
        self, kind: str, text: str, product: str | None = None, details: Mapping[str, Any] | None = None
    ) -> Json:
        """Record an event, and return its JSON.

        Parameters
        ----------
        kind : ``detector``, ``threshold``, ``drift``, ``storage``, ``output``, ``started``, ``stopped``, ...
        """
        values = {"kind": kind, "text": text, "product": product, "details": details}
        row = {key: storable(value) for key, value in values.items()} | {"time": time.time()}
        with self.database.transaction(writes=True) as connection:
            event_id: int = connection.execute(sa.insert(events).values(row).returning(events.c.id)).scalar_one()
            outbox.put(connection, self.outputs, event_ids=[event_id])
        return event_json(row | {"id": event_id})

    def events(self, since_id: int = 0, limit: int = 50, newest_first: bool = True) -> list[Json]:
        """The events after ``since_id``."""
        order = events.c.id.desc() if newest_first else events.c.id
        statement = sa.select(events).where(events.c.id > since_id).order_by(order).limit(limit)
        with self.database.transaction() as connection:
            return [event_json(row) for row in connection.execute(statement).mappings()]

    # --- products -----------------------------------------------------------------------------------------------

    def product_settings(self) -> dict[str, dict[str, Any]]:
        """The products by name: ``detector`` (SHA-256), ``settings``, ``changed`` (ISO 8601)."""
        with self.database.transaction() as connection:
            rows = connection.execute(sa.select(products).order_by(products.c.name)).mappings().all()
        return {
            row["name"]: {
                "detector": row["detector"], "settings": row["settings"], "changed": iso(row["changed"])
            }
            for row in rows
        }  # fmt: skip

    def set_product(self, name: str, detector: str | None, settings: Mapping[str, Any]) -> None:
        """Record a product, or what has changed of it."""
        name = short(name) or ""
        values = {"detector": storable(detector), "settings": storable(settings), "changed": time.time()}
        with self.database.transaction(writes=True) as connection:
            changed = connection.execute(sa.update(products).where(products.c.name == name).values(values))
            if not changed.rowcount:
                connection.execute(sa.insert(products).values(name=name, **values))

    def remove_product(self, name: str) -> None:
        """Forget what is set of a product; its verdicts stay."""
        with self.database.transaction(writes=True) as connection:
            connection.execute(sa.delete(products).where(products.c.name == name))

    # --- outputs ------------------------------------------------------------------------------------------------

    def due(self, output: str, limit: int = 100, now: float | None = None) -> list[Message]:
        """What an output has to deliver now, in order."""
        with self.database.transaction() as connection:
            return outbox.due(connection, output, limit, time.time() if now is None else now)

    def delivered(self, ids: Collection[int]) -> None:
        """Messages with these ids have been delivered."""
        with self.database.transaction(writes=True) as connection:
            outbox.remove(connection, ids)

    def failed(self, ids: Collection[int], error: str, due: float | None) -> None:
        """Messages could not be delivered: they are due again at a time (s since 1970), or set aside at None."""
        with self.database.transaction(writes=True) as connection:
            outbox.postpone(connection, ids, storable(error), due)

    def waiting(self, output: str) -> int:
        """How many messages an output has to deliver, now or later, without those that were set aside."""
        with self.database.transaction() as connection:
            return outbox.n_waiting(connection, output)

    # --- pictures -----------------------------------------------------------------------------------------------

    def pictures(self, verdict_id: int) -> Pictures | None:
        """The pictures of a part; None if there is no such verdict."""
        columns = verdicts.c.storage, verdicts.c.image, verdicts.c.overlay
        with self.database.transaction() as connection:
            found = sa.select(*columns).where(verdicts.c.id == queries.possible(verdict_id))
            row = connection.execute(found).first()
        return None if row is None else Pictures(*row)

    def drop_pictures(self, ids: Collection[int]) -> None:
        """Parts with these ids have no pictures any more; call it before the files are removed."""
        values = {"storage": None, "image": None, "overlay": None}
        with self.database.transaction(writes=True) as connection:
            for some in queries.pieces(ids):
                connection.execute(sa.update(verdicts).where(verdicts.c.id.in_(some)).values(values))

    def oldest_pictures(
        self,
        storage: str,
        verdict: str,
        *,
        reviewed: bool | None = None,
        before: float | None = None,
        product: str | None = None,
        other_than: Collection[str] = (),
        limit: int = 200,
    ) -> list[tuple[int, str | None, str | None]]:
        """Id, image and overlay of the oldest parts with pictures in a storage.

        Parameters
        ----------
        before : those until this time only, s since 1970.
        product, other_than : those of one product, or of all others than these.
        """
        with self.database.transaction() as connection:
            return queries.oldest_pictures(connection, storage, verdict, reviewed, before, product, other_than, limit)

    def unknown_pictures(self, storage: str, names: Collection[str], since: float, until: float) -> set[str]:
        """Those of the files of a storage that no part has; most are expected in rows of this span of time."""
        with self.database.transaction() as connection:
            return queries.unknown_pictures(connection, storage, names, since, until)

    def add_storage(self, storage: str, folder: str, host: str) -> None:
        """Record a folder with pictures, or where it is now."""
        place = {"folder": storable(folder), "host": storable(host)}
        with self.database.transaction(writes=True) as connection:
            moved = connection.execute(sa.update(storages).where(storages.c.id == storage).values(place))
            if not moved.rowcount:
                connection.execute(sa.insert(storages).values(id=storage, made=time.time(), **place))

    def storages(self) -> dict[str, dict[str, Any]]:
        """The folders with pictures of this record by id: ``folder``, ``host``."""
        with self.database.transaction() as connection:
            rows = connection.execute(sa.select(storages)).mappings().all()
        return {row["id"]: {"folder": row["folder"], "host": row["host"]} for row in rows}
