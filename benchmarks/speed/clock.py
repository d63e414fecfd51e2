"""Seconds and memory of contenders: alternating runs in one process, memory in a process each."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Wall time of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def alternated(
    contenders: Mapping[str, Callable[[], Any]], runs: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each contender, all run in turn so that they share the machine's moods."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, work in contenders.items():
            times[name].append(seconds(work, device))
    return {name: median(values) for name, values in times.items()}


def exponent(cells: Sequence[float], times: Sequence[float]) -> float:
    """The exponent e of the line seconds = c cells^e, by least squares of the logarithms."""
    return float(np.polyfit(np.log(cells), np.log(times), 1)[0])


def peak_mib() -> float:
    """Highest resident memory of the process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the process had been before it became this program.
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def extra_mib(work: Callable[[], Any], device: torch.device) -> float:
    """Peak memory of one call, in MiB, beyond what is held before it; on a GPU that of the GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    # Linux lowers the peak to what is held now; elsewhere what making the inputs took hides as
    # much of the work's own.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = peak_mib()
    work()
    return peak_mib() - before


def in_own_process(script: str, arguments: Sequence[str]) -> Any:
    """What a script prints as JSON in a process of its own."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)
