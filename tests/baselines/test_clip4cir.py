from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from baselines_plugin.methods.clip4cir import CLIP4Cir, official_state
from cir_plugins import Batch, CIRError, Components
from cir_plugins.builtin.clip import Clip, TinyClip
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.runs.convert import converted_state
from cir_plugins.runs.execute import execute
from cir_plugins.testing import check_method
from tests.baselines.blip_shapes import clip_resnet, on_meta
from tests.baselines.blip_shapes import combiner as combiner_shapes
from tests.baselines.offered import plan_of

SMALL = {"projection": 16, "hidden": 24}


def method_of(**options: Any) -> CLIP4Cir:
    torch.manual_seed(0)
    components = Components(TinyClip(start="random"), InfoNCE(), InBatch())
    return CLIP4Cir(components, **{**SMALL, **options})


@pytest.mark.parametrize("stage", ["both", "sum", "combiner"])
def test_it_keeps_the_contract(stage: str) -> None:
    torch.manual_seed(0)
    backbone = TinyClip(start="random")
    check_method(CLIP4Cir, backbone, options={**SMALL, "stage": stage, "dropout": 0.0})


def test_the_second_stage_trains_the_combiner_alone() -> None:
    method = method_of(sum_epochs=1)
    clip, combiner = method.parameter_groups(1e-3)
    assert (clip["lr"], combiner["lr"]) == (1e-3, 2e-5)
    assert (combiner["weight_decay"], combiner["constant_rate"]) == (0.0, True)
    assert len(combiner["params"]) == 12
    texts = ["is red", "is longer"]
    batch = Batch(
        images=torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        features=None,
        reference=torch.tensor([0, 1]),
        candidates=torch.tensor([2, 3]),
        target=torch.tensor([0, 1]),
        excluded=torch.zeros(2, 2, dtype=torch.bool),
        text=texts,
        tokens=method.backbone.tokenize(texts),
    )
    for epoch, learning in ((0, {"backbone"}), (1, {"composer"})):
        method.train()
        method.on_epoch(epoch, 2)
        method.zero_grad()
        torch.autograd.backward(method.loss_terms(batch)["loss"])
        learned = {n.partition(".")[0] for n, p in method.named_parameters() if p.grad is not None}
        assert learned == learning


def test_the_scale_is_100_and_not_learned() -> None:
    method = method_of()
    assert method.temperature.item() == pytest.approx(0.01)
    assert not method.log_temperature.requires_grad


def test_stage_combiner_trains_the_combiner_alone() -> None:
    """One Combiner on the loaded backbone is all that the stage trains."""
    tuned, combiner = method_of(stage="combiner").parameter_groups(1.0)
    assert tuned["params"] == []
    assert combiner["params"]


def test_recipes_are_those_of_the_paper(tmp_path: Path) -> None:
    plan = plan_of("clip4cir", tmp_path)
    assert plan.backbone.options["model"] == "RN50x4-quickgelu"
    assert plan.data.options["caption_mode"] == "four_way"
    train = plan.train
    assert (train.lr, train.batch_size, train.weight_decay, train.eps) == (2e-6, 128, 0.01, 1e-7)
    assert (train.epochs, plan.method.options["sum_epochs"]) == (400, 100)
    with pytest.raises(CIRError, match="sum_epochs 100 of 3 epochs leave none"):
        plan_of("clip4cir", tmp_path, train={"epochs": 3})


def test_every_key_and_shape_of_the_full_size(tmp_path: Path) -> None:
    config = {"model_cfg": open_clip.get_model_config(CLIP4Cir.recipe.backbone.options["model"])}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    with torch.device("meta"):
        backbone = Clip(model=str(tmp_path), pretrained="random")
        method = CLIP4Cir(Components(backbone, InfoNCE(), InBatch()))
    clip = clip_resnet(80, (4, 6, 10, 6), 288, 640, 640, 12, 49408)
    assert len(clip) == 669
    checkpoints: list[dict[str, Any]] = [
        {"epoch": 4, "Combiner": on_meta(combiner_shapes(640, 2560, 5120))},
        {"epoch": 9, "CLIP": on_meta(clip)},
    ]
    state = converted_state(checkpoints, method, official_state)
    assert set(state) == set(method.state_dict())
    del checkpoints[1]["CLIP"]["visual.layer4.5.bn3.running_var"]
    with pytest.raises(CIRError, match=r"missing: .*visual\.layer4\.5\.bn3\.running_var"):
        converted_state(checkpoints, method, official_state)


def test_converted_weights_can_be_rounded() -> None:
    source = method_of()
    clip = {k: v + 1e-5 for k, v in source.backbone.model.state_dict().items()}
    clip |= {"context_length": torch.tensor(32), "input_resolution": torch.tensor(64)}
    combiner = source.composer.combiner
    assert combiner is not None
    files = [{"CLIP": clip}, {"Combiner": combiner.state_dict()}]
    method = method_of()
    method.load_state_dict(converted_state(files, method, official_state))
    assert torch.equal(method.backbone.model.text_projection, clip["text_projection"])
    assert method.composer.combines
    rounded = method_of(half_weights=True)
    rounded.load_state_dict(converted_state(files, rounded, official_state))
    expected = clip["text_projection"].half().float()
    assert torch.equal(rounded.backbone.model.text_projection, expected)
    assert not torch.equal(expected, clip["text_projection"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([{"Combiner": {}}], r"no entry 'CLIP' .*they hold: Combiner"),
        ([{"CLIP": {"visual.x": torch.ones(1), "y": torch.ones(1)}}], "does not fit; unexp.*: y"),
    ],
)
def test_other_checkpoints_are_errors(files: Any, message: str) -> None:
    with pytest.raises(CIRError, match=message):
        converted_state(files, method_of(), official_state)


def test_two_stages_train_on_drawn_garments(garments_root: Path, tmp_path: Path) -> None:
    plan = plan_of(
        "clip4cir",
        garments_root,
        backbone={"name": "tiny_clip", "start": "random"},
        method={"sum_epochs": 2, "combiner_lr": 3e-3, "dropout": 0.0, **SMALL},
        train={"epochs": 4, "lr": 1e-3, "batch_size": 16, "validate_every": 0},
    )
    outcome = execute(plan, tmp_path / "run", progress=False)
    losses = [line["loss"] for line in outcome.curve]
    assert losses[1] < losses[0]
    assert losses[3] < losses[2]
    assert isinstance(outcome.method, CLIP4Cir)
    assert outcome.method.composer.combines
    assert 0 <= outcome.report["average"]["recall@10"] <= 1
