"""What is asked of the table of verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa

from blemish.record.rows import VERDICTS, Json, review_json, short, verdict_json
from blemish.record.tables import reviews, verdicts

AT_ONCE = 1000
"""Values in one condition; databases have a limit."""
Filters = Sequence[sa.ColumnElement[bool]]


def pieces(values: Collection[int] | Collection[str]) -> Iterator[list[int | str]]:
    """Values in pieces that a database takes."""
    every: list[int | str] = [*values]
    for start in range(0, len(every), AT_ONCE):
        yield every[start : start + AT_ONCE]


def possible(id_: int) -> int:
    """An id, or one that no row has if a database cannot take it."""
    return id_ if abs(id_) < 2**63 else -1


def ids_of(connection: sa.Connection, keys: Collection[str]) -> dict[str, int]:
    """The ids of the verdicts with these keys, as far as there are any."""
    found = dict[str, int]()
    for some in pieces(keys):
        rows = connection.execute(sa.select(verdicts.c.key, verdicts.c.id).where(verdicts.c.key.in_(some)))
        found |= {row.key: row.id for row in rows}
    return found


def filters(
    product: str | None = None,
    since: float | None = None,
    until: float | None = None,
    verdict: str | None = None,
    reviewed: bool | None = None,
    part: str | None = None,
    lot: str | None = None,
) -> list[sa.ColumnElement[bool]]:
    """The conditions of a search; see ``VerdictRecord.verdicts``."""
    of = verdicts.c
    equal = ((of.product, product), (of.verdict, verdict), (of.part, part), (of.lot, lot))
    conditions = [column == short(value) for column, value in equal if value is not None]
    conditions += [of.time >= since] if since is not None else []
    conditions += [of.time < until] if until is not None else []
    if reviewed is not None:
        are_reviewed = sa.select(reviews.c.verdict_id)
        has_none = ~sa.exists().where(reviews.c.verdict_id == of.id)
        conditions.append(of.id.in_(are_reviewed) if reviewed else has_none)  # each in the way that is fast
    return conditions


def page(
    connection: sa.Connection, conditions: Filters, cursor: int | None, limit: int, newest_first: bool
) -> tuple[list[Json], int | None]:
    """A page of verdicts, and the cursor of the next one."""
    of_id = verdicts.c.id
    statement = sa.select(verdicts).where(*conditions).order_by(of_id.desc() if newest_first else of_id)
    limit = max(1, limit)
    if cursor is not None:
        cursor = max(-(2**62), min(cursor, 2**62))
        statement = statement.where(of_id < cursor if newest_first else of_id > cursor)
    rows = connection.execute(statement.limit(limit + 1)).mappings().all()
    shown = rows[:limit]
    newest = newest_reviews(connection, [row["id"] for row in shown])
    following = shown[-1]["id"] if len(rows) > limit and shown else None
    return [verdict_json(row, newest.get(row["id"])) for row in shown], following


def newest_reviews(connection: sa.Connection, ids: Collection[int]) -> dict[int, Json]:
    """The newest review of each verdict that has one."""
    found = dict[int, Json]()
    for some in pieces(ids):
        statement = sa.select(reviews).where(reviews.c.verdict_id.in_(some)).order_by(reviews.c.id)
        found |= {row["verdict_id"]: review_json(row) for row in connection.execute(statement).mappings()}
    return found


def oldest_pictures(
    connection: sa.Connection,
    storage: str,
    verdict: str,
    reviewed: bool | None,
    before: float | None,
    product: str | None,
    other_than: Collection[str],
    limit: int,
) -> list[tuple[int, str | None, str | None]]:
    """See ``VerdictRecord.oldest_pictures``."""
    of = verdicts.c
    conditions = [of.storage == storage, *filters(product=product, verdict=verdict, until=before, reviewed=reviewed)]
    if other_than:
        conditions.append(of.product.not_in(other_than))
    statement = sa.select(of.id, of.image, of.overlay).where(*conditions).order_by(of.time).limit(limit)
    return [(row.id, row.image, row.overlay) for row in connection.execute(statement)]


def unknown_pictures(
    connection: sa.Connection, storage: str, names: Collection[str], since: float, until: float
) -> set[str]:
    """See ``VerdictRecord.unknown_pictures``."""
    of = verdicts.c
    unknown = set(names)
    for verdict in VERDICTS:
        conditions = [of.storage == storage, *filters(verdict=verdict, since=since, until=until)]
        for row in connection.execute(sa.select(of.image, of.overlay).where(*conditions)):
            unknown -= {row.image, row.overlay}
    for some in pieces(unknown):  # few are left; a row may have another time than its pictures
        is_one = sa.or_(of.image.in_(some), of.overlay.in_(some))
        for row in connection.execute(sa.select(of.image, of.overlay).where(of.storage == storage, is_one)):
            unknown -= {row.image, row.overlay}
    return unknown
