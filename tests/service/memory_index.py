# ruff: noqa: D101, D102
"""An index in memory, of a real retriever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import cir_plugins as cir
from cir_plugins.errors import CIRError
from cir_plugins.service.surface import SearchQuery


@dataclass(frozen=True)
class Field:
    name: str
    kind: str
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class MemoryHit:
    id: str
    score: float
    path: str
    metadata: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "score": self.score, "path": self.path, **self.metadata}


class MemoryIndex:
    def __init__(
        self, files: dict[str, Path], metadata: dict[str, dict[str, Any]], fields: list[Field]
    ) -> None:
        self.retriever = cir.build(
            "image_text_sum", backbone="tiny_clip", device="cpu", progress=False
        )
        self.files = files
        self.meta = metadata
        self.fields = {field.name: field for field in fields}
        self.ids = tuple(files)
        self.gallery = self.retriever.encode_images(files)
        self.batches: list[int] = []

    def __len__(self) -> int:
        return len(self.files)

    def picture(self, name: str) -> Path:
        if name not in self.files:
            raise CIRError(f"the index has no picture '{name[:100]}'")
        return self.files[name]

    def summary(self) -> dict[str, Any]:
        return {"pictures": len(self), "method": "image_text_sum", "backbone": "tiny_clip"}

    def search_many(self, queries: Sequence[SearchQuery]) -> list[list[MemoryHit]]:
        self.batches.append(len(queries))
        return [self.one(query) for query in queries]

    def one(self, query: SearchQuery) -> list[MemoryHit]:
        sources: list[Any] = [*(query.image or ()), *(self.picture(n) for n in query.reference)]
        image = sources[0] if sources else Image.new("RGB", (64, 64))
        method = self.retriever.method
        method.text_weight = 0.5 if query.weight is None else query.weight
        if not sources or not query.text:
            method.text_weight = 0.0 if sources else 1.0
        vector = self.retriever.encode_query(image, query.text or "a")
        keep = [n for n in self.ids if n not in query.reference and self.fits(query.filter, n)]
        left_out = [n for n in self.ids if n not in keep]
        hits = self.retriever.search(vector, self.gallery, query.k, exclude=[left_out])
        return [MemoryHit(n, s, str(self.files[n]), self.meta.get(n, {})) for n, s in hits[0]]

    def fits(self, text: str, name: str) -> bool:
        if not text:
            return True
        try:
            return bool(
                eval(
                    text,
                    {"__builtins__": {}, "true": True, "false": False},
                    self.meta.get(name, {}),
                )
            )
        except Exception as error:
            raise CIRError(
                f"filter {text!r} cannot be read: {error}\naccepted: price < 50"
            ) from error


def drawn(root: Path) -> MemoryIndex:
    files = {p.stem: p for p in sorted((root / "images").iterdir())}
    colours = ["red", "blue", "it's <b>green</b>"]
    meta = {
        n: {"brand": colours[i % 3], "price": 10.0 + i, "sale": i % 2 == 0}
        for i, n in enumerate(files)
    }
    fields = [
        Field("brand", "text", tuple(colours)),
        Field("price", "number", (), 10.0, 10.0 + len(files)),
        Field("sale", "flag"),
    ]
    torch.set_num_threads(1)
    return MemoryIndex(files, meta, fields)
