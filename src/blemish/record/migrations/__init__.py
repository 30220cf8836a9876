"""Migrations of the record, by alembic."""
