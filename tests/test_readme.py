"""The README's Python runs as it stands, in a folder where the quickstart ran."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest

from cir_plugins.plugins.registry import Registry
from cir_plugins.testing import check_loss, check_plugin
from tests.command import Call
from tests.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cir: Call) -> None:
    """A folder where `cir bench quickstart` ran, at a small size."""
    text = files("cir_plugins.bench").joinpath("suites/quickstart.toml").read_text("utf-8")
    small = re.sub(r"(?m)^images = .*", "images = 120", text)
    small = re.sub(r"(?m)^epochs = .*", "epochs = 1", small)
    (tmp_path / "quickstart.toml").write_text(small, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    output = cir("bench", "quickstart.toml", "--methods", "contrastive,dqe", "--workers", "0")
    assert output.code == 0, output.err


def test_python_block_runs(
    quickstart: None, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first code that a user copies from a project must run."""
    assert "search" in BLOCKS[0]
    capsys.readouterr()
    exec(BLOCKS[0], {})
    printed = capsys.readouterr().out
    assert ".jpg" in printed
    assert "contrastive" in printed


def test_python_block_is_short() -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 12


def test_plugin_block_passes_its_checks() -> None:
    """The README's plugin was once not checked by what it recommends."""
    module = ModuleType("readme_plugin")
    exec(BLOCKS[1], module.__dict__)
    check_loss(module.Hinge())
    check_plugin(module)


def test_example_draws_the_picture(tmp_path: Path) -> None:
    out = tmp_path / "retrieval.png"
    script = ROOT / "examples" / "retrieval_picture.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert out.is_file()


def test_the_box_names_all_that_is_installed() -> None:
    """``dqe_published`` and five readers were not in it."""
    box = README.partition("## What is in the box")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", box)
    ours = ("builtin", "dqe", "baselines", "garments")
    offered = [offer.name for offer in Registry.load().offers() if offer.plugin in ours]
    assert sorted(named) == sorted(offered)


def test_readme_links_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
