"""Pictures that a data set holds twice: equal files, and near-duplicates by a perceptual hash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cir_plugins.data.fingerprint import content_hashes
from cir_plugins.data.perceptual_hash import perceptual_hashes
from cir_plugins.data.split import Query, Split

NEAR = 4
"""Bits of 64 in which the perceptual hashes of near-duplicates differ at most."""
_CELLS = 8_000_000  # pairs of hashes that are compared at a time


@dataclass(frozen=True)
class SplitDuplicates:
    """Repeated pictures of a split.

    Attributes:
        name: Name of the split.
        role: ``train``, ``val`` or ``test``.
        queries: Queries with a target.
        equal: Gallery images with the same bytes as an earlier one of the gallery.
        near: Further gallery images that are near-duplicates of an earlier one.
        leaked: Images of the split, by id, whose bytes are those of a training picture.
        leaked_near: Further ones that are near-duplicates of a training picture.
        leaked_targets: Queries whose target is equal or near to a training picture.
        copied_targets: Queries whose target has an equal or near picture in the gallery, other than
            the target and the query's reference.
        reference_is_target: Queries whose target is equal or near to their reference.
        ceilings: Measure -> highest value that any method which sees nothing but the pictures can
            have, a fraction: equal files have equal scores, and the first of them is ranked first.
    """

    name: str
    role: str
    queries: int
    equal: int = 0
    near: int = 0
    leaked: tuple[str, ...] = ()
    leaked_near: tuple[str, ...] = ()
    leaked_targets: int = 0
    copied_targets: int = 0
    reference_is_target: int = 0
    ceilings: Mapping[str, float] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """The counts in words, none where there is nothing to say."""
        counts = {
            "gallery images have the bytes of another": self.equal,
            "more are near-duplicates of another": self.near,
            "images have the bytes of a training picture": len(self.leaked),
            "more are near-duplicates of a training picture": len(self.leaked_near),
            "queries have a target that training has seen": self.leaked_targets,
            "queries have a copy of their target in the gallery": self.copied_targets,
            "queries have their reference as target": self.reference_is_target,
        }
        lines = [f"{count:,} {words}" for words, count in counts.items() if count]
        lines += [
            f"no method can have a {measure} above {100 * value:.2f}: an equal file comes first"
            for measure, value in self.ceilings.items()
            if value < 1
        ]
        return lines


def find_duplicates(splits: Sequence[Split], near: int = NEAR) -> list[SplitDuplicates]:
    """The repeated pictures of each split.

    Args:
        splits: The splits, those of training too: the others' pictures are looked up among them.
        near: Bits in which near-duplicates differ at most; below 0 for equal files alone.

    Raises:
        CIRError: A picture cannot be read, or the library of the perceptual hash is missing.

    Source: the perceptual hash is that of the library ``imagehash`` (``phash``, 64 bits).
    """
    paths = sorted({path for split in splits for path in split.paths.values()})
    contents = dict(zip(paths, content_hashes(paths), strict=True))
    clusters = _clusters(contents, near)
    trained = {path for split in splits if split.role == "train" for path in split.paths.values()}
    train_contents = {contents[path] for path in trained}
    train_clusters = {clusters[path] for path in trained}
    return [
        _of_split(split, contents, clusters, train_contents, train_clusters) for split in splits
    ]


def near_groups(hashes: np.ndarray, near: int) -> list[int]:
    """Number of the group of each hash: two within ``near`` bits are in one, and so on from there.

    Args:
        hashes: (N,) uint64.
        near: Bits in which two may differ.
    """
    group = list(range(len(hashes)))
    rows_at_a_time = max(1, _CELLS // max(1, len(hashes)))
    for first in range(0, len(hashes), rows_at_a_time):
        block = hashes[first : first + rows_at_a_time, None] ^ hashes[None, first:]
        rows, columns = np.nonzero(np.bitwise_count(block) <= near)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if row < column:
                one, other = sorted((_root(group, first + row), _root(group, first + column)))
                group[other] = one
    return [_root(group, number) for number in range(len(group))]


def _root(group: list[int], number: int) -> int:
    while group[number] != number:
        group[number] = group[group[number]]
        number = group[number]
    return number


def _clusters(contents: Mapping[Path, str], near: int) -> dict[Path, str]:
    """A name for each picture, the same for equal and near ones."""
    if near < 0:
        return dict(contents)
    distinct = {content: path for path, content in reversed(list(contents.items()))}
    hashes = perceptual_hashes(distinct.values(), "--near -1 finds equal files")
    names = list(distinct)
    groups = dict(zip(names, near_groups(hashes, near), strict=True))
    return {path: names[groups[content]] for path, content in contents.items()}


def _of_split(
    split: Split,
    contents: Mapping[Path, str],
    clusters: Mapping[Path, str],
    train_contents: set[str],
    train_clusters: set[str],
) -> SplitDuplicates:
    content = {name: contents[path] for name, path in split.paths.items()}
    cluster = {name: clusters[path] for name, path in split.paths.items()}
    gallery = [name for name in split.gallery if name in content]
    queries = [query for query in split.queries if query.target in cluster]
    copies: dict[str, list[str]] = {}
    for name in gallery:
        copies.setdefault(cluster[name], []).append(name)
    equal = len(gallery) - len({content[name] for name in gallery})
    evaluated = split.role != "train"
    leaked = tuple(name for name in content if evaluated and content[name] in train_contents)
    near = set(leaked)
    return SplitDuplicates(
        name=split.name,
        role=split.role,
        queries=len(queries),
        equal=equal,
        near=len(gallery) - len(copies) - equal,
        leaked=leaked,
        leaked_near=tuple(
            name
            for name in content
            if evaluated and cluster[name] in train_clusters and name not in near
        ),
        leaked_targets=sum(
            evaluated and cluster[query.target or ""] in train_clusters for query in queries
        ),
        copied_targets=sum(
            any(name not in (query.target, query.reference) for name in copies_of)
            for query in queries
            if (copies_of := copies.get(cluster[query.target or ""], []))
        ),
        reference_is_target=sum(
            cluster.get(query.reference) == cluster[query.target or ""] for query in queries
        ),
        ceilings=_ceilings(split, queries, content, gallery) if evaluated else {},
    )


def _ceilings(
    split: Split, queries: Iterable[Query], content: Mapping[str, str], gallery: Sequence[str]
) -> dict[str, float]:
    """Highest recalls of a ranking that gives equal files equal scores, ties in gallery order."""
    same: dict[str, list[str]] = {}
    for name in gallery:
        same.setdefault(content[name], []).append(name)
    best: list[int] = []
    for query in queries:
        target, gone = query.target or "", query.reference if split.drop_reference else ""
        ranked = [name for name in same.get(content[target], []) if name != gone]
        best.append(ranked.index(target) + 1 if target in ranked else 0)
    kinds = [measure.partition("@") for measure in split.measures]
    return {
        f"{kind}@{k}": sum(0 < rank <= int(k) for rank in best) / len(best)
        for kind, _, k in kinds
        if kind == "recall" and best
    }
