from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines_plugin.backbones.resnet import MapBackbone, ResNet, TinyResNet
from baselines_plugin.backbones.text_encoders import MaxLstmText
from baselines_plugin.backbones.trunks import Levels
from baselines_plugin.backbones.vocabulary import seen_once
from baselines_plugin.methods.val import VAL, AttentionComposer, NormedConv, SelfAttention
from baselines_plugin.parts.metric_losses import TwoWayHinge
from cir_plugins import CIRError, Components, Preprocess
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.runs.build import read_splits, with_learned_options
from cir_plugins.testing import check_method
from tests.baselines.runs import batch_of, losses_of, plan_of

WORDS = ("is", "red", "shorter", "sleeves", "with")
TOKENS = {"ids": torch.tensor([[1, 2], [3, 0], [5, 4]]), "lengths": torch.tensor([2, 1, 2])}
SHAPES = ((2, 4, 3), (4, 2, 2), (6, 2, 1))
METHOD = "baselines_plugin.methods.val:VAL"


def small(loss: Any = None, **options: Any) -> VAL:
    torch.manual_seed(0)
    text = MaxLstmText(WORDS, word_width=4, state_width=4, width=3, dropout=0.0)
    backbone = MapBackbone(
        nn.Identity(), text, channels=6, width=0, preprocess=Preprocess(), shapes=SHAPES
    )
    return VAL(
        Components(backbone, loss or TwoWayHinge(), InBatch()), **{"dropout": 0.0, **options}
    )


def levels(count: int = 6) -> Levels:
    rng = torch.Generator().manual_seed(1)
    return Levels(*(torch.rand(count, *shape, generator=rng) for shape in SHAPES))


@pytest.mark.parametrize("loss", [TwoWayHinge(), InfoNCE()])
def test_methods_contract(loss: Any) -> None:
    backbone = TinyResNet(
        start="random", rule="val", levels="three", width=0, text_width=16, vocabulary=WORDS
    )
    check_method(VAL, backbone, loss=loss)


def test_a_fresh_composer_gives_the_gated_map() -> None:
    """Weights 1 and 0: the map times both gates, each in [0.5, 1) behind its ReLU."""
    composer = AttentionComposer((4, 3, 2), 5, dropout=0.0).eval()
    x, text = torch.rand(2, 4, 3, 2), torch.rand(2, 5)
    composed = composer(x, text)
    assert torch.allclose(composed.out, x * composed.channel * composed.spatial)
    assert composed.channel.shape == (2, 4, 1, 1)
    assert composed.spatial.shape == (2, 1, 3, 2)
    for gate in (composed.channel, composed.spatial):
        assert gate.min().item() >= 0.5
        assert gate.max().item() < 1
    open_gates = AttentionComposer((4, 3, 2), 5, gate_relu=False, dropout=0.0).eval()
    assert open_gates(x, text).channel.min().item() < 0.5


def test_gates_by_hand() -> None:
    """Fused map all 2, norms at rest: channel sigmoid(0.5 * 2), spatial sigmoid(ReLU(-2))."""
    composer = AttentionComposer((2, 1, 1), 1, dropout=0.0).eval()
    with torch.no_grad():
        composer.fuse.conv.weight.fill_(1.0)
        composer.channel.conv.weight.copy_(torch.eye(2)[..., None, None] * 0.5)
        composer.spatial.conv.weight.fill_(-1.0)
        composer.change.fill_(3.0)
    rest = 1 / math.sqrt(1 + 1e-5)
    composed = composer(torch.tensor([[[[0.5]], [[0.5]]]]), torch.tensor([[1.0]]))
    assert composed.fused.flatten().tolist() == pytest.approx([2.0 * rest] * 2)
    sigmoid = 1 / (1 + math.exp(-rest * rest))
    assert composed.channel.flatten().tolist() == pytest.approx([sigmoid] * 2)
    assert composed.spatial.item() == 0.5
    expected = 0.5 * sigmoid * 0.5 + 3 * composed.transformed
    assert torch.allclose(composed.out, expected)


@torch.no_grad()
def test_self_attention_is_the_slow_one() -> None:
    torch.manual_seed(0)
    attention: Any = SelfAttention(4, dropout=0.0)
    x = torch.randn(1, 4, 2, 3)
    out = attention(x)
    positions = x.flatten(2)[0].T  # (6, 4)
    for head in range(2):
        half = positions[:, 2 * head : 2 * head + 2]
        head_queries = half @ attention.ask[head].weight.T
        head_keys = half @ attention.offer[head].weight.T
        head_values = half @ attention.give[head].weight.T
        for position in range(6):
            logits = [
                float(head_queries[position] @ head_keys[other]) / math.sqrt(2)
                for other in range(6)
            ]
            total = sum(math.exp(value) for value in logits)
            mean = sum(math.exp(logits[other]) / total * head_values[other] for other in range(6))
            result = out[0, 2 * head : 2 * head + 2].flatten(1)[:, position]
            assert torch.allclose(result, torch.as_tensor(mean), atol=1e-5)


def test_a_large_kernel_preserves_the_size() -> None:
    """Even kernels reach one position further ahead than behind, as TensorFlow pads them."""
    conv = NormedConv(1, 1, (2, 3), 0.1).eval()
    with torch.no_grad():
        conv.conv.weight.copy_(torch.arange(6.0).view(1, 1, 2, 3))
    x = torch.zeros(1, 1, 2, 3)
    x[0, 0, 1, 1] = 1.0
    rest = 1 / math.sqrt(1 + 1e-5)
    # output (i, j) = sum of kernel (a, b) * x (i + a, j + b - 1)
    expected = [[5.0, 4.0, 3.0], [2.0, 1.0, 0.0]]
    assert torch.allclose(conv(x)[0, 0], torch.tensor(expected) * rest)
    turned = NormedConv(1, 1, (3, 2), 0.1).eval()
    turned.conv.weight.data.copy_(conv.conv.weight.data.mT)
    assert torch.allclose(turned(x.mT), conv(x).mT)


def test_scores_are_the_mean_of_the_levels_cosines() -> None:
    method, x = small().eval(), levels()
    first, second = Levels(*(level[:3] for level in x)), Levels(*(level[3:] for level in x))
    query, target = method.encode_query(first, TOKENS), method.encode_gallery(second)
    assert query.shape == (3, 12)
    scores = method.similarity(query, target)
    half = zip(method.levels(first, TOKENS), method.levels(second), strict=True)
    cosines = torch.stack([q @ t.T for q, t in half])
    assert torch.allclose(scores, cosines.mean(dim=0), atol=1e-6)
    pooled = second.mid.mean(dim=(2, 3))
    assert torch.allclose(method.levels(second)[1], pooled / pooled.norm(dim=1, keepdim=True))


def test_terms_are_the_hinge_of_each_level() -> None:
    method, x = small().eval(), levels()
    terms = method.loss_terms(batch_of(x, TOKENS))
    assert list(terms) == ["low", "mid", "high"]
    first, second = Levels(*(level[:3] for level in x)), Levels(*(level[3:] for level in x))
    negatives = ~torch.eye(3, dtype=torch.bool)
    pairs = zip(method.levels(first, TOKENS), method.levels(second), strict=True)
    for value, (query, target) in zip(terms.values(), pairs, strict=True):
        expected = TwoWayHinge()(query @ target.T, torch.arange(3), negatives).mean()
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_convolutions_alone_decay() -> None:
    method = small()
    decayed, others = method.parameter_groups(1e-3)
    assert "weight_decay" not in decayed
    assert others["weight_decay"] == 0.0
    ids = {id(parameter) for parameter in decayed["params"]}
    names = {name for name, parameter in method.named_parameters() if id(parameter) in ids}
    assert "composers.0.fuse.conv.weight" in names
    assert "backbone.text.output.weight" in names
    assert not any("attention" in name or "lstm" in name or "norm" in name for name in names)


def test_the_temperature_is_learned_for_scaled_losses() -> None:
    assert not small().log_temperature.requires_grad
    assert small(InfoNCE()).log_temperature.requires_grad


def test_published_maps_of_the_image_network() -> None:
    """The levels of the paper: 16 x 16 x 512, 8 x 8 x 1024 and 8 x 8 x 2048."""
    with torch.device("meta"):
        options = {**VAL.recipe.backbone.options, "weights": "random", "vocabulary": WORDS}
        backbone = ResNet(**options)
        method = VAL(Components(backbone, TwoWayHinge(), InBatch()))
        features = backbone.features(torch.empty(2, 3, 256, 256))
        target: Tensor = method.encode_gallery(features)
    assert backbone.shapes == ((512, 16, 16), (1024, 8, 8), (2048, 8, 8))
    assert target.shape == (2, 3584)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"backbone": {"levels": "last"}}, "composes three levels of feature maps"),
        ({"mining": {"negatives": "both"}}, "mined negatives have none"),
    ],
)
def test_combinations_that_make_no_sense(
    garments_root: Path, config: dict[str, dict[str, Any]], reason: str
) -> None:
    merged = {"backbone": {"levels": "three", "rule": "val"}, **config}
    with pytest.raises(CIRError, match=reason):
        plan_of(METHOD, garments_root, **merged)


def test_short_runs_can_hasten_every_new_norm() -> None:
    options = {"rule": "val", "levels": "three", "width": 0, "vocabulary": WORDS}
    backbone = TinyResNet(start="random", norm_momentum=0.1, **options)
    method = VAL(Components(backbone, InfoNCE(), InBatch()), norm_momentum=0.1)
    norms = [m for m in method.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == 3 * 4 + 1
    assert {norm.momentum for norm in norms} == {0.1}


@pytest.mark.parametrize("options", [{}, {"seen_once": [""]}])
def test_training_fills_in_seen_once(garments_root: Path, options: dict[str, Any]) -> None:
    plan = plan_of(METHOD, garments_root, backbone={"levels": "three", "rule": "val", **options})
    splits = read_splits(plan, ("train",))
    filled = with_learned_options(plan, splits).backbone.options
    texts = [t for s in splits for q in s.queries for t in s.captions.texts(q.captions, q.category)]
    assert filled["seen_once"] == (("",) if options else seen_once(texts))
    assert set(seen_once(texts)) <= set(filled["vocabulary"])


def test_a_run_on_drawn_garments_learns(garments_root: Path, tmp_path: Path) -> None:
    plan = plan_of(
        METHOD,
        garments_root,
        method={"norm_momentum": 0.1},
        backbone={"levels": "three", "rule": "val", "norm_momentum": 0.1},
        data={"categories": ["dress"]},
        train={"epochs": 3, "lr": 1e-3, "augment": "none", "ema": 0.0, "validate_every": 0},
    )
    outcome, losses = losses_of(plan, tmp_path / "run")
    assert losses[-1] < losses[0]
    assert 0 <= outcome.report["average"]["recall@10"] <= 1
