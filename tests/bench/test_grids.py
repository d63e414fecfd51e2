from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cir_plugins.bench.grids import Thumbnails, choose, grids, triplet_of
from cir_plugins.data.split import Query, Split
from tests.bench.toy import record, val_split


def make_query(number: int, reference: str, target: str | None) -> Query:
    positives = (target,) if target else ()
    return Query(str(number), reference, (f"x{number}",), "x", target=target, positives=positives)


def split(name: str, references: str) -> Split:
    queries = tuple(make_query(i, reference, "t") for i, reference in enumerate(references))
    return Split(name, "val", queries, ("t", "u"), {})


def test_queries_are_drawn_by_seed_over_all_splits() -> None:
    splits = [split("one", "abcdefgh"), split("two", "abcdefgh"), split("three", "abcdefgh")]
    selection = choose(splits, 7, seed=1)
    assert [(one.name, len(queries)) for one, queries in selection] == [
        ("one", 3),
        ("two", 2),
        ("three", 2),
    ]
    assert selection == choose(splits, 7, seed=1)
    assert selection != choose(splits, 7, seed=2)


def test_queries_have_different_references_where_possible() -> None:
    ((_, queries),) = choose([split("one", "aaaaaaaaaabc")], 3)
    assert {one.reference for one in queries} == {"a", "b", "c"}
    ((_, queries),) = choose([split("one", "aaab")], 3)
    assert len(queries) == 3


def test_queries_without_target_are_not_chosen() -> None:
    blind = Split("s", "val", (make_query(0, "a", None), make_query(1, "b", "t")), ("t",), {})
    ((_, queries),) = choose([blind])
    assert [one.id for one in queries] == ["1"]
    assert choose([replace(blind, queries=blind.queries[:1])]) == []


def with_two_texts(split: Split) -> Split:
    """The split with two queries of each triplet, as protocols of both orders have it."""
    queries = tuple(
        replace(query, id=f"{query.id}.{order}", text=f"text {order}")
        for query in split.queries
        for order in (0, 1)
    )
    return replace(split, queries=queries)


def test_same_triplets_drawn_for_two_texts() -> None:
    plain = split("one", "abcdefgh")
    ((_, once),) = choose([plain], 3, seed=2)
    ((_, first),) = choose([with_two_texts(plain)], 3, seed=2)
    assert [query.id for query in first] == [f"{query.id}.0" for query in once]


@pytest.mark.parametrize("twice_first", [False, True])
def test_grid_is_shared_by_protocols_of_two_texts(tmp_path: Path, twice_first: bool) -> None:
    made = val_split(tmp_path)
    runs = []
    for label, kind in (("once", made), ("twice", with_two_texts(made))):
        ((_, queries),) = choose([kind], 2)
        ranking = {triplet_of(query): [query.target or ""] for query in queries}
        runs.append(record(label, 0, {"s": [0.0]}, rankings={made.name: ranking}))
    shown = grids(runs, [with_two_texts(made) if twice_first else made])
    assert len(shown) == 2
    assert all([row.label for row in one.rankings] == ["once", "twice"] for one in shown)
    assert all(one.rankings[0].cells == one.rankings[1].cells for one in shown)


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    Image.new("RGB", (200, 100), "red").save(tmp_path / "wide.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return {"wide": tmp_path / "wide.png", "broken": tmp_path / "broken.png"}


def test_thumbnails_fit_a_square(pictures: dict[str, Path]) -> None:
    thumbnails = Thumbnails(pictures, side=40)
    head, _, data = thumbnails["wide"].partition(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (40, 40)
    red, green, blue = image.getpixel((20, 20))  # type: ignore[misc]
    assert red > 240
    assert green < 20
    assert blue < 20
    assert min(image.getpixel((20, 3))) > 240  # type: ignore[type-var, arg-type]


def test_pictures_that_cannot_be_read_are_empty(pictures: dict[str, Path]) -> None:
    thumbnails = Thumbnails(pictures)
    assert (thumbnails["broken"], thumbnails["unknown"]) == ("", "")


def test_grids_mark_positives_target_and_reference(tmp_path: Path) -> None:
    made = val_split(tmp_path)
    query = made.queries[4]
    assert query.target is not None
    wrong = next(n for n in made.gallery if n not in (*query.positives, query.reference))
    ranking = [query.reference, wrong, *query.positives]
    runs = [
        record("shown", 0, {"s": [0.0]}, rankings={made.name: {triplet_of(query): ranking}}),
        record("no rankings", 1, {"s": [0.0]}),
    ]
    (grid,) = grids(runs, [made])
    assert (grid.text, grid.split, grid.positives) == (query.text, made.name, len(query.positives))
    assert (grid.reference.name, grid.target.name) == (query.reference, query.target)
    (row,) = grid.rankings
    assert (row.label, row.hits) == ("shown", len(query.positives))
    assert [cell.reference for cell in row.cells] == [
        True,
        False,
        *(False for _ in query.positives),
    ]
    assert [cell.positive for cell in row.cells] == [False, False, *(True for _ in query.positives)]
    assert [cell.target for cell in row.cells][2] is True
    assert all(cell.picture.startswith("data:image/jpeg") for cell in row.cells)
