"""Parquet and saved datasets, written by the libraries that users have."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.tables import is_saved_dataset, read_table
from cir_plugins.errors import CIRError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


def test_cells_of_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a ", None],
            "number": [1.5, float("nan")],
            "integer": pa.array([1, None], pa.int32()),
            "category": pa.array(["x", "y"]).dictionary_encode(),
            "texts": [["p", "q"], []],
            "day": [datetime.date(2026, 1, 2), None],
            "price": [Decimal("1.50"), None],
            "raw": [b"x", b"y"],
            "vector": [[1.0], [2.0]],
            "image": [{"bytes": b"...", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}],
            "embedded": [{"bytes": b"...", "path": None}] * 2,
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    assert read.rows == ("0", "1")
    assert dict(read.cells) == {
        "text": ("a", None),
        "number": (1.5, None),
        "integer": (1, None),
        "category": ("x", "y"),
        "texts": (("p", "q"), ()),
        "day": ("2026-01-02", None),
        "price": (1.5, None),
        "image": ("a.jpg", "b.jpg"),
    }
    assert read.unread == ("raw", "vector", "embedded")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"x" * 40 + b"PAR1"])
def test_damaged_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(CIRError, match=r"t.parquet cannot be read"):
        read_table(tmp_path / "t.parquet")


@pytest.fixture
def datasets() -> Any:
    return pytest.importorskip("datasets", reason="datasets is not installed")


def test_folders_that_datasets_saved(tmp_path: Path, datasets: Any) -> None:
    """A selection is saved in its own order, shards in theirs."""
    rows = {"reference": ["a", "b", "c"], "text": ["x", "y", "z"]}
    whole = datasets.Dataset.from_dict(rows)
    whole.select([2, 0]).save_to_disk(tmp_path / "one")
    assert is_saved_dataset(tmp_path / "one")
    assert read_table(tmp_path / "one").cells["reference"] == ("c", "a")
    parts = datasets.DatasetDict({"train": whole, "validation": whole.select([1])})
    parts.save_to_disk(tmp_path / "two", num_shards={"train": 2, "validation": 1})
    table = read_table(tmp_path / "two")
    assert table.rows == ("train.0", "train.1", "train.2", "validation.0")
    assert table.cells["reference"] == ("a", "b", "c", "b")
    assert table.cells["split"] == ("train", "train", "train", "validation")


def test_a_saved_folder_names_no_file_elsewhere(tmp_path: Path, datasets: Any) -> None:
    """A folder from a stranger must not make the reader open any file of the disk."""
    datasets.Dataset.from_dict({"a": ["x"]}).save_to_disk(tmp_path / "d")
    state = json.loads((tmp_path / "d" / "state.json").read_text())
    for name in ("/etc/passwd", "../d/x", "", None):
        state["_data_files"] = [{"filename": name}]
        (tmp_path / "d" / "state.json").write_text(json.dumps(state))
        with pytest.raises(CIRError, match="names a file that is not in it"):
            read_table(tmp_path / "d")
    state["_data_files"] = [{"filename": "none.arrow"}]
    (tmp_path / "d" / "state.json").write_text(json.dumps(state))
    with pytest.raises(CIRError, match=r"none.arrow does not exist"):
        read_table(tmp_path / "d")
    (tmp_path / "d" / "state.json").write_text("[]")
    with pytest.raises(CIRError, match="has no list '_data_files'"):
        read_table(tmp_path / "d")
