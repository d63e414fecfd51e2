"""Worker processes that are killed, and those whose parent is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.encoding.export import ExportSettings, encode_images
from cir_plugins.encoding.features import training_features
from cir_plugins.encoding.loading import ImageFiles
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.retrieval.evaluate import evaluate
from cir_plugins.retrieval.vectors import gallery_vectors, query_vectors
from cir_plugins.workers import worker_errors
from tests.fakes import CPU, components, made_up_split, write_pictures

MAIN = os.getpid()
MESSAGE = r"^a loader process was killed, as the system does when memory or /dev/shm is full\n"
WORKERS = replace(CPU, workers=1)


def killed(self: Any, index: int) -> Any:
    """Kill the worker that reads an item, as the system does when memory is short."""
    assert os.getpid() != MAIN
    os.kill(os.getpid(), signal.SIGKILL)


def _evaluate(method: Method, paths: list[Path], folder: Path) -> object:
    return evaluate(method, made_up_split(folder, role="val"), WORKERS)


def _export(method: Method, paths: list[Path], folder: Path) -> object:
    images = {path.name: path for path in paths}
    return encode_images(method, images, folder / "out", WORKERS, ExportSettings())


def _features(method: Method, paths: list[Path], folder: Path) -> object:
    method.backbone.frozen_features = True
    with worker_errors():
        return training_features(method.backbone, paths, WORKERS, 10, "none")


READERS: dict[str, Callable[[Method, list[Path], Path], object]] = {
    "evaluation": _evaluate,
    "cir encode": _export,
    "gallery": lambda method, paths, _: gallery_vectors(method, paths, WORKERS),
    "queries": lambda method, paths, _: query_vectors(method, paths, ["red"] * 3, WORKERS),
    "frozen features": _features,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_killed_worker_is_one_message_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    """It was a message in training, and a traceback of the loader in all else."""
    paths = list(write_pictures(tmp_path / "pictures", ["a", "b", "c"]).values())
    monkeypatch.setattr(ImageFiles, "__getitem__", killed)
    with pytest.raises(CIRError, match=MESSAGE + r"(.|\n)*--resume(.|\n)*run\.workers"):
        READERS[reader](Method(components()), paths, tmp_path)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), worker_errors():
        raise RuntimeError("CUDA out of memory")


LOADER = """
import sys, time
from torch.utils.data import DataLoader
from cir_plugins.workers import follow_parent
class Slow:
    def __len__(self): return 100
    def __getitem__(self, index):
        print(__import__("os").getpid(), flush=True)
        return bytes(2**20)
for _ in DataLoader(Slow(), num_workers=2, worker_init_fn=follow_parent):
    time.sleep(60)
"""
POOL = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from cir_plugins.workers import follow_parent
if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), follow_parent) as pool:
        list(pool.map(print, [pool.submit(os.getpid).result()]))
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("script", [LOADER, POOL], ids=["loader", "pool"])
def test_workers_end_with_a_killed_parent(tmp_path: Path, script: str) -> None:
    """Workers of a killed process waited for it, holding its memory and its locks."""
    file = tmp_path / "script.py"
    file.write_text(script)
    command = [sys.executable, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert _is_running(worker)
        parent.kill()
    end = time.monotonic() + 30
    while _is_running(worker) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _is_running(worker)


def _is_running(pid: int) -> bool:
    """Whether a process is there and no zombie, whose parent may never look."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
