"""Processes that are killed or do not respond while others wait for them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cir_plugins.data.batches import BatchSource
from cir_plugins.distributed.process_group import TIMEOUT, open_process_group
from cir_plugins.errors import CIRError
from tests.fakes import make_trainer
from tests.places import ROOT

CODE = """
import os, sys, time, torch
from cir_plugins.distributed.process_group import open_process_group
from cir_plugins.errors import CIRError
rank, end = int(sys.argv[1]), sys.argv[2]
try:
    with open_process_group(rank, 2, torch.device("cpu")) as processes:
        processes.all_gather_object(rank)
        if rank:
            if end == "killed":
                os.kill(os.getpid(), 9)
            time.sleep(20)
        processes.all_gather_object(rank)
except CIRError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.parametrize(("end", "minutes"), [("killed", "5"), ("silent", "0.05")])
def test_lost_process_is_one_message(end: str, minutes: str) -> None:
    """The others waited for twelve hours, or ended with the backend's traceback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, TIMEOUT: minutes}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(rank), end],
            cwd=ROOT,
            env={**os.environ, **place},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    )
    err = first.communicate(timeout=60)[1]
    second.kill()
    second.communicate()
    assert "error: process 0 of 2 lost another one, which was killed or did not" in err
    assert "the run goes on with --resume" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("minutes", ["0", "-1", "soon", "inf", "nan"])
def test_timeout_is_a_number_of_minutes(monkeypatch: pytest.MonkeyPatch, minutes: str) -> None:
    monkeypatch.setenv(TIMEOUT, minutes)
    message = f"{TIMEOUT} cannot be '{minutes}'; accepted: minutes, a number above 0"
    with pytest.raises(CIRError, match=message), open_process_group(0, 2, torch.device("cpu")):
        pass


def test_killed_loader_worker_is_error_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a traceback of the loader."""
    main = os.getpid()

    def killed(self: Any, plan: Any) -> Any:
        assert os.getpid() != main
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(BatchSource, "__getitem__", killed)
    trainer = make_trainer(tmp_path / "run", tmp_path / "data", workers=1)
    with pytest.raises(CIRError, match=r"a loader process was killed(.|\n)* --resume"):
        trainer.fit()
