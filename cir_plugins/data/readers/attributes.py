"""Attributes of images: further positives of a query, and what its text changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cir_plugins.data.readers.files import read_names_with_repeats, read_table, short
from cir_plugins.data.split import Query
from cir_plugins.errors import CIRError


@dataclass(frozen=True)
class Attributes:
    """Attribute name -> value of each image; empty where a data set has none."""

    of: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def with_positives(self, queries: Iterable[Query], gallery: Sequence[str]) -> tuple[Query, ...]:
        """The queries with every positive: target first, then its equals in gallery order.

        Equals have the same attributes with the same values. A query's reference is never one.
        """
        equals: dict[frozenset[tuple[str, str]], list[str]] = {}
        for name in gallery:
            if self.of.get(name):
                equals.setdefault(frozenset(self.of[name].items()), []).append(name)
        return tuple(self._with_positives(query, equals) for query in queries)

    def _with_positives(
        self, query: Query, equals: Mapping[frozenset[tuple[str, str]], list[str]]
    ) -> Query:
        if query.target is None:
            return query
        others = equals.get(frozenset(self.of.get(query.target, {}).items()), [])
        rest = [name for name in others if name not in (query.target, query.reference)]
        return replace(query, positives=(query.target, *rest))

    def changed(self, kind: str | None, reference: str, target: str | None) -> tuple[str, ...]:
        """Names of the attributes that a text changes.

        Args:
            kind: What the data names: names joined by ``+``; ``both`` and None stand for all that
                differ between the two images.
            reference: Image id.
            target: Image id, or None in blind splits.
        """
        if kind not in (None, "both"):
            return tuple(kind.split("+"))
        before, after = self.of.get(reference), self.of.get(target or "")
        if before is None or after is None:
            return ()
        return tuple(name for name in after if before.get(name) != after[name])


def read_attributes(file: Path) -> Attributes:
    """The attributes in a file {image id: {name: value}}; none when it is not there."""
    if not file.exists():
        return Attributes()
    table: dict[str, Mapping[str, str]] = {}
    for name, values in read_table(file).items():
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            accepted = 'accepted: an object of strings, such as {"colour": "red"}'
            raise CIRError(f"{file}, image '{name}' has {short(values)}\n{accepted}")
        table[name] = values
    return Attributes(table)


def read_kinds(file: Path, captions: Path, count: int) -> Sequence[str | None]:
    """What each triplet changes, from a list parallel to the captions; None's without a file."""
    if not file.exists():
        return [None] * count
    kinds = read_names_with_repeats(file)
    if len(kinds) != count:
        raise CIRError(
            f"{file} has {len(kinds)} entries, but {captions} has {count}\n"
            "accepted: one entry per triplet, in the same order"
        )
    return kinds
