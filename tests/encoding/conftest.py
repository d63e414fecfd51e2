from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cir_plugins.encoding.loading as loading_module
from cir_plugins.data.images import open_image


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Images decoded so far."""
    seen: list[Path] = []

    def counted(path: Path) -> Any:
        seen.append(path)
        return open_image(path)

    monkeypatch.setattr(loading_module, "open_image", counted)
    return seen
