"""The tables of the record. A database is made and brought up to date by ``migrations`` alone."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()
VERSION_TABLE = "blemish_version"
"""Where alembic keeps the revision of a database; by its name a database is known as one of blemish."""
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("product", sa.Text, nullable=False),
    sa.Column("source", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("part", sa.Text),
    sa.Column("lot", sa.Text),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("score", sa.Double),
    sa.Column("threshold", sa.Double),
    sa.Column("is_defective", sa.Boolean),
    sa.Column("regions", sa.JSON, nullable=False),
    sa.Column("unlike", sa.JSON, nullable=False),
    sa.Column("detector", sa.Text),
    sa.Column("photograph", sa.Text),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("ms", sa.Double),
    sa.Column("image", sa.Text),
    sa.Column("overlay", sa.Text),
    sa.Column("storage", sa.Text),
    sa.Column("n_bytes", ID),
    sqlite_autoincrement=True,
)
"""A row for each photograph. Ids are in the order of commits. ``key`` is chosen by the writer, so that a transaction
whose answer got lost is not written twice. ``storage`` is the id of the folder that has the pictures, if any."""
sa.Index("verdicts_product", verdicts.c.product, verdicts.c.id)
sa.Index("verdicts_verdict", verdicts.c.verdict, verdicts.c.id)
sa.Index("verdicts_time", verdicts.c.time, verdicts.c.verdict)
sa.Index("verdicts_product_time", verdicts.c.product, verdicts.c.time, verdicts.c.verdict)
sa.Index("verdicts_part", verdicts.c.part, verdicts.c.id)
sa.Index("verdicts_lot", verdicts.c.lot, verdicts.c.id)
_HAS_PICTURES = verdicts.c.storage.is_not(None)
sa.Index(
    "verdicts_pictures", verdicts.c.storage, verdicts.c.verdict, verdicts.c.time,
    sqlite_where=_HAS_PICTURES, postgresql_where=_HAS_PICTURES,
)  # fmt: skip

reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=True),
    sa.Column("verdict_id", ID, sa.ForeignKey("verdicts.id"), nullable=False, index=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("is_defective", sa.Boolean, nullable=False),
    sa.Column("by", sa.Text),
    sa.Column("note", sa.Text),
    sqlite_autoincrement=True,
)
"""What people said of a part. All are kept; the newest counts."""

products = sa.Table(
    "products",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("detector", sa.Text),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("changed", sa.Double, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("product", sa.Text),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("details", sa.JSON),
    sqlite_autoincrement=True,
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=True),
    sa.Column("output", sa.Text, nullable=False),
    sa.Column("verdict_id", ID, sa.ForeignKey("verdicts.id")),
    sa.Column("event_id", ID, sa.ForeignKey("events.id")),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", sa.Double),
    sa.Column("error", sa.Text),
    sqlite_autoincrement=True,
)
"""What each output still has to deliver. ``due`` is NULL for what was set aside."""
sa.Index("outbox_due", outbox.c.output, outbox.c.due)

storages = sa.Table(
    "storages",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("made", sa.Double, nullable=False),
)
"""Folders with pictures of this record: several processes, each with its own, may share a database."""
