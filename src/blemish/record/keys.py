"""The keys of verdicts that files got: by them it is known which files have been inspected."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from blemish.record.record import VerdictRecord
from blemish.record.tables import verdicts

_AT_ONCE = 10_000


def keys_of(record: VerdictRecord, product: str, after_id: int = 0) -> Iterator[tuple[int, str]]:
    """Ids and keys of a product's verdicts after an id, in order."""
    columns = sa.select(verdicts.c.id, verdicts.c.key).where(verdicts.c.product == product)
    while True:
        page = columns.where(verdicts.c.id > after_id).order_by(verdicts.c.id).limit(_AT_ONCE)
        with record.database.transaction() as connection:
            rows = [(row.id, row.key) for row in connection.execute(page)]
        yield from rows
        if len(rows) < _AT_ONCE:
            return
        after_id = rows[-1][0]
