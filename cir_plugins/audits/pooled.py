"""The queries of all splits in one list, with their values, ranks and slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cir_plugins.audits.measured import SHORTCUTS, Measured, Ranked
from cir_plugins.audits.wording import counts, length_of, negates
from cir_plugins.data.split import Query

MAIN = "main"
CATEGORY, ATTRIBUTE, WORDING, LENGTH = "category", "attribute", "wording", "length"
SHORTCUT, DUPLICATE = "shortcut", "duplicates"


@dataclass(frozen=True)
class Slice:
    """Some of the P queries.

    Attributes:
        group: What they are grouped by.
        name: Which of the group's slices.
        mask: (P,) bool.
    """

    group: str
    name: str
    mask: Tensor = field(repr=False)

    @property
    def label(self) -> str:
        """Group and name in one."""
        return f"{self.group}: {self.name}"


@dataclass(frozen=True)
class Pooled:
    """The P queries of all splits.

    Attributes:
        parts: The splits.
        measures: Measures that all splits have, the mean of the main ones first as ``main``.
        k: Rank up to which a query counts as solved.
    """

    parts: Sequence[Measured]
    measures: tuple[str, ...]
    k: int

    @property
    def queries(self) -> list[tuple[str, Query]]:
        """Split and query of each."""
        return [(part.split.name, query) for part in self.parts for query in part.split.queries]

    def run(self) -> Ranked:
        """The run's ranking of all queries."""
        return self._joined([part.run for part in self.parts])

    def shortcut(self, name: str) -> Ranked:
        """A training-free ranking of all queries."""
        return self._joined([part.shortcuts[name] for part in self.parts])

    def variant(self, name: str) -> Ranked:
        """The run's ranking of the queries that a change of the captions changes."""
        return self._joined([part.variants.get(name) for part in self.parts])

    def solved(self, ranks: Tensor) -> Tensor:
        """Whether the target is among the first k: (P,) bool."""
        return (ranks > 0) & (ranks <= self.k)

    def values(self, ranked: Ranked) -> dict[str, Tensor]:
        """Measure -> values of the ranking's queries, ``main`` first."""
        main = self.parts[0].split.main
        mean = sum((ranked.values[name] for name in main), start=torch.zeros(1)) / len(main)
        return {MAIN: mean, **{name: ranked.values[name] for name in self.measures}}

    def _joined(self, rankings: Sequence[Ranked | None]) -> Ranked:
        rows, ranks, first = [], [], 0
        there = [each for each in rankings if each is not None]
        names = [n for n in there[0].values if all(n in each.values for each in there)]
        for part, each in zip(self.parts, rankings, strict=True):
            if each is not None:
                rows.append(each.rows + first)
                ranks.append(each.ranks)
            first += len(part.split.queries)
        values = {name: torch.cat([each.values[name] for each in there]) for name in names}
        return Ranked(torch.cat(rows), values, torch.cat(ranks))


def slices_of(pooled: Pooled) -> list[Slice]:
    """Every slice of the queries, those of the text and data first."""
    return [
        *_named_slices(pooled),
        *_shortcut_slices(pooled),
        *_duplicate_slices(pooled),
    ]


def _named_slices(pooled: Pooled) -> Iterator[Slice]:
    queries = [query for _, query in pooled.queries]
    names: Mapping[str, list[Sequence[str]]] = {
        CATEGORY: [[query.category] if query.category else [] for query in queries],
        ATTRIBUTE: [query.changed for query in queries],
        WORDING: [_wording(" ".join(query.captions)) for query in queries],
        LENGTH: [[length_of(query.captions)] for query in queries],
    }
    for group, of_query in names.items():
        distinct = {name for each in of_query for name in each}
        for name in sorted(distinct, key=_by_number):
            yield Slice(group, name, torch.tensor([name in each for each in of_query]))


def _wording(text: str) -> list[str]:
    words = ["negation" if negates(text) else "no negation"]
    return [*words, "counting" if counts(text) else "no counting"]


def _by_number(name: str) -> tuple[int, str]:
    first = name.split(" ")[0]
    return (int(first) if first.isascii() and first.isdigit() else 0, name)


def _shortcut_slices(pooled: Pooled) -> Iterator[Slice]:
    if not pooled.parts[0].shortcuts:
        return
    solved = {name: pooled.solved(pooled.shortcut(name).ranks) for name in SHORTCUTS}
    for name, mask in solved.items():
        yield Slice(SHORTCUT, f"solved by {name}", mask)
    image, text = (solved[name] for name in SHORTCUTS[:2])
    yield Slice(SHORTCUT, "solved by image alone or text alone", image | text)
    yield Slice(SHORTCUT, "solved by neither alone", ~(image | text))
    yield Slice(SHORTCUT, "solved by none of the four", ~torch.stack([*solved.values()]).any(0))


def _duplicate_slices(pooled: Pooled) -> Iterator[Slice]:
    same, of_target, of_reference, pair = [], [], [], []
    for part in pooled.parts:
        queries, twins = part.split.queries, part.twins
        same += [query.reference == query.target for query in queries]
        of_target += [bool(names) for names in twins.of_target]
        of_reference += [bool(names) for names in twins.of_reference]
        pair += [
            bool(likeness >= twins.near) and query.reference != query.target
            for query, likeness in zip(queries, twins.pair, strict=True)
        ]
    for name, flags in (
        ("target is the reference", same),
        ("reference and target near-duplicates", pair),
        ("target has a near-duplicate in the gallery", of_target),
        ("reference has a near-duplicate in the gallery", of_reference),
    ):
        yield Slice(DUPLICATE, name, torch.tensor(flags))
