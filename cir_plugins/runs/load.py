"""Finished runs opened again: evaluated on other data, or asked for rankings."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cir_plugins.config.toml import Config, merge, read_config
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.retrieval.evaluate import encode_split, evaluate, rankings, report
from cir_plugins.runs.folder import CONFIG, check_record
from cir_plugins.method import Method
from cir_plugins.plugins.declarations import EVAL_ONLY_OPTIONS, PROTOCOLS
from cir_plugins.plugins.options import check_options, options_of
from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan, plan_reader, recipe_of, recipe_config
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.execute import Outcome, build, count, load_best, make_encoding, protocol_of, protocol_switches, read_splits
from cir_plugins.training.trainer import METRICS
from cir_plugins.data.split import Split


def plan_of_run(folder: Path, registry: Registry, overrides: Config) -> Plan:
    """The plan of a finished run, with some tables over its own.

    Raises:
        CIRError: If the folder is no run of this version, or the tables do not fit.
    """
    check_record(folder)
    return make_plan(registry, merge(read_config(folder / CONFIG), overrides))


def open_run(
    folder: Path, registry: Registry, *, overrides: Config | None = None, progress: bool = True
) -> tuple[Plan, Method, Encoding]:
    """A finished run's plan, its method with the chosen weights, and where it computes.

    Raises:
        CIRError: If the folder is no run of this version, or its weights do not fit.
    """
    plan = plan_of_run(folder, registry, overrides or {})
    return plan, *_opened(folder, plan, progress)


def _opened(folder: Path, plan: Plan, progress: bool) -> tuple[Method, Encoding]:
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
    config, path = read_config(folder / CONFIG), folder / METRICS
    if not path.is_file():
        return config, []
    try:
        return config, [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise CIRError(f"{path} cannot be read: {error}") from error


def retarget(
    registry: Registry,
    folder: Path,
    data: str,
    root: Path,
    protocol: str,
    options: Mapping[str, Any],
) -> Config:
    """Config that point a run at other data: the protocol's preset, then the given options.

    A protocol leaves the text as the run has it where none of its reader's protocols is about it.
    On another data set what the method's recipe says of it counts, also for the method's options
    that only evaluation looks at.

    Raises:
        CIRError: If the protocol or an option is unknown.
    """
    factory = registry.factory("dataset", data)
    presets = PROTOCOLS.of(factory)
    if protocol and protocol not in presets:
        raise unknown_name(f"protocol of data set '{data}'", protocol, presets)
    known = options_of(factory)
    switches = protocol_switches(factory) if protocol else ()
    preset = {key: known[key].default for key in switches} | dict(presets.get(protocol, {}))
    check_options(f"dataset '{data}'", known, options)
    config = read_config(folder / CONFIG)
    own = config.get("data", {})
    tables: Config = {"data": {**preset, **options, "name": data, "root": str(root)}}
    if own.get("name") == data:
        tables["data"] = {**own, **tables["data"]}
        return tables
    method = registry.factory("method", config["method"]["name"])
    said = recipe_config(recipe_of(method), data).get("method", {})
    eval_only_options = {
        name: said.get(name, option.default)
        for name, option in options_of(method).items()
        if name in EVAL_ONLY_OPTIONS.of(method)
    }
    return {**tables, "method": eval_only_options} if eval_only_options else tables


def evaluate_run(
    folder: Path,
    registry: Registry,
    *,
    data: str,
    root: Path,
    options: Mapping[str, Any],
    protocol: str = "",
    split: str = "val",
    feature_cache: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """The JSON object of evaluating a run on a data set.

    Features are read from and added to ``feature_cache``, or the run's own cache.

    Raises:
        CIRError: On whatever a user can mend.
    """
    check_record(folder)
    overrides = retarget(registry, folder, data, root, protocol, options)
    if feature_cache is not None:
        overrides["run"] = {"feature_cache": str(feature_cache)}
    plan = plan_of_run(folder, registry, overrides)
    return evaluate_outcome(folder, plan, split=split, protocol=protocol, progress=progress).report


def evaluate_outcome(
    folder: Path, plan: Plan, *, split: str = "val", protocol: str = "", progress: bool = True
) -> Outcome:
    """A finished run's outcome on the data of a plan of it; no curve, no updates.

    Raises:
        CIRError: On whatever a user can mend.
    """
    began = time.perf_counter()
    method, encoding = _opened(folder, plan, progress)
    splits = tuple(read_splits(plan, (split,)))
    if not splits:
        raise CIRError(f"data set '{plan.data.name}' in {plan.root} has no split for '{split}'")
    results = tuple(evaluate(method, part, encoding) for part in splits)
    made = report(plan.data.name, protocol or protocol_of(plan), results)
    return Outcome(
        plan=plan,
        report=made,
        results=results,
        curve=(),
        seconds=time.perf_counter() - began,
        method=method,
        splits=splits,
        encoding=encoding,
        parameters=count(method),
        updates=0,
    )


def rank_run(
    folder: Path,
    registry: Registry,
    *,
    data: str,
    root: Path,
    options: Mapping[str, Any],
    split: str = "test",
    depth: int = 50,
    groups: bool = False,
    progress: bool = True,
) -> list[tuple[Split, list[list[str]]]]:
    """Each split with the first ``depth`` image ids of every query's ranking, for submissions.

    With ``groups`` the rest of each query's group follows in its order.
    """
    check_record(folder)
    overrides = retarget(registry, folder, data, root, "", options)
    plan, method, encoding = open_run(folder, registry, overrides=overrides, progress=progress)
    return [
        (part, rankings(method, encode_split(method, part, encoding), depth, groups=groups))
        for part in read_splits(plan, (split,))
    ]


def images_of_data(registry: Registry, data: str, root: Path) -> dict[str, Path]:
    """Every image of a data set's splits: image id -> file, sorted.

    Raises:
        CIRError: If the data cannot be read.
    """
    splits = plan_reader(registry, data, {}).build()(root)
    paths = {name: path for split in splits for name, path in split.paths.items()}
    return dict(sorted(paths.items()))
