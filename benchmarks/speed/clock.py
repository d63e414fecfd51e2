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
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternated(
    contenders: Mapping[str, Callable[[], Any]], runs: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each contender; they take turns, so that all see the same load."""
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
        # getrusage counts the memory of the process before this program was loaded, too.
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def extra_mib(work: Callable[[], Any], device: torch.device) -> float:
    """Peak memory of one call, in MiB, beyond the memory in use before it; GPU memory on a GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before_gpu = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before_gpu) / 2**20
    # Linux lowers the peak to the memory in use; elsewhere the peak of making the inputs hides as
    # much of the work's.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = peak_mib()
    work()
    return peak_mib() - before


def in_own_process(script: str, arguments: Sequence[str]) -> Any:
    """JSON output of a script in a separate process."""
    command = [sys.executable, script, *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)
