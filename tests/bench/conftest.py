from __future__ import annotations

from pathlib import Path

import pytest

from cir_plugins.bench.suite import Suite, read_suite
from tests.bench.toy import SUITE


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory, garments_root: Path) -> Suite:
    file = tmp_path_factory.mktemp("suite") / "small.toml"
    file.write_text(SUITE)
    return read_suite(file).on_data(None, garments_root)
