"""Smallest inputs that property tests found, each with the right output."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fuzz.conftest import Folders
from tests.fuzz.sandbox import holds, run
from tests.fuzz.test_run_files import SUITE

DIGITS = "1" * 5000
DEEP = "[" * 100_000


@pytest.mark.parametrize("text", [f"[train]\nepochs = {DIGITS}\n", f"[train]\nepochs = {DEEP}\n"])
def test_config_files_that_python_cannot_hold(text: str, tmp_path: Path) -> None:
    """A number of 5,000 digits; 100,000 brackets."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    output = run("train", "--config", file, "--dry-run")
    assert output.complains(str(file))


@pytest.mark.parametrize("value", [DIGITS, DEEP])
def test_assignments_that_python_cannot_hold(value: str, data: Mapping[str, Path]) -> None:
    output = run(
        *("train", "dqe", "--data", "fashioniq", "--root", data["fashioniq"], "--dry-run"),
        *("--set", f"train.epochs={value}"),
    )
    assert output.complains("--set")


@pytest.mark.parametrize("text", [f"seeds = [{DIGITS}]\n{SUITE}", f"name = {DEEP}\n"])
def test_suite_files_that_python_cannot_hold(text: str, tmp_path: Path) -> None:
    file = tmp_path / "suite.toml"
    file.write_text(text)
    assert run("bench", file).complains(str(file))


@pytest.mark.parametrize(
    "text",
    [b"", b"[1", b"\xff", DIGITS.encode(), DEEP.encode()],
    ids=["empty", "cut", "bytes", "digits", "deep"],
)
def test_notes_on_drawn_data_that_are_damaged(text: bytes, folders: Folders) -> None:
    """``data.json`` of a suite: one message that names it, and the data are drawn anew or kept."""
    folder = folders()
    file, out = folder / "drawn.toml", folder / "out"
    file.write_text(f"{SUITE}\n[make.garments]\nimages = 20\nseed = 0\n")
    (out / "data").mkdir(parents=True)
    (out / "data.json").write_bytes(text)
    holds(run("bench", file, "--out", out, writes=[out]))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("1\n", id="number"),
        pytest.param('{"mining": 1}\n', id="mining"),
        pytest.param('{"mining": {"queries": "x"}}\n', id="queries"),
        pytest.param(f"{DIGITS}\n", id="digits"),
        pytest.param(f"{DEEP}\n", id="deep"),
        pytest.param("{\n", id="cut"),
    ],
)
def test_reports_of_odd_lines(text: str, trained: Path, folders: Folders) -> None:
    """``metrics.jsonl``: a message that names the file."""
    folder = folders()
    copy, out = folder / "run", folder / "out"
    shutil.copytree(trained, copy)
    (copy / "metrics.jsonl").write_text(text)
    output = run("report", copy, "--out", out, writes=[out])
    assert output.complains(str(copy / "metrics.jsonl"))
