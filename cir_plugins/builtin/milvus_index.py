"""The Milvus search backend: a database in a file, or a server or cluster by its address."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.types import GalleryVectors

_FILE = "milvus.db"
_BATCH = 2048  # entries that are sent at a time
_MOST = 16_384  # what a server gives for one query
_NAME = re.compile(r"[A-Za-z_]\w{0,200}")
_SILENT = ("pymilvus", "milvus_lite")
Count = Annotated[int, Field(ge=1)]


class Milvus:
    """Approximate search with Milvus (``pip install cir-plugins[milvus]``).

    Without an address the database is a file in the index, opened by milvus-lite. Candidates come
    from Milvus; each is then scored exactly, with all its tokens, from the vectors of the index.

    Args:
        uri: Address of a server, such as ``http://host:19530``; "" for a file in the index.
        token: User and password, or key, for the server.
        collection: Collection on the server; each index needs one of its own.
        kind: Index type; a file has ``flat`` and ``ivf_flat`` only.
        probes: Lists that are searched, of ``ivf_flat``.
        ef_search: Entries looked at, of ``hnsw``.

    Source: Wang et al., Milvus, SIGMOD 2021.
    """

    stores = True

    def __init__(
        self,
        *,
        uri: str = "",
        token: str = "",
        collection: str = "cir_pictures",
        kind: Literal["flat", "ivf_flat", "hnsw"] = "flat",
        probes: Count = 32,
        ef_search: Count = 128,
    ) -> None:
        if not _NAME.fullmatch(collection):
            raise ValueError(f"collection cannot be '{collection}'; accepted: letters, digits, _")
        self.uri, self.token, self.collection = uri, token, collection
        self.kind, self.probes, self.ef_search = kind, probes, ef_search
        self._client: Any = None

    def open(self, folder: Path, dimension: int) -> None:
        """Open the collection, made where it is missing.

        Raises:
            CIRError: If it cannot be reached, is damaged or of another dimension.
        """
        client_of = _library()
        address = self.uri or str(folder / _FILE)
        if not self.uri:
            folder.mkdir(parents=True, exist_ok=True)
        try:
            self._client = client_of(uri=address, token=self.token)
            if not self._client.has_collection(self.collection):
                self._make(dimension)
            self._client.load_collection(self.collection)
            fields = self._client.describe_collection(self.collection)["fields"]
        except Exception as error:  # the client raises errors of several libraries
            raise CIRError(f"Milvus at {address}: {_reason(error)}") from error
        (found,) = [each["params"]["dim"] for each in fields if each["name"] == "vector"]
        if int(found) != dimension:
            raise CIRError(
                f"collection '{self.collection}' at {address} is of dimension {found}, not "
                f"{dimension}; accepted: --set index.collection=NAME"
            )

    def keys(self) -> Tensor:
        """The keys (n,) in the collection."""
        rows = self._client.query_iterator(
            self.collection, batch_size=_BATCH, filter="key >= 0", output_fields=["key"]
        )
        found: set[int] = set()
        while batch := rows.next():
            found.update(int(row["key"]) for row in batch)
        rows.close()
        return torch.tensor(sorted(found), dtype=torch.int64)

    def add(self, keys: Tensor, vectors: Tensor) -> None:
        """Add vectors (n, D) under keys (n,)."""
        for first in range(0, len(keys), _BATCH):
            some = slice(first, first + _BATCH)
            pairs = zip(keys[some].tolist(), vectors[some].tolist(), strict=True)
            rows = [{"key": key, "vector": vector} for key, vector in pairs]
            self._client.insert(self.collection, rows)

    def remove(self, keys: Tensor) -> None:
        """Remove all vectors of keys (n,)."""
        for some in torch.split(keys, _BATCH):
            self._client.delete(self.collection, filter=f"key in {some.tolist()}")

    def flush(self) -> None:
        """Have the database write what it was given."""
        self._client.flush(self.collection)

    def search(
        self, gallery: GalleryVectors, queries: Tensor, k: int, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Scores and rows, each (q, k), of candidates that are scored exactly."""
        return gallery.best_of(queries, k, allowed, self._find)

    def _find(self, vectors: Tensor, number: int) -> Tensor:
        number = min(number, _MOST)
        lists = self._client.search(
            self.collection,
            vectors.tolist(),
            anns_field="vector",
            limit=number,
            output_fields=["key"],
            search_params={"metric_type": "IP", "params": self._search_params(number)},
            consistency_level="Strong",
        )
        keys = torch.full((len(vectors), number), -1)
        for row, hits in enumerate(lists):
            found = [int(hit["entity"]["key"]) for hit in hits]
            keys[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
        return keys

    def _search_params(self, number: int) -> dict[str, int]:
        if self.kind == "hnsw":
            return {"ef": max(self.ef_search, number)}
        return {"nprobe": self.probes} if self.kind == "ivf_flat" else {}

    def _make(self, dimension: int) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=True, enable_dynamic_field=False)
        schema.add_field("entry", DataType.INT64, is_primary=True)
        schema.add_field("key", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        params: dict[str, Any] = {"ivf_flat": {"nlist": 1024}}.get(self.kind, {})
        if self.kind == "hnsw":
            params = {"M": 32, "efConstruction": 200}
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type=self.kind.upper(), metric_type="IP", params=params)
        self._client.create_collection(self.collection, schema=schema, index_params=index)


def _library() -> Any:
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise CIRError(
            "index 'milvus' needs pymilvus and, for a database in a file, milvus-lite: "
            "pip install 'cir-plugins[milvus]'; accepted without it: exact"
        ) from error
    for name in _SILENT:  # it logs each error that it raises, too
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MilvusClient


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
