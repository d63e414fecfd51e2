"""What an evaluation gives: measures, per-query values, protocol and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cir_plugins.config.plan import Plan
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.percent import percent
from cir_plugins.data.split import Split, left_out
from cir_plugins.data.table import TrainingTable
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.retrieval.evaluate import (
    SplitResult,
    average,
    evaluate_splits,
    main_value,
    protocol_label,
    report,
)
from cir_plugins.runs.build import read_splits
from cir_plugins.runs.caveats import caveats
from cir_plugins.runs.data_record import data_fingerprint
from cir_plugins.runs.protocol import protocol_of
from cir_plugins.runs.protocol_record import Origin, ProtocolRecord, protocol_record
from cir_plugins.runs.weights import weights_fingerprint


@dataclass(frozen=True)
class Evaluation:
    """Measures of a method on the splits of a data set, with the value of every query.

    Attributes:
        dataset: Name of the data set.
        protocol: Name of the protocol, ``custom`` where the options are none that has a name.
        results: Measures, per-query values and counts of each split.
        splits: The evaluated splits, in the order of ``results``.
        changed: Options that differ from the run's own: ``data.gallery`` -> (before, after).
        data: Fingerprint of the evaluated splits; None where it was not computed.
        record: What the numbers depend on beside the method; None where it is unknown.
    """

    dataset: str
    protocol: str
    results: tuple[SplitResult, ...]
    splits: tuple[Split, ...] = field(repr=False)
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    data: DataFingerprint | None = field(default=None, repr=False)
    record: ProtocolRecord | None = field(default=None, repr=False)

    @property
    def data_fingerprint(self) -> str:
        """Sixteen digits, equal for the same triplets, galleries and images; "" if unknown."""
        return "" if self.data is None else self.data.short

    @property
    def label(self) -> str:
        """Name of the protocol for tables, marked where images are missing."""
        return protocol_label(self.protocol, [result.left_out for result in self.results])

    @property
    def measures(self) -> dict[str, float]:
        """Mean of each measure over the splits, a fraction: ``{"recall@10": 0.43, ...}``."""
        return average(self.results) if self.results else {}

    @property
    def values(self) -> dict[str, Mapping[str, Tensor]]:
        """Split -> measure -> value of each query (Q,), in the order of the split's queries."""
        return {result.split: result.values for result in self.results}

    @property
    def main_measures(self) -> tuple[str, ...]:
        """Measures whose mean is the protocol's one number."""
        return self.splits[0].main if self.splits else ()

    @property
    def main(self) -> float:
        """The protocol's one number: the mean of its main measures over the splits.

        Raises:
            ValueError: If nothing was evaluated.
        """
        if not self.results:
            raise ValueError("nothing was evaluated")
        pairs = zip(self.results, self.splits, strict=True)
        return sum(main_value(r.measures, s.main) for r, s in pairs) / len(self.results)

    @property
    def queries(self) -> int:
        """Number of queries."""
        return sum(result.queries for result in self.results)

    @property
    def gallery(self) -> int:
        """Number of gallery images, over all splits."""
        return sum(result.gallery for result in self.results)

    @property
    def report(self) -> dict[str, Any]:
        """The JSON object that ``cir eval --json`` writes; {} where nothing was evaluated."""
        if not self.results:
            return {}
        content = report(self.dataset, self.protocol, self.results)
        if self.data is not None:
            content["data"] = self.data.document
        if self.record is not None:
            content["record"] = self.record.document
        return content

    def __repr__(self) -> str:
        main = f", main={self.main:.4f}" if self.results else ""
        return f"Evaluation({self.dataset}, protocol {self.label}{main}, {self.queries:,} queries)"

    def __str__(self) -> str:
        lines = [f"{self.dataset}, protocol {self.label}, percent"]
        measures = self.measures
        rows = {name: measures[name] for name in self.main_measures if name in measures}
        if len(rows) > 1:
            rows = {f"mean of {' and '.join(rows)}": self.main, **rows}
        rows = {**rows, **measures}
        width = 2 + max(map(len, rows), default=0)
        lines += [f"{name:<{width}}{percent(value):>6}" for name, value in rows.items()]
        lines.append(f"{self.queries:,} queries, {self.gallery:,} gallery images")
        return "\n".join([*lines, *caveats(self.report)])


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        plan: What was run.
        data: Fingerprint of all splits that were read, of training too.
        evaluation: Measures on the validation splits; no results where there are none.
        training: Counts of the training splits (see ``training_counts``); {} without training.
        curve: The lines of ``metrics.jsonl``.
        seconds: Time of training and evaluation.
        method: The method with its chosen weights, in evaluation mode.
        encoding: Device, precision and loader processes that were used.
        parameters: Number of parameters, ``trained`` and ``all``.
        updates: Optimiser steps taken.
    """

    plan: Plan
    data: DataFingerprint
    evaluation: Evaluation
    training: Mapping[str, Any]
    curve: tuple[dict[str, Any], ...]
    seconds: float
    method: Method
    encoding: Encoding
    parameters: dict[str, int]
    updates: int

    @property
    def report(self) -> dict[str, Any]:
        """The JSON object of the evaluation."""
        return self.evaluation.report

    @property
    def results(self) -> tuple[SplitResult, ...]:
        """Result of each evaluated split, with the value of every query."""
        return self.evaluation.results

    @property
    def splits(self) -> tuple[Split, ...]:
        """The evaluated splits."""
        return self.evaluation.splits


def training_counts(table: TrainingTable, data: DataFingerprint) -> dict[str, Any]:
    """The JSON object on a run's training splits, for its results.

    ``data``, ``queries``; ``left_out`` and ``positives_across`` where there are such.
    """
    content: dict[str, Any] = {
        "data": data.of_role("train").document,
        "queries": len(table.triplets),
    }
    absent = left_out({split.name: split.absent for split in table.splits})
    if absent:
        content["left_out"] = absent
    if table.positives_across:
        content["positives_across"] = table.positives_across
    return content


def evaluate_plan(
    plan: Plan,
    method: Method,
    encoding: Encoding,
    *,
    split: str = "val",
    protocol: str = "",
    origin: Origin | None = None,
) -> Evaluation:
    """The measures of a method on the splits of this role in the plan's data.

    Args:
        plan: The plan.
        method: The method.
        encoding: Device, precision and loader processes.
        split: Role of the splits.
        protocol: Name of the protocol; "" for the one that the plan's options are.
        origin: Where the weights come from; None for the plan itself, without a known run.

    Raises:
        CIRError: If the data cannot be read, or has no such split.
    """
    plans = {protocol: plan}
    return evaluate_plans(plans, method, encoding, split=split, origin=origin)[protocol]


def evaluate_plans(
    plans: Mapping[str, Plan],
    method: Method,
    encoding: Encoding,
    *,
    split: str = "val",
    origin: Origin | None = None,
) -> dict[str, Evaluation]:
    """The measures of a method under several protocols; what they share is encoded once.

    Args:
        plans: Name of a protocol -> plan with its options, all of one data set.
        method: The method.
        encoding: Device, precision and loader processes.
        split: Role of the splits.
        origin: Where the weights come from; None for the first plan itself.

    Raises:
        CIRError: If the data cannot be read, or has no such split.
    """
    splits = {name: _splits_of(plan, split) for name, plan in plans.items()}
    results = evaluate_splits(method, [each for of in splits.values() for each in of], encoding)
    weights = weights_fingerprint(method)
    origin = origin or Origin(next(iter(plans.values())))
    evaluations = {}
    for name, plan in plans.items():
        evaluations[name] = make_evaluation(
            plan,
            protocol_of(plan, name),
            splits[name],
            tuple(next(results) for _ in splits[name]),
            data_fingerprint(plan, splits[name], encoding),
            (method, weights, origin),
        )
    return evaluations


def make_evaluation(
    plan: Plan,
    protocol: str,
    splits: tuple[Split, ...],
    results: tuple[SplitResult, ...],
    data: DataFingerprint,
    evaluated: tuple[Method, str, Origin],
) -> Evaluation:
    """The evaluation with its record; ``evaluated`` is the method, its weights and their origin."""
    label = protocol_label(protocol, [split.absent for split in splits])
    record = protocol_record(plan, label, splits, data, *evaluated) if splits else None
    return Evaluation(plan.data.name, protocol, results, splits, data=data, record=record)


def _splits_of(plan: Plan, role: str) -> tuple[Split, ...]:
    splits = tuple(read_splits(plan, (role,)))
    if not splits:
        raise CIRError(f"data set '{plan.data.name}' in {plan.root} has no split for '{role}'")
    return splits
