"""Negative pools of a run's sampler, refresh by refresh, and alarms where they collapse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cir_plugins.data.percent import percent

SHARES = ("fallback", "empty", "false_negatives", "kept")
HEADS = (
    *("epoch", "negative pool", "quartiles", "ranks"),
    *(name.replace("_", " ") for name in SHARES),
    *("left out", "unmarked", "covered"),
)

# Above these shares most negatives no longer follow the sampler's rule.
MOST_EMPTY = 0.5
MOST_FALLBACK = 0.5
# In crowd-sourced captions about every tenth candidate near the target is a positive too; at
# twice that training pushes positives away.
MANY_FALSE = 0.2
# Score gaps within one hundredth of the score's range: every candidate scores like the target, as
# it does with collapsed embeddings.
NARROW = 0.02
NARROW_SHARE = 0.95


@dataclass(frozen=True)
class SamplerReport:
    """The refreshes of a run.

    Attributes:
        lines: Lines of ``metrics.jsonl`` at which negatives were mined.
        alarms: One sentence for each sign that the sampler or the embeddings collapsed.
    """

    lines: tuple[Mapping[str, Any], ...]
    alarms: tuple[str, ...]

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """A row of text per refresh, in the order of ``HEADS``."""
        return tuple(_cells(line["epoch"], line["mining"]) for line in self.lines)

    @property
    def positives_across(self) -> int:
        """Number of positives that are known only from other triplets with the same query."""
        return max((line["mining"].get("positives_across", 0) for line in self.lines), default=0)

    def document(self) -> dict[str, Any]:
        """The numbers as a JSON object, epochs counted from 0."""
        refreshes = [{"epoch": line["epoch"], **line["mining"]} for line in self.lines]
        return {"refreshes": refreshes, "alarms": list(self.alarms)}


def sampler_report(curve: Sequence[Mapping[str, Any]], count: int = 1) -> SamplerReport:
    """The report of a run's lines; without refreshes where nothing was mined.

    Args:
        curve: Lines of ``metrics.jsonl``.
        count: Negatives drawn per query and epoch (K).
    """
    lines = tuple(line for line in curve if "mining" in line)
    alarms = [
        f"epoch {line['epoch'] + 1}: {text}"
        for line in lines
        for text in _alarms(line["mining"], count)
    ]
    return SamplerReport(lines, tuple(alarms))


def negatives_per_query(config: Mapping[str, Any]) -> int:
    """Negatives drawn per query and epoch in a run's resolved configuration; 1 by default."""
    return int(config.get("mining", {}).get("per_query", 1))


def _alarms(report: Mapping[str, Any], count: int) -> Iterator[str]:
    if report["empty"] > MOST_EMPTY:
        yield f"{_percent(report['empty'])} of the queries have no negative; widen the bounds"
    if report.get("fallback", 0.0) > MOST_FALLBACK:
        share = _percent(report["fallback"])
        yield f"{share} of the queries are filled from outside the sampler's rule"
    median = report["negative_pool"]["quartiles"][1]
    if median < count:
        yield (
            f"half of the negative pools hold at most {median:,.0f} images where {count} are drawn"
        )
    if report.get("false_negatives", 0.0) > MANY_FALSE:
        share = _percent(report["false_negatives"])
        yield f"{share} of the negative pools are known positives; raise the lower bound"
    narrow = _narrowness(report)
    if narrow > NARROW_SHARE:
        yield (
            f"{_percent(narrow)} of the negative pools score within {NARROW} of the target: "
            "the embeddings may have collapsed"
        )


def _narrowness(report: Mapping[str, Any]) -> float:
    """Share of the negatives whose score gap lies within ``NARROW`` of 0, a fraction."""
    if "score_gap" not in report:
        return 0.0
    low, high = report["score_gap"]["span"]
    counts = report["score_gap"]["counts"]
    width = (high - low) / len(counts)
    narrow = [
        number
        for index, number in enumerate(counts)
        if low + index * width >= -NARROW - 1e-9 and low + (index + 1) * width <= NARROW + 1e-9
    ]
    return float(sum(narrow) / max(1, sum(counts)))


def _cells(epoch: int, report: Mapping[str, Any]) -> tuple[str, ...]:
    negative_pool, ambiguous = report["negative_pool"], report.get("ambiguous", {})
    return (
        str(epoch + 1),
        f"{negative_pool['mean']:,.0f}",
        " / ".join(f"{value:,.0f}" for value in negative_pool["quartiles"]),
        _ranks(report),
        *(_share(report, name) for name in SHARES),
        f"{ambiguous['mean']:,.1f}" if ambiguous else "–",
        *(_share(ambiguous, name) for name in ("unmarked", "covered")),
    )


def _ranks(report: Mapping[str, Any]) -> str:
    """Ranks of nearest and farthest negative, medians over the queries."""
    if "ranks" not in report:
        return "–"
    return f"{report['ranks']['nearest']:,.0f}–{report['ranks']['farthest']:,.0f}"


def _share(report: Mapping[str, Any], name: str) -> str:
    return _percent(report[name]) if name in report else "–"


def _percent(share: float) -> str:
    return f"{percent(share, digits=1)} %"
