from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cir_plugins as cir_api
from tests.command import Call


@pytest.fixture(scope="module")
def runs(garments_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two untrained methods; one of them twice, as if with two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    tiny: dict[str, Any] = {"backbone": "tiny_clip", "device": "cpu", "progress": False}
    found = {}
    for name, method in (("sum", "image_text_sum"), ("text", "text_only"), ("more", "text_only")):
        data = {"name": "fashioniq", "categories": ["dress", "shirt"]}
        run = cir_api.train(
            method, data=data, root=garments_root, out=folder / name, workers=0, **tiny
        )
        found[name] = run.folder
    return found


def test_compare_prints_differences(cir: Call, runs: dict[str, Path]) -> None:
    output = cir("compare", runs["sum"], runs["text"], "--baseline", "text")
    assert output.code == 0, output.err
    first, *rest = output.out.splitlines()
    assert first.split()[:2] == ["method", "recall@1"]
    assert [line.split()[0] for line in rest[:2]] == ["sum", "text"]
    assert "baseline" in rest[1]
    assert "differences of map@10 to text" in output.out


def test_compare_writes_a_file(cir: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    output = cir(
        *("compare", f"a={runs['sum']}", f"b={runs['text']}", f"b={runs['more']}"),
        *("--format", "json", "--out", file, "--protocol", "merged", "--per-measure"),
    )
    assert output.code == 0, output.err
    document = json.loads(file.read_text())
    assert (document["baseline"], document["protocol"]) == ("a", "merged")
    assert [(row["method"], row["seeds"]) for row in document["rows"]] == [("a", 1), ("b", 2)]
    assert {"p", "p (Holm)", "recall@10 low"} <= set(document["rows"][1])


def test_wrong_runs_are_errors(cir: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    one = runs["sum"]
    assert cir("compare", one, tmp_path).complains("is no run folder: run.json is missing")
    assert cir("compare", one, "--baseline", "x").complains("unknown baseline 'x'")
    assert cir("compare", one, "--format", "xml").complains("unknown format 'xml'", "latex")
    assert cir("compare", one, one).complains("two runs have the name 'sum'", "NAME=")
    assert cir("compare", f"a={one}", f"a={one}").complains("is given twice")
