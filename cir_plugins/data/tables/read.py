"""Any table, by the ending of its name."""

from __future__ import annotations

from pathlib import Path

from cir_plugins.data.tables.arrow import DATASET, DATASETS, read_parquet, read_saved_dataset
from cir_plugins.data.tables.delimited import Encoding, read_delimited
from cir_plugins.data.tables.lines import read_json_lines, read_json_list
from cir_plugins.data.tables.table import Table
from cir_plugins.errors import CIRError

ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet")
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def read_table(path: Path, encoding: Encoding = "auto") -> Table:
    """The table of a file, or of a folder that ``datasets`` saved.

    Args:
        path: A file that ends in .csv, .tsv, .txt, .jsonl, .ndjson, .json or .parquet, or a folder
            that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.
        encoding: Of a text file; ``auto``: by its byte order mark, without one UTF-8.

    Raises:
        CIRError: If it is none of these or cannot be read.
    """
    path = Path(path)
    if is_saved_dataset(path):
        return read_saved_dataset(path)
    ending = path.suffix.lower()
    if ending == ".parquet":
        return read_parquet(path)
    if ending in (".jsonl", ".ndjson"):
        return read_json_lines(path, encoding)
    if ending == ".json":
        return read_json_list(path, encoding)
    if ending in ENDINGS:
        return read_delimited(path, encoding)
    if ending in _SHEETS:
        hint = "a spreadsheet's own format; save it as 'CSV UTF-8'"
    else:
        hint = f"no table\naccepted: a file that ends in {', '.join(ENDINGS)}, or a saved dataset"
    raise CIRError(f"{path} is {hint}")


def is_saved_dataset(path: Path) -> bool:
    """Whether a path is a folder that ``datasets`` saved."""
    return (path / DATASET).is_file() or (path / DATASETS).is_file()
