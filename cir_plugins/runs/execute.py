"""Runs: a plan built, trained and evaluated in a folder that can be resumed and opened again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.training.checkpoint import load_state, load_trained_state
from cir_plugins.data.table import training_table
from cir_plugins.encoding.device import resolve_device, resolve_precision, resolve_workers
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.retrieval.evaluate import SplitResult, average, evaluate, main_value, report
from cir_plugins.runs.folder import check_folder, make_folder, write_json
from cir_plugins.method import Method, Components
from cir_plugins.plugins.declarations import LEARNED_OPTIONS, PROTOCOLS
from cir_plugins.plugins.options import options_of
from cir_plugins.config.plan import Plan
from cir_plugins.data.readers.switches import CaptionSwitches
from cir_plugins.runs.warm_start import check_warm_start, load_kept, warm_start_plan, save_kept, take_weights
from cir_plugins.training.trainer import BEST, LATEST, Trainer, Validate
from cir_plugins.data.split import Split
from cir_plugins.distributed.process_group import ProcessGroup


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        plan: What was run.
        report: The JSON object of the evaluation.
        results: Result of each evaluated split, with the value of every query.
        curve: The lines of ``metrics.jsonl``.
        seconds: Time of training and evaluation.
        method: The method with its chosen weights, in evaluation mode.
        splits: The evaluated splits.
        encoding: Device, precision and loader processes that were used.
        parameters: Number of parameters, ``trained`` and ``all``.
        updates: Optimiser steps taken.
    """

    plan: Plan
    report: dict[str, Any]
    results: tuple[SplitResult, ...]
    curve: tuple[dict[str, Any], ...]
    seconds: float
    method: Method
    splits: tuple[Split, ...]
    encoding: Encoding
    parameters: dict[str, int]
    updates: int


def execute(
    plan: Plan,
    folder: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    processes: ProcessGroup | None = None,
) -> Outcome:
    """Build, train and evaluate a plan; a run that was cut off goes on where it was.

    Args:
        plan: What to run.
        folder: Run folder; must be new or empty unless ``resume``.
        resume: Go on in an existing folder of the same plan.
        progress: Whether bars are shown.
        processes: The processes that train together; the first one writes and evaluates, and has the
            chosen weights at the end.

    Raises:
        CIRError: On whatever a user can mend, in all processes.
    """
    began = time.perf_counter()
    processes = processes or ProcessGroup()
    encoding = make_encoding(plan, progress and processes.is_main)
    with processes.synchronise_errors():
        check_warm_start(plan, folder, resume=resume)
        splits = read_splits(plan, ("train", "val") if plan.train.epochs else ("val",))
        plan = learned(plan, splits)
    processes.broadcast(lambda: check_folder(folder, plan, resume))
    judged = tuple(split for split in splits if split.role == "val")
    with processes.synchronise_errors():
        table = training_table(splits, plan.mining.from_images) if plan.train.epochs else None
        method = build(plan, encoding)
        kept = load_warm_start(method, plan, folder, resume=resume)
    curve: tuple[dict[str, Any], ...] = ()
    updates = 0
    trainer = None
    if table is not None:
        trainer = Trainer(
            method,
            table,
            plan.training,
            folder,
            encoding,
            seed=plan.run.seed,
            validate=validation(judged, encoding) if judged else None,
            processes=processes,
        )
    # Only now: what cannot be read or trained must not leave a folder that the next try trips over.
    processes.broadcast(lambda: _make_folder(folder, plan, kept))
    if trainer is not None:
        done = trainer.fit(resume=resume)
        curve, updates = tuple(done.lines), done.updates
    results = processes.broadcast(lambda: _judge(method, folder, table is not None, judged, encoding))
    made = report(plan.data.name, protocol_of(plan), results) if results else {}
    seconds = time.perf_counter() - began
    outcome = Outcome(
        plan, made, results, curve, seconds, method, judged, encoding, count(method), updates
    )
    written = {**made, "seconds": seconds, "updates": updates}
    processes.broadcast(lambda: write_json(folder / "results.json", written))
    return outcome


def _make_folder(folder: Path, plan: Plan, kept: Mapping[str, Tensor]) -> None:
    make_folder(folder, plan)
    save_kept(folder, kept)


def _judge(
    method: Method, folder: Path, trained: bool, judged: Sequence[Split], encoding: Encoding
) -> tuple[SplitResult, ...]:
    """Results of the chosen weights, which are in the method from then on."""
    if trained:
        load_best(method, folder)
    method.eval()
    return tuple(evaluate(method, split, encoding) for split in judged)


def make_encoding(plan: Plan, progress: bool) -> Encoding:
    """Where the plan computes."""
    device = resolve_device(plan.run.device)
    dtype = resolve_precision(plan.train.precision, device)
    folder = plan.run.feature_cache
    cache = FeatureCache(Path(folder), plan.run.feature_cache_dtype) if folder else None
    workers = resolve_workers(plan.run.workers)
    return Encoding(device, dtype, workers, progress=progress, cache=cache)


def build(plan: Plan, encoding: Encoding) -> Method:
    """The plan's method on its device, the same for the same seed."""
    torch.manual_seed(plan.run.seed)
    components = Components(
        plan.backbone.build(), plan.loss.build(), plan.sampler.build(), plan.mining.negatives
    )
    try:
        method: Method = plan.method.factory(components, **plan.method.options)
    except ValueError as error:
        raise CIRError(f"method '{plan.method.name}': {error}") from error
    return method.to(encoding.device)


def learned(plan: Plan, splits: Sequence[Split]) -> Plan:
    """The plan with the backbone's options that are learned from the training texts filled in.

    A backbone's factory names them in ``learned_options``: option -> function of the training
    texts. What was learned stands in the run's configuration from then on.
    """
    rules = LEARNED_OPTIONS.of(plan.backbone.factory)
    empty = [name for name in rules if not plan.backbone.options.get(name)]
    texts = [
        text
        for split in splits
        if split.role == "train" and empty
        for query in split.queries
        for text in split.captions.texts(query.captions, query.category)
    ]
    if not texts:
        return plan
    options = {**plan.backbone.options, **{name: rules[name](texts) for name in empty}}
    return replace(plan, backbone=replace(plan.backbone, options=options))


def read_splits(plan: Plan, roles: Sequence[str]) -> list[Split]:
    """The plan's splits of these roles.

    Raises:
        CIRError: If the data cannot be read.
    """
    reader = plan.data.build()
    if hasattr(reader, "splits") and not reader.splits:
        options = {**plan.data.options, "splits": tuple(roles)}
        reader = plan.data.factory(**options)
    splits: list[Split] = reader(plan.root)
    return [split for split in splits if split.role in roles]


def validation(splits: Sequence[Split], encoding: Encoding) -> Validate:
    """A function that gives a method's measures and main number on the splits."""

    def validate(method: Method) -> tuple[Mapping[str, float], float]:
        results = [evaluate(method, split, encoding) for split in splits]
        mains = [main_value(r.measures, s.main) for r, s in zip(results, splits, strict=True)]
        return average(results), sum(mains) / len(mains)

    return validate


def load_warm_start(method: Method, plan: Plan, folder: Path, *, resume: bool) -> dict[str, Tensor]:
    """The frozen weights to keep, once all weights of the run that the plan names are in a method.

    A run that goes on from its checkpoint takes the frozen ones that it kept and no others.

    Raises:
        CIRError: If the weights do not fit, with what does not.
    """
    if not plan.run.warm_start:
        return {}
    if resume and (folder / LATEST).is_file():
        return load_kept(method, folder)
    other = build(warm_start_plan(plan), Encoding(torch.device("cpu")))
    load_best(other, Path(plan.run.warm_start))
    return take_weights(method, other.state_dict(), plan.run.warm_start)


def load_best(method: Method, folder: Path) -> None:
    """Put the chosen weights of a run folder into a method.

    Raises:
        CIRError: If they are missing or do not fit.
    """
    path = folder / BEST
    if not path.is_file():
        raise CIRError(f"run {folder} has no {BEST}: its training has not got that far")
    load_kept(method, folder)
    load_trained_state(method, load_state(path)["method"], f"checkpoint {path}")


def count(method: Method) -> dict[str, int]:
    """Parameters of a method, ``trained`` and ``all``."""
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    untrained = not method.trained
    return {
        "trained": 0 if untrained else trained,
        "all": sum(p.numel() for p in method.parameters()),
    }


def protocol_of(plan: Plan) -> str:
    """Name of the reader's preset that the plan's options are, or ``custom``."""
    presets = PROTOCOLS.of(plan.data.factory)
    options = options_of(plan.data.factory)
    ignored = {"splits", "missing", "images", "categories"}
    switches = protocol_switches(plan.data.factory) - ignored
    for name, preset in presets.items():
        whole = {key: preset.get(key, options[key].default) for key in switches}
        if all(plan.data.options[key] == value for key, value in whole.items()):
            return name
    return "custom"


def protocol_switches(reader: Any) -> frozenset[str]:
    """Options of a reader that its protocols set: not those of the text if none names them."""
    named = {key for preset in PROTOCOLS.of(reader).values() for key in preset}
    return frozenset(options_of(reader)) - (CaptionSwitches.__annotations__.keys() - named)
