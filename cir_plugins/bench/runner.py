"""Runs of a suite: entry by entry and seed by seed, results written after each."""

from __future__ import annotations

import gc
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cir_plugins.bench import environment, grids
from cir_plugins.bench.changes import changed_options, changed_suite
from cir_plugins.bench.checks import checked_jobs
from cir_plugins.bench.jobs import Job, jobs
from cir_plugins.bench.records import (
    RunRecord,
    SuiteResult,
    one_line,
    without_folders,
    write_record,
    write_text,
)
from cir_plugins.bench.results import document
from cir_plugins.bench.reuse import FinishedRows, run_folder, trained_on
from cir_plugins.bench.statistics import per_triplet
from cir_plugins.bench.suite import Suite
from cir_plugins.bench.tables import caption, markdown, summary
from cir_plugins.config.notes import notes
from cir_plugins.config.resolve import plan_component
from cir_plugins.config.toml import Config
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError
from cir_plugins.files import read_json, remove_stale, write_json
from cir_plugins.plugins.registry import Registry
from cir_plugins.retrieval.evaluate import encode_split, rankings
from cir_plugins.runs.data_record import read_data
from cir_plugins.runs.evaluation import Outcome
from cir_plugins.runs.execute import execute
from cir_plugins.runs.load import evaluate_run
from cir_plugins.runs.lock import run_lock

TOP_K = 10  # images per ranking in a record, for the retrieval grid


def run_suite(
    suite: Suite,
    registry: Registry,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    run: Mapping[str, Any] | None = None,
    runs: Path | None = None,
    changes: Config | None = None,
) -> SuiteResult:
    """Result of a suite: all entries with all seeds, the files in ``out`` whole after each.

    All entries are planned and built before the first trains. A run that fails, for whatever
    reason, is recorded with it and the suite goes on.

    Args:
        suite: The suite.
        registry: Registry of the components.
        out: Folder of the results.
        resume: Keep the runs that an earlier call finished there, and go on with the others.
        progress: Whether progress is shown.
        run: Settings of table ``[run]`` for all entries, such as ``{"device": "cpu"}``.
        runs: Results of an earlier suite, perhaps on other data, whose runs of the same labels
            and seeds are evaluated instead of training.
        changes: Tables of options for all entries, as of ``--set``; the results name them.

    Raises:
        CIRError: Before anything runs, if the suite has no data folder, no row can be planned, or
            ``out`` holds an earlier suite and ``resume`` is not set. Later, if results cannot be
            written.
    """
    with run_lock(out):
        for folder in (out, *(each for each in out.iterdir() if each.is_dir())):
            remove_stale(folder)  # what a killed process left of results, rows and values
        return _run_suite(
            changed_suite(suite, changes or {}, trains=runs is None),
            registry,
            out,
            resume=resume,
            progress=progress,
            run=run or {},
            runs=runs,
            changed=without_folders(changed_options(changes or {})),
        )


def _run_suite(
    suite: Suite,
    registry: Registry,
    out: Path,
    *,
    resume: bool,
    progress: bool,
    run: Mapping[str, Any],
    runs: Path | None,
    changed: Mapping[str, Any],
) -> SuiteResult:
    if not resume and any((out / name).exists() for name in ("results.json", "runs")):
        raise CIRError(
            f"{out} holds the results of an earlier suite; accepted: --resume to go on with it, "
            "or another --out"
        )
    suite = suite.on_data(None, _data_folder(suite, registry, out, progress))
    todo = checked_jobs(list(jobs(suite, registry, run, runs)), out, resume=resume)
    if all(job.plan is None for job in todo):
        raise CIRError(f"no row of suite '{suite.name}' can run; the first: {todo[0].reason}")
    if progress:
        _print_notes(todo)
        for reason in dict.fromkeys(f"{j.entry.label}: {j.reason}" for j in todo if not j.plan):
            tqdm.write(f"cannot run, {reason}", file=sys.stderr)
    conditions = {
        "hardware": environment.hardware(),
        "versions": environment.versions(),
        "commit": environment.commit(),
    }
    known = FinishedRows(out, progress)
    records: list[RunRecord] = []
    splits: tuple[Split, ...] = ()
    content: dict[str, Any] = {}
    for number, job in enumerate(todo, 1):
        if progress:
            tqdm.write(
                f"[{number}/{len(todo)}] {job.entry.label}, seed {job.seed}", file=sys.stderr
            )
        record, evaluated = known.finished(job, splits) if resume else (None, ())
        if record is None:
            record, evaluated = _run(job, suite, out, resume=resume, progress=progress)
            write_record(record, out)
        if record.error and progress:
            tqdm.write(f"    failed: {record.error}", file=sys.stderr)
        records.append(record)
        splits = splits or evaluated
        content = document(suite, records, splits, conditions, changed)
        write_json(out / "results.json", content)
        write_text(out / "results.md", f"{markdown(summary(content))}\n{caption(content)}\n")
    return SuiteResult(suite, tuple(records), content, splits, out)


def _print_notes(todo: Sequence[Job]) -> None:
    """Print the notes on the plans, each once for the entries that have it."""
    labels: dict[str, dict[str, None]] = {}
    for job in todo:
        for note in notes(job.plan) if job.plan is not None and job.trained is None else ():
            labels.setdefault(note, {})[job.entry.label] = None
    for note, rows in labels.items():
        tqdm.write(f"note on {', '.join(rows)}: {note}", file=sys.stderr)


def _data_folder(suite: Suite, registry: Registry, out: Path, progress: bool) -> Path:
    """The data folder; drawn in ``out`` where the suite has none and a table [make]."""
    root = suite.data.get("root")
    if root:
        if not Path(root).is_dir():
            raise CIRError(f"data folder {root} of suite '{suite.name}' is not there")
        return Path(root)
    if not suite.make:
        raise CIRError(f"suite '{suite.name}' has no data folder; accepted: --root DIR")
    folder, note = out / "data", out / "data.json"
    settings = {name: dict(options) for name, options in suite.make.items()}
    if folder.exists():
        if not note.exists() or read_json(note) != json.loads(json.dumps(settings)):
            raise CIRError(f"{folder} was not drawn by this suite; accepted: another --out")
        return folder
    name, options = next(iter(settings.items()))
    arguments = {key: options.pop(key) for key in ("images", "seed", "workers") if key in options}
    planned = plan_component(registry, "generator", name, options)
    generator = planned.build()
    # The note is written first: the folder appears whole, and without it all is drawn anew.
    write_json(note, suite.make)
    with planned.guarded(f"cannot make {folder}"):
        generator(folder, progress=progress, **arguments)
    return folder


def _run(
    job: Job, suite: Suite, out: Path, *, resume: bool, progress: bool
) -> tuple[RunRecord, tuple[Split, ...]]:
    failed = RunRecord(job.entry.label, job.entry.method, job.seed, error=job.reason)
    if job.plan is None:
        return failed, ()
    traces = out / "errors" / f"{job.name}.txt"
    traces.unlink(missing_ok=True)
    try:
        with_rankings = job.seed == suite.seeds[0]
        if job.trained is None:
            folder = run_folder(job, job.plan, out / "runs")
            outcome = execute(
                job.plan,
                folder,
                resume=resume,
                progress=progress,
                shared_starts=out / "warm_starts",
            )
            record = _record(job, outcome, with_rankings=with_rankings)
            return replace(record, folder=folder.name), outcome.splits
        before = read_data(job.trained)
        outcome = evaluate_run(job.trained, job.plan, progress=progress)
        record = _record(job, outcome, with_rankings=with_rankings)
        return replace(record, trained_on=trained_on(before, outcome.data)), outcome.splits
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A suite compares components of many authors: what one of them raises (out of memory, a
        # bug in a plugin) must not cost the other runs. The traceback is stored for its author.
        if not isinstance(error, CIRError):
            write_text(traces, traceback.format_exc())
        return replace(failed, error=one_line(error)), ()
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _record(job: Job, outcome: Outcome, *, with_rankings: bool) -> RunRecord:
    if not outcome.splits:
        raise CIRError(f"data set '{outcome.plan.data.name}' has no validation split to compare on")
    main = outcome.splits[0].main
    return RunRecord(
        label=job.entry.label,
        method=job.entry.method,
        seed=job.seed,
        seconds=outcome.seconds,
        parameters=outcome.parameters,
        updates=outcome.updates,
        config=json.loads(json.dumps(without_folders(outcome.plan.config()))),
        report=outcome.report,
        curve=outcome.curve,
        rankings=_rankings(outcome) if with_rankings else {},
        fingerprint=job.fingerprint,
        data=outcome.data,
        training=outcome.training,
        values={
            name: {
                result.split: per_triplet(
                    result.values[name].cpu().numpy(),
                    [query for query in split.queries if query.target is not None],
                )
                for result, split in zip(outcome.results, outcome.splits, strict=True)
            }
            for name in main
        },
    )


def _rankings(outcome: Outcome) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Split -> triplet -> top images, for the triplets of the retrieval grid."""
    result: dict[str, dict[str, Sequence[str]]] = {}
    for split, queries in grids.choose(outcome.splits):
        encoded = encode_split(outcome.method, replace(split, queries=queries), outcome.encoding)
        ranked = rankings(outcome.method, encoded, TOP_K)
        result[split.name] = {
            grids.triplet_of(query): images for query, images in zip(queries, ranked, strict=True)
        }
    return result
