from __future__ import annotations

import random

import pytest

from cir_plugins.data.readers.products import Division, divide, products_of
from cir_plugins.data.readers.triplet_rows import Row


def row(name: int, reference: str, target: str, group: str = "", of_reference: str = "") -> Row:
    return Row(str(name), reference, target, ("x",), None, group, of_reference)


def random_rows(count: int, pictures: int, groups: int, seed: int) -> list[Row]:
    rng = random.Random(seed)
    names = [f"{number:03d}" for number in range(pictures)]
    product = {name: f"g{rng.randrange(groups)}" if groups else "" for name in names}
    rows = []
    for number in range(count):
        first, second = rng.sample(names, 2)
        rows.append(row(number, first, second, product[second], rng.choice(["", product[first]])))
    return rows


def slow_products(rows: list[Row]) -> dict[str, set[str]]:
    """Picture -> all pictures of its product, by repeated merging."""
    sets = [({picture}, {group} - {""}) for one in rows for picture, group in one.pictures()]
    merged = True
    while merged:
        merged = False
        for first in range(len(sets)):
            for second in range(first + 1, len(sets)):
                if sets[first][0] & sets[second][0] or sets[first][1] & sets[second][1]:
                    pictures, groups = sets.pop(second)
                    sets[first] = (sets[first][0] | pictures, sets[first][1] | groups)
                    merged = True
                    break
            if merged:
                break
    return {picture: pictures for pictures, _ in sets for picture in pictures}


@pytest.mark.parametrize("seed", range(5))
def test_products_are_connected_by_groups_and_pictures(seed: int) -> None:
    rows = random_rows(12, 14, 6, seed)
    slow = slow_products(rows)
    products = products_of(rows)
    assert products == {picture: min(slow[picture]) for picture in products}


@pytest.mark.parametrize(("count", "pictures", "groups"), [(60, 90, 0), (60, 90, 30), (80, 12, 0)])
@pytest.mark.parametrize("seed", range(4))
def test_no_product_is_in_two_splits(count: int, pictures: int, groups: int, seed: int) -> None:
    """A product of training that is held back too makes the number too good."""
    rows = random_rows(count, pictures, groups, seed)
    products = products_of(rows)
    division = divide(rows, 0.2, seed)
    of = {
        part: {
            products[picture] for i in getattr(division, part) for picture, _ in rows[i].pictures()
        }
        for part in ("train", "val")
    }
    assert not of["train"] & of["val"]
    assert division.train
    assert division.val
    parts = (*division.train, *division.val, *division.across)
    assert sorted(parts) == list(range(count))
    assert division == divide(rows, 0.2, seed)


def test_the_order_of_the_rows_does_not_count() -> None:
    """A table that was sorted anew must hold back the same rows."""
    rows = random_rows(60, 90, 30, 1)
    shuffled = random.Random(3).sample(rows, len(rows))

    def held(some: list[Row]) -> set[str]:
        return {some[i].name for i in divide(some, 0.2, 0).val}

    assert held(rows) == held(shuffled)
    assert held(rows) != {rows[i].name for i in divide(rows, 0.2, 1).val}


def test_whole_components_are_held_back_where_they_fit() -> None:
    """Ten pairs of pictures of their own: two of them are held back, and none is lost."""
    rows = [row(number, f"a{number}", f"b{number}") for number in range(10)]
    division = divide(rows, 0.2, 0)
    assert (len(division.train), len(division.val), division.across) == (8, 2, ())


def test_one_component_is_cut_where_little_is_lost() -> None:
    """Two clusters that one row connects: the cut is between them."""
    clusters = [[f"{cluster}{number}" for number in range(6)] for cluster in ("a", "b")]
    pairs = [(one, two) for names in clusters for one in names for two in names if one < two]
    rows = [row(number, *pair) for number, pair in enumerate([*pairs, ("a0", "b0")])]
    division = divide(rows, 0.48, 0)
    assert (len(division.train), len(division.val), len(division.across)) == (15, 15, 1)


@pytest.mark.parametrize(
    ("rows", "share", "division"),
    [
        ([], 0.1, Division((), ())),
        ([row(0, "a", "b")], 0.5, Division((0,), ())),
        ([row(0, "a", "b"), row(1, "c", "d")], 0.0, Division((0, 1), ())),
        ([row(0, "a", "b"), row(1, "b", "a")], 0.5, Division((0, 1), ())),
    ],
)
def test_too_few_rows_to_divide(rows: list[Row], share: float, division: Division) -> None:
    assert divide(rows, share, 0) == division
