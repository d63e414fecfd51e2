"""A JSON line for each run of a command, printed and written."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cir_plugins.bench import environment
from cir_plugins.files import write_atomically


def lines_of_runs(text: str | None, described: Callable[[Path], dict[str, Any]]) -> None:
    """The command of a script: ``RUN ... --json FILE``.

    Args:
        text: What the script's help says.
        described: The numbers of a run.
    """
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    facts = {"hardware": environment.hardware(), "commit": environment.commit()}
    lines = [json.dumps({**described(run), **facts}) for run in options.runs]
    print("\n".join(lines))
    if options.json:
        write_atomically(options.json, "".join(f"{line}\n" for line in lines).encode())
