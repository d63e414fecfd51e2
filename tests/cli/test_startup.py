from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "torchvision", "numpy", "PIL", "transformers"),
    *("open_clip", "timm", "matplotlib", "safetensors"),
)
# Imports before any command runs; those of `cir train` itself are not counted.
AFTER = f"""
import sys
loaded = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit('loaded: ' + ', '.join(loaded) if loaded else 0)
"""
RUN = """
from cir_plugins.cli import main
try:
    main({arguments!r})
except SystemExit as done:
    if done.code:
        raise
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code + AFTER], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["list", "sampler"],
        ["--version"],
        ["train", "--help"],
        ["bench", "-h"],
    ],
)
def test_listing_commands_load_nothing_heavy(arguments: list[str]) -> None:
    """Torch takes seconds to import, for which a listing should not wait."""
    run(RUN.format(arguments=arguments))


@pytest.mark.parametrize(
    "module", ["cir_plugins", "cir_plugins.plugins.registry", "dqe_plugin.hooks"]
)
def test_imports_that_plugins_make_load_nothing_heavy(module: str) -> None:
    run(f"import {module}")


def test_the_detector_sees_a_heavy_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import numpy" + AFTER], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "loaded: numpy" in done.stderr


def test_every_public_name_resolves_and_others_do_not() -> None:
    import cir_plugins

    for name in cir_plugins.__all__:
        assert getattr(cir_plugins, name) is not None
    assert set(cir_plugins.__all__) <= set(dir(cir_plugins))
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = cir_plugins.Nothing
