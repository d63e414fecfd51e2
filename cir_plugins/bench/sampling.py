"""What a sampler left to draw from, refresh by refresh, and whether that is a sign of collapse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEADS = ("epoch", "pool", "quartiles", "fallback", "empty", "false negatives", "kept")

# Above these shares most of what is trained on no longer follows the sampler's rule.
MOST_EMPTY = 0.5
MOST_FALLBACK = 0.5
# In crowd-sourced captions about every tenth candidate near the target is a positive too; at
# twice that the negatives teach the wrong thing.
MANY_FALSE = 0.2
# A pool whose drops all lie within one hundredth of the score's range: every candidate scores like
# the target, which is how collapsed embeddings look from here.
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

    def document(self) -> dict[str, Any]:
        """The numbers as a JSON object, epochs counted from 0."""
        refreshes = [{"epoch": line["epoch"], **line["mining"]} for line in self.lines]
        return {"refreshes": refreshes, "alarms": list(self.alarms)}


def sampler_report(curve: Sequence[Mapping[str, Any]], wanted: int = 1) -> SamplerReport:
    """The report of a run's lines; without refreshes where nothing was mined.

    Args:
        curve: Lines of ``metrics.jsonl``.
        wanted: Negatives per query and epoch that the pools have to supply (K).
    """
    lines = tuple(line for line in curve if "mining" in line)
    found = [
        f"epoch {line['epoch'] + 1}: {text}"
        for line in lines
        for text in _alarms(line["mining"], wanted)
    ]
    return SamplerReport(lines, tuple(found))


def drawn(config: Mapping[str, Any]) -> int:
    """Negatives per query and epoch of a run's resolved configuration; 1 where it does not say."""
    return int(config.get("train", {}).get("mined", 1))


def _alarms(report: Mapping[str, Any], wanted: int) -> Iterator[str]:
    if report["empty"] > MOST_EMPTY:
        yield f"{_percent(report['empty'])} of the queries have no negative; widen the bounds"
    if report.get("fallback", 0.0) > MOST_FALLBACK:
        share = _percent(report["fallback"])
        yield f"{share} of the queries are filled from outside the sampler's rule"
    median = report["negative_pool"]["quartiles"][1]
    if median < wanted:
        yield f"half of the pools hold at most {median:,.0f} images where {wanted} are drawn"
    if report.get("false_negatives", 0.0) > MANY_FALSE:
        share = _percent(report["false_negatives"])
        yield f"{share} of the pools are known positives; raise the lower bound"
    narrow = _narrowness(report)
    if narrow > NARROW_SHARE:
        yield (
            f"{_percent(narrow)} of the pools score within {NARROW} of the target: "
            "the embeddings may have collapsed"
        )


def _narrowness(report: Mapping[str, Any]) -> float:
    """Share of the pools whose drop lies within ``NARROW`` of 0, a fraction."""
    if "score_gap" not in report:
        return 0.0
    low, high = report["score_gap"]["span"]
    counts = report["score_gap"]["counts"]
    width = (high - low) / len(counts)
    inside = [
        count
        for place, count in enumerate(counts)
        if low + place * width >= -NARROW - 1e-9 and low + (place + 1) * width <= NARROW + 1e-9
    ]
    return float(sum(inside) / max(1, sum(counts)))


def _cells(epoch: int, report: Mapping[str, Any]) -> tuple[str, ...]:
    pool = report["negative_pool"]
    return (
        str(epoch + 1),
        f"{pool['mean']:,.0f}",
        " / ".join(f"{value:,.0f}" for value in pool["quartiles"]),
        *(_share(report, name) for name in ("fallback", "empty", "false_negatives", "kept")),
    )


def _share(report: Mapping[str, Any], name: str) -> str:
    return _percent(report[name]) if name in report else "–"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
