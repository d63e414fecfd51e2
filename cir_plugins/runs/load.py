"""Finished runs opened again: their plan, their method with the chosen weights, their curve."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan, plan_reader
from cir_plugins.config.toml import Config, merge
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.encoding.features import Encoding
from cir_plugins.method import Method
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.build import build, count_parameters, make_encoding
from cir_plugins.runs.data_record import DATA, read_data
from cir_plugins.runs.evaluation import Outcome, evaluate_plan
from cir_plugins.runs.folder import check_record, is_converted, read_run_config
from cir_plugins.runs.protocol_record import Origin
from cir_plugins.runs.records import read_metrics
from cir_plugins.runs.weights import load_best
from cir_plugins.training.trainer import METRICS


def plan_of_run(folder: Path, registry: Registry, overrides: Config) -> Plan:
    """The plan of a finished run with changes to its config.

    Raises:
        CIRError: If the folder is no run of this version, or the changes do not fit.
    """
    check_record(folder)
    return make_plan(registry, merge(read_run_config(folder), overrides))


def open_run(
    folder: Path, registry: Registry, *, overrides: Config | None = None, progress: bool = True
) -> tuple[Plan, Method, Encoding]:
    """A finished run's plan, its method with the chosen weights, and where it computes.

    Raises:
        CIRError: If the folder is no run of this version, or its weights do not fit.
    """
    plan = plan_of_run(folder, registry, overrides or {})
    return plan, *build_with_weights(folder, plan, progress=progress)


def build_with_weights(
    folder: Path, plan: Plan, *, progress: bool = True
) -> tuple[Method, Encoding]:
    """The plan's method with a run's chosen weights, in evaluation mode, and where it computes.

    Raises:
        CIRError: If the weights are missing or do not fit.
    """
    encoding = make_encoding(plan, progress)
    method = build(plan, encoding)
    if plan.train.epochs:
        load_best(method, folder)
    method.eval()
    return method, replace(encoding, finished=True)


def read_run(folder: Path) -> tuple[Config, list[dict[str, Any]]]:
    """A run's resolved configuration and the lines of its ``metrics.jsonl``; none untrained.

    Raises:
        CIRError: If the folder is no run of this version, or a file of it cannot be read.
    """
    check_record(folder)
    config, path = read_run_config(folder), folder / METRICS
    return config, read_metrics(path) if path.exists() else []


def evaluate_run(folder: Path, plan: Plan, *, progress: bool = True) -> Outcome:
    """The outcome of a finished run on the validation splits of a plan of it, without training.

    Raises:
        CIRError: If the run's weights do not fit, or the data cannot be read.
    """
    began = time.perf_counter()
    method, encoding = build_with_weights(folder, plan, progress=progress)
    evaluation = evaluate_plan(plan, method, encoding, origin=_origin(folder, plan))
    return Outcome(
        plan=plan,
        data=evaluation.data or DataFingerprint(plan.data.name, ()),
        evaluation=evaluation,
        training={},
        curve=(),
        seconds=time.perf_counter() - began,
        method=method,
        encoding=encoding,
        parameters=count_parameters(method),
        updates=0,
    )


def origin_of(folder: Path, plan: Plan) -> Origin:
    """Where the weights of a run come from.

    Args:
        folder: The run folder.
        plan: The run's own plan.

    Raises:
        CIRError: If the folder is no run.
    """
    data = read_data(folder) if (folder / DATA).is_file() else None
    return Origin(plan, data, is_converted(folder))


def _origin(folder: Path, plan: Plan) -> Origin:
    """Where a run's weights come from, by a plan of it that points at other data."""
    table = read_run_config(folder)["data"]
    options = {key: value for key, value in table.items() if key in plan.data.options}
    data = replace(plan.data, name=table["name"], options={**plan.data.options, **options})
    return origin_of(folder, replace(plan, data=data, root=Path(table.get("root", "."))))


def images_of_data(registry: Registry, data: str, root: Path) -> dict[str, Path]:
    """Every image of a data set's splits: image id -> file, sorted.

    Raises:
        CIRError: If the data cannot be read.
    """
    planned = plan_reader(registry, data, {})
    reader = planned.build()
    with planned.guarded(f"cannot read {root}"):
        splits = reader(root)
    paths = {name: path for split in splits for name, path in split.paths.items()}
    return dict(sorted(paths.items()))
