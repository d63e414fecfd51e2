"""The model of an index: its fingerprint, and the retriever that an index was made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cir_plugins.config.resolve import make_plan
from cir_plugins.encoding.fingerprint import backbone_fingerprint, plain_options
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Registry
from cir_plugins.retriever import Retriever, load, of_plan
from cir_plugins.runs.arguments import config_of
from cir_plugins.search.storage import IndexRecord


def model_fingerprint(retriever: Retriever) -> str:
    """Hash of all that the vectors of pictures depend on beside the pictures."""
    method = retriever.method
    extra = f"index {type(method).__qualname__} {plain_options(method)} {retriever.encoding.dtype}"
    return backbone_fingerprint(method.backbone, list(method.state_dict().items()), extra)


def model_of(retriever: Retriever) -> dict[str, Any]:
    """Where the model comes from, as fields of ``IndexRecord``."""
    plan, folder = retriever.plan, retriever.folder
    config = {} if folder else json.loads(json.dumps(config_of(plan)))
    return {
        "method": plan.method.name,
        "backbone": plan.backbone.name,
        "run": str(folder.resolve()) if folder else "",
        "config": config,
    }


def open_model(record: IndexRecord, where: Path, device: str, registry: Registry) -> Retriever:
    """The retriever that an index was made with.

    Args:
        record: Of the index.
        where: Its folder, for messages.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; "" for the run's own.
        registry: Where components come from.

    Raises:
        CIRError: If the run is gone, or the model cannot be built.
    """
    if not record.run:
        config = {name: dict(table) for name, table in record.config.items()}
        config.setdefault("run", {}).update({"device": device} if device else {})
        return of_plan(make_plan(registry, config), registry, progress=False)
    run = Path(record.run)
    if not run.is_dir():
        raise CIRError(
            f"index {where} was made with run {run}, which is not there any more\n"
            "accepted: the run, moved back; --run DIR, or retriever= in Python"
        )
    return load(run, device=device, progress=False, registry=registry)


def check_model(record: IndexRecord, where: Path, retriever: Retriever) -> None:
    """Check that a retriever has the weights and options that an index was made with.

    Raises:
        CIRError: If its fingerprint is another: its queries would be compared with vectors of
            another space.
    """
    found = model_fingerprint(retriever)
    if found != record.fingerprint:
        raise CIRError(
            f"index {where} was made with another model: {record.method} on {record.backbone}, "
            f"fingerprint {record.fingerprint[:12]}, not {found[:12]}\n"
            "accepted: the weights and options it was made with, or a new index"
        )
