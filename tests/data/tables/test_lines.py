from __future__ import annotations

from pathlib import Path

import pytest

from cir_plugins.data.tables import read_table
from cir_plugins.errors import CIRError


def test_rows_of_json_lines(tmp_path: Path) -> None:
    """A text may hold the separators that other programs end a line at."""
    text = '{"a": "x\u2028y", "n": 1, "t": ["p", "q"]}\n\n{" a ": " z ", "o": {}}\r\n'
    file = tmp_path / "t.jsonl"
    file.write_text(text, encoding="utf-8-sig", newline="")
    table = read_table(file)
    assert table.rows == ("1", "3")
    assert table.cells["a"] == ("x\u2028y", "z")
    assert table.cells["n"] == (1, None)
    assert table.cells["t"] == (("p", "q"), None)
    assert table.unread == ("o",)


def test_a_list_of_objects(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('[{"a": 1}, {"b": 2}]')
    assert dict(read_table(file).cells) == {"a": (1, None), "b": (None, 2)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"a": 1}\n{"a": \n', "row 2 is not valid JSON"),
        ("t.jsonl", "[1]\n", "row 1 is no object"),
        ("t.jsonl", '{"a": "\\ud800"}\n', "row 1 has half of a character"),
        ("t.json", '{"a": 1}', "holds no list"),
        ("t.json", "[1]", "row 1 is no object"),
        ("t.jsonl", "[" * 500 + "\n", "row 1 is n"),
    ],
)
def test_what_is_no_table(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CIRError, match=message):
        read_table(tmp_path / name)
