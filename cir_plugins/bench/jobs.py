"""What a suite runs: each row with each seed, planned before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cir_plugins.bench import environment
from cir_plugins.bench.records import one_line
from cir_plugins.bench.suite import Suite, SuiteEntry, run_name
from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import computed, merge, write_config
from cir_plugins.errors import CIRError
from cir_plugins.plugins.declarations import TRAINED
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.load import plan_of_run, retarget
from cir_plugins.runs.warm_start import warm_start_layer
from cir_plugins.training.trainer import BEST


@dataclass(frozen=True)
class Job:
    """A row with a seed.

    Attributes:
        row: The row.
        seed: The seed.
        plan: What runs, or None.
        reason: Why there is no plan.
        trained: Folder of the finished run that is evaluated instead of training, or None.
    """

    row: SuiteEntry
    seed: int
    plan: Plan | None
    reason: str = ""
    trained: Path | None = None

    @property
    def name(self) -> str:
        """Name of the run's folder and files."""
        return run_name(self.row.label, self.seed)

    @property
    def fingerprint(self) -> str:
        """Depends on everything that the run depends on."""
        if self.plan is None:
            return ""
        content: list[Any] = [write_config(computed(self.plan.config())), environment.versions()]
        if self.trained is not None:
            weights = (self.trained / BEST).stat()
            content.append([weights.st_size, weights.st_mtime_ns])
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def jobs(
    suite: Suite, registry: Registry, run: Mapping[str, Any], runs: Path | None
) -> Iterator[Job]:
    """Every row of a suite with every seed.

    Args:
        suite: With its data folder.
        registry: Where the parts come from.
        run: Settings of table ``[run]`` for all rows.
        runs: Results of an earlier suite whose runs stand in for the rows that train; None to
            train.
    """
    for row in suite.rows:
        for seed in suite.seeds:
            try:
                trains = TRAINED.of(registry.factory("method", row.method))
                if trains and runs is not None:
                    yield _evaluated(suite, registry, row, seed, run, runs)
                    continue
                tables = merge(suite.config(row, seed), {"run": run})
                if not trains:
                    # The suite's training settings are for the rows that train.
                    tables = merge(tables, {"train": {"epochs": 0}})
                yield Job(row, seed, make_plan(registry, *warm_start_layer([tables]), tables))
            except CIRError as error:
                yield Job(row, seed, None, one_line(error))


def _evaluated(
    suite: Suite,
    registry: Registry,
    row: SuiteEntry,
    seed: int,
    run: Mapping[str, Any],
    runs: Path,
) -> Job:
    folder = runs / "runs" / run_name(row.label, seed)
    if not (folder / BEST).is_file():
        raise CIRError(f"--runs {runs} has no trained run of this row: {folder} is missing")
    options = {key: value for key, value in suite.data.items() if key not in ("name", "root")}
    name, root = str(suite.data["name"]), Path(str(suite.data["root"]))
    tables = merge(retarget(registry, folder, name, root, "", options), {"run": run})
    return Job(row, seed, plan_of_run(folder, registry, tables), trained=folder)
