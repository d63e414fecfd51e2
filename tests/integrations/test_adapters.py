from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.places import ROOT

WITHOUT = """
import sys
class Fence:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {library!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Fence())
try:
    import cir_plugins.integrations.{module}
except ModuleNotFoundError as error:
    print(error)
"""


def test_the_plugin_loads_without_any_adapter() -> None:
    code = (
        "import sys, dqe_plugin.hooks, cir_plugins.mining\n"
        "found = [name for name in sys.modules if name.startswith('cir_plugins.integrations')]\n"
        "sys.exit(', '.join(found) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("metric_learning", "pytorch_metric_learning", "[metric-learning]"),
        ("sentence_transformers", "sentence_transformers", "[sentence-transformers]"),
        ("sentence_transformers", "datasets", "[sentence-transformers]"),
        ("open_clip", "open_clip", ""),
    ],
)
def test_a_missing_library_names_its_extra(module: str, library: str, extra: str) -> None:
    """A bare ModuleNotFoundError leaves the reader to guess what to install."""
    if library == "sentence_transformers" and find_spec("datasets") is None:
        pytest.skip("datasets, which is asked for first, is not installed either")
    code = WITHOUT.format(library=library, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        f"{library} is not installed; install it with: pip install './DIR{extra}', "
        "where DIR is the folder of cir-plugins"
    )
