from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cir_plugins.bench.results import differences, document
from tests.bench.toy import ENVIRONMENT, record, suite, val_split

ZERO = np.zeros(3)


def test_document_has_runs_random_ranking_and_conditions(tmp_path: Path) -> None:
    runs = [record("a", 0, {"s": [1.0, 0.0]}), record("b", 0, {"s": [0.5]}, error="broke")]
    made = document(suite("a", "b"), runs, [val_split(tmp_path)], ENVIRONMENT)
    assert made["suite"] == "made_up"
    assert made["rows"][0]["average"] == {"recall@10": 0.5, "recall@5": 0.25}
    assert made["rows"][0]["seconds"] == 12.5
    assert made["rows"][1] == {"label": "b", "method": "contrastive", "seed": 0, "error": "broke"}
    assert made["random"] == {
        "recall@5": pytest.approx(5 / 12),
        "recall@10": pytest.approx(10 / 12),
    }
    assert (made["main"], made["show"], made["seeds"]) == (["recall@10"], ["recall@5"], [0])
    assert made["commit"] == "abc123"
    assert json.loads(json.dumps(made)) == made


def test_difference_uses_the_seeds_both_finished() -> None:
    runs = [
        record("a", 0, {"s": [0.0, 0.0]}),
        record("a", 1, {"s": [1.0, 1.0]}),
        record("b", 0, {"s": [0.5, 0.5]}),
        record("b", 1, {"s": [0.0, 0.0]}, error="broke"),
    ]
    (entry,) = differences(suite("a", "b", seeds=(0, 1)), runs)
    assert (entry["label"], entry["reference"], entry["seeds"]) == ("b", "a", [0])
    assert entry["main"] == {"difference": 0.5, "low": 0.5, "high": 0.5}
    assert entry["measures"]["recall@10"] == entry["main"]


def test_difference_is_to_the_reference_row_over_seeds() -> None:
    runs = [
        record("a", 0, {"s": [0.0]}),
        record("a", 1, {"s": [0.0]}),
        record("b", 0, {"s": [1.0]}),
        record("b", 1, {"s": [0.5]}),
        record("c", 0, {"s": [1.0]}),
        record("c", 1, {"s": [1.0]}),
    ]
    result = differences(suite("a", "b", "c", seeds=(0, 1), c="b"), runs)
    assert [(one["label"], one["reference"]) for one in result] == [("b", "a"), ("c", "b")]
    assert [one["main"]["difference"] for one in result] == [0.75, 0.25]


def test_difference_of_several_measures_is_of_their_mean() -> None:
    runs = [
        replace(
            record(label, 0, {"s": [0.0]}),
            values={"recall@10": {"s": ten}, "recall@5": {"s": five}},
        )
        for label, ten, five in (("a", ZERO, ZERO), ("b", ZERO + 1, ZERO + 0.5))
    ]
    (entry,) = differences(suite("a", "b"), runs)
    assert entry["measures"]["recall@5"]["difference"] == 0.5
    assert entry["main"]["difference"] == 0.75


def test_no_difference_without_a_finished_reference() -> None:
    runs = [record("a", 0, {"s": [0.0]}, error="broke"), record("b", 0, {"s": [1.0]})]
    assert differences(suite("a", "b"), runs) == []


def test_no_difference_between_rows_of_other_queries() -> None:
    """A row whose protocol has other triplets once ended the whole suite."""
    rows = [
        record("first", 0, {"s": [0.0, 1.0]}),
        record("other_queries", 0, {"s": [1.0]}),
        record("same", 0, {"s": [1.0, 1.0]}),
    ]
    result = differences(suite("first", "other_queries", "same"), rows)
    assert [difference["label"] for difference in result] == ["same"]
