"""A registry with a backbone that computes in no time, and a folder for each example."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import configuration

from cir_plugins.plugins.hookspecs import hookimpl
from cir_plugins.plugins.registry import Registry
from cir_plugins.training.trainer import Trainer
from dqe_plugin import hooks as dqe_hooks
from garments_plugin import hooks as garments_hooks
from tests.fakes import FakeBackbone
from tests.fuzz.sandbox import run
from tests.layouts import (
    small_circo,
    small_cirr,
    small_fashion200k,
    small_fashioniq,
    small_genecis,
    small_icir,
    small_lasco,
    small_shoes,
)

INTERRUPTED = 130
Folders = Callable[[], Path]


@pytest.fixture(scope="package", autouse=True)
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The fake backbone for all commands, an empty working directory, one torch thread."""
    import torch

    @hookimpl
    def cir_backbones() -> Mapping[str, Callable[..., Any]]:
        return {"fake": FakeBackbone}

    plugins = {
        "fake": SimpleNamespace(cir_backbones=cir_backbones),
        "dqe": dqe_hooks,
        "garments": garments_hooks,
    }
    registry = Registry.load(plugins)
    configuration.set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "load", lambda plugins=None: registry)
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    """A function that gives a new folder; the one before is removed."""
    numbers = itertools.count()
    before = [tmp_path / "none"]

    def folder() -> Path:
        shutil.rmtree(before[0], ignore_errors=True)
        before[0] = tmp_path / f"example{next(numbers)}"
        before[0].mkdir()
        return before[0]

    yield folder
    shutil.rmtree(before[0], ignore_errors=True)


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Miniature folders by the name of their reader; read only."""
    root = tmp_path_factory.mktemp("data")
    return {
        "fashioniq": small_fashioniq(root / "fashioniq"),
        "cirr": small_cirr(root / "cirr"),
        "circo": small_circo(root / "circo"),
        "shoes": small_shoes(root / "shoes"),
        "fashion200k": small_fashion200k(root / "fashion200k"),
        "genecis": small_genecis(root / "genecis"),
        "lasco": small_lasco(root / "lasco"),
        "icir": small_icir(root / "icir"),
    }


def _train(data: Mapping[str, Path], out: Path) -> int:
    """Exit code of training with mined negatives for two epochs."""
    return run(
        *(
            "train",
            "dqe_published",
            "--data",
            "fashioniq",
            "--root",
            data["fashioniq"],
            "--out",
            out,
        ),
        *("--device", "cpu", "--set", "backbone=fake", "--set", "backbone.targets=3"),
        *("--set", "train.epochs=2", "--set", "train.batch_size=2", "--set", "mining.start=1"),
        *("--set", "run.workers=0", "--set", "train.warm_start=0"),
        writes=[out],
    ).code


@pytest.fixture(scope="package")
def trained(data: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; read only."""
    out = tmp_path_factory.mktemp("runs") / "dqe"
    assert _train(data, out) == 0
    return out


@pytest.fixture(scope="package")
def interrupted(data: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, stopped from the keyboard in its second epoch; read only."""
    out = tmp_path_factory.mktemp("runs") / "dqe"
    save = Trainer._validate_and_save

    def stop(trainer: Trainer, epoch: int, line: dict[str, Any]) -> None:
        if epoch:
            raise KeyboardInterrupt
        save(trainer, epoch, line)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_validate_and_save", stop)
        assert _train(data, out) == INTERRUPTED
    return out
