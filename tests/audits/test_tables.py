"""Tables worked out by hand for six queries of two splits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cir_plugins.audits.measured import SHORTCUTS, Measured, Ranked
from cir_plugins.audits.pooled import SHORTCUT, Pooled, slices_of
from cir_plugins.audits.tables import (
    order_table,
    paraphrase_table,
    ranking_table,
    slice_table,
    twins_change,
)
from cir_plugins.audits.twins import Twins
from cir_plugins.data.split import Query, Split
from cir_plugins.retrieval.evaluate import SplitResult
from cir_plugins.retrieval.metrics import mean_by_name, recall_at

MEASURES = ("recall@1", "recall@10")


def ranked(*ranks: int, rows: tuple[int, ...] = ()) -> Ranked:
    numbers = torch.tensor(ranks)
    values = {name: recall_at(numbers, int(name.split("@")[1])) for name in MEASURES}
    return Ranked(torch.tensor(rows or range(len(ranks))), values, numbers)


def part(
    name: str,
    queries: list[tuple[str, str, str, tuple[str, ...]]],
    run: Ranked,
    shortcuts: tuple[Ranked, ...],
    variants: dict[str, Ranked],
    near: list[str],
) -> Measured:
    made = tuple(
        Query(f"{name}.{i}", reference, (text,), text, target, (target,), name, (), changed)
        for i, (reference, target, text, changed) in enumerate(queries)
    )
    split = Split(f"{name}.val", "val", made, ("a", "b", "c"), dict.fromkeys("abc", Path()))
    split = Split(**{**vars(split), "measures": MEASURES, "main": MEASURES})
    twins = Twins(
        0.9,
        tuple(tuple(each) for each in near),
        tuple(() for _ in made),
        torch.full((len(made),), 0.5),
        torch.tensor([1.0 if q.reference == q.target else 0.92 for q in made]),
    )
    hits = run.values["recall@10"]
    more = torch.tensor([1.0 if each else float(hit) for each, hit in zip(near, hits, strict=True)])
    result = SplitResult(split.name, {}, run.values, len(made), 3)
    names = dict(zip(SHORTCUTS, shortcuts, strict=True))
    return Measured(split, result, run, names, variants, twins, hits, more)


@pytest.fixture
def pooled() -> Pooled:
    """Six queries; the run's ranks are 1, 5, 20, 0 and 2, 11."""
    dress = part(
        "dress",
        [
            ("a", "b", "has no sleeves", ("colour",)),
            ("a", "a", "two belts", ("colour", "length")),
            ("b", "c", "is red", ()),
            ("c", "a", "is blue and not long", ("length",)),
        ],
        ranked(1, 5, 20, 0),
        (ranked(1, 30, 9, 40), ranked(50, 2, 60, 70), ranked(80, 80, 80, 10), ranked(99, 9, 9, 99)),
        {"order": ranked(1, 15, 3, rows=(0, 1, 2))},
        ["", "", "c", ""],
    )
    shirt = part(
        "shirt",
        [("a", "b", "is long", ()), ("b", "a", "longer", ())],
        ranked(2, 11),
        (ranked(3, 99), ranked(4, 99), ranked(5, 99), ranked(6, 99)),
        {},
        ["", ""],
    )
    return Pooled((dress, shirt), MEASURES, 10)


def test_rankings_of_one_modality(pooled: Pooled) -> None:
    rows = {row.name: row for row in ranking_table(pooled, ()).rows}
    assert [row.queries for row in rows.values()] == [6] * 5
    assert rows["the run"].measures == pytest.approx(
        {"main": (1 / 6 + 3 / 6) / 2, "recall@1": 1 / 6, "recall@10": 3 / 6}
    )
    assert rows["image alone"].measures["recall@10"] == pytest.approx(3 / 6)
    assert rows["text alone"].measures["recall@10"] == pytest.approx(2 / 6)
    assert rows["sum"].measures["recall@10"] == pytest.approx(2 / 6)
    assert rows["product"].measures["recall@10"] == pytest.approx(3 / 6)


def test_a_backbone_without_one_modality_is_a_note(pooled: Pooled) -> None:
    table = ranking_table(pooled, ["text_embedding"])
    assert [row.name for row in table.rows] == ["the run"]
    assert table.notes == ("not computed: the backbone does not offer text_embedding",)


def test_the_run_on_what_shortcuts_solve(pooled: Pooled) -> None:
    """Image alone solves queries 1, 3, 5; text alone 2, 5; the sum 4, 5; the product 2, 3, 5."""
    table = slice_table(pooled, slices_of(pooled), SHORTCUT, "", "")
    rows = {row.name: (row.queries, row.measures.get("recall@10")) for row in table.rows}
    assert rows == {
        "all queries": (6, 0.5),
        "solved by image alone": (3, pytest.approx(2 / 3)),
        "solved by text alone": (2, 1.0),
        "solved by sum": (2, 0.5),
        "solved by product": (3, pytest.approx(2 / 3)),
        "solved by image alone or text alone": (4, 0.75),
        "solved by neither alone": (2, 0.0),
        "solved by none of the four": (1, 0.0),
    }
    assert table.rows[5].share == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("category", {"dress": (4, 0.5), "shirt": (2, 0.5)}),
        ("attribute", {"colour": (2, 1.0), "length": (2, 0.5)}),
        (
            "wording",
            {
                **{"counting": (1, 1.0), "no counting": (5, 0.4)},
                **{"negation": (2, 0.5), "no negation": (4, 0.5)},
            },
        ),
        ("length", {"1 to 5 words": (6, 0.5)}),
        (
            "duplicates",
            {
                "target is the reference": (1, 1.0),
                "reference and target near-duplicates": (5, 0.4),
                "target has a near-duplicate in the gallery": (1, 0.0),
                "reference has a near-duplicate in the gallery": (0, None),
            },
        ),
    ],
)
def test_slices_by_hand(
    pooled: Pooled, group: str, expected: dict[str, tuple[int, float | None]]
) -> None:
    rows = slice_table(pooled, slices_of(pooled), group, "", "").rows[1:]
    assert {row.name: (row.queries, row.measures.get("recall@10")) for row in rows} == expected


def test_order_of_captions_by_hand(pooled: Pooled) -> None:
    """Ranks 1, 5, 20 become 1, 15, 3: one query of three is lost at 10, one is won."""
    (change,) = order_table(pooled).changes
    assert (change.queries, change.share) == (3, 0.5)
    assert change.before == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert change.after == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert change.difference == pytest.approx(0)
    assert change.low < 0 < change.high
    assert (change.lost, change.won) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_nothing_to_paraphrase_is_a_note(pooled: Pooled) -> None:
    table = paraphrase_table(pooled)
    assert table.changes == ()
    assert table.notes == ("no rule finds its words in any caption",)


def test_near_duplicates_that_count_by_hand(pooled: Pooled) -> None:
    """Three of six are hits as annotated, four where the twin of query 3 counts."""
    change = twins_change(pooled)
    assert (change.before, change.after) == (0.5, pytest.approx(4 / 6))
    assert (change.lost, change.won) == (0, pytest.approx(1 / 6))


def test_attribute_rows_are_semantic_means(pooled: Pooled) -> None:
    """CIRCO's semantic measures are the means of the queries that carry an aspect."""
    rows = slice_table(pooled, slices_of(pooled), "attribute", "", "").rows[1:]
    means = mean_by_name(
        pooled.run().values["recall@10"], [query.changed for _, query in pooled.queries]
    )
    assert {row.name: row.measures["recall@10"] for row in rows} == means
