from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cir_plugins import cli
from cir_plugins.config.toml import read_config
from tests.command import Call

TINY = ("--set", "backbone=tiny_clip", "--set", "backbone.start=random", "--set", "run.workers=0")
ONE_EPOCH = (*TINY, "--set", "train.epochs=1", "--set", "backbone.tower=frozen")


@pytest.fixture(scope="module")
def run(garments_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    out = tmp_path_factory.mktemp("runs") / "contrastive"
    data = ("--data", "fashioniq", "--root", str(garments_root))
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "contrastive", *data, "--out", str(out), "--device", "cpu", *ONE_EPOCH])
    assert not ended.value.code
    return out


def test_resume_needs_the_folder_alone(cir: Call, run: Path) -> None:
    """The options are in the folder; to type them again invites one that differs."""
    before = (run / "checkpoint.safetensors").read_bytes()
    output = cir("train", "--out", run, "--resume")
    assert output.code == 0, output.err
    assert f"run: {run}" in output.out
    assert (run / "checkpoint.safetensors").read_bytes() == before


def test_a_difference_is_named_with_both_values(cir: Call, run: Path) -> None:
    config = (run / "config.toml").read_text()
    output = cir("train", "--out", run, "--resume", "--set", "train.lr=0.5", "--seed", 3)
    lr = read_config(run / "config.toml")["train"]["lr"]
    assert output.complains(
        f"train.lr: {lr} in the run, now 0.5",
        "run.seed: 0 in the run, now 3",
        f"cir train --out {run} --resume",
    ), output.err
    output = cir("train", "--out", run, "--resume", "--set", "loss=margin")
    assert output.complains("loss.name: 'info_nce' in the run, now 'margin'"), output.err
    assert (run / "config.toml").read_text() == config


def test_resume_of_nothing_names_what_is_missing(cir: Call, tmp_path: Path) -> None:
    output = cir("train", "--out", tmp_path, "--resume")
    assert output.complains("is no run folder that could be resumed: run.json is missing")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--device", "cuda"], "device 'cuda' is not available here; accepted: auto, cpu"),
        (
            ["--device", "cpu", "--set", "train.precision=fp16"],
            "train.precision 'fp16' cannot be trained on the CPU",
        ),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_an_unfit_device_is_named_at_once(
    cir: Call,
    garments_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: list[str],
    message: str,
    dry: list[str],
) -> None:
    """A dry run on the login machine promised what the first minute of training refuted."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    data: tuple[Any, ...] = ("--data", "fashioniq", "--root", garments_root)
    output = cir("train", "contrastive", *data, "--out", tmp_path / "x", *TINY, *extra, *dry)
    assert output.complains(message), output
    assert not (tmp_path / "x").exists()


def test_eval_takes_data_and_device_from_the_run(cir: Call, run: Path) -> None:
    output = cir("eval", run)
    assert output.code == 0, output.err
    assert output.out.startswith("fashioniq, protocol original")
    assert "changed" not in output.out
    assert cir("eval", run, "--device", "tpu").complains("'tpu'", "accepted")
