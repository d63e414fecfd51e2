"""Finished runs opened again: evaluated on other data, or asked for rankings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cir_plugins.config import Tables, merge, read_config
from cir_plugins.encode import Encoding
from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.evaluate import encode_split, evaluate, rankings, report
from cir_plugins.folder import CONFIG, check_record
from cir_plugins.method import Method
from cir_plugins.options import check_options, options_of
from cir_plugins.plan import Plan, make_plan, plan_reader
from cir_plugins.registry import Registry
from cir_plugins.run import build, load_best, make_encoding, protocol_of, read_splits
from cir_plugins.train import METRICS
from cir_plugins.types import Split


def open_run(
    folder: Path, registry: Registry, *, overrides: Tables | None = None, progress: bool = True
) -> tuple[Plan, Method, Encoding]:
    """A finished run's plan, its method with the chosen weights, and where it computes.

    Raises:
        CIRError: If the folder is no run of this version, or its weights do not fit.
    """
    check_record(folder)
    tables = merge(read_config(folder / CONFIG), overrides or {})
    plan = make_plan(registry, tables)
    encoding = make_encoding(plan, progress)
    method = build(plan, encoding)
    if plan.train.epochs:
        load_best(method, folder)
    method.eval()
    return plan, method, replace(encoding, finished=True)


def read_run(folder: Path) -> tuple[Tables, list[dict[str, Any]]]:
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
) -> Tables:
    """Tables that point a run at other data: the protocol's preset, then the given options.

    Raises:
        CIRError: If the protocol or an option is unknown.
    """
    factory = registry.factory("dataset", data)
    presets: Mapping[str, Mapping[str, Any]] = getattr(factory, "protocols", {})
    if protocol and protocol not in presets:
        raise unknown_name(f"protocol of data set '{data}'", protocol, presets)
    known = options_of(factory)
    preset = {key: option.default for key, option in known.items()} if protocol else {}
    preset |= presets.get(protocol, {})
    check_options(f"dataset '{data}'", known, options)
    own = read_config(folder / CONFIG).get("data", {})
    kept = own if own.get("name") == data else {}
    return {"data": {**kept, **preset, **options, "name": data, "root": str(root)}}


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
    plan, method, encoding = open_run(folder, registry, overrides=overrides, progress=progress)
    splits = read_splits(plan, (split,))
    if not splits:
        raise CIRError(f"data set '{data}' in {root} has no split for '{split}'")
    results = [evaluate(method, part, encoding) for part in splits]
    return report(data, protocol or protocol_of(plan), results)


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
