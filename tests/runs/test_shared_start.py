from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.execute import execute
from cir_plugins.training.checkpoint import load_state
from cir_plugins.training.trainer import LATEST
from dqe_plugin import hooks
from tests.runs.test_warm_start import cir_backbones

TRAIN = {"epochs": 4, "warm_start": 0.5, "batch_size": 40, "lr": 0.01, "select": "last"}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load({"dqe": hooks, "fakes": SimpleNamespace(cir_backbones=cir_backbones)})


def plan_of(registry: Registry, root: Path, **config: Any) -> Plan:
    whole: dict[str, Any] = {
        "method": {"name": "contrastive"},
        "backbone": {"name": "fake"},
        "loss": {"name": "pairwise"},
        "sampler": {"name": "random"},
        "data": {"name": "fashioniq", "root": str(root), "gallery": "merged"},
        "train": TRAIN,
        "mining": {"negatives": "mined"},
        "run": {"device": "cpu", "workers": 0},
    }
    return make_plan(
        registry, {**whole, **{name: {**whole[name], **table} for name, table in config.items()}}
    )


def trained_epochs(folder: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan, starts: Path) -> int:
    """Epochs that a run trained itself."""
    from cir_plugins.training.trainer import Trainer

    count = 0
    train = Trainer._train_epoch

    def counted(self: Trainer, *arguments: Any) -> None:
        nonlocal count
        count += 1
        train(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_train_epoch", counted)
        execute(plan, folder, progress=False, shared_starts=starts)
    return count


def assert_same_state(one: Path, other: Path) -> None:
    states = [load_state(folder / LATEST) for folder in (one, other)]
    for part in ("method", "optimizer", "mined"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0)
    assert states[0]["updates"] == states[1]["updates"]


def test_runs_of_other_samplers_share_their_warm_start(
    registry: Registry, garments_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And end with the weights that they have alone, to the bit."""
    starts = tmp_path / "starts"
    hardest = plan_of(registry, garments_root, sampler={"name": "hardest"})
    random = plan_of(registry, garments_root)
    assert trained_epochs(tmp_path / "a", monkeypatch, random, starts) == 4
    assert trained_epochs(tmp_path / "b", monkeypatch, hardest, starts) == 2
    assert len(list(starts.iterdir())) == 1
    alone = execute(hardest, tmp_path / "c", progress=False)
    assert_same_state(tmp_path / "b", tmp_path / "c")
    assert [line["epoch"] for line in alone.curve] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [
        {"run": {"seed": 1}},
        {"train": {"lr": 0.02}},
        {"mining": {"from_images": "targets"}},
        {"loss": {"name": "info_nce"}},
        {"data": {"gallery": "original"}},
    ],
)
def test_runs_of_other_warm_starts_share_none(
    registry: Registry,
    garments_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:
    starts = tmp_path / "starts"
    trained_epochs(tmp_path / "a", monkeypatch, plan_of(registry, garments_root), starts)
    other = plan_of(registry, garments_root, **change)
    assert trained_epochs(tmp_path / "b", monkeypatch, other, starts) == 4


def test_a_run_that_chooses_its_best_epoch_shares_none(
    registry: Registry, garments_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(registry, garments_root, train={**TRAIN, "select": "best"})
    assert trained_epochs(tmp_path / "a", monkeypatch, plan, tmp_path / "starts") == 4
    assert not (tmp_path / "starts").exists()


def test_a_damaged_start_is_trained_again(
    registry: Registry,
    garments_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    starts, plan = tmp_path / "starts", plan_of(registry, garments_root)
    trained_epochs(tmp_path / "a", monkeypatch, plan, starts)
    (file,) = starts.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-8] + bytes(8))
    assert trained_epochs(tmp_path / "b", monkeypatch, plan, starts) == 4
    assert f"trained again: checkpoint {file} is damaged" in capsys.readouterr().err
    assert_same_state(tmp_path / "a", tmp_path / "b")
    assert trained_epochs(tmp_path / "c", monkeypatch, plan, starts) == 2


def test_seconds_count_the_shared_epochs(
    registry: Registry, garments_root: Path, tmp_path: Path
) -> None:
    plan, starts = plan_of(registry, garments_root), tmp_path / "starts"
    execute(plan, tmp_path / "a", progress=False, shared_starts=starts)
    outcome = execute(plan, tmp_path / "b", progress=False, shared_starts=starts)
    assert outcome.seconds > sum(line["seconds"] for line in outcome.curve)
