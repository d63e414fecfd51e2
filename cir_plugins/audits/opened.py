"""What an evaluation would encode and rank: splits, method and encoding of a retriever on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import merge
from cir_plugins.data.split import Split
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.retriever import Retriever
from cir_plugins.runs.arguments import config_of
from cir_plugins.runs.build import build, read_splits
from cir_plugins.runs.protocol import retarget


@dataclass(frozen=True)
class OpenedData:
    """A data set that was opened for a retriever.

    Attributes:
        plan: The retriever's plan on that data, every option with its value.
        method: The method with the options that it has there.
        encoding: Device, precision, loader processes and feature cache.
        splits: The splits of the role.
    """

    plan: Plan
    method: Method
    encoding: Encoding
    splits: tuple[Split, ...]


def open_data(
    retriever: Retriever,
    data: str = "",
    root: str | PathLike[str] | None = None,
    *,
    protocol: str = "",
    split: str = "val",
    progress: bool | None = None,
    options: Mapping[str, Any],
) -> OpenedData:
    """What ``Retriever.evaluate`` with these arguments would encode and rank.

    Args:
        retriever: The retriever.
        data: Name of the data set; the run's own where it is left out.
        root: Its folder; the run's own where both are left out.
        protocol: Preset of its reader.
        split: ``train``, ``val`` or ``test``.
        progress: Whether bars are shown; None for the retriever's own setting.
        options: Options of the reader, over the protocol.

    Raises:
        CIRError: If a name or option is unknown, the data cannot be read, or has no such split.
    """
    own, registry, encoding = retriever.plan, retriever._registry, retriever._encoding
    name = data or own.data.name
    registry.factory("dataset", name)  # an unknown name is an error of its own
    if root is None and (name != own.data.name or not retriever._has_root):
        raise CIRError(f"no folder of data set '{name}' is named; accepted: root=, or --root DIR")
    folder = own.root if root is None else Path(root)
    config = config_of(own)
    plan = make_plan(
        registry, merge(config, retarget(registry, config, name, folder, protocol, options))
    )
    splits = tuple(read_splits(plan, (split,)))
    if not splits:
        raise CIRError(f"data set '{name}' in {plan.root} has no split for '{split}'")
    method = retriever.method
    if plan.method.options != own.method.options:
        method = build(plan, encoding)
        method.load_state_dict(retriever.method.state_dict())
    bars = encoding.progress if progress is None else progress
    return OpenedData(plan, method.eval(), replace(encoding, progress=bars), splits)
