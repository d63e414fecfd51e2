from __future__ import annotations

from pathlib import Path

import pytest
import torch

from baselines_plugin.methods.qure import QuRe, official_state
from baselines_plugin.parts.samplers import TwoDrops
from cir_plugins import CIRError, Components
from cir_plugins.builtin.blip2 import Blip2, TinyBlip2
from cir_plugins.builtin.losses import Pairwise
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.config.settings import TrainingSettings
from cir_plugins.runs.convert import converted_state
from cir_plugins.runs.execute import execute
from cir_plugins.testing import check_method
from tests.baselines.lavis_shapes import HEAD, TEMP, VIT_L, empty, filled, qformer, visual
from tests.baselines.tiny_runs import plan_of


def test_keeps_the_contract_of_methods() -> None:
    backbone = TinyBlip2(start="random", vision="frozen")
    check_method(QuRe, backbone, loss=Pairwise(), sampler=TwoDrops())


def test_the_query_is_the_mean_token() -> None:
    """The query is the mean of the projected tokens at unit length."""
    backbone = TinyBlip2(start="random", vision="frozen").eval()
    method = QuRe(Components(backbone, Pairwise(), TwoDrops(), "mined")).eval()
    features = backbone.features(torch.randn(2, 3, 64, 64))
    tokens = backbone.tokenize(["red", "longer sleeves"])
    with torch.no_grad():
        raw = backbone.project_text(backbone.fuse(features, tokens).tokens)
        result = method.encode_query(features, tokens)
    for row in range(2):
        mean = torch.stack(list(raw[row])).sum(dim=0) / raw.shape[1]
        assert torch.allclose(result[row], mean / mean.norm(), atol=1e-6)


def test_negatives_are_redefined_in_the_published_epochs(garments_root: Path) -> None:
    plan = plan_of(garments_root, "qure", train={"epochs": 30})
    training = plan.training
    defined = [e for e in range(30) if e >= training.first_refresh and e % training.refresh == 0]
    assert defined == [5, 10, 15, 20, 25]
    recipe = TrainingSettings(QuRe.recipe.train, mining=QuRe.recipe.mining)
    assert (recipe.first_refresh, recipe.refresh) == (8, 8)


def test_full_size_keys_are_all_converted() -> None:
    with torch.device("meta"):
        method = QuRe(Components(Blip2(model="vit_l", weights="random"), Pairwise(), InBatch()))
    content = filled({**visual(VIT_L), **qformer(1024), **HEAD, **TEMP}, empty)
    state = converted_state([content], method, official_state)
    key = "backbone.model.vision_model.clip.encoder.layers.22.self_attn.v_proj.weight"
    assert state[key].shape == (1024, 1024)


def test_unfitting_checkpoints_are_errors() -> None:
    method = QuRe(Components(TinyBlip2(start="random"), Pairwise(), InBatch()))
    with pytest.raises(CIRError, match="found 2"):
        official_state([{}, {}], method)
    with pytest.raises(CIRError, match="holds values that are no tensors: epoch"):
        official_state([{"epoch": 3}], method)
    with pytest.raises(CIRError, match="unexpected: prompt_tokens; missing: temp"):
        official_state([{"prompt_tokens": torch.zeros(1)}], method)


def test_it_trains_and_evaluates_on_drawn_garments(garments_root: Path, tmp_path: Path) -> None:
    plan = plan_of(
        garments_root,
        "qure",
        backbone={"vision": "frozen"},
        train={"epochs": 2},
        mining={"every": 1},
    )
    assert (plan.sampler.name, plan.loss.name) == ("two_drops", "pairwise")
    outcome = execute(plan, tmp_path / "run", progress=False)
    lines = [line for line in outcome.curve if "loss" in line]
    assert len(lines) == 2
    assert all(0 < line["loss"] < 10 for line in lines)
    assert 0 <= outcome.report["average"]["recall@10"] <= 1
    torch.manual_seed(plan.run.seed)
    start = plan.backbone.build().model.query_tokens
    assert not torch.allclose(outcome.method.backbone.model.query_tokens, start, atol=1e-5)
