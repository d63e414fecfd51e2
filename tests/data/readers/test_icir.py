from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.readers.icir import ICIR
from cir_plugins.errors import CIRError
from tests.layouts import small_icir, write_lines


def test_one_split_per_instance(tmp_path: Path) -> None:
    """A query ranks the database of its own instance, and its text chooses the positives."""
    dog, mug = ICIR()(small_icir(tmp_path))
    assert (dog.name, dog.role, mug.name, dog.drop_reference) == ("dog", "val", "mug", False)
    assert dog.gallery == tuple(f"database/dog/{number}.jpg" for number in range(4))
    assert mug.gallery == ("database/mug/4.jpg", "database/mug/5.jpg")
    night, toy = dog.queries
    assert night.positives == ("database/dog/0.jpg", "database/dog/2.jpg")
    assert (toy.text, toy.positives) == ("as a toy", ("database/dog/1.jpg",))
    assert dog.paths["query/dog/a.jpg"] == tmp_path / "query" / "dog" / "a.jpg"
    assert ICIR(instances=("mug",))(tmp_path) == [mug]


def test_paths_may_begin_with_the_data_folder(tmp_path: Path) -> None:
    """As its own script has it, which reads pictures from the folder above."""
    root = small_icir(tmp_path / "icir")
    for name in ("query_files.csv", "database_files.csv"):
        lines = (root / name).read_text().splitlines()
        write_lines(root / name, *(f"icir_v1/{line}" for line in lines))
    mug = ICIR()(root)[1]
    assert mug.paths["icir_v1/database/mug/5.jpg"] == root / "database" / "mug" / "5.jpg"


def test_quoted_texts_may_hold_commas(tmp_path: Path) -> None:
    root = small_icir(tmp_path)
    write_lines(root / "query_files.csv", 'query/mug/b.jpg,"broken, in two",mug')
    write_lines(root / "database_files.csv", 'database/mug/4.jpg,"broken, in two",mug')
    assert ICIR()(root)[0].queries[0].text == "broken, in two"


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("query_files.csv", "a.jpg,red", "line 1 is 'a.jpg,red'\naccepted: an image path, a text"),
        ("query_files.csv", "a.jpg,red,cat", "line 1: no image of the database has its instance"),
        ("query_files.csv", "a.jpg,blue,dog", "line 1: no image of the database has its instance"),
        ("query_files.csv", 'a.jpg,"red,cat', "line 1 is not a line of CSV"),
        ("database_files.csv", "a.jpg,,dog", "line 1 is 'a.jpg,,dog'"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, file: str, line: str, message: str) -> None:
    root = small_icir(tmp_path)
    write_lines(root / file, line)
    with pytest.raises(CIRError, match=message):
        ICIR()(root)


def test_unknown_instances_are_named(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"query_files\.csv has no instance 'cat'"):
        ICIR(instances=("cat",))(small_icir(tmp_path))
    splits: Any = ("train",)
    with pytest.raises(CIRError, match="i-CIR has no training split"):
        ICIR(splits=splits)(tmp_path)
