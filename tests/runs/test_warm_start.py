from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import Config, read_config
from cir_plugins.data.table import training_table
from cir_plugins.errors import CIRError
from cir_plugins.plugins.hookspecs import hookimpl
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.build import build, make_encoding, read_splits
from cir_plugins.runs.evaluation import Outcome
from cir_plugins.runs.execute import execute
from cir_plugins.runs.load import open_run
from cir_plugins.runs.warm_start import load_warm_start, warm_start_layer
from cir_plugins.runs.weights import FROZEN
from cir_plugins.training.checkpoint import load_state
from cir_plugins.training.trainer import BEST, LATEST, Trainer
from dqe_plugin import hooks
from tests.fakes import FakeBackbone

# All rows in one step: the loss of the epoch is that of the weights it began with.
TRAIN = {"epochs": 1, "batch_size": 10_000, "lr": 0.01, "validate_every": 0}


@hookimpl
def cir_backbones() -> dict[str, Any]:
    return {"fake": FakeBackbone, "fake2": FakeBackbone}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load({"dqe": hooks, "fakes": SimpleNamespace(cir_backbones=cir_backbones)})


def config_of(root: Path, **config: Any) -> Config:
    whole: Config = {
        "method": {"name": "contrastive"},
        "backbone": {"name": "fake"},
        "data": {"name": "fashioniq", "root": str(root), "gallery": "merged"},
        "train": TRAIN,
        "run": {"device": "cpu", "workers": 0},
    }
    return {**whole, **{name: {**whole.get(name, {}), **table} for name, table in config.items()}}


def plan_of(registry: Registry, root: Path, **config: Any) -> Plan:
    layer = config_of(root, **config)
    return make_plan(registry, *warm_start_layer([layer]), layer)


@pytest.fixture(scope="module")
def first(
    registry: Registry, garments_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of three epochs."""
    folder = tmp_path_factory.mktemp("first") / "run"
    plan = plan_of(registry, garments_root, train={"epochs": 3, "select": "last"})
    execute(plan, folder, progress=False)
    return folder


def first_loss(outcome: Outcome) -> float:
    return float(outcome.curve[0]["loss"])


def loss_of_going_on(
    registry: Registry, run: Path, plan: Plan, folder: Path, overrides: Config | None = None
) -> float:
    """The first loss of a trainer that gets the run's method as it is opened for evaluation."""
    _, method, encoding = open_run(run, registry, overrides=overrides, progress=False)
    table = training_table(read_splits(plan, ("train",)))
    folder.mkdir()
    trainer = Trainer(
        method,
        table,
        plan.training,
        folder,
        encoding,
        seed=plan.run.seed,
        validate=None,
    )
    return float(trainer.fit().lines[0]["loss"])


def test_training_starts_from_the_chosen_weights(
    registry: Registry, first: Path, garments_root: Path, tmp_path: Path
) -> None:
    plan = plan_of(registry, garments_root, run={"warm_start": str(first)})
    assert plan.config()["run"]["warm_start"] == str(first)
    outcome = execute(plan, tmp_path / "run", progress=False)
    assert first_loss(outcome) == loss_of_going_on(registry, first, plan, tmp_path / "same")
    fresh = replace(plan, run=plan.run.model_copy(update={"warm_start": None}))
    assert first_loss(outcome) < first_loss(execute(fresh, tmp_path / "new", progress=False)) - 0.1
    assert not (tmp_path / "run" / FROZEN).exists()
    assert read_config(tmp_path / "run" / "config.toml")["run"]["warm_start"] == str(first)
    assert "warm_start" not in read_config(tmp_path / "new" / "config.toml")["run"]


def test_a_resumed_run_needs_its_source_no_more(
    registry: Registry, first: Path, garments_root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(first, other)
    plan = plan_of(registry, garments_root, run={"warm_start": str(other)})
    execute(plan, tmp_path / "run", progress=False)
    checkpoint = (tmp_path / "run" / LATEST).read_bytes()
    shutil.rmtree(other)
    execute(plan, tmp_path / "run", resume=True, progress=False)
    assert (tmp_path / "run" / LATEST).read_bytes() == checkpoint
    (tmp_path / "run" / LATEST).unlink()
    with pytest.raises(CIRError, match=r"other is no run folder: run\.json is missing"):
        execute(plan, tmp_path / "run", resume=True, progress=False)


def test_another_method_or_backbone_is_an_error(
    registry: Registry, first: Path, garments_root: Path, tmp_path: Path
) -> None:
    start = {"warm_start": str(first)}
    other = plan_of(
        registry, garments_root, method={"name": "dqe"}, backbone={"name": "fake2"}, run=start
    )
    wrong = r"run cannot be started from: it has method 'contrastive', not 'dqe' and backbone"
    with pytest.raises(CIRError, match=wrong + " 'fake', not 'fake2'"):
        execute(other, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_weights_of_other_shapes_leave_no_folder(
    registry: Registry, garments_root: Path, tmp_path: Path
) -> None:
    one = {"name": "dqe", "attributes": ["colour"]}
    execute(plan_of(registry, garments_root, method=one), tmp_path / "one", progress=False)
    two = {"name": "dqe", "attributes": ["colour", "shape"]}
    plan = plan_of(registry, garments_root, method=two, run={"warm_start": str(tmp_path / "one")})
    fault = r"run\.warm_start: run .*one does not fit the model: shapes: weighting\.\w+ "
    with pytest.raises(CIRError, match=fault):
        execute(plan, tmp_path / "run", progress=False)
    none = plan_of(
        registry,
        garments_root,
        method={"name": "dqe", "attributes": []},
        run={"warm_start": str(tmp_path / "one")},
    )
    with pytest.raises(CIRError, match=r"does not fit the model: unexpected: weighting\."):
        execute(none, tmp_path / "run", progress=False)
    (tmp_path / "one" / BEST).unlink()
    with pytest.raises(CIRError, match=r"cannot be started from: it has no best\.safetensors"):
        execute(plan, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_what_is_not_trained_has_no_start(registry: Registry, garments_root: Path) -> None:
    with pytest.raises(
        CIRError, match=r"run\.warm_start is where training starts, but train\.epochs"
    ):
        plan_of(registry, garments_root, train={"epochs": 0}, run={"warm_start": "x"})


def test_options_of_the_source_are_defaults(
    registry: Registry, garments_root: Path, tmp_path: Path
) -> None:
    text = '[method]\nname = "dqe"\nmargin = 0.3\ngate = 0.1\n[backbone]\nname = "fake"\n'
    (tmp_path / "config.toml").write_text(text)
    plan = plan_of(
        registry,
        garments_root,
        method={"name": "dqe", "gate": 0.2},
        run={"warm_start": str(tmp_path)},
    )
    assert (plan.method.options["margin"], plan.method.options["gate"]) == (0.3, 0.2)
    assert warm_start_layer([{"run": {"warm_start": str(tmp_path / "gone")}}]) == ()
    assert (
        warm_start_layer([{"run": {"warm_start": str(tmp_path)}}, {"run": {"warm_start": ""}}])
        == ()
    )


def test_frozen_weights_of_the_source_survive(
    registry: Registry, garments_root: Path, tmp_path: Path
) -> None:
    """Checkpoints hold trained weights alone, and the backbone would bring others of its own."""

    def plan(tower: str, **run: Any) -> Plan:
        backbone = {"name": "tiny_clip", "start": "random", "tower": tower}
        train = {"batch_size": 40}
        return plan_of(registry, garments_root, backbone=backbone, train=train, run=run)

    execute(plan("trained", seed=1), tmp_path / "one", progress=False)
    start = {"warm_start": str(tmp_path / "one")}
    outcome = execute(plan("frozen", seed=2, **start), tmp_path / "two", progress=False)
    assert "backbone.model.visual.conv1.weight" in load_state(tmp_path / "one" / BEST)["method"]
    assert "backbone.model.visual.conv1.weight" not in load_state(tmp_path / "two" / BEST)["method"]
    shutil.rmtree(tmp_path / "one")
    _, again, _ = open_run(tmp_path / "two", registry, progress=False)
    assert_same(again.state_dict(), outcome.method.state_dict())
    checkpoint = (tmp_path / "two" / LATEST).read_bytes()
    resumed = execute(plan("frozen", seed=2, **start), tmp_path / "two", resume=True)
    assert_same(resumed.method.state_dict(), outcome.method.state_dict())
    assert (tmp_path / "two" / LATEST).read_bytes() == checkpoint
    # And on: what was frozen is trained, from where it was.
    start = {"warm_start": str(tmp_path / "two")}
    third = plan("trained", seed=3, **start)
    encoding = make_encoding(third, progress=False)
    method = build(third, encoding)
    assert load_warm_start(method, third, tmp_path / "three", resume=False) == {}
    assert_same(method.state_dict(), outcome.method.state_dict())


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert not [name for name in one if not torch.equal(one[name], other[name])]
