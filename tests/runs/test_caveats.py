"""What measures are not about stands beside each table of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cir_plugins as cir
from cir_plugins.audits.page import summary_lines, write_audit
from cir_plugins.cli.terminal import show_protocols
from cir_plugins.runs.caveats import caveats_of_all
from tests.layouts import triplet, write_fashioniq, write_picture

NAMES = [f"P{number:02d}" for number in range(8)]
MARKED = "protocol original (images missing)"
LINE = "left out: 1 queries, 1 gallery images; cir check names what is missing"
BLIND = "2 further queries are blind: they have no target"


def partly_there(root: Path) -> Path:
    """A val split that lacks the picture of a query's target; a test split that is partly blind."""
    for split, targets in (("val", NAMES[4:8]), ("test", [*NAMES[4:6], None, None])):
        triplets = [
            triplet(NAMES[row], target, "is longer", f"has {row} buttons")
            for row, target in enumerate(targets)
        ]
        write_fashioniq(root, f"dress.{split}", triplets, NAMES, pictures=False)
    for shade, name in enumerate(NAMES[:-1]):
        write_picture(root / "images" / f"{name}.png", shade * 30)
    return root


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> cir.Retriever:
    root = partly_there(tmp_path_factory.mktemp("fashioniq"))
    data = {"name": "fashioniq", "root": str(root), "missing": "drop"}
    return cir.build("image_only", backbone="tiny_clip", data=data, device="cpu", progress=False)


def test_an_evaluation_in_python_has_its_caveats(retriever: cir.Retriever) -> None:
    """Only the command line had them: ``print(evaluation)`` looked like the whole split."""
    evaluation = retriever.evaluate()
    assert MARKED in repr(evaluation)
    assert str(evaluation).splitlines()[0] == f"fashioniq, {MARKED}, percent"
    assert str(evaluation).splitlines()[-2:] == ["3 queries, 7 gallery images", LINE]
    assert evaluation.protocol == "original"
    assert evaluation.record is not None
    assert evaluation.record.protocol == "original (images missing)"
    assert str(retriever.evaluate(split="test")).splitlines()[-1] == BLIND


def test_the_table_of_protocols_has_their_caveats(
    retriever: cir.Retriever, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten rows of numbers over fewer queries, and no word of it."""
    table = retriever.evaluate_protocols()
    assert any(note.startswith(f"{LINE} (original, ") for note in table.notes)
    assert "2 queries, 1 gallery images; cir check names what is missing (" in str(table)
    show_protocols(table)
    assert LINE in capsys.readouterr().out


def test_comparison_of_incomplete_splits_has_caveats(retriever: cir.Retriever) -> None:
    """A partly blind split was a traceback, an incomplete one looked like the whole."""
    table = cir.compare({"a": retriever, "b": retriever})
    assert table.protocol == "original (images missing)"
    assert LINE in table.notes
    blind = cir.compare({"a": retriever, "b": retriever}, split="test")
    assert (blind.triplets, blind.notes[-1]) == (2, BLIND)


def test_audit_and_page_have_their_caveats(retriever: cir.Retriever, tmp_path: Path) -> None:
    audit = cir.audit(retriever)
    assert summary_lines(audit)[:2] == [f"image_only on fashioniq, {MARKED}, 3 queries", LINE]
    assert audit.report["left_out"]["total"] == {"queries": 1, "gallery images": 1}
    write_audit(audit, tmp_path)
    assert f"L{LINE[1:]}." in (tmp_path / "index.html").read_text()
    assert BLIND in summary_lines(cir.audit(retriever, split="test"))


def test_view_of_a_partly_blind_split(retriever: cir.Retriever, tmp_path: Path) -> None:
    """An audit has no slices of blind queries, which made it one of other data."""
    write_audit(cir.audit(retriever, split="test"), tmp_path / "audit")
    where = tmp_path / "view"
    cir.view({"a": retriever}, where, split="test", audit=tmp_path / "audit", progress=False)
    content = json.loads((where / "data.js").read_text().partition("=")[2].rstrip(";\n"))
    assert content["notes"][-1] == "2 of the queries are blind: they have no target"
    assert [query["ranks"][0] > 0 for query in content["queries"]] == [True, True, False, False]
    assert all(query["slices"] for query in content["queries"])
    cir.view({"a": retriever}, where, progress=False)
    content = json.loads((where / "data.js").read_text().partition("=")[2].rstrip(";\n"))
    assert (content["protocol"], content["notes"]) == ("original (images missing)", [LINE])


def test_caveats_of_some_reports_name_them() -> None:
    reports: dict[str, dict[str, Any]] = {"a": {"blind": 2}, "b": {}}
    assert caveats_of_all(reports) == [f"{BLIND} (a)"]
    assert caveats_of_all({"a": {"blind": 2}}) == [BLIND]


def test_options_over_a_protocol_change_its_name(retriever: cir.Retriever) -> None:
    """``--protocol original --set data.gallery=merged`` was printed as protocol original."""
    assert retriever.evaluate(protocol="original", gallery="merged").protocol == "merged"
    assert retriever.evaluate(protocol="original", lower=True).protocol == "custom"
    assert retriever.evaluate(protocol="bi_blip4cir").protocol == "bi_blip4cir"
