"""Runs side by side: measures, differences to a baseline, intervals and corrected p-values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from cir_plugins.bench.comparison import Compared, Comparison
from cir_plugins.bench.statistics import (
    DRAWS,
    LEVEL,
    RESAMPLES,
    Interval,
    Values,
    holm,
    over_seeds,
    paired_gaps,
    paired_interval,
    per_triplet,
    randomisation_p_value,
    triplets_of,
)
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.loading import load
from cir_plugins.retriever import Retriever
from cir_plugins.runs.caveats import caveats_of_all
from cir_plugins.runs.evaluation import Evaluation
from cir_plugins.runs.protocol_record import not_comparable
from cir_plugins.training_run import Run

Comparable: TypeAlias = "Evaluation | Run | Retriever | str | PathLike[str]"
"""An evaluation, a run, a retriever, or a run folder."""
MAIN = "main"


def compare(
    runs: Mapping[str, Comparable | Sequence[Comparable]],
    baseline: str = "",
    *,
    measure: str = MAIN,
    data: str = "",
    root: str | PathLike[str] | None = None,
    protocol: str = "",
    split: str = "val",
    seed: int = 0,
    resamples: int = RESAMPLES,
    draws: int = DRAWS,
    level: float = LEVEL,
    per_measure: bool = False,
    **options: Any,
) -> Comparison:
    """The table of several runs on the same queries, with differences to a baseline.

    Values are averaged over the runs of a name (seeds) for each triplet; resampling and sign flips
    are over triplets. Holm's correction is over the methods that are compared with the baseline.

    Args:
        runs: Name -> run folder, run, retriever or evaluation, or several of them: seeds.
        baseline: Name to compare with; the first where it is left out.
        measure: ``main`` for the mean of the protocol's main measures, or a measure.
        data: Data set on which runs are evaluated; each run's own where it is left out.
        root: Its folder.
        protocol: Preset of its reader.
        split: ``train``, ``val`` or ``test``.
        seed: Seed of resampling and randomisation.
        resamples: Resamples of the bootstrap.
        draws: Draws of the randomisation test.
        level: Share of the resamples between the bounds of an interval, in (0, 1).
        per_measure: Whether every measure gets a difference with its interval, too.
        options: Options of the reader.

    Raises:
        CIRError: If a name is unknown, or the runs were not evaluated on the same triplets.
    """
    first = _baseline(runs, baseline)
    target = {"data": data, "root": root, "protocol": protocol, "split": split, **options}
    evaluations = {name: _evaluations(run, target) for name, run in runs.items()}
    _check_same_triplets(evaluations, first)
    names = _measures(evaluations, measure, first)
    values = {
        name: over_seeds([_values(each, names) for each in several])
        for name, several in evaluations.items()
    }
    drawing = {"resamples": resamples, "level": level, "seed": seed}
    rows = _rows(evaluations, values, first, drawing, draws)
    if per_measure:
        rows = [
            replace(row, differences=_each(evaluations[row.name], evaluations[first], drawing))
            if row.name != first
            else row
            for row in rows
        ]
    example = evaluations[first][0]
    return Comparison(
        rows=tuple(rows),
        baseline=first,
        measure=names[0] if len(names) == 1 else f"the mean of {' and '.join(names)}",
        dataset=example.dataset,
        protocol=example.label,
        triplets=sum(len(each) for each in values[first].values()),
        level=level,
        data=_fingerprints(evaluations),
        notes=_notes(evaluations),
    )


def _rows(
    evaluations: Mapping[str, Sequence[Evaluation]],
    values: Mapping[str, Mapping[str, Values]],
    first: str,
    drawing: Mapping[str, Any],
    draws: int,
) -> list[Compared]:
    """The methods with differences of their values (T,) to those of the baseline ``first``."""
    tests = {
        name: randomisation_p_value(values[name], values[first], draws=draws, seed=drawing["seed"])
        for name in evaluations
        if name != first
    }
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    rows = []
    for name, several in evaluations.items():
        row = Compared(name, _means(several), len(several))
        if name in tests:
            pair = values[name], values[first]
            interval = paired_interval(*pair, **drawing)
            row = replace(row, interval=interval, counts=_counts(*pair))
            row = replace(row, p_value=tests[name], p_holm=corrected[name])
        rows.append(row)
    return rows


def _each(
    several: Sequence[Evaluation], baseline: Sequence[Evaluation], drawing: Mapping[str, Any]
) -> dict[str, Interval]:
    """Difference with its interval of each measure that both have."""
    intervals = {}
    for measure in _means(several):
        if all(measure in each.measures for each in baseline):
            pair = [
                over_seeds([_values(each, (measure,)) for each in side])
                for side in (several, baseline)
            ]
            intervals[measure] = paired_interval(*pair, **drawing)
    return intervals


def _notes(evaluations: Mapping[str, Sequence[Evaluation]]) -> tuple[str, ...]:
    """What keeps the numbers from being of one protocol, and what they are not about."""
    records = {
        f"{name} ({number})" if len(several) > 1 else name: each.record.document
        for name, several in evaluations.items()
        for number, each in enumerate(several, 1)
        if each.record is not None
    }
    reports = {name: several[0].report for name, several in evaluations.items()}
    return (*not_comparable(records), *caveats_of_all(reports))


def _fingerprints(evaluations: Mapping[str, Sequence[Evaluation]]) -> dict[str, tuple[str, ...]]:
    """Fingerprint -> names of the methods that were evaluated on that data, where it is known."""
    groups: dict[str, dict[str, None]] = {}
    for name, several in evaluations.items():
        for each in several:
            if each.data_fingerprint:
                groups.setdefault(each.data_fingerprint, {})[name] = None
    return {fingerprint: tuple(names) for fingerprint, names in groups.items()}


def _baseline(runs: Mapping[str, Any], baseline: str) -> str:
    """Name of the baseline; the first where it is left out."""
    if not runs or not isinstance(runs, Mapping):
        raise CIRError(
            "there is nothing to compare; accepted: a dict of name -> run folder, run, retriever "
            "or evaluation"
        )
    if baseline and baseline not in runs:
        raise unknown_name("baseline", baseline, runs)
    return baseline or next(iter(runs))


def _evaluations(run: Any, target: Mapping[str, Any]) -> list[Evaluation]:
    """Evaluations of one name: of a single run, or of several with different seeds."""
    several = list(run) if isinstance(run, list | tuple) else [run]
    if not several:
        raise CIRError("a name has no runs to compare; accepted: one run or several")
    return [_evaluation(each, target) for each in several]


def _evaluation(run: Any, target: Mapping[str, Any]) -> Evaluation:
    defaults = target == {"data": "", "root": None, "protocol": "", "split": "val"}
    if isinstance(run, Evaluation):
        if not defaults:
            raise CIRError(
                "an evaluation cannot be made again: data, root, protocol, split and options are "
                "of no use with it; accepted: run folders, runs or retrievers"
            )
        return run
    if isinstance(run, Run):
        return run.evaluation if defaults else run.evaluate(**target)
    if isinstance(run, Retriever):
        return run.evaluate(**target)
    if isinstance(run, str | PathLike):
        return load(Path(run)).evaluate(**target)
    raise CIRError(
        f"a {type(run).__name__} cannot be compared; accepted: a run folder, a run, a retriever or "
        "an evaluation"
    )


def _check_same_triplets(evaluations: Mapping[str, Sequence[Evaluation]], baseline: str) -> None:
    """Check that all evaluations are of the same triplets, and rank the same images for them.

    Raises:
        CIRError: If one is not; names it.
    """
    if not evaluations[baseline][0].splits:
        raise CIRError(f"'{baseline}' has no evaluated split: its data has no validation split")
    for name, several in evaluations.items():
        for each in several:
            what = _difference(each, evaluations[baseline][0])
            if what:
                raise CIRError(
                    f"'{name}' ({each.dataset}, protocol {each.label}) and '{baseline}' were "
                    f"evaluated {what}; accepted: the same data and protocol for "
                    "all, such as compare(..., data=NAME, root=DIR, protocol=NAME)"
                )


def _difference(one: Evaluation, other: Evaluation) -> str:
    """What keeps two evaluations from being compared, or "". Their texts may differ."""
    traits: tuple[tuple[str, Callable[[Split], object]], ...] = (
        ("on different queries", lambda split: list(dict.fromkeys(triplets_of(split.queries)))),
        ("with different galleries", lambda split: set(split.gallery)),
        ("with and without the reference in the ranking", lambda split: split.drop_reference),
    )
    for what, trait in traits:
        values = [{each.name: trait(each) for each in side.splits} for side in (one, other)]
        if values[0] != values[1]:
            return what
    return ""


def _measures(
    evaluations: Mapping[str, Sequence[Evaluation]], measure: str, baseline: str
) -> tuple[str, ...]:
    """The measures whose mean is compared.

    Raises:
        CIRError: If an evaluation lacks one.
    """
    names = evaluations[baseline][0].main_measures if measure == MAIN else (measure,)
    for several in evaluations.values():
        for each in several:
            missing = [name for name in names if name not in each.measures]
            if missing:
                raise unknown_name("measure", missing[0], [MAIN, *each.measures])
    return names


def _values(evaluation: Evaluation, names: Sequence[str]) -> dict[str, Values]:
    """Mean of the measures for each triplet (T,), by split."""
    return {
        result.split: np.mean(
            [per_triplet(result.values[name].cpu().numpy(), split.queries) for name in names],
            axis=0,
        )
        for result, split in zip(evaluation.results, evaluation.splits, strict=True)
    }


def _means(several: Sequence[Evaluation]) -> dict[str, float]:
    """Mean of each measure over the runs, those that all of them have."""
    common = [name for name in several[0].measures if all(name in e.measures for e in several)]
    return {name: sum(e.measures[name] for e in several) / len(several) for name in common}


def _counts(method: Mapping[str, Values], baseline: Mapping[str, Values]) -> tuple[int, int, int]:
    """Triplets on which a method is above, equal to and below the baseline."""
    gaps = np.concatenate(list(paired_gaps(method, baseline).values()))
    return int((gaps > 0).sum()), int((gaps == 0).sum()), int((gaps < 0).sum())
