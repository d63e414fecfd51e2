"""Retrieval grids: a few queries with the top images of each method, positives marked."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from cir_plugins.bench.records import RunRecord
from cir_plugins.data.images import open_image
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError

QUERIES = 6
SIDE = 72
_QUALITY = 72


@dataclass(frozen=True)
class Cell:
    """One picture of a grid.

    Attributes:
        name: Image id.
        picture: A data URI of a thumbnail, or "" where the file cannot be read.
        positive: Whether it is a positive of the query.
        target: Whether it is the target.
        reference: Whether it is the query's reference.
    """

    name: str
    picture: str
    positive: bool = False
    target: bool = False
    reference: bool = False


@dataclass(frozen=True)
class Ranking:
    """The top images of a method for a query."""

    label: str
    cells: tuple[Cell, ...]

    @property
    def hits(self) -> int:
        """Number of positives among them."""
        return sum(cell.positive for cell in self.cells)


@dataclass(frozen=True)
class Grid:
    """A query with the top images of every method.

    Attributes:
        text: What to change.
        split: Name of the split.
        reference: The reference image.
        target: The target.
        positives: Number of positives in the gallery.
        rankings: One per method.
    """

    text: str
    split: str
    reference: Cell
    target: Cell
    positives: int
    rankings: tuple[Ranking, ...]


def choose(
    splits: Sequence[Split], count: int = QUERIES, seed: int = 0
) -> list[tuple[Split, tuple[Query, ...]]]:
    """Splits with the queries to show, ``count`` in all, spread over the splits; drawn by seed.

    Queries of a split have different references as far as there are enough. Of a triplet with two
    texts it is the first, so that the triplets are the same under every protocol.
    """
    selection = []
    for number, split in enumerate(splits):
        share = count // len(splits) + (number < count % len(splits))
        queries = [query for query in _first_texts(split) if query.target is not None]
        random.Random(f"{seed} {split.name}").shuffle(queries)
        first = {query.reference: query for query in reversed(queries)}
        spread = [query for query in queries if first[query.reference] is query]
        rest = [query for query in queries if first[query.reference] is not query]
        ids = frozenset(query.id for query in (spread + rest)[:share])
        if ids:
            selection.append((split, tuple(query for query in split.queries if query.id in ids)))
    return selection


def triplet_of(query: Query) -> str:
    """Key of a triplet's rankings, the same however a protocol joins its captions."""
    return f"{query.reference} to {query.target}: {' | '.join(query.captions)}"


def _first_texts(split: Split) -> list[Query]:
    """The first query of each triplet."""
    first: dict[str, Query] = {}
    for query in split.queries:
        first.setdefault(triplet_of(query), query)
    return list(first.values())


def grids(records: Sequence[RunRecord], splits: Sequence[Split]) -> list[Grid]:
    """The grids of all triplets that the records hold rankings for, one ranking per record."""
    ranked = [record for record in records if record.rankings]
    result = []
    for split in splits:
        thumbnails = Thumbnails(split.paths)
        for query in _first_texts(split):
            rows = [r for r in ranked if triplet_of(query) in r.rankings.get(split.name, {})]
            if rows and query.target is not None:
                result.append(_grid(query, split, rows, thumbnails))
    return result


def _grid(query: Query, split: Split, records: Sequence[RunRecord], thumbnails: Thumbnails) -> Grid:
    positives = {query.target, *query.positives} & frozenset(split.gallery)
    triplet = triplet_of(query)

    def cell(name: str) -> Cell:
        return Cell(
            name,
            thumbnails[name],
            positive=name in positives,
            target=name == query.target,
            reference=name == query.reference,
        )

    return Grid(
        text=query.text,
        split=split.name,
        reference=cell(query.reference),
        target=cell(query.target or ""),
        positives=len(positives),
        rankings=tuple(
            Ranking(record.label, tuple(cell(n) for n in record.rankings[split.name][triplet]))
            for record in records
        ),
    )


class Thumbnails:
    """Data URIs of small JPEGs by image id, each file opened once.

    Args:
        paths: Image id -> file.
        side: Width and height of the box that a picture fits in, in pixels.
    """

    def __init__(self, paths: Mapping[str, Path], side: int = SIDE) -> None:
        self._paths = paths
        self._side = side
        self._uris: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """The picture's data URI; "" where it cannot be read, since a page outlives its data."""
        if name not in self._uris:
            self._uris[name] = self._data_uri(name)
        return self._uris[name]

    def _data_uri(self, name: str) -> str:
        if name not in self._paths:
            return ""
        try:
            image = open_image(self._paths[name])
        except CIRError:
            return ""
        size = (self._side, self._side)
        small = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
        box = Image.new("RGB", size, "white")
        box.paste(small, ((size[0] - small.width) // 2, (size[1] - small.height) // 2))
        data = io.BytesIO()
        box.save(data, "JPEG", quality=_QUALITY, optimize=True)
        return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
