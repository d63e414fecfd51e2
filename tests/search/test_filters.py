"""Filters against the same condition written in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import cir_plugins as cir
from cir_plugins.search.columns import make_columns
from cir_plugins.search.filters import allowed_rows

ROWS: list[dict[str, Any]] = [
    {"price": 10, "brand": "x", "sale": True, "sale price": 5.5},
    {"price": 50.0, "brand": "y's", "sale": False, "sale price": None},
    {"price": None, "brand": "x", "sale": None, "sale price": -2},
    {"price": 99, "brand": "", "sale": True, "sale price": 1e3},
    {"price": 49, "brand": "Z", "sale": False, "sale price": 5.5},
]
COLUMNS = {column.name: column for column in make_columns(ROWS)}


def admitted(text: str) -> list[int]:
    return [row for row, fits in enumerate(allowed_rows(text, COLUMNS, len(ROWS))) if fits]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("price < 50", [0, 4]),
        ("price <= 50 and brand != 'x'", [1, 4]),
        ("brand == 'x' or price > 90", [0, 2, 3]),
        ("not price < 50", [1, 2, 3]),  # a missing value compares false
        ("price != 10", [1, 3, 4]),
        ("price in [10, 99]", [0, 3]),
        ("price not in (10, 99)", [1, 4]),
        ("brand not in ['x']", [1, 4]),
        ("brand == \"y's\" or brand == 'y\\'s'", [1]),
        ("sale", [0, 3]),
        ("not sale and sale == false", [1, 4]),
        ("`sale price` == 5.5", [0, 4]),
        ("`sale price` < -1.5e0", [2]),
        ("brand >= 'a'", [0, 1, 2]),
        ("price < 20 or price > 90 and sale", [0, 3]),  # and binds tighter
        ("(price < 20 or price > 90) and not (sale)", []),
        ("price<50 AND brand=='Z'", [4]),
    ],
)
def test_a_filter_admits(text: str, rows: list[int]) -> None:
    assert admitted(text) == rows


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@pytest.mark.parametrize("sign", COMPARE)
@pytest.mark.parametrize("value", [10, 49.5, "x", "y"])
def test_each_comparison_is_pythons(sign: str, value: float | str) -> None:
    name = "brand" if isinstance(value, str) else "price"
    expected = [
        row
        for row, each in enumerate(ROWS)
        if each[name] not in (None, "") and COMPARE[sign](each[name], value)
    ]
    assert admitted(f"{name} {sign} {value!r}") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pric < 5", "nearest: price"),
        ("price < 'x'", "accepted: a number"),
        ("brand == 3", "accepted: a text in quotes"),
        ("sale == 1", "accepted: true or false"),
        ("sale < true", "makes no sense"),
        ("price", "after 'price'"),
        ("price < ", "its end"),
        ("price = 3", "character 7"),
        ("price < 3 brand == 'x'", "'and', 'or' or the end"),
        ("(price < 3", "')'"),
        ("price in 3", "a list"),
        ("price in []", "a number, a text"),
        ("'x' == brand", "the name of a field"),
        ("__import__('os')", "unknown field"),
        ("price < 3; drop", "cannot be read"),
        ("not " * 101 + "sale", "nested too deeply"),
        ("(" * 300 + "sale" + ")" * 300, "nested too deeply"),
        ("sale or " * 2000 + "sale", "at most 10,000"),
        ("brand == 'x", "cannot be read"),
        ("price == `true`", "a number, a text"),
    ],
)
def test_what_is_no_filter_is_refused(text: str, message: str) -> None:
    with pytest.raises(cir.CIRError) as caught:
        admitted(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["id", "score", "path", ""])
def test_fields_that_every_hit_has_are_refused(name: str) -> None:
    with pytest.raises(cir.CIRError, match="accepted"):
        make_columns([{name: 1}])


def test_columns_keep_values_and_kinds() -> None:
    rows = [{"a": 1, "b": 1.5, "c": "x", "d": True, "e": None, "f": 1}, {"f": "x"}]
    columns = {column.name: column for column in make_columns(rows)}
    assert [columns[name][0] for name in "abcdf"] == [1, 1.5, "x", True, "1"]
    assert isinstance(columns["a"][0], int)
    assert [columns[name][1] for name in "abcdf"] == [None, None, None, None, "x"]
    assert "e" not in columns
