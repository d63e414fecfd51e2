"""Folders that tests read: the repository, and the shared data and parity cases beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
SHARED_DATA = SHARED / "data"
SHARED_PARITY = SHARED / "parity"

SharedData = Callable[[str], Path]
