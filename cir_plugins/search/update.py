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
from cir_plugins.search.columns import Strings
from cir_plugins.search.metadata import Metadata, columns_of
from cir_plugins.search.model import model_fingerprint, model_of
from cir_plugins.search.storage import (
    FORMAT,
    RECORD,
    ColumnRecord,
    IndexRecord,
    Stored,
    Table,
    read_index_record,
    row_blocks,
    write_index_record,
    write_table,
    write_vectors,
)
from cir_plugins.types import IndexBackend

BLOCK = 4096  # pictures whose vectors are written, or given to a backend, at a time
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
        known = _known(before)
        staging = Staging(out / "staging", fingerprint)
        columns_of(metadata, list(pictures.paths))  # errors before anything is encoded
        settings = batch_size, progress and rank == 0, rank, world_size
        if not encode_new(retriever, pictures, staging, known, settings):
            return None
        with lock_of(out) if world_size > 1 else nullcontext():
            if world_size > 1:  # another process may have written it meanwhile
                known = _known(current := _before(out, fingerprint))
            else:
                current = before
                remove_stale(out, seconds=0)
            vectors = staging.vectors()
            _leave_out(pictures, vectors, known)
            columns = columns_of(metadata, list(pictures.paths))
            if group and group not in {column.name for column in columns}:
                raise CIRError(
                    f"--group '{group}' is no field of the metadata; "
                    f"accepted: {', '.join(c.name for c in columns) or 'none: there is none'}"
                )
            names, contents = list(pictures.paths), list(pictures.contents.values())
            table = Table(
                Strings.of(names),
                lasting_keys(names, contents),
                content_rows(contents),
                torch.tensor(list(pictures.stamps.values()), dtype=torch.int64).view(-1, 2),
                None if root else Strings.of([str(p.absolute()) for p in pictures.paths.values()]),
                columns,
            )
            sizes = _vector_shape(current, vectors, contents)
            record = IndexRecord(
                format=FORMAT,
                **model_of(retriever),
                backend=backend.name,
                backend_options=dict(backend.options),
                group=group,
                pictures=len(names),
                dimension=sizes[-1],
                tokens=sizes[0] if len(sizes) == 2 else 0,
                fingerprint=fingerprint,
                root=str(root.absolute()) if root else "",
                left_out=pictures.left_out,
                columns=tuple(
                    ColumnRecord(name=c.name, kind=c.kind, whole=c.whole) for c in columns
                ),
                vectors=write_vectors(
                    out, (len(names), *sizes), _blocks(current, vectors, known, contents)
                ),
                table=write_table(out, table),
            )
            _commit(out, record, table, backend)
            staging.remove()
    return _changes(before, pictures)


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


def _leave_out(pictures: Pictures, vectors: Vectors, known: Mapping[str, int]) -> None:
    """Take the pictures that could not be decoded out of those of the index."""
    for name, content in tuple(pictures.contents.items()):
        if content not in known and content not in vectors:
            why = vectors.broken.get(content, "its file changed while it was encoded")
            pictures.left_out[name] = why
            for table in (pictures.paths, pictures.stamps, pictures.contents):
                del table[name]  # type: ignore[attr-defined]
    if not pictures.paths:
        first = next(iter(pictures.left_out.values()), "there is none")
        raise CIRError(f"no picture can be indexed, such as: {first}")


def _vector_shape(before: Stored | None, vectors: Vectors, contents: list[str]) -> tuple[int, ...]:
    """(D,) or (T, D)."""
    if before is not None:
        return tuple(before.vectors.shape[1:])
    return tuple(vectors[contents[0]].shape)


def _blocks(
    before: Stored | None, vectors: Vectors, known: Mapping[str, int], contents: list[str]
) -> Iterator[Tensor]:
    for rows in row_blocks(len(contents), BLOCK):
        yield torch.stack([_vector(before, vectors, known, contents[row]) for row in rows])


def _vector(
    before: Stored | None, vectors: Vectors, known: Mapping[str, int], content: str
) -> Tensor:
    if before is not None and content in known:
        return before.vectors[known[content]]
    return vectors[content]


def _commit(out: Path, record: IndexRecord, table: Table, planned: PlannedComponent) -> None:
    """Write the record between adding to the backend's store and removing from it.

    Whichever record counts when a process is killed, its pictures are in the store, and what is
    there beside them is never a hit.
    """
    backend: IndexBackend = planned.build()
    if not backend.stores:
        write_index_record(out, record)
        return
    with planned.guarded(f"index '{planned.name}' cannot be written"):
        backend.open(backend_folder(out, planned.name), record.dimension)
        held, keys = backend.keys(), table.keys
        new = (~torch.isin(keys, held)).nonzero().flatten()
        vectors = _mapped(out, record)
        for block in torch.split(new, BLOCK):
            chosen = vectors[block]
            tokens = chosen.shape[1] if chosen.dim() == 3 else 1
            backend.add(keys[block].repeat_interleave(tokens), chosen.flatten(0, -2))
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
