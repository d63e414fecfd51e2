from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_plugin_loads_without_any_adapter() -> None:
    code = (
        "import sys, dqe_plugin.hooks\n"
        "found = [name for name in sys.modules if name.startswith('dqe_plugin.adapters')]\n"
        "sys.exit(', '.join(found) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
