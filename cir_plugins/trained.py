"""Training in Python: a run that is trained and evaluated in a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from cir_plugins.plugins.registry import Registry
from cir_plugins.retriever import Named, Retriever
from cir_plugins.runs.arguments import component_config, settings_config
from cir_plugins.runs.evaluation import Evaluation
from cir_plugins.runs.execute import execute, plan_run


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        folder: Its folder, which ``load`` and every command take.
        evaluation: Measures on the validation splits; no results where there are none.
        curve: Loss, validation and mining of each epoch.
        seconds: Time of training and evaluation.
        retriever: The trained method.
    """

    folder: Path
    evaluation: Evaluation
    curve: tuple[dict[str, Any], ...]
    seconds: float
    retriever: Retriever

    def evaluate(self, *args: Any, **options: Any) -> Evaluation:
        """What ``Retriever.evaluate`` gives for the trained method."""
        return self.retriever.evaluate(*args, **options)


def train(
    method: Named = "",
    *,
    data: Named = "",
    root: str | PathLike[str] | None = None,
    out: str | PathLike[str],
    resume: bool = False,
    progress: bool = True,
    registry: Registry | None = None,
    **settings: Any,
) -> Run:
    """The run of a method that is trained and evaluated in a folder, as ``cir train`` does.

    Args:
        method: Name of the method, or its name and options; may be left out with ``resume``.
        data: Name of the data set, or its name and reader's options.
        root: Folder of the data set.
        out: Folder of the run; new or empty unless ``resume``.
        resume: Continue the run in ``out``; options that are left out are the run's.
        progress: Whether bars are shown.
        registry: Where components come from; None for all installed plugins.
        settings: Tables of a config as dicts (``sampler={"upper": 0.3}``) or names
            (``backbone="tiny_clip"``), settings of ``[train]`` and ``[run]`` by name
            (``epochs=3``, ``seed=1``).

    Raises:
        CIRError: If a name or setting is unknown, the data cannot be read, or the folder is in use.
    """
    registry = registry or Registry.load()
    config = settings_config(settings)
    for name, value in (("method", method), ("data", data)):
        if value:
            config[name] = {**config.get(name, {}), **component_config(value)}
    if root is not None:
        config.setdefault("data", {})["root"] = str(root)
    folder = Path(out)
    plan = plan_run(registry, (config,), folder=folder, resume=resume)
    outcome = execute(plan, folder, resume=resume, progress=progress)
    encoding = replace(outcome.encoding, finished=True)
    retriever = Retriever(outcome.plan, outcome.method, encoding, registry, folder=folder)
    return Run(folder, outcome.evaluation, outcome.curve, outcome.seconds, retriever)
