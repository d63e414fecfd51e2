"""The page on own data: its table is read, its commands run as they stand, at a small size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cir_plugins.data.readers.triplets import Triplets
from tests.command import Call
from tests.layouts import write_triplets
from tests.places import ROOT

PAGE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_table_of_the_page(tmp_path: Path) -> None:
    """The first file that a shop copies must be read, with its two views of one dress."""
    (text,) = blocks("csv")
    header, *lines = text.splitlines()
    names = re.findall(r"[\w/-]+\.jpg", text)
    pictures = [(name, "x", name) for name in names]
    root = write_triplets(tmp_path, pictures, "reference", "text", "target")
    (root / "triplets.csv").write_text(text, encoding="utf-8")
    train, val = Triplets(val_share=0.2)(root)
    queries = [*train.queries, *val.queries]
    assert len(queries) == len(lines) == 6
    dress = [query for query in queries if query.category == "dresses"]
    assert [set(query.positives) for query in dress] == [
        {"dresses/8850-front.jpg", "dresses/8850-back.jpg"}
    ] * 2
    assert header.endswith("price")
    assert "columns without a use in training and evaluation: price (number)" in Triplets().notes(
        root
    )


@pytest.mark.usefixtures("one_thread")
def test_the_commands_of_the_page(
    cir: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page whose commands fail is worse than none."""
    monkeypatch.chdir(tmp_path)
    commands = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    assert len(commands) == 10
    assert commands.pop() == "cir serve shop.index"  # tests/test_search_pages.py opens it
    for command in commands:
        small = command.replace("400", "80").replace("epochs=3", "epochs=1")
        program, *words = shlex.split(small)
        assert program == "cir"
        if words[0] == "train":
            words += ["--device", "cpu", "--set", "run.workers=0"]
        done = cir(*words)
        assert done.code == 0, (command, done.err)
    (code,) = blocks("python")
    capsys.readouterr()
    exec(code, {})
    assert "tuned" in capsys.readouterr().out
