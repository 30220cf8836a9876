"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables."""
    _make_verdicts()
    op.create_table(
        "reviews",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("verdict_id", ID, sa.ForeignKey("verdicts.id"), nullable=False, index=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("is_defective", sa.Boolean, nullable=False),
        sa.Column("by", sa.Text),
        sa.Column("note", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "products",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("detector", sa.Text),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("changed", sa.Double, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("product", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("details", sa.JSON),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "outbox",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("verdict_id", ID, sa.ForeignKey("verdicts.id")),
        sa.Column("event_id", ID, sa.ForeignKey("events.id")),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due", sa.Double),
        sa.Column("error", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_due", "outbox", ["output", "due"])
    op.create_table(
        "storages",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("made", sa.Double, nullable=False),
    )


def _make_verdicts() -> None:
    texts = ("source", "name", "part", "lot")
    table = op.create_table(
        "verdicts",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in texts),
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
    for name in ("product", "verdict", "part", "lot"):
        op.create_index(f"verdicts_{name}", "verdicts", [name, "id"])
    op.create_index("verdicts_time", "verdicts", ["time", "verdict"])
    op.create_index("verdicts_product_time", "verdicts", ["product", "time", "verdict"])
    has_pictures = table.c.storage.is_not(None)
    op.create_index(
        "verdicts_pictures", "verdicts", ["storage", "verdict", "time"],
        sqlite_where=has_pictures, postgresql_where=has_pictures,
    )  # fmt: skip
