from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines_plugin.backbones.resnet import MapBackbone, ResNet, TinyResNet
from baselines_plugin.backbones.text_encoders import LstmText
from baselines_plugin.methods.mgur import MGUR, official_state
from baselines_plugin.parts.uncertainty import epoch_weight, noised, under_uncertainty
from cir_plugins import Components, Preprocess, hookimpl
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.config.resolve import make_plan
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.convert import converted_state
from cir_plugins.runs.execute import execute
from cir_plugins.testing import check_method
from tests.baselines import cosmo_files
from tests.baselines.test_cosmo import WORDS, batch_of_maps, maps_of


def on_maps(**options: Any) -> MGUR:
    """The method over maps of 8 channels, with a small LSTM as text encoder."""
    torch.manual_seed(0)
    text = LstmText(WORDS, "cosmo", word_width=6, state_width=6, width=5, dropout=0.0)
    backbone = MapBackbone(nn.Identity(), text, channels=8, width=7, preprocess=Preprocess())
    merged = {"heads": 2, "text_width": 6, **options}
    return MGUR(Components(backbone, InfoNCE(), InBatch()), **merged)


def registry_of() -> Registry:
    def cir_methods() -> Any:
        return {"mgur": MGUR}

    def cir_backbones() -> Any:
        return {"tiny_resnet": TinyResNet}

    plugin = SimpleNamespace(
        cir_methods=hookimpl(cir_methods), cir_backbones=hookimpl(cir_backbones)
    )
    return Registry.load({"mine": plugin})


def config_of(root: Path, **config: Any) -> dict[str, Any]:
    return {
        "method": {"name": "mgur"},
        "backbone": {"name": "tiny_resnet", "start": "random", "text": "roberta"},
        "data": {"name": "fashioniq", "root": str(root), "categories": ["dress"]},
        "run": {"device": "cpu", "workers": 0},
        **config,
    }


def test_it_keeps_the_contract_of_methods() -> None:
    check_method(MGUR, TinyResNet(start="random", text="roberta"), options={"text_width": 16})


def test_noise_has_the_vectors_spread() -> None:
    # Mean 3; squared deviations 8: biased variance 2 for the norm, unbiased 8/3 for the noise.
    vector = torch.tensor([[1.0, 3.0, 3.0, 5.0]])
    for_alpha = torch.tensor([[1.0, 0.0, -1.0, 2.0]])
    for_beta = torch.tensor([[0.0, 1.0, 0.0, -1.0]])
    spread = math.sqrt(8 / 3)
    output = noised(vector, noise=(for_alpha, for_beta))
    lead = 2 / math.sqrt(2 + 1e-5)
    alpha = [1 + spread, 1, 1 - spread, 1 + 2 * spread]
    beta = [3, 3 + spread, 3, 3 - spread]
    assert output.alpha[0].tolist() == pytest.approx(alpha, rel=1e-6)
    assert output.beta[0].tolist() == pytest.approx(beta, rel=1e-6)
    out = [a * n + b for a, n, b in zip(alpha, [-lead, 0, 0, lead], beta, strict=True)]
    assert output.out[0].tolist() == pytest.approx(out, rel=1e-5)
    mean = sum(out) / 4
    unbiased = math.sqrt(sum((value - mean) ** 2 for value in out) / 3)
    assert output.spread.item() == pytest.approx(unbiased, rel=1e-5)


def test_scales_multiply_what_was_drawn_mean_included() -> None:
    vectors, noise = torch.randn(3, 6), (torch.randn(3, 6), torch.randn(3, 6))
    plain = noised(vectors, noise=noise)
    scaled = noised(vectors, alpha_scale=0.5, beta_scale=3.0, noise=noise)
    assert torch.allclose(scaled.alpha, 0.5 * plain.alpha)
    assert torch.allclose(scaled.beta, 3 * plain.beta)


def test_drawn_noise_has_the_stated_mean_and_spread() -> None:
    torch.manual_seed(0)
    vectors = torch.tensor([[0.0, 1.0, 2.0]]).repeat(1, 4000)
    output = noised(vectors)
    deviation = vectors.std().item()
    assert output.alpha.mean().item() == pytest.approx(1, abs=0.03)
    assert output.beta.mean().item() == pytest.approx(1, abs=0.03)
    assert output.alpha.std().item() == pytest.approx(deviation, rel=0.03)
    assert output.beta.std().item() == pytest.approx(deviation, rel=0.03)
    torch.manual_seed(0)
    assert torch.equal(noised(vectors).out, output.out)
    assert not torch.equal(noised(vectors).out, output.out)


def test_no_gradient_flows_through_the_draws() -> None:
    vectors = torch.randn(3, 6, requires_grad=True)
    noise = (torch.randn(3, 6), torch.randn(3, 6))
    output = noised(vectors, noise=noise)
    assert not output.alpha.requires_grad
    assert not output.beta.requires_grad
    (gradient,) = torch.autograd.grad(output.out.square().sum(), vectors, retain_graph=True)
    again = output.alpha * F.instance_norm(vectors[None])[0] + output.beta
    (expected,) = torch.autograd.grad(again.square().sum(), vectors)
    assert torch.allclose(gradient, expected, atol=1e-4)
    assert torch.autograd.grad(output.spread, vectors)[0].abs().max() > 0


def test_half_precision_is_noised_in_full() -> None:
    assert noised(torch.randn(2, 8, dtype=torch.float16)).out.dtype == torch.float32


def test_uncertainty_discounts_and_regularises_a_loss() -> None:
    value = under_uncertainty(torch.tensor(3.0), torch.tensor(math.log(2.0)))
    assert value.item() == pytest.approx((1.5 + math.log(2)) / 2)


def test_the_uncertain_term_starts_alone_and_never_leaves() -> None:
    assert epoch_weight(0, 60) == 1.0
    assert epoch_weight(59, 60) == pytest.approx(0.374, abs=5e-4)
    assert epoch_weight(30, 60, 2.0) == pytest.approx(math.exp(-1))
    assert epoch_weight(5, 60, 0.0) == 1.0


def slow_terms(method: MGUR, noise: tuple[Tensor, Tensor], gamma: float) -> tuple[float, float]:
    """Both terms from published lengths and torch's own cross-entropy."""
    batch = batch_of_maps()
    references, targets = maps_of(batch)
    query, target = (
        4 * method.encode_query(references, batch.tokens),
        4 * method.encode_gallery(targets),
    )
    blurred = noised(target, noise=noise)
    rows = torch.arange(4)
    doubt = F.cross_entropy(query @ blurred.out.T, rows)
    spread = blurred.out.std()
    uncertain = gamma * 0.5 * (torch.exp(-spread) * doubt + spread)
    plain = (1 - gamma) * F.cross_entropy(query @ target.T, rows)
    return uncertain.item(), plain.item()


@pytest.mark.parametrize("epoch", [0, 15, 59])
def test_terms_follow_the_epoch(epoch: int) -> None:
    method = on_maps().eval()
    noise = (torch.randn(4, 7), torch.randn(4, 7))
    method.on_epoch(epoch, 60)
    terms = method.loss_terms(batch_of_maps(), noise=noise)
    uncertain, plain = slow_terms(method, noise, math.exp(-epoch / 60))
    assert terms["uncertainty"].item() == pytest.approx(uncertain, rel=1e-4)
    assert terms["info"].item() == pytest.approx(plain, rel=1e-4)


def test_excluded_columns_cost_nothing_in_either_term() -> None:
    """With all but one negative excluded, both cross-entropies are over two columns."""
    method = on_maps().eval()
    method.on_epoch(30, 60)
    batch = batch_of_maps()
    batch.excluded[:] = True
    batch.excluded[torch.arange(4), (torch.arange(4) + 1) % 4] = False
    noise = (torch.randn(4, 7), torch.randn(4, 7))
    terms = method.loss_terms(batch, noise=noise)
    references, targets = maps_of(batch)
    query, target = (
        4 * method.encode_query(references, batch.tokens),
        4 * method.encode_gallery(targets),
    )
    blurred = noised(target, noise=noise)
    plain, doubt = 0.0, 0.0
    for row in range(4):
        pair = [row, (row + 1) % 4]
        plain += F.cross_entropy(query[row] @ target[pair].T, torch.tensor(0)).item() / 4
        doubt += F.cross_entropy(query[row] @ blurred.out[pair].T, torch.tensor(0)).item() / 4
    gamma = math.exp(-0.5)
    spread = blurred.spread.item()
    expected = gamma * 0.5 * (math.exp(-spread) * doubt + spread)
    assert terms["info"].item() == pytest.approx((1 - gamma) * plain, rel=1e-4)
    assert terms["uncertainty"].item() == pytest.approx(expected, rel=1e-4)


def test_the_text_encoder_has_its_own_rate() -> None:
    method = on_maps()
    rest, text = method.parameter_groups(2e-2)
    assert (rest["lr"], text["lr"]) == (2e-2, pytest.approx(2e-4))
    encoder = {id(parameter) for parameter in method.backbone.text.parameters()}
    assert {id(parameter) for parameter in text["params"]} == encoder
    assert {id(parameter) for parameter in method.text_head.parameters()} <= {
        id(parameter) for parameter in rest["params"]
    }


def test_the_published_warm_up_and_steps() -> None:
    from cir_plugins.config.settings import TrainingSettings
    from cir_plugins.training.optim import rate_factor

    settings = TrainingSettings(MGUR.recipe.train, MGUR.recipe.schedule)
    rates = [rate_factor(settings, 10 * epoch, 10) for epoch in (0, 1, 4, 5, 34, 35, 41, 42, 59)]
    expected = [0.01, 0.208, 0.802, 1, 1, 0.1, 0.1, 0.01, 0.01]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm_scale": -1.0}, "norm_scale must be above 0, not -1.0"),
        ({"gamma_scale": -0.1}, "gamma_scale and text_rate must be at least 0"),
        ({"text_rate": -0.1}, "gamma_scale and text_rate must be at least 0"),
        ({"heads": 3}, "heads must divide"),
    ],
)
def test_options_out_of_range_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_maps(**options)


def test_losses_on_cosines_are_errors() -> None:
    config = config_of(Path("nowhere"), loss={"name": "margin"})
    with pytest.raises(
        CIRError, match="loss 'margin' works on cosines, and noised targets have none"
    ):
        make_plan(registry_of(), config)


def test_three_levels_of_maps_are_errors() -> None:
    backbone = {"name": "tiny_resnet", "text": "roberta", "levels": "three"}
    with pytest.raises(CIRError, match=r"method 'mgur': .*levels"):
        make_plan(registry_of(), config_of(Path("nowhere"), backbone=backbone))


def test_a_checkpoint_needs_its_text_head() -> None:
    content = cosmo_files.checkpoint(
        {
            "text_encoder": {},
            "upper_image_encoder": {"fc.weight": (7, 8), "fc.bias": (7,)},
            "layer4": cosmo_files.compositor_shapes(8, 6),
        },
        torch.randn,
    )
    with pytest.raises(CIRError, match=r"missing: text_fc\naccepted: text_encoder, text_fc"):
        converted_state([content], on_maps(), official_state)


def test_the_published_sizes_fit_an_official_checkpoint() -> None:
    """On the meta device: keys and shapes of the full model, no weights."""
    from transformers import RobertaConfig, RobertaModel

    from baselines_plugin.backbones.text_encoders import RobertaText
    from cir_plugins import WordPieceTokenizer

    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    options = {**MGUR.recipe.backbone.options, "text": "lstm", "rule": "cosmo"}
    with torch.device("meta"):
        backbone = ResNet(weights="random", vocabulary=("red",), **options)
        trunk = backbone.trunk
        text = RobertaText(RobertaModel(config), WordPieceTokenizer("roberta-base", 77))
        whole = MapBackbone(trunk, text, channels=2048, width=512, preprocess=Preprocess())
        method = MGUR(Components(whole, InfoNCE(), InBatch()))
    content = cosmo_files.checkpoint(
        {
            "text_encoder": cosmo_files.roberta_shapes(50265, 514, 1, 768, 3072, 12),
            "lower_image_encoder": cosmo_files.resnet50_shapes(),
            "upper_image_encoder": {"fc.weight": (512, 2048), "fc.bias": (512,)},
            "text_fc": cosmo_files.text_fc_shapes(768, 512),
            "augmenter": {},
            "layer4": cosmo_files.compositor_shapes(2048, 512),
        },
        cosmo_files.empty,
    )
    state = converted_state([content], method, official_state)
    assert state["text_head.1.weight"].shape == (512, 768)


def test_it_trains_and_evaluates_on_drawn_garments(garments_root: Path, tmp_path: Path) -> None:
    train = {"epochs": 3, "batch_size": 8, "validate_every": 0}
    plan = make_plan(registry_of(), config_of(garments_root, train=train, schedule={"warmup": 0.0}))
    outcome = execute(plan, tmp_path / "run", progress=False)
    lines = [
        line for line in outcome.curve if set(line.get("loss_terms", {})) == {"uncertainty", "info"}
    ]
    assert len(lines) == 3
    shares = [line["loss_terms"]["info"] for line in lines]
    assert shares[0] == 0 < shares[1] < shares[2]
    moved = outcome.method.state_dict()["compositor.weights"]  # they start at 1
    assert not torch.allclose(moved, torch.ones(2), atol=1e-4)
    assert 0 <= outcome.report["average"]["recall@10"] <= 1
