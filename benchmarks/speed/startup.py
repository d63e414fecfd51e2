"""Start-up time of commands and imports in a fresh process.

Prints one JSON line per case: median seconds of processes started in turn, and the ratios to a bare
interpreter and to ``import torch``. A command that computes nothing should not wait for torch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from statistics import median
from typing import Any

OPPONENTS = {"python": ["-c", "pass"], "import torch": ["-c", "import torch"]}
CASES = {
    "cir --help": ["-m", "cir_plugins", "--help"],
    "cir list": ["-m", "cir_plugins", "list"],
    "import cir_plugins": ["-c", "import cir_plugins"],
    "import dqe_plugin.sampler": ["-c", "import dqe_plugin.sampler"],
}


def seconds(arguments: list[str]) -> float:
    """Wall time of a Python process with these arguments."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(runs: int) -> list[dict[str, Any]]:
    """Result lines, one per case."""
    times: dict[str, list[float]] = {name: [] for name in (*OPPONENTS, *CASES)}
    for turn in range(runs + 1):
        for name, arguments in (OPPONENTS | CASES).items():
            duration = seconds(arguments)
            if turn:  # the first fills the disk's cache
                times[name].append(duration)
    medians = {name: median(values) for name, values in times.items()}
    from cir_plugins.bench.environment import hardware, versions

    return [
        {
            "case": f"startup {name}",
            "seconds": round(medians[name], 4),
            **{f"ratio_to_{o}": round(medians[name] / medians[o], 3) for o in OPPONENTS},
            "opponents_s": {opponent: round(medians[opponent], 4) for opponent in OPPONENTS},
            "runs": runs,
            "hardware": hardware(),
            **versions(),
        }
        for name in CASES
    ]


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    for line in measure(parser.parse_args().runs):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
