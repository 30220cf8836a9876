"""The outbox: what each output still has to deliver, in the same transaction as what it tells of."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Literal

import sqlalchemy as sa

from blemish.record import queries
from blemish.record.rows import Json, Message, event_json, verdict_json
from blemish.record.tables import events, outbox, verdicts


def put(
    connection: sa.Connection,
    outputs: Sequence[str],
    *,
    verdict_ids: Sequence[int] = (),
    event_ids: Sequence[int] = (),
) -> None:
    """Let verdicts and events wait for each output."""
    of = [{"verdict_id": id_, "event_id": None} for id_ in verdict_ids]
    of += [{"verdict_id": None, "event_id": id_} for id_ in event_ids]
    now = time.time()
    rows = [{"output": output, "attempts": 0, "due": now, **item} for item in of for output in outputs]
    if rows:
        connection.execute(sa.insert(outbox), rows)


def due(connection: sa.Connection, output: str, limit: int, now: float) -> list[Message]:
    """The messages of an output that are due, in the order in which they came."""
    columns = outbox.c.id, outbox.c.verdict_id, outbox.c.event_id, outbox.c.attempts
    statement = sa.select(*columns).where(outbox.c.output == output, outbox.c.due <= now)
    rows = connection.execute(statement.order_by(outbox.c.id).limit(limit)).all()
    payloads = _verdicts(connection, [row.verdict_id for row in rows if row.verdict_id is not None])
    event_ids = [row.event_id for row in rows if row.event_id is not None]
    for some in queries.pieces(event_ids):
        found = connection.execute(sa.select(events).where(events.c.id.in_(some))).mappings()
        payloads |= {("event", row["id"]): event_json(row) for row in found}
    messages = list[Message]()
    for row in rows:
        kind: Literal["verdict", "event"] = "event" if row.verdict_id is None else "verdict"
        payload = payloads[kind, row.event_id if row.verdict_id is None else row.verdict_id]
        messages.append(Message(row.id, output, kind, payload, row.attempts))
    return messages


def _verdicts(connection: sa.Connection, ids: Collection[int]) -> dict[tuple[str, int], Json]:
    newest = queries.newest_reviews(connection, ids)
    payloads = dict[tuple[str, int], Json]()
    for some in queries.pieces(ids):
        for row in connection.execute(sa.select(verdicts).where(verdicts.c.id.in_(some))).mappings():
            payloads["verdict", row["id"]] = verdict_json(row, newest.get(row["id"]))
    return payloads


def remove(connection: sa.Connection, ids: Collection[int]) -> None:
    """Remove messages that have been delivered."""
    for some in queries.pieces(ids):
        connection.execute(sa.delete(outbox).where(outbox.c.id.in_(some)))


def postpone(connection: sa.Connection, ids: Collection[int], error: str, until: float | None) -> None:
    """Count an attempt that failed, and set when the next is due; None sets the messages aside."""
    values = {"attempts": outbox.c.attempts + 1, "due": until, "error": error}
    for some in queries.pieces(ids):
        connection.execute(sa.update(outbox).where(outbox.c.id.in_(some)).values(values))


def n_waiting(connection: sa.Connection, output: str) -> int:
    """How many messages of an output are due now or later."""
    statement = sa.select(sa.func.count()).where(outbox.c.output == output, outbox.c.due.is_not(None))
    return connection.execute(statement).scalar_one()
