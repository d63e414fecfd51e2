"""Tables of users: CSV, TSV, JSON Lines, JSON, Parquet and folders that ``datasets`` saved."""

from __future__ import annotations

from cir_plugins.data.tables.delimited import Encoding, csv_bytes
from cir_plugins.data.tables.read import ENDINGS, is_saved_dataset, read_table
from cir_plugins.data.tables.table import Cell, Column, Kind, Table, join, text_of

__all__ = [
    "ENDINGS",
    "Cell",
    "Column",
    "Encoding",
    "Kind",
    "Table",
    "csv_bytes",
    "is_saved_dataset",
    "join",
    "read_table",
    "text_of",
]
