"""Plugins installed for one process: a folder for ``sys.path`` with modules and entry points."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def write_plugins(folder: Path, sources: Mapping[str, str]) -> Path:
    """The folder with a module and an entry point ``name`` for each ``name -> source``."""
    info = folder / "outside_plugins-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-plugins\nVersion: 1.0\n")
    lines = ["[cir_plugins]"]
    for name, source in sources.items():
        (folder / f"plugin_{name}.py").write_text(source)
        lines.append(f"{name} = plugin_{name}")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def run_cir(
    *arguments: str, plugins: Path | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Result of ``cir`` with these arguments in a new process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    if plugins is not None:
        environment["PYTHONPATH"] = str(plugins)
    return subprocess.run(
        [sys.executable, "-c", "from cir_plugins.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        check=False,
    )
