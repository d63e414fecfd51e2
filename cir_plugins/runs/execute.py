"""Runs: read, plan, build, train and evaluate, in a folder that can be resumed and opened again."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from cir_plugins.config.compatibility import check_unused
from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import Config
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.split import Split, counts_in_words
from cir_plugins.data.table import training_table
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.files import write_json
from cir_plugins.method import Method
from cir_plugins.plugins.registry import Registry
from cir_plugins.retrieval.evaluate import SplitResult, average, evaluate, main_value
from cir_plugins.runs.build import (
    build,
    check_device,
    count_parameters,
    make_encoding,
    read_splits,
    with_learned_options,
)
from cir_plugins.runs.data_record import check_data, data_fingerprint
from cir_plugins.runs.evaluation import Outcome, make_evaluation, training_counts
from cir_plugins.runs.folder import RECORD, check_folder, make_folder, read_run_config
from cir_plugins.runs.lock import run_lock
from cir_plugins.runs.protocol import protocol_of
from cir_plugins.runs.protocol_record import Origin
from cir_plugins.runs.shared_start import shared_start
from cir_plugins.runs.warm_start import check_warm_start, load_warm_start, warm_start_layer
from cir_plugins.runs.weights import load_best, save_frozen, weights_fingerprint
from cir_plugins.training.trainer import LATEST, Trainer, Validate
from cir_plugins.workers import worker_errors


def plan_run(
    registry: Registry,
    layers: Sequence[Config],
    *,
    folder: Path | None = None,
    resume: bool = False,
) -> Plan:
    """The plan of a run from layers of configs, the last one uppermost.

    Below them is the config of the run that it starts from and, where a run is resumed, its first
    one: an option that is left out is the run's.

    Raises:
        CIRError: If the layers make no plan, or name a component that is never used.
    """
    below = warm_start_layer(layers)
    if resume and folder is not None and (folder / RECORD).is_file():
        below = (read_run_config(folder),)
    elif (
        resume
        and folder is not None
        and not below
        and not any("method" in layer for layer in layers)
    ):
        raise CIRError(
            f"{folder} is no run folder that could be resumed: {RECORD} is missing\n"
            "accepted: the folder of a run that was begun, or a method and data to begin one"
        )
    plan = make_plan(registry, *below, *layers)
    check_unused(plan, layers[-1])
    return plan


@dataclass(frozen=True)
class _Prepared:
    """A run that has been read and built, before anything is written."""

    plan: Plan
    method: Method
    encoding: Encoding
    data: DataFingerprint
    training: Mapping[str, Any]
    validation: tuple[Split, ...]
    trainer: Trainer | None
    frozen: Mapping[str, Tensor]


@worker_errors()
def execute(
    plan: Plan,
    folder: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    processes: ProcessGroup | None = None,
    shared_starts: Path | None = None,
) -> Outcome:
    """Build, train and evaluate a plan; a run that was cut off is continued where it was.

    Args:
        plan: What to run.
        folder: Run folder; must be new or empty unless ``resume``.
        resume: Continue an existing folder of the same plan.
        progress: Whether bars are shown.
        processes: The processes that train together; the first one writes and evaluates, and has
            the chosen weights at the end.
        shared_starts: Folder of the warm starts that runs of a suite share (see
            ``shared_start``); None to share none.

    Raises:
        CIRError: For what a user can fix, in all processes.
    """
    processes = processes or ProcessGroup()
    with ExitStack() as stack:
        processes.broadcast(lambda: stack.enter_context(run_lock(folder)))
        return _execute(plan, folder, resume, progress, processes, shared_starts)


def _execute(
    plan: Plan,
    folder: Path,
    resume: bool,
    progress: bool,
    processes: ProcessGroup,
    shared_starts: Path | None,
) -> Outcome:
    """The outcome of a run whose folder is locked."""
    began = time.perf_counter()
    run = _prepare(plan, folder, resume, progress, processes)
    if progress and processes.is_main:
        _print_training(run.training)
        if resume and run.trainer is not None:
            _print_start(folder)
    # Only now: what cannot be read or trained must not leave a folder that the next try trips over.
    processes.broadcast(lambda: _make_folder(folder, run))
    curve: tuple[dict[str, Any], ...] = ()
    updates, seconds_before = 0, 0.0
    if run.trainer is not None:
        start = None if shared_starts is None else shared_start(shared_starts, run.plan, run.data)
        training = run.trainer.fit(resume=resume, shared_start=start)
        curve, updates = tuple(training.lines), training.updates
        seconds_before = training.seconds_before
    results, weights = processes.broadcast(lambda: _evaluate_best(run, folder))
    evaluation = make_evaluation(
        run.plan,
        protocol_of(run.plan),
        run.validation,
        results,
        run.data.of_role("val"),
        (run.method, weights, Origin(run.plan, run.data)),
    )
    seconds = seconds_before + time.perf_counter() - began
    report = {**evaluation.report, **({"training": run.training} if run.training else {})}
    content = {**report, "seconds": seconds, "updates": updates}
    processes.broadcast(lambda: write_json(folder / "results.json", content))
    return Outcome(
        plan=run.plan,
        data=run.data,
        evaluation=evaluation,
        training=run.training,
        curve=curve,
        seconds=seconds,
        method=run.method,
        encoding=run.encoding,
        parameters=count_parameters(run.method),
        updates=updates,
    )


def _prepare(
    plan: Plan, folder: Path, resume: bool, progress: bool, processes: ProcessGroup
) -> _Prepared:
    """The run read and built; nothing is written."""
    with processes.synchronise_errors():
        check_device(plan)
        encoding = make_encoding(plan, progress and processes.is_main)
        check_warm_start(plan, folder, resume=resume)
        splits = read_splits(plan, ("train", "val") if plan.train.epochs else ("val",))
        plan = with_learned_options(plan, splits)
    processes.broadcast(lambda: check_folder(folder, plan, resume))
    data = processes.broadcast(lambda: data_fingerprint(plan, splits, encoding))
    if resume:
        processes.broadcast(lambda: _check_data(folder, data))
    validation = tuple(split for split in splits if split.role == "val")
    with processes.synchronise_errors():
        table = training_table(splits, plan.mining.from_images) if plan.train.epochs else None
        method = build(plan, encoding)
        frozen = load_warm_start(method, plan, folder, resume=resume)
    trainer = None
    if table is not None:
        trainer = Trainer(
            method,
            table,
            plan.training,
            folder,
            encoding,
            seed=plan.run.seed,
            validate=make_validate(validation, encoding) if validation else None,
            processes=processes,
        )
    training = {} if table is None else training_counts(table, data)
    return _Prepared(plan, method, encoding, data, training, validation, trainer, frozen)


def _print_training(training: Mapping[str, Any]) -> None:
    """Print what the training splits lack, and what is known only across triplets, once."""
    if "left_out" in training:
        total = counts_in_words(training["left_out"]["total"])
        line = f"left out of training: {total}; cir check names what is missing"
        tqdm.write(line, file=sys.stderr)
    if "positives_across" in training:
        line = (
            "positives known only across training triplets, of the same reference and captions: "
            f"{training['positives_across']:,}"
        )
        tqdm.write(line, file=sys.stderr)


def _print_start(folder: Path) -> None:
    """Print that a run was begun and has no checkpoint to go on from."""
    if (folder / RECORD).is_file() and not (folder / LATEST).is_file():
        line = f"run {folder} has no {LATEST}: training begins with the first epoch"
        tqdm.write(line, file=sys.stderr)


def _check_data(folder: Path, data: DataFingerprint) -> None:
    """Check the data of a run that is continued, where one was begun in the folder."""
    if (folder / RECORD).is_file():
        check_data(folder, data)


def _make_folder(folder: Path, run: _Prepared) -> None:
    make_folder(folder, run.plan, run.data)
    save_frozen(folder, run.frozen)


def _evaluate_best(run: _Prepared, folder: Path) -> tuple[tuple[SplitResult, ...], str]:
    """Results and fingerprint of the chosen weights, which are in the method from then on."""
    if run.trainer is not None:
        load_best(run.method, folder)
    run.method.eval()
    results = tuple(evaluate(run.method, split, run.encoding) for split in run.validation)
    return results, weights_fingerprint(run.method)


def make_validate(splits: Sequence[Split], encoding: Encoding) -> Validate:
    """A function that gives a method's measures and main number on the splits."""

    def validate(method: Method) -> tuple[Mapping[str, float], float]:
        results = [evaluate(method, split, encoding) for split in splits]
        mains = [main_value(r.measures, s.main) for r, s in zip(results, splits, strict=True)]
        return average(results), sum(mains) / len(mains)

    return validate
