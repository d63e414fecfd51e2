"""The content of ``results.json``: every run, the differences between rows, and where it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cir_plugins.bench.chance import random_ranking
from cir_plugins.bench.records import RunRecord
from cir_plugins.bench.statistics import Values, over_seeds, paired_interval
from cir_plugins.bench.suite import Suite
from cir_plugins.data.split import Split


def document(
    suite: Suite,
    records: Sequence[RunRecord],
    splits: Sequence[Split],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """What ``results.json`` holds.

    Args:
        suite: The suite.
        records: The runs so far.
        splits: The evaluated splits, empty while nothing has been evaluated.
        environment: ``hardware``, ``versions`` and ``commit``.
    """
    return {
        "suite": suite.name,
        "description": suite.description,
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
    """Each row's difference to the row it is compared with, over the seeds that both finished.

    ``measures`` has an interval per main measure, ``main`` that of their mean.
    """
    finished = {(record.label, record.seed): record for record in records if not record.error}
    found = []
    for row in suite.rows:
        reference = suite.reference(row)
        seeds = [
            seed
            for seed in suite.seeds
            if (row.label, seed) in finished and (reference.label, seed) in finished
        ]
        if reference.label == row.label or not seeds:
            continue
        own = [finished[row.label, seed] for seed in seeds]
        other = [finished[reference.label, seed] for seed in seeds]
        if _asked(own[0]) != _asked(other[0]):
            continue  # other splits or other triplets: a difference would compare nothing
        measures = {
            name: asdict(
                paired_interval(
                    over_seeds([run.values[name] for run in own]),
                    over_seeds([run.values[name] for run in other]),
                )
            )
            for name in own[0].values
        }
        main = asdict(
            paired_interval(
                over_seeds([_main(run) for run in own]), over_seeds([_main(run) for run in other])
            )
        )
        found.append(
            {
                "label": row.label,
                "reference": reference.label,
                "seeds": seeds,
                "measures": measures,
                "main": main,
            }
        )
    return found


def _asked(run: RunRecord) -> dict[str, int]:
    """Number of triplets that the run answered, by split."""
    return {split: len(values) for split, values in next(iter(run.values.values())).items()}


def _main(run: RunRecord) -> dict[str, Values]:
    """Split -> mean of the main measures of each query."""
    splits = next(iter(run.values.values()))
    return {
        split: np.mean([values[split] for values in run.values.values()], axis=0)
        for split in splits
    }
