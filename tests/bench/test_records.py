from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cir_plugins.bench.records import one_line, read_record, without_folders, write_record
from cir_plugins.errors import CIRError
from tests.bench.toy import record


def test_record_is_read_back_from_its_files(tmp_path: Path) -> None:
    made = record(
        "Row A",
        3,
        {"merged.val": [0.0, 1.0], "dress.val": [0.5]},
        curve=({"epoch": 0, "loss": 1.5, "main": 0.25},),
        rankings={"merged.val": {"q1": ["b", "a"]}},
        seconds=12.25,
    )
    write_record(made, tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == [
        "rows/row-a-seed3.json",
        "values/row-a-seed3.npz",
    ]
    again = read_record("row-a-seed3", tmp_path)
    assert again is not None
    assert again.line() == made.line()
    assert (again.curve, again.rankings, again.fingerprint) == (made.curve, made.rankings, "f")
    assert again.values["recall@10"]["merged.val"].tolist() == [0.0, 1.0]
    assert again.values["recall@10"]["dress.val"].tolist() == [0.5]


def test_values_are_plain_arrays(tmp_path: Path) -> None:
    write_record(record("a", 0, {"s": [0.5, 1.0]}), tmp_path)
    with np.load(tmp_path / "values" / "a-seed0.npz", allow_pickle=False) as arrays:
        assert arrays["s/recall@10"].tolist() == [0.5, 1.0]


def test_failed_run_is_written_but_not_read_back(tmp_path: Path) -> None:
    failed = record("a", 0, {"s": [0.5]}, error="why")
    write_record(failed, tmp_path)
    content = json.loads((tmp_path / "rows" / "a-seed0.json").read_text())
    assert content["error"] == "why"
    assert "average" not in content
    assert read_record("a-seed0", tmp_path) is None


def test_damaged_records_are_not_read(tmp_path: Path) -> None:
    """One digit of a measure in a row was shown as a result."""
    assert read_record("a-seed0", tmp_path) is None
    write_record(record("a", 0, {"s": [0.5]}), tmp_path)
    row, values = tmp_path / "rows" / "a-seed0.json", tmp_path / "values" / "a-seed0.npz"
    text, data = row.read_text(), values.read_bytes()
    row.write_text(text[:50])
    assert read_record("a-seed0", tmp_path) is None
    content = json.loads(text)
    row.write_text(json.dumps({**content, "queries": content["queries"] + 1}))
    assert read_record("a-seed0", tmp_path) is None
    row.write_text(text)
    values.write_bytes(data[: len(data) // 2])
    assert read_record("a-seed0", tmp_path) is None
    values.write_bytes(data)
    assert read_record("a-seed0", tmp_path) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image /data/set/images/1.jpg is empty", "image 1.jpg is empty"),
        ("'/data'", "'data'"),
        ("/home/me/", "me/"),
        ("C:\\sets\\photos\\1.jpg", "1.jpg"),
        ("root=/x/y: bad", "root=y: bad"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("https://example.org//home/me/x", "https://example.org/x"),
        ("maker/model-b and 10 / 3", "maker/model-b and 10 / 3"),
        ("../shared/data", "../shared/data"),
    ],
)
def test_absolute_folders_are_left_out(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_folders_are_left_out_of_tables() -> None:
    config = {"data": {"root": "/a/b", "n": 3, "on": True}, "list": (Path("/c/d"), None)}
    expected = {"data": {"root": "b", "n": 3, "on": True}, "list": ["d", None]}
    assert without_folders(config) == expected


def test_reasons_are_one_line() -> None:
    assert one_line(CIRError("unknown x 'y'\naccepted: /a/b/z")) == "unknown x 'y'; accepted: z"
    assert one_line(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert one_line(ZeroDivisionError()) == "ZeroDivisionError"
    long = one_line(ValueError("x" * 1000))
    assert len(long) == 400
    assert long.endswith("…")
