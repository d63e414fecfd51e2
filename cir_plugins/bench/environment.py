"""Hardware, versions and commit of the machine and the code that run a suite."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def hardware() -> dict[str, Any]:
    """Processor, usable cores, torch's threads, and the GPU if there is one."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _cpu(), "cores": cores, "threads": torch.get_num_threads(), "gpu": gpu}


def versions() -> dict[str, str]:
    """Versions of Python, torch and this package."""
    import torch

    try:
        version = importlib.metadata.version("cir-plugins")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"  # run from a checkout that is not installed
    return {"python": platform.python_version(), "torch": torch.__version__, "cir_plugins": version}


def commit() -> str | None:
    """The commit of the checkout that this code lies in, with ``-dirty`` if changed, or None."""
    here = Path(__file__)
    # An installed copy may lie in the checkout of another project, whose commit is not ours.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
