"""An index of a user's own pictures: built, opened and searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cir_plugins.data.inputs import named_images
from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.plugins.registry import Registry
from cir_plugins.retrieval.gallery import Gallery
from cir_plugins.retrieval.search import check_count
from cir_plugins.retriever import BATCH_SIZE, Retriever
from cir_plugins.search.columns import Mask
from cir_plugins.search.encode import Part, QueryEncoder
from cir_plugins.search.filters import allowed_rows
from cir_plugins.search.inputs import (
    Pictures,
    check_weight,
    checked_text,
    files_of,
    several_ids,
)
from cir_plugins.search.metadata import Metadata
from cir_plugins.search.model import check_model, open_model
from cir_plugins.search.query import Field, Hit, SearchQuery, Value
from cir_plugins.search.storage import Stored
from cir_plugins.search.update import Changes, backend_folder, plan_backend, update_index
from cir_plugins.types import IndexBackend

if TYPE_CHECKING:
    from cir_plugins.search.query import Picture


class Index:
    """Pictures with their vectors and metadata, searched by picture, text or both.

    Made by ``build`` or ``open``.

    Args:
        stored: What is on disk.
        retriever: The model that it was made with.
        backend: Its search backend, open.

    Attributes:
        folder: Its folder.
        retriever: The model.
        changes: What the last ``build`` changed; None for an index that was opened.
    """

    def __init__(
        self,
        stored: Stored,
        retriever: Retriever,
        backend: IndexBackend,
        changes: Changes | None = None,
    ) -> None:
        self._stored, self._backend = stored, backend
        self.folder = stored.folder
        self.retriever = retriever
        self.changes = changes
        self._gallery = Gallery(
            stored.table.keys, stored.vectors, retriever.method.similarity, retriever.device
        )
        self._encoder = QueryEncoder(retriever)
        self._masks: dict[str, Mask] = {}

    @classmethod
    def build(
        cls,
        retriever: Retriever,
        images: Pictures,
        out: str | PathLike[str],
        *,
        metadata: Metadata | None = None,
        backend: str | Mapping[str, Any] = "exact",
        group: str = "",
        batch_size: int = BATCH_SIZE,
        progress: bool | None = None,
        registry: Registry | None = None,
    ) -> Index:
        """The index of pictures in a folder, written new or brought in line with them.

        Where there is an index already, only new and changed pictures are encoded. What was
        interrupted goes on where it was. Pictures that cannot be read are left out:
        ``index.changes.left_out`` names them.

        Args:
            retriever: The model.
            images: A folder, which is searched whole (ids are paths below it), files, or
                id -> file.
            out: Folder of the index.
            metadata: A CSV, TSV, JSON, JSONL or Parquet file with a row for each picture; id ->
                row; or rows. Given anew each time: it is not kept from the index before.
            backend: Name of a search backend, or its name and options.
            group: Field of the metadata whose equal values make pictures views of one product,
                which is found once.
            batch_size: Pictures per forward pass.
            progress: Whether bars are shown; None for the retriever's own setting.
            registry: Where backends come from; None for all installed plugins.

        Raises:
            CIRError: If there is no picture, the metadata does not fit, the folder is in use or
                holds an index of another model, or the disk is full; and in a process that others
                are still at work beside.
        """
        registry = registry or Registry.load()
        check_count("batch_size", batch_size)
        planned = plan_backend(registry, backend)
        files, root = files_of(images)
        folder = Path(out)
        changes = update_index(
            retriever,
            files,
            folder,
            root=root,
            metadata=metadata,
            backend=planned,
            group=group,
            batch_size=batch_size,
            progress=retriever.encoding.progress if progress is None else progress,
        )
        if changes is None:
            raise CIRError(
                f"other processes are still at work on index {folder}; the last of them to end "
                "writes it"
            )
        return cls._open(folder, retriever, registry, changes)

    @classmethod
    def open(
        cls,
        folder: str | PathLike[str],
        *,
        device: str = "",
        retriever: Retriever | None = None,
        registry: Registry | None = None,
    ) -> Index:
        """The index in a folder, its files verified.

        Args:
            folder: Its folder.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``; the run's own where it is left out.
            retriever: The model it was made with; None to load it from where it was.
            registry: Where components come from; None for all installed plugins.

        Raises:
            CIRError: If there is no index, it is damaged, or made with another model.
        """
        return cls._open(Path(folder), retriever, registry or Registry.load(), None, device)

    @classmethod
    def _open(
        cls,
        folder: Path,
        retriever: Retriever | None,
        registry: Registry,
        changes: Changes | None,
        device: str = "",
    ) -> Index:
        stored = Stored.open(folder)
        record = stored.record
        options = {"name": record.backend, **record.backend_options}
        planned = plan_backend(registry, options)
        if retriever is None:
            retriever = open_model(record, folder, device, registry)
        check_model(record, folder, retriever)
        backend: IndexBackend = planned.build()
        if backend.stores:
            with planned.guarded(f"index {folder} cannot be opened"):
                backend.open(backend_folder(folder, record.backend), record.dimension)
        return cls(stored, retriever, backend, changes)

    def __len__(self) -> int:
        return len(self._stored)

    def __repr__(self) -> str:
        return f"Index({self.folder}, {len(self)} pictures, {self.retriever!r})"

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the pictures, in gallery order."""
        return self._stored.ids

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """The fields of the metadata by name."""
        columns = self._stored.columns
        return MappingProxyType({name: column.field() for name, column in columns.items()})

    def picture(self, id: str) -> Path:
        """The file of a picture.

        Raises:
            CIRError: If there is no such picture.
        """
        return self._stored.path(self._row(id))

    def metadata(self, id: str) -> dict[str, Value]:
        """The metadata of a picture: every field, None where it has no value.

        Raises:
            CIRError: If there is no such picture.
        """
        return self._metadata(self._row(id))

    def summary(self) -> dict[str, Any]:
        """What the index is, in plain values."""
        record = self._stored.record
        return {
            "pictures": record.pictures,
            "left_out": len(record.left_out),
            "method": record.method,
            "backbone": record.backbone,
            "backend": record.backend,
            "group": record.group,
            "dimension": record.dimension,
            "tokens": record.tokens,
            "fields": list(self._stored.columns),
            "fingerprint": record.fingerprint,
        }

    @property
    def left_out(self) -> Mapping[str, str]:
        """Pictures that cannot be read: id -> why."""
        return MappingProxyType(self._stored.record.left_out)

    def search(
        self,
        image: Picture | Sequence[Picture] | None = None,
        text: str = "",
        *,
        reference: str | Sequence[str] = (),
        k: int = 10,
        filter: str = "",
        weight: float | None = None,
        exclude: str | Sequence[str] = (),
    ) -> list[Hit]:
        """The best pictures for a query, best first; equal scores in the order of ``ids``.

        Args:
            image: See ``SearchQuery``, as for the other arguments.
            text: What to change in the pictures or, without one, what to look for.
            reference: Id, or ids, of indexed pictures that count as ``image`` does.
            k: Hits, at least 1; fewer come back where the filter admits fewer.
            filter: Condition on the metadata.
            weight: Share of the text.
            exclude: Id, or ids, that are no hits.

        Raises:
            CIRError: If there is neither picture nor text, a picture cannot be read, an id or field
                is unknown, or the method cannot do it.
        """
        query = SearchQuery(image, text, reference, k, filter, weight, exclude)
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[SearchQuery]) -> list[list[Hit]]:
        """The hits of many queries, encoded and scored together; those of single searches.

        Raises:
            CIRError: As ``search``.
        """
        if not queries:
            return []
        parts = [
            part for number, query in enumerate(queries) for part in self._parts(number, query)
        ]
        groups: dict[tuple[int, str, tuple[int, ...]], list[int]] = {}
        for number, query in enumerate(queries):
            check_count("k", query.k)
            excluded = tuple(sorted({self._row(name) for name in several_ids(query.exclude)}))
            self._mask(query.filter)
            groups.setdefault((query.k, query.filter, excluded), []).append(number)
        vectors = self._encoder.vectors(parts)
        found: dict[int, list[Hit]] = {}
        for (k, text, excluded), numbers in groups.items():
            allowed = self._allowed(text, excluded)
            for number, hits in zip(numbers, self._hits(vectors[numbers], k, allowed), strict=True):
                found[number] = hits
        return [found[number] for number in range(len(queries))]

    def _parts(self, number: int, query: SearchQuery) -> list[Part]:
        """The query with each of its pictures."""
        images: list[Any] = []
        if query.image is not None:
            images += named_images(query.image)[1]
        images += [self._stored.path(self._row(name)) for name in several_ids(query.reference)]
        text = checked_text(query.text)
        if not images and not text:
            raise CIRError("there is nothing to search for; accepted: a picture, a text, or both")
        weight = query.weight
        if weight is not None:
            check_weight(weight)
            if not images or not text:
                raise CIRError("a weight is between picture and text; accepted: with both of them")
        if text:
            text = self.retriever.query_text((text,)) or text
        return [Part(number, image, text, weight) for image in images or [None]]

    def _hits(self, vectors: Tensor, k: int, allowed: Tensor | None) -> list[list[Hit]]:
        """Hits of queries (q, D), views of one product once."""
        group = self._stored.columns.get(self._stored.record.group)
        lists: list[list[Hit]] = [[] for _ in vectors]
        waiting, number = list(range(len(vectors))), k
        while waiting:
            scores, rows = self._backend.search(
                self._gallery, vectors[waiting], min(number, len(self)), allowed
            )
            unfinished = []
            for query, values, found in zip(waiting, scores.tolist(), rows.tolist(), strict=True):
                ranked = [pair for pair in zip(found, values, strict=True) if pair[0] >= 0]
                kept = ranked if group is None else _first_of_each(ranked, group.array)
                if len(kept) >= k or len(ranked) < number:
                    lists[query] = [self._hit(row, value) for row, value in kept[:k]]
                else:
                    unfinished.append(query)
            waiting, number = unfinished, number * 4
        return lists

    def _hit(self, row: int, score: float) -> Hit:
        name = self._stored.table.ids[row]
        return Hit(name, score, str(self._stored.path(row)), self._metadata(row))

    def _metadata(self, row: int) -> dict[str, Value]:
        return {name: column[row] for name, column in self._stored.columns.items()}

    def _row(self, name: str) -> int:
        row = self._stored.row_of.get(name)
        if row is None:
            if len(self) > 1000:  # looking for the nearest of many takes seconds
                raise CIRError(f"the index has no picture '{name!s:.100}'")
            raise unknown_name("picture", str(name), self.ids[:50])
        return row

    def _mask(self, text: str) -> Mask | None:
        """The pictures that a filter admits; those of the last few filters are kept."""
        if not isinstance(text, str) or text.strip():
            if text not in self._masks:
                mask = allowed_rows(text, self._stored.columns, len(self))
                while len(self._masks) >= 64:
                    self._masks.pop(next(iter(self._masks)), None)
                self._masks[text] = mask
            return self._masks[text]
        return None

    def _allowed(self, text: str, excluded: tuple[int, ...]) -> Tensor | None:
        mask = self._mask(text)
        if mask is None and not excluded:
            return None
        allowed = np.ones(len(self), dtype=bool) if mask is None else mask.copy()
        allowed[list(excluded)] = False
        return torch.from_numpy(allowed)


def _first_of_each(ranked: list[tuple[int, float]], groups: Any) -> list[tuple[int, float]]:
    """The first picture of each group; one without a value is a group of its own."""
    seen: set[Any] = set()
    kept = []
    for row, value in ranked:
        group = groups[row]
        none = group != group or (groups.dtype.kind == "i" and group < 0)
        if none or group not in seen:
            kept.append((row, value))
            seen.add(group)
    return kept
