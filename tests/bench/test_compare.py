from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cir_plugins as cir
from cir_plugins.bench.compare import compare
from cir_plugins.bench.comparison import FORMATS, Comparison
from cir_plugins.bench.statistics import paired_interval
from cir_plugins.data.captions import Captions
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError
from cir_plugins.retrieval.evaluate import SplitResult
from cir_plugins.runs.evaluation import Evaluation
from cir_plugins.runs.protocol_record import ProtocolRecord


def evaluated(*values: list[float], texts: int = 1, name: str = "val") -> Evaluation:
    """An evaluation with recall@1 and recall@5 of each triplet, with one or two texts each."""
    queries = tuple(
        Query(f"{row}-{text}", f"r{row}", ("a", "b"), f"text {text}", f"t{row}", (f"t{row}",))
        for row in range(len(values[0]))
        for text in range(texts)
    )
    measures = ("recall@1", "recall@5")
    split = Split(
        name, "val", queries, ("t0", "t1"), {}, measures=measures, main=measures[: len(values)]
    )
    columns = {
        measure: torch.tensor(column, dtype=torch.float64).repeat_interleave(texts)
        for measure, column in zip(measures, values, strict=False)
    }
    means = {measure: float(column.mean()) for measure, column in columns.items()}
    result = SplitResult(name, means, columns, len(queries), 2)
    return Evaluation("toy", "plain", (result,), (split,))


LOW = evaluated([0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0])
HIGH = evaluated([1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0])


def test_a_table_of_two_methods_by_hand() -> None:
    table = compare({"low": LOW, "high": HIGH}, baseline="low")
    low, high = table.rows
    assert low.measures == {"recall@1": 0.25, "recall@5": 0.5}
    assert (low.interval, low.p_value, low.counts) == (None, None, None)
    assert high.interval is not None
    # Main per triplet: low 0, 1/2, 1, 0; high 1, 1/2, 1, 1. Gaps 1, 0, 0, 1: mean 1/2.
    assert high.interval.difference == 0.5
    assert high.counts == (2, 2, 0)
    # Two gaps that differ: half of the four sign patterns are as extreme.
    assert high.p_value == high.p_holm
    assert abs((high.p_value or 0) - 0.5) < 0.03
    expected = paired_interval({"a": np.array([1.0, 0, 0, 1])}, {"a": np.zeros(4)})
    assert (high.interval.low, high.interval.high) == (expected.low, expected.high)
    assert (table.triplets, table.baseline) == (4, "low")
    assert table.measure == "the mean of recall@1 and recall@5"


def test_one_measure_is_compared_alone() -> None:
    table = compare({"low": LOW, "high": HIGH}, measure="recall@5")
    assert table.measure == "recall@5"
    assert table.rows[1].counts == (2, 2, 0)
    with pytest.raises(CIRError, match=r"unknown measure 'recall@50'; nearest: recall@5"):
        compare({"low": LOW, "high": HIGH}, measure="recall@50")


def test_p_values_are_corrected_for_several_methods() -> None:
    rng = np.random.default_rng(0)
    base = evaluated(list((rng.random(60) < 0.3).astype(float)))
    runs = {"base": base}
    for number in range(3):
        runs[str(number)] = evaluated(list((rng.random(60) < 0.4 + number / 10).astype(float)))
    rows = compare(runs, "base", draws=2000).rows[1:]
    assert any(row.p_value != row.p_holm for row in rows)
    smallest = min(rows, key=lambda row: row.p_value or 0)
    assert smallest.p_holm == 3 * (smallest.p_value or 0)
    assert compare(runs, "base", draws=2000) == compare(runs, "base", draws=2000)


def test_seeds_are_averaged_before_the_test() -> None:
    table = compare({"low": [LOW, HIGH], "high": HIGH})
    assert table.rows[0].measures == {"recall@1": 0.5, "recall@5": 0.75}
    assert table.rows[0].seeds == 2
    assert table.rows[1].interval is not None
    assert table.rows[1].interval.difference == 0.25


def test_two_texts_of_a_triplet_are_paired() -> None:
    """A protocol with both orders has twice the queries of the same triplets."""
    twice = evaluated([0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], texts=2)
    table = compare({"low": twice, "high": HIGH})
    assert table.rows[1].counts == (2, 2, 0)
    assert table.triplets == 4


def test_other_queries_are_errors() -> None:
    """Pairing values of different queries gives a p-value of nothing."""
    short = evaluated([0.0, 1.0])
    with pytest.raises(CIRError, match=r"'b' \(toy, protocol plain\) and 'a' were evaluated on"):
        compare({"a": LOW, "b": short})
    with pytest.raises(CIRError, match="different queries"):
        compare({"a": LOW, "b": evaluated([0.0] * 4, [0.0] * 4, name="other")})
    for runs, options, message in (
        ({}, {}, "there is nothing to compare"),
        ([LOW, HIGH], {}, "accepted: a dict of name -> run folder"),
        ({"a": 3}, {}, "a int cannot be compared"),
        ({"a": LOW}, {"baseline": "b"}, "unknown baseline 'b'"),
        ({"a": []}, {}, "a name has no runs to compare"),
        ({"a": [3]}, {}, "a int cannot be compared"),
        ({"a": LOW}, {"data": "cirr"}, "an evaluation cannot be made again"),
        ({"a": replace(LOW, results=(), splits=())}, {}, "'a' has no evaluated split"),
    ):
        with pytest.raises(CIRError, match=message):
            compare(runs, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery": ("t0", "t1", "t2")}, "evaluated with different galleries"),
        ({"drop_reference": True}, "with and without the reference in the ranking"),
    ],
)
def test_other_rankings_are_refused(change: dict[str, Any], message: str) -> None:
    """Protocols of the same triplets, 9 points apart, stood in one table under one name."""
    other = replace(HIGH, splits=tuple(replace(split, **change) for split in HIGH.splits))
    with pytest.raises(CIRError, match=message):
        compare({"a": LOW, "b": other})
    text = replace(HIGH, splits=tuple(replace(s, captions=Captions("and")) for s in HIGH.splits))
    assert compare({"a": LOW, "b": text}).rows[1].counts == (2, 2, 0)


@pytest.fixture(scope="module")
def table() -> Comparison:
    return compare({"low_one": LOW, "high": HIGH}, draws=999)


def test_methods_on_different_data_are_named() -> None:
    """The same triplets over other pictures or another gallery are other numbers."""
    one, other = DataFingerprint("one", ()), DataFingerprint("other", ())
    runs = {"low": replace(LOW, data=one), "high": replace(HIGH, data=one), "unknown": HIGH}
    assert "data set" not in compare(runs).caption()
    mixed = compare({**runs, "high": replace(HIGH, data=other)})
    assert mixed.caption().endswith(
        f"; not one data set, fingerprints differ: {one.short}: low; {other.short}: high"
    )
    assert mixed.caption() in mixed.to_markdown()


def test_the_table_as_text(table: Comparison) -> None:
    lines = str(table).splitlines()
    assert lines[0].split()[:3] == ["method", "recall@1", "recall@5"]
    assert lines[1].split() == ["low_one", "25.00", "50.00", "baseline"]
    assert lines[2].split()[:4] == ["high", "75.00", "100.00", "+50.00"]
    assert lines[2].endswith("2/2/0")
    assert "toy, protocol plain, percent" in lines[-1]
    assert "to low_one over 4 triplets" in lines[-1]


def test_the_table_in_markdown_and_latex(table: Comparison) -> None:
    head, rule, *lines = table.to_markdown().splitlines()[:4]
    assert head.startswith("| method | recall@1 |")
    assert rule.count("---:") == head.count("|") - 2
    assert lines[0].startswith("| low_one | 25.00 |")
    latex = table.to_latex().splitlines()
    assert latex[1] == r"\begin{tabular}{lrrrrrrr}"
    assert latex[3].startswith(r"low\_one & 25.00 & 50.00 & baseline")
    assert latex[-1] == r"\end{tabular}"
    assert all(line.count("&") == 7 for line in latex[2:5])


def test_the_table_in_pandas(table: Comparison) -> None:
    pytest.importorskip("pandas")
    frame = table.to_pandas()
    assert list(frame.index) == ["low_one", "high"]
    assert frame.loc["high", "difference"] == 0.5
    assert frame.loc["high", "recall@1"] == 0.75
    assert frame.loc["high", "wins"] == 2


def test_the_table_in_csv_and_json(table: Comparison) -> None:
    text = table.text_in("csv")
    comment, *lines = text.splitlines()
    assert comment == f"# {table.caption()}"
    low, high = csv.DictReader(lines)
    assert (low["method"], low["difference"], low["wins"]) == ("low_one", "", "")
    assert (float(high["difference"]), high["wins"], high["losses"]) == (0.5, "2", "0")
    document = json.loads(table.text_in("json"))
    assert (document["baseline"], document["triplets"]) == ("low_one", 4)
    assert document["rows"][1]["recall@1"] == 0.75
    assert document["rows"][1]["p"] == table.rows[1].p_value
    assert document["rows"][0]["difference"] is None
    for form in FORMATS:
        assert table.text_in(form)
    with pytest.raises(CIRError, match="unknown format 'xml'"):
        table.text_in("xml")


def test_every_measure_gets_an_interval() -> None:
    table = compare({"low": LOW, "high": HIGH}, per_measure=True, resamples=500)
    found = table.rows[1].differences
    assert {name: each.difference for name, each in found.items()} == {
        "recall@1": 0.5,
        "recall@5": 0.5,
    }
    expected = paired_interval(
        {"a": np.array([1.0, 0, 1, 1])}, {"a": np.array([0.0, 0, 1, 0])}, resamples=500
    )
    assert found["recall@1"] == expected
    assert table.records()[1]["recall@1 low"] == expected.low
    assert not table.rows[0].differences


def test_methods_of_other_protocols_are_named() -> None:
    """Two joins of captions stood in one table, and nothing said so."""
    record = ProtocolRecord(
        reader="toy",
        version="1",
        protocol="plain",
        gallery="all",
        gallery_images={"val": 2},
        reference="kept",
        text="and",
        shared_concept="",
        ties="lower index",
        models="one",
        checkpoint="chosen on this very split",
        data="1",
        weights="2",
    )
    other = replace(record, text="single", weights="3")
    runs = {"low": replace(LOW, record=record), "high": replace(HIGH, record=other)}
    note = "texts differ: and: low; single: high"
    table = compare(runs)
    assert table.notes == (note,)
    assert note in str(table)
    assert note in table.to_markdown()
    assert f"% {note}" in table.to_latex()
    assert note in table.to_csv()
    assert compare({**runs, "high": replace(HIGH, record=record)}).notes == ()


def test_without_pandas_one_sentence_explains_it(
    table: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CIRError, match="to_pandas needs pandas; install it with: pip install"):
        table.to_pandas()


def test_folders_runs_and_retrievers_are_the_same(garments_root: Path, tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"backbone": "tiny_clip", "device": "cpu", "progress": False}
    run = cir.train(
        "image_text_sum",
        data="fashioniq",
        root=garments_root,
        out=tmp_path / "run",
        workers=0,
        **tiny,
    )
    other = cir.train(
        "text_only", data="fashioniq", root=garments_root, out=tmp_path / "text", workers=0, **tiny
    )
    retriever = cir.load(run.folder, progress=False)
    comparisons = [
        cir.compare({"sum": each, "text": other}, baseline="text", draws=200, resamples=200)
        for each in (run, retriever, run.folder, str(run.folder), run.evaluation)
    ]
    assert all(table == comparisons[0] for table in comparisons)
    assert comparisons[0].rows[0].measures == run.evaluation.measures
    merged = cir.compare({"sum": run, "text": other}, protocol="merged", draws=200, resamples=200)
    assert merged.protocol == "merged"
