"""The papers' tables and figures as grids of trainings: what each needs, and its results beside the paper's.

``base`` says what a table is made of; ``draem``, ``dsr`` and ``ssae`` define them; ``plan`` turns one into cells of
``fleet``, ``results`` reads what they gave, and ``page`` and ``text`` show it.
"""

from __future__ import annotations

from blemish.errors import BlemishError
from blemish.studies.tables import draem, dsr, ssae
from blemish.studies.tables.base import PaperTable

TABLES: dict[str, PaperTable] = {table.name: table for table in (*draem.TABLES, *dsr.TABLES, *ssae.TABLES)}
MEASUREMENTS = {
    "dsr-speed": "DSR's 58 images a second: how fast the paper's network inspects on this machine",
    "ssae-figure-8": "SSAE's figure 8: whether all pixels have the same distribution",
    "ssae-footnote-7": "SSAE's footnote 7: pairs of good images that violate the premise of theorem 2",
}
"""Tables and figures without a training, and what they show."""


def table_named(name: str) -> PaperTable:
    """The table with this name.

    Raises
    ------
    BlemishError
        If there is none; the message lists those that there are.
    """
    if name not in TABLES:
        raise BlemishError(f"no table {name!r}; there are: {', '.join([*TABLES, *MEASUREMENTS])}")
    return TABLES[name]
