"""Plugins that raise or end the program where they are loaded, listed, resolved and built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cir_plugins.errors import CIRError
from cir_plugins.plugins.guard import guarded, message_of, reason_of
from tests.plugin_folder import run_cir, write_plugins

ACCIDENTS = {
    "exits": "import sys; sys.exit(0)",
    "cancels": "import asyncio; raise asyncio.CancelledError('stop')",
    "generator": "raise GeneratorExit",
    "group": "raise BaseExceptionGroup('several', [SystemExit(0), ValueError('x')])",
    "mute": "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "long": "raise RuntimeError('x' * 10_000_000)",
    "ours": "from cir_plugins import CIRError; raise CIRError('y' * 10_000_000)",
    "plain": "raise TypeError('no such luck')",
}
NAMES = {
    "exits": "SystemExit: 0",
    "cancels": "CancelledError: stop",
    "generator": "GeneratorExit",
    "group": "BaseExceptionGroup: several",
    "mute": "Mute: (its message cannot be shown: ZeroDivisionError)",
    "long": "10,000,000 characters",
    "ours": "10,000,000 characters",
    "plain": "TypeError: no such luck",
}
GOOD = """
import cir_plugins

class Good:
    def __call__(self, scores, target, excluded):
        return ~excluded

@cir_plugins.hookimpl
def cir_samplers():
    return {"good": Good}
"""
LISTED = """
import cir_plugins

@cir_plugins.hookimpl
def cir_samplers():
    ACCIDENT
"""
RESOLVED = """
import cir_plugins

@cir_plugins.hookimpl
def cir_samplers():
    return {"NAME_sampler": "plugin_code_NAME:Sampler"}
"""
BUILT = """
import cir_plugins

class Sampler:
    def __init__(self, size: int = 3):
        ACCIDENT

@cir_plugins.hookimpl
def cir_samplers():
    return {"NAME_sampler": Sampler}
"""


@pytest.mark.parametrize("moment", ["loaded", "listed"])
def test_a_plugin_that_raises_is_left_out(tmp_path: Path, moment: str) -> None:
    """Most are no ``Exception``; one took every command down, with exit code 0 or 1."""
    sources = {
        name: code if moment == "loaded" else LISTED.replace("ACCIDENT", code)
        for name, code in ACCIDENTS.items()
    }
    site = write_plugins(tmp_path / "site", {**sources, "z_good": GOOD})
    done = run_cir("list", "samplers", plugins=site)
    assert done.returncode == 0, done.stderr
    components, failed = done.stdout.split("plugins that did not load, and why:")
    assert re.search(r"sampler +good +z_good", components)
    reasons = " ".join(failed.split())
    assert len(reasons) < 10_000
    for name, text in NAMES.items():
        assert re.search(rf" {name}: .{{0,1100}}{re.escape(text)}", f" {reasons}"), name


@pytest.mark.parametrize("moment", ["resolved", "built"])
def test_a_component_that_raises_is_named(tmp_path: Path, garments_root: Path, moment: str) -> None:
    """``sys.exit(0)`` ended ``cir train`` without a word, as if it had trained."""
    source = RESOLVED if moment == "resolved" else BUILT
    sources = {
        name: source.replace("ACCIDENT", code).replace("NAME", name)
        for name, code in ACCIDENTS.items()
    }
    site = write_plugins(tmp_path / "site", sources)
    for name, code in ACCIDENTS.items():
        (site / f"plugin_code_{name}.py").write_text(code)
    for name in ("exits", "group", "mute", "long"):
        done = run_cir(
            *("train", "contrastive", "--data", "fashioniq", "--root", str(garments_root)),
            *("--set", f"sampler={name}_sampler", "--set", "backbone=tiny_clip"),
            *("--set", "train.epochs=1", "--out", str(tmp_path / name)),
            *("--set", "mining.negatives=mined"),
            plugins=site,
        )
        assert done.returncode == 2, done.stderr
        assert f"sampler '{name}_sampler' of plugin '{name}' cannot be" in done.stderr
        assert NAMES[name] in done.stderr
        assert len(done.stderr) < 5_000
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ACCIDENTS)
def test_whatever_is_raised_becomes_one_error(name: str) -> None:
    with pytest.raises(CIRError) as caught, guarded("it cannot be built"):
        exec(ACCIDENTS[name], {})
    message = str(caught.value)
    assert message.startswith("it cannot be built: ")
    assert NAMES[name] in message
    assert len(message) < 2_000


def test_a_keyboard_interrupt_and_our_errors_pass() -> None:
    with pytest.raises(KeyboardInterrupt), guarded("it"):
        raise KeyboardInterrupt
    with pytest.raises(CIRError, match=r"\Aours\Z"), guarded("it"):
        raise CIRError("ours")
    assert message_of(ValueError("short")) == "short"
    assert reason_of(ValueError()) == "ValueError"


def test_a_slow_import_is_announced_by_name(tmp_path: Path) -> None:
    """Without a line nobody knows which of the plugins hangs."""
    site = write_plugins(tmp_path / "site", {"slow": f"import time\ntime.sleep(4)\n{GOOD}"})
    done = run_cir("list", "samplers", plugins=site)
    assert done.returncode == 0
    assert "still loading plugin 'slow' (plugin_slow) after 3 seconds" in done.stderr
    assert re.search(r"sampler +good +slow", done.stdout)


def test_a_component_ending_a_command_is_an_error(tmp_path: Path, garments_root: Path) -> None:
    """``sys.exit(0)`` in a step, after the component was built."""
    source = GOOD.replace("return ~excluded", "raise SystemExit(0)")
    site = write_plugins(tmp_path / "site", {"ends": source})
    done = run_cir(
        *("train", "contrastive", "--data", "fashioniq", "--root", str(garments_root)),
        *("--set", "sampler=good", "--set", "backbone=tiny_clip", "--set", "train.epochs=1"),
        *("--set", "mining.negatives=mined", "--set", "mining.start=0"),
        *("--out", str(tmp_path / "run")),
        plugins=site,
    )
    assert done.returncode == 2, done.stderr
    assert "SystemExit: 0" in done.stderr
    assert "plugin_ends.py" in done.stderr
