from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.runs.weights import load_best
from cir_plugins.training.checkpoint import load_state, save_state
from cir_plugins.training.trainer import BEST, LATEST, METRICS
from tests.fakes import make_trainer
from tests.places import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")

CASES: dict[str, dict[str, Any]] = {
    "contrastive": {},
    "dqe": {"method": "dqe", "mining": {"every": 3, "start": 1}},
    "micro-batches": {"method": "dqe", "micro_batch": 4},
    "average": {"ema": 0.8, "schedule": {"name": "one_cycle", "warmup": 0.3}, "clip": 1.0},
    "workers": {"workers": 2, "augment": "photo"},
    "momentum": {
        "optimizer": "sgd",
        "schedule": {"name": "one_cycle", "warmup": 0.3},
        "select": "last",
    },
}


class Stop(Exception):  # noqa: N818
    """Ends a run between epochs."""


def tensors(value: Any, key: str = "") -> dict[str, Tensor]:
    """All tensors and numbers of a nested state but the times in the log."""
    if isinstance(value, Tensor):
        return {key: value}
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {
            path: tensor
            for name, item in items
            for path, tensor in tensors(item, f"{key}/{name}").items()
        }
    return {} if value is None or isinstance(value, str) else {key: torch.tensor(value)}


def assert_same_run(first: Path, second: Path) -> None:
    for name in (LATEST, BEST):
        one, other = tensors(load_state(first / name)), tensors(load_state(second / name))
        assert one.keys() == other.keys()
        different = [key for key in one if not torch.equal(one[key], other[key])]
        assert not different, (name, different)
    logs = [
        [
            {key: value for key, value in json.loads(line).items() if key != "seconds"}
            for line in (folder / METRICS).read_text().splitlines()
        ]
        for folder in (first, second)
    ]
    assert logs[0] == logs[1]
    leftovers = [file.name for file in second.iterdir() if file.name.startswith(".")]
    assert not leftovers


@pytest.mark.parametrize("case", list(CASES))
def test_two_and_two_epochs_equal_four_exactly(tmp_path: Path, case: str) -> None:
    """With dropout, validation in between, mined negatives, averages and workers."""
    whole = make_trainer(tmp_path / "whole", tmp_path / "data", **CASES[case])
    whole.fit()
    first = make_trainer(tmp_path / "halves", tmp_path / "data", **CASES[case])

    def stop(epoch: int, epochs: int) -> None:
        if epoch == 2:
            raise Stop

    first.method.on_epoch = stop  # type: ignore[method-assign]
    with pytest.raises(Stop):
        first.fit()
    assert len((tmp_path / "halves" / METRICS).read_text().splitlines()) == 2
    torch.manual_seed(1234)  # a new process starts with another state
    second = make_trainer(tmp_path / "halves", tmp_path / "data", **CASES[case])
    with torch.no_grad():
        second.method.backbone.words.zero_()
    second.fit(resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")
    if case == "dqe":
        assert whole.progress.mined is not None
        assert second.progress.mined is not None
        assert torch.equal(whole.progress.mined.images, second.progress.mined.images)


def test_number_of_workers_changes_no_bit(tmp_path: Path) -> None:
    for workers in (0, 2):
        settings = {**CASES["workers"], "workers": workers}
        make_trainer(tmp_path / str(workers), tmp_path / "data", **settings).fit()
    assert_same_run(tmp_path / "0", tmp_path / "2")


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads({threads})
from tests.fakes import make_trainer
from tests.places import ROOT

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

trainer = make_trainer(Path({folder!r}), Path({data!r}), **{settings!r})
{harm}
trainer.fit()
"""
# Each states where the process dies; four steps an epoch.
HARM = {
    "in the middle of an epoch": """
terms = trainer.method.loss_terms
count = iter(range(100))
trainer.method.loss_terms = lambda batch: die() if next(count) == 10 else terms(batch)
""",
    "in the middle of writing a checkpoint": """
sync = os.fsync
def torn(handle):
    name = os.readlink(f"/proc/self/fd/{handle}")
    if "checkpoint" in name and trainer.progress.epoch == 3:
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
        die()
    sync(handle)
os.fsync = torn
""",
    "between writing a checkpoint and its name": """
replace = os.replace
def torn(source, target):
    if "checkpoint" in str(target) and trainer.progress.epoch == 2:
        die()
    replace(source, target)
os.replace = torn
""",
    "between the checkpoint and the log": """
replace = os.replace
def torn(source, target):
    if "metrics" in str(target) and trainer.progress.epoch == 4:
        die()
    replace(source, target)
os.replace = torn
""",
}

SURVIVED = dict(zip(HARM, (2, 2, 1, 4), strict=True))  # epochs in the checkpoint that is left


@pytest.mark.parametrize("where", list(HARM))
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path: Path, where: str) -> None:
    """Kill -9: no handler runs, no buffer is flushed."""
    settings = CASES["dqe" if "epoch" in where else "average"]
    make_trainer(tmp_path / "whole", tmp_path / "data", **settings).fit()
    code = CHILD.format(
        threads=torch.get_num_threads(),
        folder=str(tmp_path / "killed"),
        data=str(tmp_path / "data"),
        settings=settings,
        harm=HARM[where],
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert load_state(tmp_path / "killed" / LATEST)["epoch"] == SURVIVED[where]
    make_trainer(tmp_path / "killed", tmp_path / "data", **settings).fit(resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    make_trainer(tmp_path / "run", tmp_path / "data").fit()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    again = make_trainer(tmp_path / "run", tmp_path / "data")
    progress = again.fit(resume=True)
    assert progress.epoch == 4
    assert progress.updates == 16
    assert_same_run(tmp_path / "copy", tmp_path / "run")


def test_resuming_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    progress = make_trainer(tmp_path / "run", tmp_path / "data").fit(resume=True)
    assert progress.epoch == 4


def test_a_resumed_best_value_beats_lower_ones(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", tmp_path / "data", epochs=2)
    trainer.fit()
    path = tmp_path / "run" / LATEST
    save_state(path, {**load_state(path), "best": 5.0})
    weights = (tmp_path / "run" / BEST).read_bytes()
    longer = make_trainer(tmp_path / "run", tmp_path / "data", epochs=4)
    assert longer.fit(resume=True).best == 5.0
    assert (tmp_path / "run" / BEST).read_bytes() == weights
    assert longer.progress.epoch == 4


def test_a_checkpoint_of_another_model_is_an_error(tmp_path: Path) -> None:
    make_trainer(tmp_path / "run", tmp_path / "data", epochs=1).fit()
    other = make_trainer(tmp_path / "run", tmp_path / "data", method="dqe", epochs=2)
    with pytest.raises(CIRError, match=r"checkpoint .* does not fit the model: missing: weighting"):
        other.fit(resume=True)


def test_without_validation_the_best_value_survives_a_resume(tmp_path: Path) -> None:
    """Minus infinity is no JSON number that every reader takes."""
    make_trainer(tmp_path / "run", tmp_path / "data", epochs=1, validated=False).fit()
    assert load_state(tmp_path / "run" / LATEST)["best"] is None
    second = make_trainer(tmp_path / "run", tmp_path / "data", epochs=2, validated=False)
    assert second.fit(resume=True).best == -math.inf
    assert os.path.exists(tmp_path / "run" / BEST)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("method", None, "lacks: method"),
        ("optimizer", None, "lacks: optimizer"),
        ("optimizer", {}, "the optimiser in checkpoint .* does not fit: KeyError"),
        ("optimizer", 3, "'optimizer' of the state in checkpoint .* cannot be 3"),
        ("epoch", "one", "'epoch' of the state in checkpoint .* cannot be 'one'; accepted: an int"),
        ("epoch", -1, "'epoch' of the state in checkpoint .* cannot be -1"),
        ("mined", {"images": 1, "since": 0}, "'mined.images' of the state in checkpoint"),
        ("average", {}, "the averaged weights in checkpoint .* do not fit"),
        ("lines", "[", "the log in checkpoint .* is not valid JSON"),
        ("lines", "[3]", "the log in checkpoint .* is damaged; accepted: a line for each epoch"),
        ("lines", "{}", "the log in checkpoint .* is damaged"),
        ("lines", "[]", "the log in checkpoint .* is damaged"),
        ("lines", '[{"seconds": "a"}]', "the log in checkpoint .* is damaged"),
    ],
)
def test_a_state_of_another_kind_is_refused(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    """Its checksums are whole: another program, or another version, wrote it."""
    run = tmp_path / "run"
    make_trainer(run, tmp_path / "data", epochs=1, ema=0.5).fit()
    state = dict(load_state(run / LATEST))
    state[key] = value
    if value is None:
        del state[key]
    save_state(run / LATEST, state)
    again = make_trainer(run, tmp_path / "data", epochs=2, ema=0.5)
    with pytest.raises(CIRError, match=message) as caught:
        again.fit(resume=True)
    assert LATEST in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "lacks exp_avg of a weight"),
        (lambda old: torch.zeros(3, 1, 1), r"does not fit: exp_avg \(3, 1, 1\) torch.float32 of a"),
        (lambda old: old.int(), "does not fit: exp_avg .* torch.int32 of a weight"),
        (lambda old: old / 0, "exp_avg of a weight is not finite"),
    ],
)
def test_a_damaged_entry_of_the_optimiser_is_refused(
    tmp_path: Path, change: Callable[[Tensor], Tensor] | None, message: str
) -> None:
    """A ``KeyError`` of torch in the first step; NaN, for which the learning rate was blamed."""
    run = tmp_path / "run"
    make_trainer(run, tmp_path / "data", epochs=1).fit()
    state = dict(load_state(run / LATEST))
    entry = state["optimizer"]["state"][0]
    old = entry.pop("exp_avg")
    if change is not None:
        entry["exp_avg"] = change(old)
    save_state(run / LATEST, state)
    again = make_trainer(run, tmp_path / "data", epochs=2)
    with pytest.raises(CIRError, match=f"the optimiser in checkpoint .*{LATEST}.* {message}"):
        again.fit(resume=True)


def test_chosen_weights_without_weights_are_refused(tmp_path: Path) -> None:
    """A ``KeyError``: 'method'."""
    trainer = make_trainer(tmp_path / "run", tmp_path / "data", epochs=1)
    for state in ({"epoch": 1}, {"method": 3}, {"method": {"a": "b"}}):
        save_state(tmp_path / "run" / BEST, state)
        with pytest.raises(CIRError, match=BEST):
            load_best(trainer.method, tmp_path / "run")
