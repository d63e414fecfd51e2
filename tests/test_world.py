from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes import make_trainer
from tests.processes import RUNS, run_case, start, train_all


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    """The runs of two processes, by rank."""
    # The pictures are written before two processes would write them at once.
    make_trainer(folder / "first", folder / "data")
    start(train_all, 2, folder)
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("case", list(RUNS))
def test_two_processes_train_as_one(case: str, folder: Path, two: list[dict[str, Any]]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = run_case(case, folder / f"{case}-one", folder / "data")
    torch.set_num_threads(threads)
    for found in (run[case] for run in two):
        for line, other in zip(one["lines"], found["lines"], strict=True):
            assert other["terms"] == pytest.approx(line["terms"], abs=1e-5)
            assert other["validation"] == pytest.approx(line["validation"])
            assert other.get("mining", {}).keys() == line.get("mining", {}).keys()
        assert found["best"] == one["best"]
        for name, value in one["weights"].items():
            assert torch.allclose(found["weights"][name], value, atol=1e-5, rtol=0), name
        assert (found["mined"] is None) == (one["mined"] is None)
        if one["mined"] is not None:
            assert torch.equal(found["mined"], one["mined"])
    same = [torch.equal(two[0][case]["weights"][k], v) for k, v in two[1][case]["weights"].items()]
    assert all(same)
