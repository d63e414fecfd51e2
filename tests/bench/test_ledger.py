from __future__ import annotations

import re
from pathlib import Path

import pytest

from cir_plugins.bench.ledger import ledger_page, main
from cir_plugins.bench.published import read_published
from tests.places import ROOT

FILE = ROOT / "benchmarks" / "published.toml"


def test_the_committed_page_is_that_of_the_file() -> None:
    """A number that is corrected in the file alone stays wrong on the page."""
    assert main([str(FILE), "--page", str(ROOT / "docs" / "ledger.md"), "--check"]) == 0


def test_every_entry_is_a_row_with_its_marks() -> None:
    entries = read_published(FILE)
    page = ledger_page(entries)
    rows = [line for line in page.splitlines() if line.startswith("<tr data-")]
    assert len(rows) == len(entries)
    dqe = next(row for row in rows if "mean recall@50 75.94" in row)
    assert "recall@50 does not follow: the columns average 74.94" in dqe
    assert 'data-follows="no"' in dqe
    assert sum('data-by="others"' in row for row in rows) == sum(
        entry.printed_by == "others" for entry in entries
    )
    assert not re.search(r"""(?:src|href|url)\s*[=(]|https?:""", page)


def test_entries_are_escaped(tmp_path: Path) -> None:
    file = tmp_path / "published.toml"
    file.write_text(
        FILE.read_text(encoding="utf-8").replace('method = "dqe"', 'method = "<b>&"', 1), "utf-8"
    )
    page = ledger_page(read_published(file))
    assert "<td>&lt;b&gt;&amp;</td>" in page
    assert "<b>&" not in page


def test_a_changed_page_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "ledger.md"
    assert main([str(FILE), "--page", str(page)]) == 0
    page.write_text(page.read_text() + "x")
    assert main([str(FILE), "--page", str(page), "--check"]) == 1
    assert "is not that of" in capsys.readouterr().out
    assert main([str(tmp_path / "none.toml")]) == 2
