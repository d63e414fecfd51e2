"""The content of ``results.json``: every run, the differences between rows, and where it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cir_plugins.bench.random_ranking import random_ranking
from cir_plugins.bench.records import RunRecord
from cir_plugins.bench.statistics import Values, over_seeds, paired_interval
from cir_plugins.bench.suite import Suite
from cir_plugins.data.split import Split


def document(
    suite: Suite,
    records: Sequence[RunRecord],
    splits: Sequence[Split],
    environment: Mapping[str, Any],
    changed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Content of ``results.json``.

    Args:
        suite: The suite.
        records: The runs so far.
        splits: The evaluated splits, empty while nothing has been evaluated.
        environment: ``hardware``, ``versions`` and ``commit``.
        changed: Options by ``table.option`` that differ from the suite's for all entries.
    """
    return {
        "suite": suite.name,
        "description": suite.description,
        "changed": dict(changed or {}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment,
        "seeds": list(suite.seeds),
        "main": list(splits[0].main) if splits else [],
        "show": list(suite.show),
        "random": random_ranking(splits) if splits else {},
        "differences": differences(suite, records),
        "rows": [record.line() for record in records],
    }


def differences(suite: Suite, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Difference of each row to its reference row, over the seeds that both finished.

    ``measures`` has an interval per main measure, ``main`` that of their mean.
    """
    finished = {(record.label, record.seed): record for record in records if not record.error}
    result = []
    for entry in suite.entries:
        reference = suite.reference(entry)
        seeds = [
            seed
            for seed in suite.seeds
            if (entry.label, seed) in finished and (reference.label, seed) in finished
        ]
        if reference.label == entry.label or not seeds:
            continue
        runs = [finished[entry.label, seed] for seed in seeds]
        others = [finished[reference.label, seed] for seed in seeds]
        if _triplet_counts(runs[0]) != _triplet_counts(others[0]):
            continue  # other splits or other triplets: there is nothing to compare
        measures = {
            name: asdict(
                paired_interval(
                    over_seeds([run.values[name] for run in runs]),
                    over_seeds([run.values[name] for run in others]),
                )
            )
            for name in runs[0].values
        }
        main = asdict(
            paired_interval(
                over_seeds([_main(run) for run in runs]), over_seeds([_main(run) for run in others])
            )
        )
        result.append(
            {
                "label": entry.label,
                "reference": reference.label,
                "seeds": seeds,
                "measures": measures,
                "main": main,
            }
        )
    return result


def _triplet_counts(run: RunRecord) -> dict[str, int]:
    """Number of evaluated triplets, by split."""
    return {split: len(values) for split, values in next(iter(run.values.values())).items()}


def _main(run: RunRecord) -> dict[str, Values]:
    """Split -> mean of the main measures for each query."""
    splits = next(iter(run.values.values()))
    return {
        split: np.mean([values[split] for values in run.values.values()], axis=0)
        for split in splits
    }
