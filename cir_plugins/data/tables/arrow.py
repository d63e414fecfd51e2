"""Parquet files, and the folders that ``datasets`` saves, read with pyarrow."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from cir_plugins.data.tables.table import Cell, Table, cell_of, join
from cir_plugins.errors import CIRError
from cir_plugins.files import check_regular, read_json

if TYPE_CHECKING:
    import pyarrow as pa

V = TypeVar("V")
DATASET = "state.json"  # in the folder of a Dataset that was saved
DATASETS = "dataset_dict.json"  # in that of a DatasetDict
_IMAGE = {"bytes", "path"}  # members of an image of ``datasets``


def read_parquet(path: Path) -> Table:
    """The table of a Parquet file; rows count from 0, as pandas counts them.

    Raises:
        CIRError: If pyarrow is not installed, or the file cannot be read.
    """
    parquet = _pyarrow(path, "parquet")
    return _table(str(path), _read(path, lambda: parquet.ParquetFile(path).read()))


def read_saved_dataset(folder: Path) -> Table:
    """The table of a folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.

    The splits of the latter are in the column ``split``, unless they have one. Rows count from 0.

    Raises:
        CIRError: If pyarrow is not installed, or the folder is not whole.
    """
    if not (folder / DATASETS).is_file():
        return _read_dataset(folder)
    names = _members(folder / DATASETS, "splits")
    tables = {name: _read_dataset(folder / _inside(folder, name)) for name in names}
    return join(str(folder), tables)


def _read_dataset(folder: Path) -> Table:
    state = folder / DATASET
    files = [item.get("filename") for item in _members(state, "_data_files", dict)]
    content: Any = read_json(state)
    if content.get("_indices_data_files"):
        raise CIRError(
            f"{state} has rows in another order than its files, of an old version of datasets\n"
            "accepted: a folder that load_from_disk and save_to_disk have written anew"
        )
    pyarrow = _pyarrow(folder, "ipc")
    tables: list[pa.Table] = []
    for name in files:
        file = folder / _inside(folder, name)
        tables.append(_read(file, partial(_stream, pyarrow, file)))
    if not tables:
        raise CIRError(f"{state} names no data file")
    joined = _read(folder, lambda: _pyarrow(folder, "").concat_tables(tables))
    return _table(str(folder), joined)


def _members(file: Path, key: str, kind: type = str) -> list[Any]:
    """The list under a key of a file that ``datasets`` wrote."""
    content = read_json(file)
    members = content.get(key) if isinstance(content, dict) else None
    if isinstance(members, list) and all(isinstance(member, kind) for member in members):
        return members
    raise CIRError(f"{file} has no list '{key}'\naccepted: a folder that save_to_disk wrote")


def _inside(folder: Path, name: object) -> str:
    """A name that a file has for another one beside it."""
    if isinstance(name, str) and name and PurePath(name).name == name and "\0" not in name:
        return name
    raise CIRError(f"{folder} names a file that is not in it: {name!r:.80}")


def _pyarrow(path: Path, module: str) -> Any:
    try:
        import pyarrow as arrow
        import pyarrow.ipc as ipc
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise CIRError(
            f"{path} needs pyarrow; install it with: pip install 'cir-plugins[tables]'\n"
            "accepted without it: CSV, TSV, JSON Lines"
        ) from error
    return {"": arrow, "ipc": ipc, "parquet": parquet}[module]


def _stream(ipc: Any, file: Path) -> pa.Table:
    return ipc.open_stream(str(file)).read_all()


def _read(path: Path, read: Callable[[], V]) -> V:
    arrow = _pyarrow(path, "")
    try:
        check_regular(path)
        return read()
    except FileNotFoundError as error:
        raise CIRError(f"{path} does not exist") from error
    # pyarrow's own errors on damaged files are of these kinds too.
    except (arrow.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CIRError(f"{path} cannot be read: {reason[:200]}") from error


def _table(where: str, table: pa.Table) -> Table:
    cells: dict[str, tuple[Cell, ...]] = {}
    unread: list[str] = []
    names = [str(name).strip() for name in table.column_names]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise CIRError(f"{where}: the column '{twice[0]:.60}' is there more than once")
    for place, name in enumerate(names):
        column = _read(Path(where), partial(_cells, table.column(place)))
        if column is None:
            unread.append(name)
        else:
            cells[name] = column
    rows = tuple(map(str, range(table.num_rows)))
    return Table(where, rows, cells, tuple(unread))


def _cells(column: Any) -> tuple[Cell, ...] | None:
    """The cells of a column; None where they are no texts, numbers, booleans or lists of texts.

    Of an image of ``datasets`` the cell is its file name; its bytes are not read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_struct(kind) and {field.name for field in kind} == _IMAGE:
        column = pc.struct_field(column, "path")
        if column.null_count == len(column):
            return None
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_nested(kind):
        inner = getattr(kind, "value_type", None)
        if inner is None or not (pa.types.is_string(inner) or pa.types.is_large_string(inner)):
            return None
    pairs = [cell_of(_plain(value)) for value in column.to_pylist()]
    return tuple(cell for cell, _ in pairs) if all(fits for _, fits in pairs) else None


def _plain(value: object) -> object:
    """A date, a time or a decimal as the text or number that the other formats have."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value
