"""An index on disk: ``index.json`` names the files it consists of and holds their checksums.

The files are written first, each whole or not at all, under names that say what they hold; then
``index.json`` is, which makes them the index; then what it no longer names is removed. So there is
a whole index, the old one or the new, whenever a process is killed. Vectors are read memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field as Bounds
from torch import Tensor

from cir_plugins.config.records import StoredRecord, read_record
from cir_plugins.encoding.checksums import in_threads, json_checksum
from cir_plugins.encoding.fingerprint import new_digest
from cir_plugins.errors import CIRError
from cir_plugins.files import read_json, write_json, writing
from cir_plugins.search.columns import Column, Kind, Strings

FORMAT = 1
RECORD = "index.json"
VECTORS, TABLE = "vectors", "table"
_SUFFIXES = {VECTORS: ".npy", TABLE: ".safetensors"}
_PART = 16 * 2**20  # bytes that are hashed at a time
_Count = Annotated[int, Bounds(ge=0)]


class FileRecord(StoredRecord):
    """A file of an index: its name, size in bytes, and checksum."""

    name: str
    size: _Count
    checksum: str


class ColumnRecord(StoredRecord):
    """A column of the metadata; its values are in the table."""

    name: str
    kind: Kind
    whole: bool


class IndexRecord(StoredRecord):
    """``index.json``.

    Attributes:
        format: Version of the layout.
        method: Name of the method.
        backbone: Name of the backbone.
        backend: Name of the search backend.
        backend_options: Its options.
        group: Field whose equal values make pictures views of one product; "" for none.
        pictures: Number of pictures, N.
        dimension: D.
        tokens: T; 0 where each picture has one vector.
        fingerprint: Hash of all that the vectors depend on beside the pictures.
        run: Folder of the run whose weights made it; "" for a method without one.
        config: Config of the method where there is no run.
        root: Folder of the pictures; "" where their paths are in the table.
        left_out: Pictures that cannot be read: id -> why.
        columns: The metadata.
        vectors: Their file.
        table: File of ids, keys, files and metadata.
    """

    format: int
    method: str
    backbone: str
    backend: str
    backend_options: dict[str, Any]
    group: str
    pictures: _Count
    dimension: _Count
    tokens: _Count
    fingerprint: str
    run: str
    config: dict[str, Any]
    root: str
    left_out: dict[str, str]
    columns: tuple[ColumnRecord, ...]
    vectors: FileRecord
    table: FileRecord


@dataclass
class Table:
    """What an index knows of its pictures, beside their vectors.

    Attributes:
        ids: Of the N pictures, in gallery order.
        keys: (N,) int64.
        contents: (N, 16) uint8, hash of each file's bytes.
        stamps: (N, 2) int64, size in bytes and time of change in ns of each file.
        paths: Their files; None where they are root / id.
        columns: The metadata.
    """

    ids: Strings
    keys: Tensor
    contents: Tensor
    stamps: Tensor
    paths: Strings | None
    columns: tuple[Column, ...]

    def tensors(self) -> dict[str, Tensor]:
        """All of it as tensors by name."""
        tensors = {"keys": self.keys, "contents": self.contents, "stamps": self.stamps}
        tensors |= _packed("ids", self.ids)
        if self.paths is not None:
            tensors |= _packed("paths", self.paths)
        for number, column in enumerate(self.columns):
            tensors[f"column{number}"] = column.values
            if column.kind == "text":
                tensors |= _packed(f"words{number}", Strings.of(column.words))
        return tensors

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], columns: Sequence[ColumnRecord]) -> Table:
        """The table of the tensors that ``tensors`` gave."""
        return cls(
            _unpacked("ids", tensors),
            tensors["keys"],
            tensors["contents"],
            tensors["stamps"],
            _unpacked("paths", tensors) if "paths.ends" in tensors else None,
            tuple(
                Column(
                    each.name,
                    each.kind,
                    each.whole,
                    tensors[f"column{number}"],
                    tuple(_unpacked(f"words{number}", tensors).all())
                    if each.kind == "text"
                    else (),
                )
                for number, each in enumerate(columns)
            ),
        )


def _packed(name: str, strings: Strings) -> dict[str, Tensor]:
    return {f"{name}.text": strings.text, f"{name}.ends": strings.ends}


def _unpacked(name: str, tensors: Mapping[str, Tensor]) -> Strings:
    return Strings(tensors[f"{name}.text"], tensors[f"{name}.ends"])


def column_records(columns: Sequence[Column]) -> tuple[ColumnRecord, ...]:
    """The records of a table's columns."""
    return tuple(ColumnRecord(name=c.name, kind=c.kind, whole=c.whole) for c in columns)


class Stored:
    """An index on disk, its files verified.

    Attributes:
        folder: Its folder.
        record: ``index.json``.
        vectors: (N, D) or (N, T, D) float32, memory-mapped.
        table: The rest.
    """

    def __init__(self, folder: Path, record: IndexRecord, vectors: Tensor, table: Table) -> None:
        self.folder, self.record = folder, record
        self.vectors, self.table = vectors, table

    @classmethod
    def open(cls, folder: Path) -> Stored:
        """The index in a folder.

        Raises:
            CIRError: If there is none, another version wrote it, or it is damaged.
        """
        record = read_index_record(folder)
        try:
            vectors, table = _read_files(folder, record)
        except CIRError:
            newer = read_index_record(folder)
            if newer == record:
                raise
            record = newer  # another process has just written a new one
            vectors, table = _read_files(folder, record)
        return cls(folder, record, vectors, table)

    def __len__(self) -> int:
        return self.record.pictures

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Of the pictures, in gallery order."""
        return tuple(self.table.ids.all())

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Id -> row."""
        return {name: row for row, name in enumerate(self.ids)}

    @cached_property
    def columns(self) -> dict[str, Column]:
        """The metadata by name."""
        return {column.name: column for column in self.table.columns}

    def path(self, row: int) -> Path:
        """The file of a picture."""
        if self.table.paths is not None:
            return Path(self.table.paths[row])
        return Path(self.record.root) / self.table.ids[row]


def read_index_record(folder: Path) -> IndexRecord:
    """What ``index.json`` holds.

    Raises:
        CIRError: If it is missing, damaged, or of another version.
    """
    path = folder / RECORD
    if not path.exists():
        raise CIRError(f"{folder} is no index: it has no {RECORD}\naccepted: what cir index wrote")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        number = content.get("format") if isinstance(content, dict) else None
        raise CIRError(f"index {folder} has format {number!r:.40}; accepted: {FORMAT}")
    checksum = content.pop("checksum", None)
    if checksum != json_checksum(content):
        raise CIRError(f"{path} is damaged: its checksum differs\nwrite the index again")
    return read_record(IndexRecord, content, str(path))


def write_index_record(folder: Path, record: IndexRecord) -> None:
    """Make an index of the files that a record names, and remove the others.

    Raises:
        CIRError: If it cannot be written.
    """
    content = record.model_dump(mode="json")
    write_json(folder / RECORD, {**content, "checksum": json_checksum(content)})
    remove_others(folder, {record.vectors.name, record.table.name})


def remove_others(folder: Path, kept: Iterable[str]) -> None:
    """Remove files of an index that are not of these names."""
    for kind, suffix in _SUFFIXES.items():
        for path in folder.glob(f"{kind}-*{suffix}"):
            if path.name not in kept:
                with suppress(OSError):
                    path.unlink()


def write_vectors(folder: Path, shape: Sequence[int], blocks: Iterable[Tensor]) -> FileRecord:
    """Write vectors that come in blocks of rows, and return their record.

    Args:
        folder: Of the index.
        shape: (N, D) or (N, T, D).
        blocks: Float32 rows, in order.

    Raises:
        CIRError: If the disk is full or cannot be written.
    """
    temporary = folder / f"{VECTORS}-new{_SUFFIXES[VECTORS]}"
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    with writing(temporary) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.contiguous().numpy().astype("<f4", copy=False).data)
    return _named(temporary, VECTORS)


def write_table(folder: Path, table: Table) -> FileRecord:
    """Write a table, and return its record.

    Raises:
        CIRError: If the disk is full or cannot be written.
    """
    from safetensors.torch import save

    temporary = folder / f"{TABLE}-new{_SUFFIXES[TABLE]}"
    tensors = {name: value.contiguous() for name, value in table.tensors().items()}
    with writing(temporary) as file:
        file.write(save(tensors))
    return _named(temporary, TABLE)


def _named(temporary: Path, kind: str) -> FileRecord:
    """The record of a file, which gets the name of its checksum."""
    checksum, size = file_checksum(temporary), temporary.stat().st_size
    name = f"{kind}-{checksum}{_SUFFIXES[kind]}"
    temporary.replace(temporary.with_name(name))
    return FileRecord(name=name, size=size, checksum=checksum)


def file_checksum(path: Path) -> str:
    """Hash of a file's bytes, parts of it at a time in a few threads.

    Raises:
        OSError: If it cannot be read.
    """
    size = path.stat().st_size

    def part(start: int) -> str:
        digest = new_digest()
        with path.open("rb") as file:
            file.seek(start)
            digest.update(file.read(_PART))
        return digest.hexdigest()

    whole = new_digest()
    whole.update("\n".join([str(size), *in_threads(part, range(0, size, _PART))]).encode())
    return whole.hexdigest()


def _read_files(folder: Path, record: IndexRecord) -> tuple[Tensor, Table]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for each in (record.vectors, record.table):
        _verify(folder, each)
    try:
        array = np.load(folder / record.vectors.name, mmap_mode="c", allow_pickle=False)
        table = Table.of(load_file(folder / record.table.name), record.columns)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CIRError(f"index {folder} cannot be read: {error}") from error
    tokens = (record.tokens,) if record.tokens else ()
    if array.shape != (record.pictures, *tokens, record.dimension) or len(table.ids) != len(array):
        raise CIRError(f"index {folder} is damaged: its files do not belong together")
    return torch.from_numpy(array), table


def _verify(folder: Path, record: FileRecord) -> None:
    path = folder / record.name
    if Path(record.name).name != record.name:
        raise CIRError(f"index {folder} is damaged: it names a file outside of it")
    try:
        fits = path.stat().st_size == record.size and file_checksum(path) == record.checksum
    except OSError as error:
        raise CIRError(f"index {folder}: {record.name} cannot be read: {error.strerror}") from error
    if not fits:
        raise CIRError(
            f"index {folder} is damaged: {record.name} does not hold what was written\n"
            "remove the folder and write the index again"
        )


def row_blocks(count: int, size: int) -> Iterator[range]:
    """Rows in blocks."""
    return (range(first, min(first + size, count)) for first in range(0, count, size))
