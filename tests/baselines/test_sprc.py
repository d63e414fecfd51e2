from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines_plugin.methods.sprc import ENTRY, SPRC, official_state
from cir_plugins import CIRError, Components
from cir_plugins.builtin.blip2 import Blip2, TinyBlip2
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.runs.convert import converted_state
from cir_plugins.runs.execute import execute
from cir_plugins.testing import check_method
from tests.baselines.lavis_shapes import (
    HEAD,
    TEMP,
    VIT_G,
    VIT_L,
    Shapes,
    empty,
    filled,
    qformer,
    visual,
)
from tests.baselines.tiny_runs import plan_of
from tests.parity.triplets import batch_of

PROMPT: Shapes = {"prompt_tokens": (1, 32, 768)}


def tiny(**options: Any) -> SPRC:
    torch.manual_seed(0)
    backbone = TinyBlip2(start="random", vision="frozen", dropout=0.0)
    return SPRC(Components(backbone, InfoNCE(), InBatch()), **options)


def some_batch(method: SPRC, seed: int = 0) -> Any:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 3, 64, 64, generator=rng)
    tokens = method.backbone.tokenize(["make it red", "longer and blue", "no"])
    return batch_of([images[:3], images[3:]], tokens)


def test_keeps_the_contract_of_methods() -> None:
    check_method(SPRC, TinyBlip2(start="random", vision="frozen"))


def test_weights_scale_or_remove_terms() -> None:
    """Terms are weighted, and those of weight 0 are left out."""
    once, twice = tiny(), tiny(text_weight=0.8, align_weight=1.2)
    batch = some_batch(once)
    terms, more = once.loss_terms(batch), twice.loss_terms(batch)
    assert list(terms) == ["contrast", "text", "align"]
    assert more["contrast"].item() == terms["contrast"].item()
    assert more["text"].item() == pytest.approx(2 * terms["text"].item())
    assert more["align"].item() == pytest.approx(3 * terms["align"].item())
    assert list(tiny(text_weight=0.0, align_weight=0.0).loss_terms(batch)) == ["contrast"]


def test_alignment_by_hand_moves_the_prompt_alone() -> None:
    """Means 1 and 3 against a learned mean of 2: (1 + 1) / 2; d/dp = 2 (m - 2) / (T B H)."""
    method = tiny()
    _, tokens, hidden = method.prompt_tokens.shape
    with torch.no_grad():
        method.prompt_tokens.fill_(2.0)
    prompt = torch.ones(2, tokens, hidden)
    prompt[1] = 3
    prompt[0, 0], prompt[0, 1] = 0.0, 2.0
    prompt.requires_grad_()
    value = method.alignment(prompt.mean(dim=1))
    assert value.item() == pytest.approx(1.0)
    value.backward()
    assert method.prompt_tokens.grad is None
    assert prompt.grad is not None
    share = 1 / (tokens * hidden)
    assert torch.allclose(prompt.grad[0], torch.full((tokens, hidden), -share))
    assert torch.allclose(prompt.grad[1], torch.full((tokens, hidden), share))


def test_padding_changes_nothing() -> None:
    method = tiny().eval()
    tokens = method.backbone.tokenize(["make it red"])
    padded = {key: torch.nn.functional.pad(value, (0, 5)) for key, value in tokens.items()}
    features = method.backbone.features(torch.randn(1, 3, 64, 64))
    with torch.no_grad():
        assert torch.allclose(
            method.encode_query(features, tokens), method.encode_query(features, padded), atol=1e-6
        )
        assert torch.allclose(method.read_text(tokens), method.read_text(padded), atol=1e-6)


def test_only_the_text_term_reaches_the_learned_prompts() -> None:
    for weights, reached in (({"text_weight": 0.0}, False), ({"align_weight": 0.0}, True)):
        method = tiny(**weights)
        terms = method.loss_terms(some_batch(method))
        torch.stack(list(terms.values())).sum().backward()
        assert (method.prompt_tokens.grad is not None) is reached


def test_the_temperature_is_learned_as_it_is() -> None:
    method = tiny(temperature=0.5)
    assert method.temperature is method.temp
    assert method.temp.item() == 0.5
    assert "log_temperature" not in method.state_dict()
    assert not tiny(learn_temperature=False).temp.requires_grad
    with pytest.raises(ValueError, match="text_weight and align_weight must be at least 0"):
        tiny(align_weight=-1.0)


@pytest.mark.parametrize(
    ("model", "vit", "width"), [("vit_g", VIT_G, 1408), ("vit_l", VIT_L, 1024)]
)
def test_full_size_keys_are_all_converted(model: str, vit: Shapes, width: int) -> None:
    with torch.device("meta"):
        method = SPRC(Components(Blip2(model=model, weights="random"), InfoNCE(), InBatch()))
    content = filled({**visual(vit), **qformer(width), **HEAD, **TEMP, **PROMPT}, empty)
    state = converted_state([{"epoch": 3, ENTRY: content}], method, official_state)
    assert state["temp"].shape == ()
    assert state["prompt_tokens"].shape == (1, 32, 768)
    assert all(value.dtype == torch.float32 for value in state.values())


def small_state(method: SPRC) -> dict[str, Tensor]:
    """An official state that is complete but for its ViT."""
    sizes = {"hidden": 96, "mlp": 256, "layers": 3, "words": 886, "shared": 64, "queries": 8}
    shapes = {**qformer(96, **sizes), **TEMP, "prompt_tokens": (1, 8, 96)}
    return filled(shapes, torch.randn)


def test_unfitting_checkpoints_are_errors() -> None:
    method = tiny()
    with pytest.raises(CIRError, match=f"no entry '{ENTRY}'"):
        official_state([{"epoch": 1}], method)
    state = small_state(method)
    with pytest.raises(CIRError, match="unexpected: stranger"):
        official_state([{ENTRY: {**state, "stranger": torch.zeros(1)}}], method)
    del state["prompt_tokens"]
    with pytest.raises(CIRError, match="missing: prompt_tokens"):
        official_state([{ENTRY: state}], method)
    state = small_state(method)
    del state["query_tokens"]
    with pytest.raises(CIRError, match=r"missing: .*backbone\.model\.query_tokens"):
        converted_state([{ENTRY: state}], method, official_state)


def test_it_trains_and_evaluates_on_drawn_garments(garments_root: Path, tmp_path: Path) -> None:
    plan = plan_of(garments_root, "sprc", backbone={"vision": "frozen"}, schedule={"warmup": 0.1})
    assert plan.data.options["caption_mode"] == "four_way"
    assert plan.method.options["text_weight"] == plan.method.options["align_weight"] == 1.0
    assert (plan.schedule.name, plan.schedule.epochs) == ("one_cycle", 30)
    outcome = execute(plan, tmp_path / "run", progress=False)
    losses = [line["loss"] for line in outcome.curve if "loss" in line]
    assert losses[-1] < losses[0]
    assert 0 <= outcome.report["average"]["recall@10"] <= 1
