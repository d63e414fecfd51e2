"""Jobs of a suite: each entry with each seed, planned before anything runs."""

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
from cir_plugins.runs.folder import read_run_config
from cir_plugins.runs.load import plan_of_run
from cir_plugins.runs.protocol import retarget
from cir_plugins.runs.warm_start import warm_start_layer
from cir_plugins.training.trainer import BEST


@dataclass(frozen=True)
class Job:
    """A suite entry with a seed.

    Attributes:
        entry: The suite entry.
        seed: The seed.
        plan: The plan, or None where there is none.
        reason: Why there is no plan.
        trained: Folder of the finished run that is evaluated instead of training, or None.
    """

    entry: SuiteEntry
    seed: int
    plan: Plan | None
    reason: str = ""
    trained: Path | None = None

    @property
    def name(self) -> str:
        """Name of the run's folder and files."""
        return run_name(self.entry.label, self.seed)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the run depends on; "" without a plan."""
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
    """Jobs of all entries of a suite with all seeds.

    Args:
        suite: With its data folder.
        registry: Registry of the components.
        run: Settings of table ``[run]`` for all entries.
        runs: Results of an earlier suite whose runs replace the training of these entries; None
            to train.
    """
    for entry in suite.entries:
        for seed in suite.seeds:
            try:
                trains = TRAINED.of(registry.factory("method", entry.method))
                if trains and runs is not None:
                    yield _evaluated(suite, registry, entry, seed, run, runs)
                    continue
                config = merge(suite.config(entry, seed), {"run": run})
                if not trains:
                    # The suite's training settings are for the methods that train.
                    config = merge(config, {"train": {"epochs": 0}})
                yield Job(entry, seed, make_plan(registry, *warm_start_layer([config]), config))
            except CIRError as error:
                yield Job(entry, seed, None, one_line(error))


def _evaluated(
    suite: Suite,
    registry: Registry,
    entry: SuiteEntry,
    seed: int,
    run: Mapping[str, Any],
    runs: Path,
) -> Job:
    folder = runs / "runs" / run_name(entry.label, seed)
    if not (folder / BEST).is_file():
        raise CIRError(f"--runs {runs} has no trained run of this entry: {folder} is missing")
    options = {key: value for key, value in suite.data.items() if key not in ("name", "root")}
    name, root = str(suite.data["name"]), Path(str(suite.data["root"]))
    config = read_run_config(folder)
    changes = merge(retarget(registry, config, name, root, "", options), {"run": run})
    return Job(entry, seed, plan_of_run(folder, registry, changes), trained=folder)
