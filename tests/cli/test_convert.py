from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines_plugin.methods.clip4cir import CLIP4Cir
from cir_plugins import Registry
from cir_plugins.builtin.clip import TinyClip
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import read_config
from cir_plugins.runs.load import open_run
from cir_plugins.runs.untrusted import load_untrusted
from cir_plugins.training.checkpoint import load_state
from tests.baselines import offered
from tests.command import Call
from tests.fakes import components
from tests.runs.test_untrusted import RunsCode
from tests.runs.test_warm_start import loss_of_going_on

SIZES = ("--set", "method.projection=16", "--set", "method.hidden=24")
TINY = ("--set", "backbone=tiny_clip", "--set", "backbone.start=random", *SIZES)


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods under test, installed or not."""
    registry = offered.registry()
    monkeypatch.setattr(Registry, "load", classmethod(lambda cls: registry))


@pytest.fixture
def source() -> CLIP4Cir:
    torch.manual_seed(5)
    return CLIP4Cir(components(TinyClip(start="random")), projection=16, hidden=24)


@pytest.fixture
def files(source: CLIP4Cir, tmp_path: Path) -> list[Path]:
    """Official files of a small CLIP4Cir, one with the arguments of its training."""
    combiner = source.composer.combiner
    assert combiner is not None
    clip = {"epoch": 1, "CLIP": source.backbone.model.state_dict()}
    torch.save({**clip, "args": argparse.Namespace(lr=1)}, tmp_path / "tuned_clip_best.pt")
    torch.save({"epoch": 2, "Combiner": combiner.state_dict()}, tmp_path / "combiner.pt")
    return [tmp_path / "tuned_clip_best.pt", tmp_path / "combiner.pt"]


def test_a_converted_run_gives_the_official_numbers(
    cir: Call, files: list[Path], source: CLIP4Cir, garments_root: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "converted"
    output = cir("convert", "clip4cir", *files, "--out", run, *TINY)
    assert (output.code, output.err) == (0, "")
    assert f"run: {run}" in output.out
    assert sorted(file.name for file in run.iterdir()) == [
        *("best.safetensors", "config.toml", "run.json")
    ]
    assert [file.name for file in run.parent.iterdir()] == ["converted"]
    record = json.loads((run / "run.json").read_text())
    assert record["method"] == "clip4cir"
    assert record["converted"] == ["tuned_clip_best.pt", "combiner.pt"]
    _, method, _ = open_run(run, Registry.load(), progress=False)
    source.composer.start_epoch(source.composer.sum_epochs)
    pixels, tokens = torch.randn(2, 3, 64, 64), source.backbone.tokenize(["is red", "longer"])
    source.eval()
    query = source.encode_query(source.backbone.features(pixels), tokens)
    assert torch.equal(method.encode_query(method.backbone.features(pixels), tokens), query)
    report = tmp_path / "report.json"
    arguments = ("--data", "fashioniq", "--root", garments_root, "--json", report)
    assert cir("eval", run, *arguments, "--set", 'data.categories=["dress"]').code == 0
    assert "recall@10" in json.loads(report.read_text())["average"]


def test_training_goes_on_from_a_converted_run(
    cir: Call, files: list[Path], garments_root: Path, tmp_path: Path
) -> None:
    """All rows are one step, so that the loss of epoch 0 is the converted model's."""
    converted, run = tmp_path / "converted", tmp_path / "run"
    assert cir("convert", "clip4cir", *files, "--out", converted, *TINY).code == 0
    sets = ("train.epochs=1", "train.batch_size=5000", "train.drop_last=false", "run.workers=0")
    arguments = ["--data", "fashioniq", "--root", garments_root, "--device", "cpu", "--out", run]
    for assignment in (*sets, "method.stage=combiner"):
        arguments += ["--set", assignment]
    assert cir("train", "clip4cir", "--from", converted, *arguments).code == 0
    config = read_config(run / "config.toml")
    assert config["run"]["warm_start"] == str(converted)
    assert (config["method"]["projection"], config["backbone"]["name"]) == (16, "tiny_clip")
    registry = Registry.load()
    plan = make_plan(registry, config)
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    stage: dict[str, Any] = {"method": {"stage": "combiner"}}
    expected = loss_of_going_on(registry, converted, plan, tmp_path / "same", stage)
    assert json.loads(line)["loss"] == expected
    fresh = run.with_name("fresh")
    arguments[arguments.index(run)] = fresh
    assert cir("train", "clip4cir", *arguments, *TINY).code == 0
    assert json.loads((fresh / "metrics.jsonl").read_text())["loss"] != expected
    before = (run / "checkpoint.safetensors").read_bytes()
    arguments[arguments.index(fresh)] = run
    assert cir("train", "clip4cir", "--from", converted, "--resume", *arguments).code == 0
    assert (run / "checkpoint.safetensors").read_bytes() == before
    other = cir(
        "train", "contrastive", "--from", converted, *arguments[:6], "--out", tmp_path / "x"
    )
    assert other.complains("it has method 'clip4cir', not 'contrastive'"), other.err
    assert not (tmp_path / "x").exists()


def test_recipe_official_and_own_settings_are_layered(tmp_path: Path) -> None:
    from cir_plugins.cli.convert import plan_converted

    named: dict[str, Any] = {
        "method": {"name": "bi_blip4cir"},
        "data": {"name": "cirr", "root": "."},
    }
    factory = Registry.load().factory("method", "bi_blip4cir")
    plan = plan_converted(named, factory.official_settings, {"backbone": {"text_length": 40}})  # type: ignore[attr-defined]
    backbone = plan.backbone.options
    assert (backbone["model"], backbone["weights"]) == ("blip_base", "random")
    assert (backbone["patches"], backbone["text_length"]) == (False, 40)
    assert plan.method.options["sum_weight"] == 0.1
    other = plan_converted(named, factory.official_settings, {"backbone": {"name": "tiny_blip"}})  # type: ignore[attr-defined]
    assert set(other.backbone.options) == {"vision", "start", "text_length", "dropout"}


def failed(cir: Call, tmp_path: Path, *arguments: Any) -> Any:
    """The output of a conversion, which must leave nothing behind."""
    before = sorted(tmp_path.iterdir())
    output = cir("convert", *arguments, "--out", tmp_path / "run", *TINY)
    assert sorted(tmp_path.iterdir()) == before
    return output


def test_missing_cut_and_other_files_are_errors(
    cir: Call, files: list[Path], tmp_path: Path
) -> None:
    gone = tmp_path / "gone.pt"
    assert failed(cir, tmp_path, "clip4cir", gone).complains("gone.pt does not exist")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(files[0].read_bytes()[:-5000])
    assert failed(cir, tmp_path, "clip4cir", cut).complains("cut.pt is damaged or no checkpoint")
    cut.write_text("a page with: file not found")
    assert failed(cir, tmp_path, "clip4cir", cut).complains("cut.pt is damaged or no checkpoint")


def test_a_checkpoint_of_another_method_is_an_error(
    cir: Call, files: list[Path], tmp_path: Path
) -> None:
    output = failed(cir, tmp_path, "clip4cir", files[1])
    assert output.complains("method 'clip4cir': no entry 'CLIP'", "they hold: epoch, Combiner")
    other = tmp_path / "other.pt"
    torch.save({"CLIP": {"text_model.x": torch.ones(1)}}, other)
    output = failed(cir, tmp_path, "clip4cir", other, files[1])
    assert output.complains("entry 'CLIP' does not fit; unexpected: text_model.x")
    state = dict(load_untrusted(files[0])["CLIP"])
    del state["ln_final.weight"]
    state["logit_scale"] = torch.ones(2)
    torch.save({"CLIP": state}, other)
    output = failed(cir, tmp_path, "clip4cir", other, files[1])
    assert output.complains(
        "missing: backbone.model.ln_final.weight",
        "shapes: backbone.model.logit_scale (2,) instead of ()",
    )


def test_a_pickle_with_code_runs_nothing(cir: Call, files: list[Path], tmp_path: Path) -> None:
    made, hostile = tmp_path / "made", tmp_path / "hostile.pt"
    torch.save({"CLIP": load_untrusted(files[0])["CLIP"], "x": RunsCode(made)}, hostile)
    output = failed(cir, tmp_path, "clip4cir", hostile, files[1])
    assert output.complains("hostile.pt was not loaded: it uses posix.system")
    assert not made.exists()


def test_unusable_methods_and_folders_are_errors(
    cir: Call, files: list[Path], tmp_path: Path
) -> None:
    assert failed(cir, tmp_path, "contrastive", *files).complains(
        "method 'contrastive' has no official checkpoints"
    )
    assert failed(cir, tmp_path, "clip4ci", *files).complains("nearest: clip4cir")
    assert cir("convert", "clip4cir", *files).complains("--out RUN is missing")
    used = cir("convert", "clip4cir", *files, "--out", tmp_path, *TINY)
    assert used.complains("is not empty; accepted: a new folder")
    none = failed(cir, tmp_path, "clip4cir", *files, "--set", "train.epochs=0")
    assert none.complains("train.epochs=0 makes a run without weights")


def test_a_disk_that_fails_leaves_no_half_run(
    cir: Call, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert failed(cir, tmp_path, "clip4cir", *files).complains("no space left on the disk")


def test_files_of_other_kinds_bring_options(tmp_path: Path) -> None:
    from cir_plugins.cli.convert import read_files

    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "m.pt")
    (tmp_path / "words.pkl").write_text("red blue")
    readers = {".pkl": lambda file: {"backbone.vocabulary": tuple(file.read_text().split())}}
    loaded, options = read_files([tmp_path / "words.pkl", tmp_path / "m.pt"], readers)
    assert options == {"backbone.vocabulary": ("red", "blue")}
    assert [list(content) for content in loaded] == [["model"]]


def test_files_of_wrapped_models_are_converted(
    cir: Call, files: list[Path], tmp_path: Path
) -> None:
    """Data parallelism, compilation and Lightning put prefixes before every name."""
    assert cir("convert", "clip4cir", *files, "--out", tmp_path / "plain", *TINY).code == 0
    clip = torch.load(files[0], weights_only=False)["CLIP"]
    combiner = torch.load(files[1], weights_only=False)["Combiner"]
    wrapped = [tmp_path / "a.pt", tmp_path / "b.pt"]
    torch.save({"CLIP": {f"module.{k}": v for k, v in clip.items()}}, wrapped[0])
    lightning = {f"Combiner._orig_mod.{k}": v for k, v in combiner.items()}
    torch.save({"state_dict": lightning, "epoch": 3, "folder": tmp_path}, wrapped[1])
    output = cir("convert", "clip4cir", *wrapped, "--out", tmp_path / "wrapped", *TINY)
    assert output.code == 0, output.err
    plain, other = (
        load_state(tmp_path / name / "best.safetensors")["method"] for name in ("plain", "wrapped")
    )
    assert plain.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in plain.items())


def test_doubles_and_nan_are_errors(cir: Call, files: list[Path], tmp_path: Path) -> None:
    again = tmp_path / "older.pt"
    again.write_bytes(files[0].read_bytes())
    output = failed(cir, tmp_path, "clip4cir", *files, again)
    assert output.complains("entry 'CLIP' is in", "tuned_clip_best.pt and in", "older.pt")
    combiner = torch.load(files[1], weights_only=False)
    next(iter(combiner["Combiner"].values())).flatten()[0] = torch.nan
    torch.save(combiner, files[1])
    assert failed(cir, tmp_path, "clip4cir", *files).complains(
        "the checkpoint holds NaN or infinite numbers: composer."
    )


def test_a_checkpoint_without_weights_is_refused_first(cir: Call, tmp_path: Path) -> None:
    """It was the hub that was complained of: a model was fetched before the file was looked at."""
    file, circle = tmp_path / "notes.pt", []  # type: ignore[var-annotated]
    circle.append(circle)
    torch.save({"epoch": 3, "args": {"lr": [1, 2.5], "circle": circle}}, file)
    answer = cir("convert", "clip4cir", file, "--out", tmp_path / "run")
    assert answer.complains("notes.pt holds no weights; accepted: an official file of the method")
    assert not (tmp_path / "run").exists()
