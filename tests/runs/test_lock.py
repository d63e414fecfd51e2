from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cir_plugins.errors import CIRError
from cir_plugins.runs.lock import LOCK, run_lock

HOLD = """
import sys, time
from pathlib import Path
from cir_plugins.runs.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_process_cannot_use_the_folder(tmp_path: Path) -> None:
    """Two trainings in one folder both ended well: the config of one, the weights of the other."""
    folder = tmp_path / "deep" / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(CIRError, match=r"run is in use: .*; accepted: wait"), run_lock(folder):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with run_lock(folder):  # a lock of a killed process is free
        assert (folder / LOCK).exists()
    with run_lock(folder):  # and so is one that was released
        pass


def test_empty_folders_are_removed_again(tmp_path: Path) -> None:
    with run_lock(tmp_path / "deep" / "run"):
        pass
    assert not (tmp_path / "deep").exists()
    with run_lock(tmp_path / "deep" / "run"):
        (tmp_path / "deep" / "run" / "file").touch()
    assert sorted(file.name for file in (tmp_path / "deep" / "run").iterdir()) == [LOCK, "file"]


def test_file_in_place_of_folder_is_error(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(CIRError, match="run"), run_lock(tmp_path / "run"):
        pass
