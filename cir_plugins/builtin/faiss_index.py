"""The faiss search backend: approximate nearest vectors, scored exactly afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cir_plugins.config.records import StoredRecord, read_record
from cir_plugins.encoding.fingerprint import content_hash
from cir_plugins.errors import CIRError
from cir_plugins.files import read_json, write_atomically, write_json
from cir_plugins.types import GalleryVectors

_STORE, _RECORD = "store-{}.faiss", "store.json"
_WASTE = 0.2  # share of removed entries from which on a graph is built anew
_PER_LIST = 39  # vectors that faiss wants for each list it learns
Count = Annotated[int, Field(ge=1)]


class _Record(StoredRecord):
    """What the store's file is, and which of its entries were removed."""

    file: str
    checksum: str
    removed: tuple[int, ...]


class Faiss:
    """Approximate search with faiss (``pip install cir-plugins[faiss]``).

    Candidates come from a graph or from lists of inner products; each is then scored exactly, with
    all its tokens. More of ``ef_search`` or ``probes`` finds more and takes longer.

    Args:
        kind: ``hnsw``, a graph: fastest to search, slow to build. ``ivf``, lists around learned
            centres: quick to build, and pictures are removed at once.
        neighbours: Links of an entry of the graph.
        ef_construction: Entries looked at for each one that is added to the graph.
        ef_search: Entries looked at in a search of the graph, at least.
        lists: Number of lists; 0 for 4 times the root of the number of vectors that the store first
            gets, 262,144 at most.
        probes: Lists that are searched.

    Source: Malkov and Yashunin, arXiv 1603.09320 (the graph); Douze et al., The Faiss library,
        arXiv 2401.08281.
    """

    stores = True

    def __init__(
        self,
        *,
        kind: Literal["hnsw", "ivf"] = "hnsw",
        neighbours: Count = 32,
        ef_construction: Count = 200,
        ef_search: Count = 128,
        lists: Annotated[int, Field(ge=0)] = 0,
        probes: Count = 32,
    ) -> None:
        self.kind, self.neighbours, self.ef_construction = kind, neighbours, ef_construction
        self.ef_search, self.lists, self.probes = ef_search, lists, probes
        self._faiss = _library()
        self._index: Any = None
        self._removed: set[int] = set()

    def open(self, folder: Path, dimension: int) -> None:
        """Open the store.

        Raises:
            CIRError: If it is damaged or of another dimension.
        """
        self._folder, self._dimension = folder, dimension
        if not (folder / _RECORD).exists():
            return
        record = read_record(_Record, read_json(folder / _RECORD), str(folder / _RECORD))
        path = folder / Path(record.file).name
        try:
            fits = content_hash(path) == record.checksum
        except OSError as error:
            raise CIRError(f"{path} cannot be read: {error.strerror}") from error
        if not fits:
            raise CIRError(f"{path} is damaged: remove {folder} and run cir index again")
        self._index = self._faiss.read_index(str(path))
        if self._index.d != dimension:
            raise CIRError(f"{path} is of dimension {self._index.d}; accepted: {dimension}")
        self._removed = set(record.removed)

    def keys(self) -> Tensor:
        """The keys (n,) in the store."""
        keys = torch.from_numpy(np.unique(self._ids()))
        removed = torch.tensor(sorted(self._removed), dtype=torch.int64)
        return keys[~torch.isin(keys, removed)]

    def add(self, keys: Tensor, vectors: Tensor) -> None:
        """Add vectors (n, D) under keys (n,)."""
        back = torch.isin(keys, torch.tensor(sorted(self._removed), dtype=torch.int64))
        self._removed -= set(keys[back].tolist())  # a graph still holds these
        keys, vectors = keys[~back], vectors[~back]
        if not len(keys):
            return
        array = vectors.float().contiguous().numpy()
        if self._index is None:
            self._index = self._new(array)
        self._index.add_with_ids(array, keys.contiguous().numpy())

    def remove(self, keys: Tensor) -> None:
        """Remove the vectors of keys (n,); in a graph they are marked, and left out later."""
        if self._index is None:
            return
        if self.kind == "ivf":
            self._index.remove_ids(keys.contiguous().numpy())
        else:
            self._removed |= set(keys.tolist()) & set(self._ids().tolist())

    def flush(self) -> None:
        """Write the store, then the record that makes it the store."""
        if self._index is None:
            return
        if len(self._removed) > _WASTE * len(np.unique(self._ids())):
            self._rebuild()
        content = self._faiss.serialize_index(self._index).tobytes()
        temporary = self._folder / _STORE.format("new")
        write_atomically(temporary, content)
        checksum = content_hash(temporary)
        path = temporary.with_name(_STORE.format(checksum))
        temporary.replace(path)
        removed = sorted(self._removed)
        record = {"file": path.name, "checksum": checksum, "removed": removed}
        write_json(self._folder / _RECORD, record)
        for other in self._folder.glob(_STORE.format("*")):
            if other != path:
                other.unlink(missing_ok=True)

    def search(
        self, gallery: GalleryVectors, queries: Tensor, k: int, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Scores and rows, each (q, k), of candidates that are scored exactly."""
        return gallery.best_of(queries, k, allowed, self._find)

    def _find(self, vectors: Tensor, number: int) -> Tensor:
        if self._index is None:
            return torch.full((len(vectors), number), -1)
        number = min(number, self._index.ntotal)
        if self.kind == "ivf":
            settings = self._faiss.SearchParametersIVF(nprobe=self.probes)
        else:
            settings = self._faiss.SearchParametersHNSW(efSearch=max(self.ef_search, number))
        array = vectors.contiguous().numpy()
        _, keys = self._index.search(array, number, params=settings)
        return torch.from_numpy(keys)

    def _new(self, vectors: Any) -> Any:
        """An empty store, its lists learned from the first vectors where it has lists."""
        faiss, metric = self._faiss, self._faiss.METRIC_INNER_PRODUCT
        if self.kind == "hnsw":
            graph = faiss.IndexHNSWFlat(self._dimension, self.neighbours, metric)
            graph.hnsw.efConstruction = self.ef_construction
            return faiss.IndexIDMap(graph)
        most = max(1, len(vectors) // _PER_LIST)
        lists = min(self.lists or max(1, int(4 * len(vectors) ** 0.5)), most)
        centres = faiss.IndexFlatIP(self._dimension)
        store = faiss.IndexIVFFlat(centres, self._dimension, lists, metric)
        store.own_fields = True
        centres.this.disown()
        store.train(vectors)
        return store

    def _ids(self) -> Any:
        if self._index is None:
            return np.empty(0, dtype=np.int64)
        if self.kind == "hnsw":
            return self._faiss.vector_to_array(self._index.id_map)
        lists = self._index.invlists
        parts = [
            self._faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).copy()
            for number in range(self._index.nlist)
            if lists.list_size(number)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _rebuild(self) -> None:
        """A graph of the entries that are left."""
        ids, inner = self._ids(), self._faiss.downcast_index(self._index.index)
        removed = np.fromiter(self._removed, dtype=np.int64)
        (kept,) = np.nonzero(~np.isin(ids, removed))
        vectors = inner.reconstruct_n(0, inner.ntotal)[kept]
        self._index, self._removed = self._new(vectors), set()
        if len(kept):
            self._index.add_with_ids(vectors, ids[kept])


def _library() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise CIRError(
            "index 'faiss' needs faiss: pip install 'cir-plugins[faiss]'\n"
            "accepted without it: exact"
        ) from error
    return faiss
