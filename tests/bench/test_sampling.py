from __future__ import annotations

from typing import Any

import pytest

from cir_plugins.bench.sampling import HEADS, negatives_per_query, sampler_report

HEALTHY: dict[str, Any] = {
    "negative_pool": {"mean": 66.4, "quartiles": [33.0, 66.0, 98.0]},
    "empty": 0.01,
    "false_negatives": 0.05,
    "fallback": 0.1,
    "kept": 0.8,
    # Four bins of width 1: all score gaps between 0 and 2.
    "score_gap": {"span": [-2.0, 2.0], "counts": [0, 0, 3, 1]},
}


def alarms(**changed: Any) -> tuple[str, ...]:
    line = {"epoch": 1, "mining": {**HEALTHY, **changed}}
    return sampler_report([{"epoch": 0, "loss": 1.0}, line], count=2).alarms


def test_a_healthy_sampler_raises_no_alarm() -> None:
    assert alarms() == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"empty": 0.51}, "51.0 % of the queries have no negative"),
        ({"fallback": 0.6}, "60.0 % of the queries are filled from outside"),
        (
            {"negative_pool": {"mean": 3.0, "quartiles": [0.0, 1.0, 9.0]}},
            "at most 1 images where 2 are",
        ),
        ({"false_negatives": 0.25}, "25.0 % of the negative pools are known positives"),
    ],
)
def test_each_sign_of_collapse_has_its_alarm(changed: dict[str, Any], message: str) -> None:
    (alarm,) = alarms(**changed)
    assert alarm.startswith("epoch 2: ")
    assert message in alarm


def test_candidates_scoring_like_the_target_raise_alarm() -> None:
    """Collapsed embeddings leave mid-zones by quantile full: only the score gaps show it."""
    counts = [0] * 200
    counts[100], counts[130] = 96, 4  # bins of 0.02 from -2: [0, 0.02) and [0.6, 0.62)
    (alarm,) = alarms(score_gap={"span": [-2.0, 2.0], "counts": counts})
    assert "96.0 % of the negative pools score within 0.02 of the target" in alarm
    counts[100], counts[130] = 90, 10
    assert alarms(score_gap={"span": [-2.0, 2.0], "counts": counts}) == ()


def test_random_refreshes_have_no_fallback_and_no_gaps() -> None:
    at_random = {"negative_pool": HEALTHY["negative_pool"], "empty": 0.0, "false_negatives": 0.0}
    report = sampler_report([{"epoch": 0, "mining": at_random}])
    assert report.alarms == ()
    dash = "–"
    cells = ("1", "66", "33 / 66 / 98", dash, dash, "0.0 %", "0.0 %", dash, dash, dash, dash)
    assert report.cells == (cells,)
    assert len(report.cells[0]) == len(HEADS)


def test_document_holds_every_number() -> None:
    report = sampler_report([{"epoch": 3, "loss": 1.0, "mining": HEALTHY}])
    assert report.document() == {"refreshes": [{"epoch": 3, **HEALTHY}], "alarms": []}


def test_number_drawn_comes_from_the_configuration() -> None:
    assert negatives_per_query({"mining": {"per_query": 4}}) == 4
    assert negatives_per_query({}) == 1
