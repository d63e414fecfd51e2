"""An index brought in line with a folder of pictures: written new, or changed where they have."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cir_plugins.config.plan import PlannedComponent
from cir_plugins.config.resolve import plan_component
from cir_plugins.distributed.rendezvous import rank_and_world_size
from cir_plugins.errors import CIRError
from cir_plugins.files import remove_stale
from cir_plugins.plugins.registry import Registry
from cir_plugins.retriever import Retriever
from cir_plugins.runs.lock import run_lock
from cir_plugins.search.build import (
    Pictures,
    Staging,
    Vectors,
    content_rows,
    encode_new,
    lasting_keys,
    lock_of,
    look_at,
)
from cir_plugins.search.columns import Column, Strings
from cir_plugins.search.metadata import Metadata, columns_of
from cir_plugins.search.model import model_fingerprint, model_of
from cir_plugins.search.storage import (
    FORMAT,
    RECORD,
    IndexRecord,
    Stored,
    Table,
    column_records,
    read_index_record,
    row_blocks,
    write_index_record,
    write_table,
    write_vectors,
)
from cir_plugins.types import IndexBackend

BLOCK = 4096  # pictures whose vectors are written at a time
# Vectors that a backend gets at a time. Some learn of the first ones: 6,700 lists of faiss at most.
ENTRIES = 262_144
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """What became of the pictures of an index.

    Attributes:
        pictures: How many it has now.
        added: New ones.
        changed: Those whose files hold something else than before.
        removed: Those that are gone.
        left_out: Id -> why it cannot be read.
    """

    pictures: int
    added: int
    changed: int
    removed: int
    left_out: Mapping[str, str]


def backend_folder(folder: Path, name: str) -> Path:
    """Where a backend keeps its store."""
    return folder / f"backend-{name}"


def plan_backend(registry: Registry, backend: str | Mapping[str, Any]) -> PlannedComponent:
    """A search backend with its options checked.

    Raises:
        CIRError: If the name or an option is unknown.
    """
    table = {"name": backend} if isinstance(backend, str) else dict(backend)
    name = table.pop("name", "exact")
    return plan_component(registry, "index", str(name), table)


def update_index(
    retriever: Retriever,
    images: Mapping[str, Path],
    out: Path,
    *,
    root: Path | None,
    metadata: Metadata | None,
    backend: PlannedComponent,
    group: str,
    batch_size: int,
    progress: bool,
) -> Changes | None:
    """Bring an index in line with pictures; None while other processes are at work.

    Args:
        retriever: The model.
        images: Id -> file, in gallery order.
        out: Folder of the index; new, or one that the same model made.
        root: Folder that the ids are paths below; None where they are not.
        metadata: Of the pictures; see ``columns_of``.
        backend: The search backend.
        group: Field whose equal values make pictures views of one product; "" for none.
        batch_size: Pictures per forward pass.
        progress: Whether bars are shown.

    Raises:
        CIRError: If the folder is in use or of another model, the metadata does not fit, or the
            disk is full.
    """
    rank, world_size = rank_and_world_size()
    with run_lock(out, "writes an index") if world_size == 1 else nullcontext():
        fingerprint = model_fingerprint(retriever)
        before = _before(out, fingerprint)
        pictures = look_at(images, before, progress)
        staging = Staging(out / "staging", fingerprint)
        # Errors before anything is encoded.
        _check_group(group, columns_of(metadata, list(pictures.paths)))
        settings = batch_size, progress and rank == 0, rank, world_size
        if not encode_new(retriever, pictures, staging, _known(before), settings):
            return None
        with lock_of(out) if world_size > 1 else nullcontext():
            # Another process may have written it meanwhile.
            current = _before(out, fingerprint) if world_size > 1 else before
            if world_size == 1:
                remove_stale(out)
            vectors = Source(current, staging.vectors())
            _leave_out(pictures, vectors)
            table = _table(pictures, root, columns_of(metadata, list(pictures.paths)))
            _check_group(group, table.columns)
            facts = {
                **model_of(retriever),
                "backend": backend.name,
                "backend_options": dict(backend.options),
                "group": group,
                "fingerprint": fingerprint,
                "root": str(root.absolute()) if root else "",
                "left_out": pictures.left_out,
            }
            record = _write(out, table, vectors, list(pictures.contents.values()), facts)
            _commit(out, record, table, backend)
            staging.remove()
    return _changes(before, pictures)


def _table(pictures: Pictures, root: Path | None, columns: tuple[Column, ...]) -> Table:
    names, contents = list(pictures.paths), list(pictures.contents.values())
    return Table(
        Strings.of(names),
        lasting_keys(names, contents),
        content_rows(contents),
        torch.tensor(list(pictures.stamps.values()), dtype=torch.int64).view(-1, 2),
        None if root else Strings.of([str(path.absolute()) for path in pictures.paths.values()]),
        columns,
    )


def _check_group(group: str, columns: tuple[Column, ...]) -> None:
    names = [column.name for column in columns]
    if group and group not in names:
        raise CIRError(
            f"--group '{group}' is no field of the metadata; "
            f"accepted: {', '.join(names) or 'none: there is none'}"
        )


def _before(out: Path, fingerprint: str) -> Stored | None:
    """The index that is there, if any."""
    if not (out / RECORD).exists():
        return None
    record = read_index_record(out)
    if record.fingerprint != fingerprint:
        raise CIRError(
            f"index {out} was made with another model ({record.method} on {record.backbone}, "
            f"fingerprint {record.fingerprint[:12]}, not {fingerprint[:12]})\n"
            "accepted: another --out, or the folder removed first"
        )
    return Stored.open(out)


def _known(before: Stored | None) -> dict[str, int]:
    """Content -> row of the vectors that are there."""
    if before is None:
        return {}
    contents = before.table.contents.numpy()
    return {contents[row].tobytes().hex(): row for row in range(len(before) - 1, -1, -1)}


class Source:
    """Vectors by the content of their files: those of the index before, and those that wait.

    Args:
        before: The index before, if any.
        waiting: Vectors in shards.
    """

    def __init__(self, before: Stored | None, waiting: Vectors) -> None:
        self.waiting, self._known = waiting, _known(before)
        self._vectors = None if before is None else before.vectors

    def __contains__(self, content: str) -> bool:
        return content in self._known or content in self.waiting

    def __getitem__(self, content: str) -> Tensor:
        if self._vectors is not None and content in self._known:
            return self._vectors[self._known[content]]
        return self.waiting[content]

    def blocks(self, contents: list[str]) -> Iterator[Tensor]:
        """The vectors of files in blocks."""
        for rows in row_blocks(len(contents), BLOCK):
            yield torch.stack([self[contents[row]] for row in rows])


def _leave_out(pictures: Pictures, vectors: Source) -> None:
    """Take the pictures that could not be decoded out of those of the index."""
    for name, content in tuple(pictures.contents.items()):
        if content not in vectors:
            why = vectors.waiting.broken.get(content, "its file changed while it was encoded")
            pictures.left_out[name] = why
            for table in (pictures.paths, pictures.stamps, pictures.contents):
                del table[name]
    if not pictures.paths:
        first = next(iter(pictures.left_out.values()), "there is none")
        raise CIRError(f"no picture can be indexed, such as: {first}")


def _write(
    out: Path, table: Table, vectors: Source, contents: list[str], facts: Mapping[str, Any]
) -> IndexRecord:
    """The record of an index whose files have been written."""
    sizes = tuple(vectors[contents[0]].shape)
    shape = (len(contents), *sizes)
    return IndexRecord(
        format=FORMAT,
        **facts,
        pictures=len(contents),
        dimension=sizes[-1],
        tokens=sizes[0] if len(sizes) == 2 else 0,
        columns=column_records(table.columns),
        vectors=write_vectors(out, shape, vectors.blocks(contents)),
        table=write_table(out, table),
    )


def _commit(out: Path, record: IndexRecord, table: Table, planned: PlannedComponent) -> None:
    """Write the record between adding to the backend's store and removing from it.

    Whichever record counts when a process is killed, its pictures are in the store, and what is
    there beside them is never a hit.
    """
    backend: IndexBackend = planned.build()
    if not backend.stores:
        write_index_record(out, record)
        return
    store = backend_folder(out, planned.name)
    remove_stale(store)
    with planned.guarded(f"index '{planned.name}' cannot be written"):
        backend.open(store, record.dimension)
        held, keys = backend.keys(), table.keys
        new = (~torch.isin(keys, held)).nonzero().flatten()
        vectors = _mapped(out, record)
        tokens = vectors.shape[1] if vectors.dim() == 3 else 1
        # In an order of chance, so that the first ones, of which some stores learn, stand for all.
        order = torch.randperm(len(new), generator=torch.Generator().manual_seed(0))
        for block in torch.split(new[order], max(1, ENTRIES // tokens)):
            rows = block.sort().values
            backend.add(keys[rows].repeat_interleave(tokens), vectors[rows].flatten(0, -2))
        backend.flush()
        write_index_record(out, record)
        old = held[~torch.isin(held, keys)]
        if len(old):
            backend.remove(old)
            backend.flush()


def _mapped(out: Path, record: IndexRecord) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.load(out / record.vectors.name, mmap_mode="c"))


def _changes(before: Stored | None, pictures: Pictures) -> Changes:
    old = {}
    if before is not None:
        hashes = before.table.contents.numpy()
        old = {name: hashes[row].tobytes().hex() for row, name in enumerate(before.ids)}
    now = pictures.contents
    return Changes(
        len(now),
        sum(name not in old for name in now),
        sum(name in old and old[name] != content for name, content in now.items()),
        sum(name not in now for name in old),
        dict(pictures.left_out),
    )
