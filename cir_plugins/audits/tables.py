"""The tables of an audit, from the values of each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cir_plugins.audits.measured import SHORTCUTS, Ranked
from cir_plugins.audits.paraphrase import RULES
from cir_plugins.audits.pooled import MAIN, Pooled, Slice
from cir_plugins.audits.variants import ALL_RULES, ORDER
from cir_plugins.bench.statistics import paired_interval

MANY = 30  # fewer queries than this are marked: their mean says little


@dataclass(frozen=True)
class Row:
    """Mean measures over some queries.

    Attributes:
        name: Which queries, or which ranking of all.
        queries: Their number.
        share: Their share of all queries, a fraction.
        measures: Measure -> mean, a fraction; {} without queries.
    """

    name: str
    queries: int
    share: float
    measures: Mapping[str, float]


@dataclass(frozen=True)
class Change:
    """The same queries before and after a change.

    Attributes:
        name: What was changed.
        says: The change in words.
        queries: Number of queries that it changes.
        share: Their share of all queries, a fraction.
        measure: The measure compared.
        before: Mean over the queries, a fraction.
        after: The same after the change.
        difference: After minus before.
        low: Lower bound of its 95 % bootstrap interval.
        high: Upper bound.
        lost: Share of the queries solved before and not after, a fraction.
        won: Share of the queries solved after and not before, a fraction.
    """

    name: str
    says: str
    queries: int
    share: float
    measure: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    lost: float
    won: float


@dataclass(frozen=True)
class Table:
    """One table of an audit.

    Attributes:
        name: Its key in the JSON file.
        title: Its heading.
        text: What it shows.
        rows: Rows of measures.
        changes: Rows of a comparison.
        notes: What is missing, and why.
    """

    name: str
    title: str
    text: str
    rows: tuple[Row, ...] = ()
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)


def make_row(pooled: Pooled, name: str, ranked: Ranked, mask: Tensor | None = None) -> Row:
    """The means of a ranking over some of its queries, or all."""
    values = pooled.values(ranked)
    total = len(ranked.ranks)
    number = total if mask is None else int(mask.sum())
    means = {
        measure: float((each if mask is None else each[mask]).mean())
        for measure, each in values.items()
        if number
    }
    return Row(name, number, number / total, means)


def slice_table(
    pooled: Pooled, slices: Sequence[Slice], group: str, title: str, text: str
) -> Table:
    """The run's measures over all queries and over each slice of a group."""
    run = pooled.run()
    rows = [make_row(pooled, each.name, run, each.mask) for each in slices if each.group == group]
    notes = () if rows else (f"the data names no {group} of its queries",)
    return Table(
        group, title, text, (make_row(pooled, "all queries", run), *rows) if rows else (), (), notes
    )


def ranking_table(pooled: Pooled, missing: Sequence[str]) -> Table:
    """The training-free rankings beside the run's."""
    rows = [make_row(pooled, "the run", pooled.run())]
    notes: tuple[str, ...] = ()
    if missing:
        notes = (f"not computed: the backbone does not offer {', '.join(missing)}",)
    else:
        rows += [make_row(pooled, name, pooled.shortcut(name)) for name in SHORTCUTS]
    text = (
        "Training-free rankings with the run's own backbone and weights: the reference image alone "
        "is the query, the text alone, the normalised sum of both, the product of both scores."
    )
    return Table("rankings", "Rankings of one modality", text, tuple(rows), (), notes)


def order_table(pooled: Pooled) -> Table:
    """The run with the captions of each query in reverse."""
    says = {ORDER: "the captions of a query in reverse"}
    text = "The same queries with their captions in the other order, which changes no meaning."
    changes = _changes(pooled, says)
    notes = () if changes else ("no query has several captions that are joined in an order",)
    return Table("order", "Order of the captions", text, (), changes, notes)


def paraphrase_table(pooled: Pooled) -> Table:
    """The run with captions rewritten by rules that keep their meaning."""
    says = {ALL_RULES: "all rules in turn", **{rule.name: rule.says for rule in RULES}}
    text = "The queries that a rule changes, before and after; every rule keeps the meaning."
    changes = _changes(pooled, says)
    notes = () if changes else ("no rule finds its words in any caption",)
    return Table("paraphrase", "Paraphrase by rule", text, (), changes, notes)


def twins_change(pooled: Pooled) -> Change:
    """Any positive among the first k: as annotated, and where near-duplicates of targets count."""
    measure = f"any_recall@{pooled.k}"
    before = torch.cat([part.any_recall for part in pooled.parts])
    after = torch.cat([part.with_twins for part in pooled.parts])
    says = "near-duplicates of the target count as positives"
    return _change(
        "near-duplicates", says, measure, (before, after), (before > 0, after > 0), len(before)
    )


def _changes(pooled: Pooled, says: Mapping[str, str]) -> tuple[Change, ...]:
    run = pooled.run()
    total, whole = len(run.ranks), pooled.values(run)[MAIN]
    changes = []
    for name, words in says.items():
        if not any(name in part.variants for part in pooled.parts):
            continue
        after = pooled.variant(name)
        rows = after.rows
        values = whole[rows], pooled.values(after)[MAIN]
        solved = pooled.solved(run.ranks[rows]), pooled.solved(after.ranks)
        changes.append(_change(name, words, MAIN, values, solved, total))
    return tuple(changes)


def _change(
    name: str,
    says: str,
    measure: str,
    values: tuple[Tensor, Tensor],
    solved: tuple[Tensor, Tensor],
    total: int,
) -> Change:
    before, after = (each.numpy().astype(np.float64) for each in values)
    interval = paired_interval({"": after}, {"": before})
    lost, won = solved[0] & ~solved[1], solved[1] & ~solved[0]
    return Change(
        name,
        says,
        len(before),
        len(before) / total,
        measure,
        float(before.mean()),
        float(after.mean()),
        interval.difference,
        interval.low,
        interval.high,
        float(lost.double().mean()),
        float(won.double().mean()),
    )
