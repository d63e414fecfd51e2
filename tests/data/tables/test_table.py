"""Types of columns, which filters of a search and messages rest on."""

from __future__ import annotations

import pytest

from cir_plugins.data.tables import Cell, Column, Table, join


def column(*cells: Cell, decimal_comma: bool = False) -> Column:
    rows = tuple(map(str, range(len(cells))))
    return Table("t", rows, {"c": cells}, decimal_comma=decimal_comma).columns()["c"]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (("1", "", "-20"), "integer", (1, None, -20)),
        (("1", "2.5", "1e3"), "number", (1.0, 2.5, 1000.0)),
        (("007", "12"), "text", ("007", "12")),
        (("True", "false", ""), "boolean", (True, False, None)),
        (("1,5", "2"), "text", ("1,5", "2")),
        (("red", ""), "text", ("red", None)),
        (("", ""), "text", (None, None)),
        (("9" * 18, "1"), "integer", (10**18 - 1, 1)),
        (("9" * 30, "1"), "number", (1e30, 1.0)),
        (("1e999",), "text", ("1e999",)),
        (("nan", "inf"), "text", ("nan", "inf")),
        ((".", "-", "+"), "text", (".", "-", "+")),
        ((1, None, 3), "integer", (1, None, 3)),
        ((1, 2.5, None), "number", (1.0, 2.5, None)),
        ((True, None), "boolean", (True, None)),
        ((True, 2), "text", ("true", "2")),
        ((2**70, 1), "number", (float(2**70), 1.0)),
        ((("a", "b"), "c", None), "texts", (("a", "b"), ("c",), None)),
    ],
)
def test_types_of_columns(cells: tuple[Cell, ...], kind: str, values: tuple[Cell, ...]) -> None:
    """An article number 007 that becomes 7 is found no more; a price as text has no range."""
    typed = column(*cells)
    assert (typed.kind, typed.values) == (kind, values)
    assert [type(value) for value in typed.values] == [type(value) for value in values]


def test_decimal_commas_of_semicolon_files() -> None:
    assert column("1,5", "2", decimal_comma=True) == Column("number", (1.5, 2.0))


def test_rows_with_types() -> None:
    """Metadata of an index: a filter on a price compares numbers."""
    table = Table("t", ("2", "3"), {"id": ("a", "b"), "price": ("9.5", ""), "new": ("true", "")})
    assert table.typed_rows() == [
        {"id": "a", "price": 9.5, "new": True},
        {"id": "b", "price": None, "new": None},
    ]
    assert Table("t", ("2",), {}).typed_rows() == [{}]


def test_texts_of_numbers_are_article_numbers() -> None:
    """Pandas makes a column of whole numbers with a gap one of floats."""
    table = Table("t", ("0", "1", "2"), {"group": (12.0, None, 7)})
    assert table.texts("group") == ("12", "", "7")
    assert table.texts("none") == ("", "", "")


def test_parts_are_joined_with_their_split() -> None:
    one = Table("a", ("2", "3"), {"text": ("x", "y")})
    two = Table("b", ("2",), {"text": ("z",), "price": ("1",), "split": ("test",)})
    table = join("folder", {"train": one, "val": two})
    assert table.rows == ("train.2", "train.3", "val.2")
    assert table.cells["price"] == (None, None, "1")
    assert table.cells["split"] == ("train", "train", "test")
