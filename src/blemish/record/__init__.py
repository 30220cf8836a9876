"""The record of every part that was judged: its row in a database, its pictures in a folder."""

from __future__ import annotations

from blemish.errors import BlemishError

try:
    import alembic
    import sqlalchemy
except ImportError as error:
    name = (error.name or "sqlalchemy").partition(".")[0]
    raise BlemishError(f'{name} is not installed; pip install "blemish[serve]"') from error

__all__ = ["alembic", "sqlalchemy"]
