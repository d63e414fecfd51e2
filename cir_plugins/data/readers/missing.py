"""Splits without the queries and images whose pictures are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError

Missing = Literal["error", "drop"]
_WAY_OUT = "put the files there, or leave out what needs them with data.missing=drop"


@dataclass(frozen=True)
class Absence:
    """Queries and images that a split lacks when only some image ids have a usable picture.

    Attributes:
        references: Queries without their reference.
        targets: Queries that have their reference but not their target.
        images: Distinct image ids without a picture, of queries and gallery.
        first: First query that is lost and the image it lacks, or None.
    """

    references: int
    targets: int
    images: tuple[str, ...]
    first: tuple[Query, str] | None

    @property
    def lost(self) -> int:
        """Number of queries without their reference or target."""
        return self.references + self.targets


def image_ids(split: Split) -> list[str]:
    """Every distinct image id that a split names: the gallery, then those only queries name."""
    names = dict.fromkeys(split.gallery)
    for query in split.queries:
        names.update(dict.fromkeys((query.reference, *query.positives, *query.group)))
    return list(names)


def absence(split: Split, usable: Mapping[str, object]) -> Absence:
    """Queries and images that a split lacks if only those in ``usable`` can be had."""
    references = targets = 0
    first: tuple[Query, str] | None = None
    for query in split.queries:
        if query.reference not in usable:
            references += 1
            first = first or (query, query.reference)
        elif query.target is not None and query.target not in usable:
            targets += 1
            first = first or (query, query.target)
    images = tuple(name for name in image_ids(split) if name not in usable)
    return Absence(references, targets, images, first)


def settle(
    split: Split, missing: Missing, where: Callable[[str], str], looked_for: str = ""
) -> Split:
    """The split without what a missing picture takes; ``paths`` covers all that is left.

    Gallery pictures of a training split that no triplet needs are left out in either case.

    Args:
        split: Its ``paths`` hold the pictures that were found.
        missing: ``error`` for a ``CIRError``; ``drop`` leaves out queries without reference or
            target and gallery images, and counts them in ``absent``.
        where: The file that an image id should be at, for the message.
        looked_for: Every folder and pattern where pictures were looked for, for the message.
    """
    lack = absence(split, split.paths)
    if not lack.images:
        return split
    if missing == "error":
        if lack.first:
            raise _triplet_error(split, lack, where, looked_for)
        if split.role != "train":
            raise _gallery_error(split, lack.images, where, looked_for)
    return _without(split, lack)


def settle_all(
    splits: Iterable[Split], missing: Missing, where: Callable[[str], str], looked_for: str = ""
) -> list[Split]:
    """The splits that still have queries after ``settle``, which has the same arguments.

    Those that have none are counted in ``absent`` of the first split of their role.

    Raises:
        CIRError: A picture is missing and that is an error, or no query is left at all.
    """
    before = list(splits)
    after = [settle(split, missing, where, looked_for) for split in before]
    left = [split for split in after if split.queries]
    if not left and before:
        name = before[0].name
        example = where(before[0].queries[0].reference) if before[0].queries else "any image"
        raise CIRError(
            f"{name}: no query is left, as no picture was found, such as {example}\n"
            f"accepted: a folder that holds the pictures beside the annotations{_tried(looked_for)}"
        )
    pairs = zip(before, after, strict=True)
    lost = [split.role for whole, split in pairs if whole.queries and not split.queries]
    return _with_lost_splits(left, lost)


def _with_lost_splits(splits: Sequence[Split], roles: Sequence[str]) -> list[Split]:
    """The splits, the first of each role with the number of lost splits of that role."""
    lost = Counter(roles)
    counted: list[Split] = []
    for split in splits:
        count = lost.pop(split.role, 0)
        absent = {**split.absent, "whole splits": count} if count else split.absent
        counted.append(replace(split, absent=absent))
    return counted


def _triplet_error(
    split: Split, lack: Absence, where: Callable[[str], str], looked_for: str
) -> CIRError:
    query, image = lack.first or (split.queries[0], "")
    if not split.paths:
        lacks = f"{split.name}: not one picture was found, not even {where(image)}"
    else:
        lacks = (
            f"{split.name}: query {query.id} needs image '{image}', but {where(image)} is missing"
        )
    lost = f"{lack.lost} of {len(split.queries)} queries need one"
    total = f"{len(lack.images)} images are missing, {lost}"
    return CIRError(f"{lacks}\n{total}; {_WAY_OUT}{_tried(looked_for)}")


def _gallery_error(
    split: Split, images: tuple[str, ...], where: Callable[[str], str], looked_for: str
) -> CIRError:
    lacks = f"{split.name}: image '{images[0]}' is missing: {where(images[0])}"
    total = f"{len(images)} images of the gallery or the positives are missing, though no triplet's"
    return CIRError(f"{lacks}\n{total}; {_WAY_OUT}{_tried(looked_for)}")


def _tried(looked_for: str) -> str:
    return f"\nlooked for: {looked_for}" if looked_for else ""


def _without(split: Split, lack: Absence) -> Split:
    gone = frozenset(lack.images)
    queries = [query for query in split.queries if not _names(query) & gone]
    absent = {
        "queries": len(split.queries) - len(queries),
        "gallery images": sum(name in gone for name in split.gallery),
        "positives": sum(name in gone for query in queries for name in query.positives),
        "group images": sum(name in gone for query in queries for name in query.group),
    }
    return replace(
        split,
        queries=tuple(_trim(query, gone) for query in queries),
        gallery=tuple(name for name in split.gallery if name not in gone),
        absent={name: count for name, count in absent.items() if count},
    )


def _names(query: Query) -> set[str]:
    return {query.reference} | ({query.target} if query.target else set())


def _trim(query: Query, gone: frozenset[str]) -> Query:
    if gone.isdisjoint(query.positives) and gone.isdisjoint(query.group):
        return query
    return replace(
        query,
        positives=_without_names(query.positives, gone),
        group=_without_names(query.group, gone),
    )


def _without_names(names: Iterable[str], gone: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in gone)
