from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from baselines_plugin.backbones.resnet import MapBackbone, ResNet, TinyResNet
from baselines_plugin.backbones.text_encoders import LstmText
from baselines_plugin.methods.tirg import TIRG, map_composer, official_state, vector_composer
from cir_plugins import CIRError, Components, Preprocess
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.runs.convert import converted_state
from cir_plugins.testing import check_method
from tests.baselines.official_shapes import empty, layer, norm, tirg_encoders
from tests.baselines.runs import batch_of, losses_of, plan_of

WORDS = ("is", "red", "shorter", "sleeves", "with")
TOKENS = {"ids": torch.tensor([[1, 2], [3, 0], [5, 4]]), "lengths": torch.tensor([2, 1, 2])}
METHOD = "baselines_plugin.methods.tirg:TIRG"


def small(**options: Any) -> TIRG:
    torch.manual_seed(0)
    text = LstmText(WORDS, "tirg", word_width=4, state_width=4, width=3, dropout=0.0)
    backbone = MapBackbone(nn.Identity(), text, channels=5, width=3, preprocess=Preprocess())
    return TIRG(Components(backbone, InfoNCE(), InBatch()), **options)


def maps(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 5, 2, 2, generator=torch.Generator().manual_seed(1))


VARIANTS = ("tirg", "lastconv", "concat", "image_only", "text_only")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("objective", ["classification", "soft_triplet"])
def test_methods_contract(variant: str, objective: str) -> None:
    backbone = TinyResNet(start="random", width=16, state_width=16, text_width=16, vocabulary=WORDS)
    check_method(TIRG, backbone, options={"variant": variant, "objective": objective})


def test_composition_is_gate_and_residual_with_their_weights() -> None:
    """With zero weights, gate 0 and residual r: 1 * sigmoid(0) * x + 10 * r."""
    composer = vector_composer(2, 1).eval()
    for module in (composer.gate[-1], composer.residual[-1]):  # type: ignore[index]
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    composer.residual[-1].bias.data[:] = torch.tensor([0.1, -0.2])  # type: ignore[index]
    composed = composer(torch.tensor([[4.0, 6.0]]), torch.tensor([[9.0]]))
    assert composed.gate.tolist() == [[0.0, 0.0]]
    assert composed.out.flatten().tolist() == pytest.approx([0.5 * 4 + 1.0, 0.5 * 6 - 2.0])


def test_lastconv_tiles_the_text() -> None:
    """Every position of the map gets the same text."""
    composer = map_composer(2, 3).eval()
    seen: list[torch.Tensor] = []
    composer.gate.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    image, text = torch.randn(1, 2, 4, 5), torch.tensor([[1.0, 2.0, 3.0]])
    assert composer(image, text).out.shape == (1, 2, 4, 5)
    assert torch.equal(seen[0][0, :2], image[0])
    assert torch.equal(seen[0][0, 2:], text[0, :, None, None].expand(3, 4, 5))


def test_a_vector_alone_is_the_query() -> None:
    method = small(variant="image_only").eval()
    assert torch.equal(method.encode_query(maps()[:3], TOKENS), method.encode_gallery(maps()[:3]))
    method = small(variant="text_only").eval()
    text = nn.functional.normalize(method.backbone.describe(TOKENS))
    assert torch.allclose(method.encode_query(maps()[:3], TOKENS), text)
    backbone = TinyResNet(start="random", width=8, text_width=4, vocabulary=WORDS)
    with pytest.raises(ValueError, match="compares texts of 4 values with images of 8; accepted"):
        TIRG(Components(backbone, InfoNCE(), InBatch()), variant="text_only")


def test_logits_are_scaled_cosines() -> None:
    """Logits are the cosine times the square of the learned scale."""
    method = small().eval()
    assert method.temperature.item() == pytest.approx(1 / 16)
    query, target = method.encode_query(maps()[:3], TOKENS), method.encode_gallery(maps()[3:])
    logits = 16 * query @ target.T
    expected = nn.functional.cross_entropy(logits, torch.arange(3))
    loss = method.loss_terms(batch_of(maps(), TOKENS))["loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.no_grad():
        method.norm_s.fill_(2.0)
    assert method.temperature.item() == pytest.approx(1 / 4)
    assert "log_temperature" not in method.state_dict()


def test_positives_and_duplicates_are_no_negatives() -> None:
    method = small().eval()
    batch = batch_of(maps(), TOKENS)
    batch.excluded[0, 1] = True
    scores = 16 * method.encode_query(maps()[:3], TOKENS) @ method.encode_gallery(maps()[3:]).T
    rows = [[0, 2], [0, 1, 2], [0, 1, 2]]
    losses = [scores[i, columns].logsumexp(0) - scores[i, i] for i, columns in enumerate(rows)]
    assert method.loss_terms(batch)["loss"].item() == pytest.approx(
        torch.stack(losses).mean().item(), rel=1e-5
    )


def test_soft_triplets_draw_from_the_generator_of_torch() -> None:
    method = small(objective="soft_triplet", per_anchor=1).eval()
    values = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        values.append(method.loss_terms(batch_of(maps(), TOKENS))["loss"].item())
    assert values[0] == values[1]
    assert len(set(values)) > 1
    assert all(math.isfinite(value) for value in values)


def test_the_resnet_has_a_tenth_rate() -> None:
    backbone = TinyResNet(start="random", vocabulary=WORDS)
    method = TIRG(Components(backbone, InfoNCE(), InBatch()))
    new, old = method.parameter_groups(0.01)
    assert (new["lr"], old["lr"]) == (0.01, pytest.approx(0.001))
    trunk = {id(parameter) for parameter in backbone.trunk.parameters()}
    assert {id(parameter) for parameter in old["params"]} == trunk
    assert any(parameter is backbone.head.weight for parameter in new["params"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_keys_and_shapes_of_the_released_checkpoints(variant: str) -> None:
    """At full size, on the meta device: every key has a counterpart of its shape."""
    words = tuple(f"word{index}" for index in range(39))
    with torch.device("meta"):
        backbone = ResNet(weights="random", vocabulary=words)
        method = TIRG(Components(backbone, InfoNCE(), InBatch()), variant=variant)  # type: ignore[arg-type]
    shapes = tirg_encoders(40, 512)
    if variant == "concat":
        shapes |= norm("composer.m.0", 1024) | norm("composer.m.3", 1024)
        shapes |= layer("composer.m.2", 1024, 1024) | layer("composer.m.6", 512, 1024)
    elif variant == "lastconv":
        for stack in ("mod2d", "mod2d_gate"):
            shapes |= norm(f"{stack}.0", 1024) | layer(f"{stack}.1", 1024, 1024, 3, 3)
            shapes |= layer(f"{stack}.3", 512, 1024, 3, 3)
    elif variant == "tirg":
        shapes |= norm("gated_feature_composer.1", 1024) | norm("res_info_composer.1", 1024)
        shapes |= layer("gated_feature_composer.3", 512, 1024)
        shapes |= layer("res_info_composer.3", 1024, 1024)
        shapes |= layer("res_info_composer.5", 512, 1024)
    if variant in ("tirg", "lastconv"):
        shapes["a"] = (4,)
    checkpoint = {"it": 3, "model_state_dict": empty(shapes)}
    state = converted_state([checkpoint], method, official_state)
    assert len(state) == len(shapes)


def test_unfitting_checkpoints_name_their_keys() -> None:
    method = small()
    with pytest.raises(CIRError, match=r"unexpected: Combiner\.x"):
        official_state([{"model_state_dict": {"Combiner.x": torch.ones(1)}}], method)
    with pytest.raises(CIRError, match=r"no model: found epoch.*\n?.*'model_state_dict'"):
        official_state([{"epoch": 3}], method)
    with pytest.raises(CIRError, match=r"missing: norm_s, backbone"):
        converted_state([{"model_state_dict": {}}], method, official_state)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            {"method": {"objective": "soft_triplet"}, "loss": {"name": "margin"}},
            "leaves loss 'margin' unused",
        ),
        (
            {"method": {"objective": "soft_triplet"}, "mining": {"negatives": "mined"}},
            "triplets from the batch alone",
        ),
        ({"backbone": {"levels": "three"}}, "composes the last feature map"),
    ],
)
def test_combinations_that_make_no_sense(
    garments_root: Path, config: dict[str, dict[str, Any]], reason: str
) -> None:
    with pytest.raises(CIRError, match=reason):
        plan_of(METHOD, garments_root, **config)


def test_a_run_on_drawn_garments_learns(garments_root: Path, tmp_path: Path) -> None:
    plan = plan_of(METHOD, garments_root, train={"epochs": 2, "lr": 0.02, "validate_every": 0})
    outcome, losses = losses_of(plan, tmp_path / "run")
    assert losses[-1] < losses[0]
    assert 0 <= outcome.report["average"]["recall@10"] <= 1


def test_other_losses_and_samplers_fit(garments_root: Path, tmp_path: Path) -> None:
    plan = plan_of(
        METHOD, garments_root, loss={"name": "pairwise"}, sampler={"name": "hardest", "count": 4}
    )
    outcome, losses = losses_of(plan, tmp_path / "run")
    assert outcome.updates > 0
    assert math.isfinite(losses[0])
