"""Warm starts that several runs share: the same epochs are trained once.

Runs that differ only in their sampler and their mining are the same until the warm start ends. The
checkpoint of that moment is kept in a folder, under a name that is a hash of all that those epochs
depend on, and a later run goes on from it: to the same bits as if it had trained them itself.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from cir_plugins.config.plan import Plan
from cir_plugins.config.toml import computed, write_config
from cir_plugins.data.fingerprint import DataFingerprint


def shared_start(folder: Path, plan: Plan, data: DataFingerprint) -> Path | None:
    """Where a run's warm start is kept for others; None for a run that cannot share one.

    A run whose epochs of the warm start may give the final checkpoint (``train.select`` is
    ``best``) shares none.

    Args:
        folder: Folder of the warm starts.
        plan: The run.
        data: Its data.
    """
    warm = plan.train.warm_start_epochs
    if not 0 < warm < plan.train.epochs or plan.train.select != "last":
        return None
    config = {name: dict(table) for name, table in computed(plan.config()).items()}
    del config["sampler"]
    config["mining"] = {"from_images": plan.mining.from_images}
    versions = [version(name) for name in ("cir-plugins", "torch")]
    content = [write_config(config), data.as_json(), versions]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:32]}.safetensors"
