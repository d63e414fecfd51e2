"""Retrieval grids: a few queries with the first images of each row's ranking, right ones marked."""

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
        right: Whether it is an answer of the query.
        target: Whether it is the target.
        reference: Whether it is the query's own reference.
    """

    name: str
    picture: str
    right: bool = False
    target: bool = False
    reference: bool = False


@dataclass(frozen=True)
class Ranking:
    """The first images that a row finds for a query."""

    label: str
    cells: tuple[Cell, ...]

    @property
    def right(self) -> int:
        """How many of them are positives."""
        return sum(cell.right for cell in self.cells)


@dataclass(frozen=True)
class Grid:
    """A query with every row's first images.

    Attributes:
        text: What to change.
        split: Name of the split.
        reference: The reference image.
        target: The target.
        positives: How many images of the gallery are positives.
        rankings: One per row.
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

    Each of a split's chosen queries has another reference as far as there are enough. Of a triplet
    that is asked with two texts it is the first, so that every protocol's choice is of the same
    triplets.
    """
    chosen = []
    for place, split in enumerate(splits):
        share = count // len(splits) + (place < count % len(splits))
        queries = [query for query in _first_texts(split) if query.target is not None]
        random.Random(f"{seed} {split.name}").shuffle(queries)
        first = {query.reference: query for query in reversed(queries)}
        spread = [query for query in queries if first[query.reference] is query]
        rest = [query for query in queries if first[query.reference] is not query]
        picked = frozenset(query.id for query in (spread + rest)[:share])
        if picked:
            chosen.append((split, tuple(query for query in split.queries if query.id in picked)))
    return chosen


def triplet_of(query: Query) -> str:
    """What rankings of a query are kept under: the same however a protocol joins its captions."""
    return f"{query.reference} to {query.target}: {' | '.join(query.captions)}"


def _first_texts(split: Split) -> list[Query]:
    """The first query of each triplet."""
    first: dict[str, Query] = {}
    for query in split.queries:
        first.setdefault(triplet_of(query), query)
    return list(first.values())


def grids(records: Sequence[RunRecord], splits: Sequence[Split]) -> list[Grid]:
    """The grids of all triplets that the records hold rankings for, one ranking per record."""
    shown = [record for record in records if record.rankings]
    found = []
    for split in splits:
        thumbnails = Thumbnails(split.paths)
        for query in _first_texts(split):
            having = [r for r in shown if triplet_of(query) in r.rankings.get(split.name, {})]
            if having and query.target is not None:
                found.append(_grid(query, split, having, thumbnails))
    return found


def _grid(query: Query, split: Split, records: Sequence[RunRecord], thumbnails: Thumbnails) -> Grid:
    positives = {query.target, *query.positives} & frozenset(split.gallery)
    triplet = triplet_of(query)

    def cell(name: str) -> Cell:
        return Cell(
            name,
            thumbnails[name],
            right=name in positives,
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
        self._made: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """The picture's data URI; "" where it cannot be read, since a page outlives its data."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> str:
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
