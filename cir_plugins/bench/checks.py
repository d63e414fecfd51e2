"""Checks of a suite's jobs before the first trains: methods are built, without memory."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cir_plugins.bench.jobs import Job
from cir_plugins.bench.records import one_line
from cir_plugins.config.plan import Plan
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.runs.build import build
from cir_plugins.runs.warm_start import check_warm_start


def checked_jobs(jobs: Sequence[Job], out: Path, *, resume: bool) -> list[Job]:
    """The jobs; those whose method cannot be built have a reason instead of a plan.

    Args:
        jobs: The jobs of a suite.
        out: Folder of the results.
        resume: Whether runs go on where they were.
    """
    reasons: dict[str, str] = {}  # the seeds of an entry share one reason
    checked = []
    for job in jobs:
        if job.plan is not None and job.trained is None:
            label = job.entry.label
            if label not in reasons:
                reasons[label] = _reason(job.plan, out / "runs" / job.name, resume=resume)
            if reasons[label]:
                job = replace(job, plan=None, reason=reasons[label])
        checked.append(job)
    return checked


def _reason(plan: Plan, folder: Path, *, resume: bool) -> str:
    """Why a plan cannot run, in one line; "" for no reason."""
    try:
        check_warm_start(plan, folder, resume=resume)
        _build(plan)
    except CIRError as error:
        return one_line(error)
    return ""


def _build(plan: Plan) -> None:
    """Build a plan's method on the meta device, where that is possible.

    Raises:
        CIRError: If the method cannot be built on the CPU either.
    """
    if getattr(plan.backbone.factory, "learned_options", {}):
        return  # it is built once the training texts are read
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights are not copied into tensors without memory
        try:
            with torch.device("meta"):
                build(plan, Encoding(torch.device("meta")))
        except CIRError:
            build(plan, Encoding(torch.device("cpu")))
        except Exception:
            # A component that computes with its weights has no meta form: it is planned only,
            # and an error that is not of this device shows when its row runs.
            return
