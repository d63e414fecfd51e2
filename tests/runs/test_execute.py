from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import Config, read_config
from cir_plugins.errors import CIRError
from cir_plugins.loading import load
from cir_plugins.plugins.hookspecs import hookimpl
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs import execute as run_module
from cir_plugins.runs.build import build, make_encoding, read_splits
from cir_plugins.runs.execute import execute
from cir_plugins.runs.load import evaluate_run, open_run
from cir_plugins.runs.lock import LOCK
from cir_plugins.runs.protocol import protocol_of
from cir_plugins.training.checkpoint import FORMAT, load_state
from cir_plugins.training.trainer import BEST, LATEST
from dqe_plugin import hooks
from tests.fakes import FakeBackbone

FILES = {
    "best.safetensors",
    "checkpoint.safetensors",
    "config.toml",
    "data.json",
    "metrics.jsonl",
    "results.json",
    "run.json",
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    fakes = SimpleNamespace(cir_backbones=hookimpl(cir_backbones))
    loaded = Registry.load({"dqe": hooks, "fakes": fakes})
    assert not loaded.failures
    return loaded


def cir_backbones() -> dict[str, Any]:
    return {"fake": FakeBackbone}


def plan_of(registry: Registry, root: Path, name: str = "contrastive", **config: Any) -> Plan:
    whole: Config = {
        "method": {"name": name},
        "backbone": {"name": "fake"},
        "data": {"name": "fashioniq", "root": str(root), "gallery": "merged"},
        "train": {"lr": 0.01, "epochs": 2},
        "run": {"device": "cpu", "workers": 0},
    }
    if name not in ("contrastive", "dqe"):
        del whole["train"]
    for key, table in config.items():
        whole[key] = {**whole.get(key, {}), **table}
    return make_plan(registry, whole)


@pytest.fixture(scope="module")
def finished(
    registry: Registry, garments_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A finished run of DQE and its outcome."""
    folder = tmp_path_factory.mktemp("runs") / "deep" / "dqe"
    return folder, execute(plan_of(registry, garments_root, "dqe"), folder, progress=False)


def test_a_run_leaves_its_files_and_results(finished: tuple[Path, Any]) -> None:
    folder, outcome = finished
    assert {file.name for file in folder.iterdir()} == FILES | {LOCK}
    record = json.loads((folder / "run.json").read_text())
    assert (record["format"], record["method"]) == (FORMAT, "dqe")
    results = json.loads((folder / "results.json").read_text())
    assert {key: results[key] for key in outcome.report} == outcome.report
    assert results["dataset"] == "fashioniq"
    assert results["protocol"] == "merged"
    assert results["queries"] == sum(len(split.queries) for split in outcome.splits) > 0
    assert [line["epoch"] for line in outcome.curve] == [0, 1]
    assert not outcome.method.training
    assert 0 < outcome.parameters["trained"] <= outcome.parameters["all"]
    best = max(line["main"] for line in outcome.curve)
    mains = [
        sum(r.measures[name] for name in s.main) / len(s.main)
        for r, s in zip(outcome.results, outcome.splits, strict=True)
    ]
    assert sum(mains) / len(mains) == best


def test_the_resolved_configuration_is_a_valid_input(
    registry: Registry, finished: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, outcome = finished
    plan = make_plan(registry, read_config(folder / "config.toml"))
    assert plan.text() == outcome.plan.text() == (folder / "config.toml").read_text()
    again = execute(plan, tmp_path / "again", progress=False)
    assert again.report == outcome.report
    first, second = (load_state(place / BEST)["method"] for place in (folder, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_is_opened_with_its_chosen_weights(
    registry: Registry, finished: tuple[Path, Any], garments_root: Path
) -> None:
    folder, outcome = finished
    plan, method, _ = open_run(folder, registry, progress=False)
    assert plan.text() == outcome.plan.text()
    assert not method.training
    state = outcome.method.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    plan = plan_of(registry, garments_root, "dqe")
    assert evaluate_run(folder, plan, progress=False).report == outcome.report


def test_a_run_is_evaluated_under_another_protocol(
    registry: Registry, finished: tuple[Path, Any], garments_root: Path
) -> None:
    folder, _ = finished

    retriever = load(folder, registry=registry, progress=False)
    assert retriever.evaluate().report["protocol"] == "merged"
    original = retriever.evaluate("fashioniq", garments_root, protocol="original")
    assert original.protocol == "original"
    assert len(original.splits) > 1
    assert original.changed == {"data.gallery": ("merged", "original")}
    switched = retriever.evaluate(drop_reference=True, gallery="original")
    assert switched.protocol == "custom"
    assert switched.values.keys() == original.values.keys()
    with pytest.raises(CIRError, match="unknown protocol 'orginal'; near"):
        retriever.evaluate(protocol="orginal")
    with pytest.raises(CIRError, match="'fashioniq' option 'gallry'; nearest: gallery"):
        retriever.evaluate(gallry="val")
    with pytest.raises(CIRError, match="nothing to read in"):
        retriever.evaluate(split="test")


def test_rankings_of_a_run_name_gallery_images(
    registry: Registry, finished: tuple[Path, Any], garments_root: Path
) -> None:
    folder, _ = finished
    retriever = load(folder, registry=registry, progress=False)
    ((split, ranked),) = retriever.rank(split="val", k=7)
    assert len(ranked) == len(split.queries)
    assert all(len(set(row)) == 7 and set(row) <= set(split.gallery) for row in ranked)


@pytest.mark.parametrize(
    "method", ["image_only", "text_only", "image_text_sum", "image_text_product"]
)
def test_untrained_methods_are_evaluated_as_they_are(
    registry: Registry, garments_root: Path, tmp_path: Path, method: str
) -> None:
    outcome = execute(plan_of(registry, garments_root, method), tmp_path / "run", progress=False)
    assert {file.name for file in (tmp_path / "run").iterdir()} - {LOCK} == FILES - {
        "best.safetensors",
        "checkpoint.safetensors",
        "metrics.jsonl",
    }
    assert outcome.parameters["trained"] == 0 < outcome.parameters["all"]
    assert (outcome.updates, outcome.curve) == (0, ())
    retriever = load(tmp_path / "run", registry=registry, progress=False)
    assert retriever.evaluate().report == outcome.report


def test_a_folder_in_use_is_an_error(
    registry: Registry, finished: tuple[Path, Any], garments_root: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    plan = plan_of(registry, garments_root, "dqe")
    with pytest.raises(CIRError, match=r"is not empty; accepted: a new folder, or --resume"):
        execute(plan, folder, progress=False)
    other = plan_of(registry, garments_root, "dqe", train={"lr": 0.02})
    with pytest.raises(CIRError, match=r"configuration:\ntrain.lr: 0.01 in the run, now 0.02\n"):
        execute(other, folder, resume=True, progress=False)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(CIRError, match="is not empty"):
            execute(plan, tmp_path / "notes", resume=resume, progress=False)
    with pytest.raises(CIRError, match="is a file; accepted: a new or empty folder"):
        execute(plan, tmp_path / "notes" / "todo.txt", progress=False)
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["todo.txt"]
    assert (tmp_path / "notes" / "todo.txt").read_text() == "mine"


def test_a_run_of_another_version_is_an_error(
    registry: Registry, garments_root: Path, tmp_path: Path
) -> None:
    plan = plan_of(registry, garments_root, "image_only")
    folder = tmp_path / "run"
    execute(plan, folder, progress=False)
    for record, message in (
        ('{"format": 99}', f"was written in format 99; this version .* reads format {FORMAT}"),
        ("[1]", r"run\.json holds \[1\]"),
        ("{}", r"run\.json lacks: format; accepted: an integer"),
        ("{", "run.json is not valid JSON"),
    ):
        (folder / "run.json").write_text(record)
        with pytest.raises(CIRError, match=message):
            open_run(folder, registry)
        with pytest.raises(CIRError, match=message):
            execute(plan, folder, resume=True, progress=False)
    (folder / "run.json").unlink()
    with pytest.raises(CIRError, match=r"is no run folder: run\.json is missing"):
        load(folder, registry=registry)


def test_a_resume_without_a_checkpoint_says_so(
    registry: Registry,
    finished: tuple[Path, Any],
    garments_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All epochs were trained again without a word."""
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / LATEST).unlink()
    outcome = execute(plan_of(registry, garments_root, "dqe"), folder, resume=True)
    line = f"run {folder} has no checkpoint.safetensors: training begins with the first epoch"
    assert line in capsys.readouterr().err
    assert outcome.report == finished[1].report
    execute(plan_of(registry, garments_root, "dqe"), folder, resume=True)
    assert line not in capsys.readouterr().err


def test_data_that_cannot_be_read_leaves_no_folder(
    registry: Registry, garments_root: Path, tmp_path: Path
) -> None:
    """A mistyped --root must not make the next, correct call fail."""
    folder = tmp_path / "run"
    with pytest.raises(CIRError):
        execute(plan_of(registry, tmp_path / "nowhere", "image_only"), folder, progress=False)
    assert not folder.exists()
    execute(plan_of(registry, garments_root, "image_only"), folder, progress=False)


def test_what_cannot_be_trained_leaves_no_folder(
    registry: Registry, garments_root: Path, tmp_path: Path
) -> None:
    """The same command, mended, failed because its folder was not empty."""
    folder = tmp_path / "run"
    plan = plan_of(
        registry,
        garments_root,
        "contrastive",
        backbone={"name": "tiny_clip"},
        memory={"checkpointing": True},
    )
    with pytest.raises(CIRError, match="has no network whose activations can be computed again"):
        execute(plan, folder, progress=False)
    assert not folder.exists()


def test_a_run_resumes_with_another_feature_cache(
    registry: Registry, finished: tuple[Path, Any], garments_root: Path, tmp_path: Path
) -> None:
    folder, outcome = finished
    cache = {"feature_cache": str(tmp_path / "c")}
    memory = {"feature_cache_mb": 1}
    plan = plan_of(registry, garments_root, "dqe", run=cache, memory=memory)
    assert execute(plan, folder, resume=True, progress=False).report == outcome.report
    rounded = {**cache, "feature_cache_dtype": "fp16"}
    plan = plan_of(registry, garments_root, "dqe", run=rounded)
    with pytest.raises(CIRError, match="started with another configuration"):
        execute(plan, folder, resume=True, progress=False)


def test_a_folder_half_made_is_used_again(
    registry: Registry, garments_root: Path, tmp_path: Path
) -> None:
    plan = plan_of(registry, garments_root, "image_only")
    (tmp_path / "config.toml").write_text(plan.text())
    (tmp_path / ".run.json.part").write_text("{")
    with pytest.raises(CIRError, match="is not empty"):
        execute(plan, tmp_path, progress=False)
    execute(plan, tmp_path, resume=True, progress=False)
    assert not (tmp_path / ".run.json.part").exists()


def test_resume_of_a_finished_run_reports_the_same(
    registry: Registry, finished: tuple[Path, Any], garments_root: Path
) -> None:
    """Whatever the number of loader processes."""
    folder, outcome = finished
    plan = plan_of(registry, garments_root, "dqe", run={"workers": 1})
    again = execute(plan, folder, resume=True, progress=False)
    assert again.report == outcome.report
    assert again.updates == outcome.updates


def test_an_unfinished_run_is_an_error(registry: Registry, finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    weights = (folder / BEST).read_bytes()
    (folder / BEST).unlink()
    try:
        with pytest.raises(CIRError, match=r"has no best\.safetensors: its training has not"):
            open_run(folder, registry)
    finally:
        (folder / BEST).write_bytes(weights)


def test_building_is_the_same_for_the_same_seed(registry: Registry, garments_root: Path) -> None:
    plan = plan_of(registry, garments_root, "dqe", method={"attributes": ["colour"]})
    encoding = make_encoding(plan, progress=False)
    torch.manual_seed(5)
    first = build(plan, encoding).state_dict()
    torch.manual_seed(6)
    second = build(plan, encoding).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = build(replace(plan, run=plan.run.model_copy(update={"seed": 1})), encoding).state_dict()
    assert not torch.equal(first["weighting.key.weight"], other["weighting.key.weight"])


@pytest.mark.parametrize(("name", "place"), [("config.toml", 30), ("run.json", 20)])
def test_a_changed_letter_of_a_run_names_the_file(
    finished: tuple[Path, Any], registry: Registry, tmp_path: Path, name: str, place: int
) -> None:
    """A run was evaluated by another configuration than the one that it was trained with."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    content = bytearray((folder / name).read_bytes())
    content[place] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CIRError, match=name):
        open_run(folder, registry, progress=False)


def test_a_value_out_of_range_is_an_error(registry: Registry, garments_root: Path) -> None:
    with pytest.raises(
        CIRError, match=r"'gate' of method 'dqe' cannot be 2\.0; accepted: a number"
    ):
        plan_of(registry, garments_root, "dqe", method={"gate": 2.0})


def test_only_the_wanted_splits_are_read(registry: Registry, garments_root: Path) -> None:
    plan = plan_of(registry, garments_root)
    assert {split.role for split in read_splits(plan, ("val",))} == {"val"}
    assert {split.role for split in read_splits(plan, ("train", "val"))} == {"train", "val"}


def test_protocols_are_recognised(registry: Registry, garments_root: Path) -> None:
    def protocol(**options: Any) -> str:
        plan = plan_of(registry, garments_root, "image_only", data=options)
        return protocol_of(plan)

    assert protocol() == "merged"
    assert protocol(gallery="original") == "original"
    assert protocol(gallery="original", caption_mode="four_way") == "clip4cir"
    assert protocol(drop_reference=True) == "custom"
    assert protocol(missing="drop") == "merged"


def test_selecting_the_last_epoch_keeps_its_weights(
    registry: Registry, garments_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.9, 0.1])
    monkeypatch.setattr(run_module, "make_validate", lambda *_: lambda _: ({}, next(values)))
    plan = plan_of(registry, garments_root, train={"select": "last"})
    execute(plan, tmp_path / "run", progress=False)
    assert load_state(tmp_path / "run" / BEST)["epoch"] == 1
