from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from cir_plugins.bench import environment


def test_hardware_and_versions() -> None:
    hardware = environment.hardware()
    assert hardware["threads"] == torch.get_num_threads()
    assert hardware["cores"] >= 1
    assert hardware["cpu"]
    assert environment.versions()["torch"] == torch.__version__


def git(folder: Path, *arguments: str) -> None:
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True)


def test_commit_is_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "environment.py"
    module.write_text("")
    monkeypatch.setattr(environment, "__file__", str(module))
    assert environment.commit() is None
    git(tmp_path, "init", "-q")
    assert environment.commit() is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    clean = environment.commit()
    assert clean is not None
    assert len(clean) == 12
    module.write_text("changed")
    assert environment.commit() == f"{clean}-dirty"


def test_commit_needs_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment.commit() is None
