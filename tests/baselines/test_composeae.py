from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines_plugin.backbones.resnet import MapBackbone, TinyResNet
from baselines_plugin.methods.composeae import ComposeAE, official_state
from baselines_plugin.parts.rotation import Composer, Rotation
from cir_plugins import CIRError, Components, Preprocess, Tokens
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.runs.convert import converted_state
from cir_plugins.testing import check_method
from tests.baselines.official_shapes import empty, layer, norm, resnet18, tirg_encoders
from tests.baselines.runs import batch_of, losses_of, plan_of

METHOD = "baselines_plugin.methods.composeae:ComposeAE"


class Given(nn.Module):
    """A text encoder whose vectors are the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.tokenizer = dict

    def forward(self, tokens: Tokens) -> Tensor:
        """The input vectors."""
        return tokens["vector"]


def small(**options: Any) -> ComposeAE:
    torch.manual_seed(0)
    backbone = MapBackbone(nn.Identity(), Given(3), channels=4, width=4, preprocess=Preprocess())
    return ComposeAE(Components(backbone, InfoNCE(), InBatch()), **{"channels": 4, **options})


def random_inputs(count: int = 6) -> tuple[Tensor, dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, 4, 2, 2, generator=rng), {
        "vector": torch.randn(count // 2, 3, generator=rng)
    }


@pytest.mark.parametrize("variant", ["complex", "real"])
@pytest.mark.parametrize("objective", ["classification", "soft_triplet"])
def test_methods_contract(variant: str, objective: str) -> None:
    backbone = TinyResNet(start="random", width=16, text="bert")
    options = {"variant": variant, "objective": objective, "channels": 8}
    check_method(ComposeAE, backbone, options=options)


def test_a_rotation_is_magnitude_and_angle() -> None:
    rotation: Any = Rotation(2, 1, dropout=0.0).eval()
    with torch.no_grad():
        for parameter in rotation.parameters():
            parameter.zero_()
        rotation.image[4].bias.copy_(torch.tensor([2.0, -3.0]))
        rotation.text[3].bias.copy_(torch.tensor([math.pi / 2, math.pi / 3]))
    image, text = torch.ones(1, 2), torch.ones(1, 1)
    turned = rotation(image, text, 1)
    assert turned.size.flatten().tolist() == [2.0, -3.0]
    assert turned.real.flatten().tolist() == pytest.approx([0.0, -1.5], abs=1e-6)
    assert turned.imaginary.flatten().tolist() == pytest.approx([2.0, -1.5 * 3**0.5], abs=1e-5)
    back = rotation(image, text, -1)
    assert torch.equal(back.real, turned.real)
    assert torch.equal(back.imaginary, -turned.imaginary)


def test_the_linear_branch_starts_ten_times_as_heavy() -> None:
    composer = Composer(4, 3, channels=2, pool=5).eval()
    composed = composer(torch.randn(2, 4), torch.randn(2, 3))
    assert composed.pooled.shape == (2, 10)
    assert torch.allclose(composed.out, 10 * composed.rho_linear + composed.rho_convolved)


def test_default_pooling_matches_the_linear_input() -> None:
    """The pooling makes the convolution as wide as the linear branch's input."""
    assert Composer(512, 768).pool.output_size == 16
    assert Composer(512, 768, space="real").pool.output_size == 20


def test_terms_are_weighted() -> None:
    features, tokens = random_inputs()
    method = small(image_weight=0.5, text_weight=0.25, rotation_weight=2.0).eval()
    batch = batch_of(features, tokens)
    plain, terms = method.unweighted_terms(batch), method.loss_terms(batch)
    weights = {"loss": 1.0, "decode_image": 0.5, "decode_text": 0.25, "rotation": 2.0}
    assert terms.keys() == weights.keys()
    for name, weight in weights.items():
        assert terms[name].item() == pytest.approx(weight * plain[name].item(), rel=1e-6)
    image = method.backbone.project(features[:3])
    out = method.composer(image, tokens["vector"]).out
    decoded = ((method.image_decoder(out) - image) ** 2).mean()
    assert plain["decode_image"].item() == pytest.approx(decoded.item(), rel=1e-5)
    back = method.composer(method.backbone.project(features[3:]), tokens["vector"], sign=-1).out
    logits = 16 * nn.functional.normalize(back) @ nn.functional.normalize(image).T
    expected = nn.functional.cross_entropy(logits, torch.arange(3))
    assert plain["rotation"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_shared_reference_is_no_negative() -> None:
    """A reference of two queries must not be pushed away by either."""
    features, tokens = random_inputs()
    method = small().eval()
    batch = batch_of(features, tokens)
    batch.reference = torch.tensor([0, 0, 1])
    image = method.backbone.project(features[batch.reference])
    back = method.composer(method.backbone.project(features[3:]), tokens["vector"], sign=-1).out
    scores = 16 * nn.functional.normalize(back) @ nn.functional.normalize(image).T
    rows = [[0, 2], [1, 2], [0, 1, 2]]
    losses = [scores[i, columns].logsumexp(0) - scores[i, i] for i, columns in enumerate(rows)]
    assert method.unweighted_terms(batch)["rotation"].item() == pytest.approx(
        torch.stack(losses).mean().item(), rel=1e-5
    )
    batch.reference = torch.zeros(3, dtype=torch.long)
    assert "rotation" not in method.unweighted_terms(batch)


def test_terms_of_weight_zero_are_left_out() -> None:
    """Real space has no symmetric pass, and a weight of 0 removes its term."""
    batch = batch_of(*random_inputs())
    assert list(small(variant="real").unweighted_terms(batch)) == [
        "loss",
        "decode_image",
        "decode_text",
    ]
    assert list(
        small(image_weight=0.0, text_weight=0.0, rotation_weight=0.0).unweighted_terms(batch)
    ) == ["loss"]


def released(variant: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"a": (4,), **tirg_encoders(40, 768)}
    shapes |= norm("decoder.0", 512) | layer("decoder.2", 512, 512) | layer("decoder.4", 512, 512)
    shapes |= norm("txtdecoder.0", 512) | layer("txtdecoder.2", 768, 512)
    shapes |= layer("txtdecoder.4", 768, 768)
    size = 1024 if variant == "complex" else 1280
    for encoder in ("encoderLinear", "encoderWithConv"):
        shapes |= norm(f"{encoder}.1.mapping.0", size) | layer(f"{encoder}.1.mapping.2", 512, size)
        shapes |= layer(f"{encoder}.1.mapping.4", 512, 512)
        if variant == "complex":
            text, image = f"{encoder}.0.bert_features", f"{encoder}.0.image_features"
            shapes |= norm(f"{text}.0", 768) | norm(f"{image}.0", 512)
            shapes |= layer(f"{text}.1", 512, 768) | layer(f"{text}.3", 512, 512)
            shapes |= layer(f"{image}.1", 512, 512) | layer(f"{image}.4", 512, 512)
    conv = "conv" if variant == "complex" else "conv1"
    return shapes | layer(f"encoderWithConv.1.{conv}", 64, 5 if variant == "complex" else 1, 3)


@pytest.mark.parametrize("variant", ["complex", "real"])
def test_keys_and_shapes_of_the_released_checkpoints(variant: str) -> None:
    """At full size, on the meta device; BERT's part comes from the method."""
    with torch.device("meta"):
        trunk = nn.Module()
        for key, shape in resnet18("").items():
            owner: Any = trunk
            *path, name = key.split(".")
            for step in path:
                if not hasattr(owner, step):
                    owner.add_module(step, nn.Module())
                owner = getattr(owner, step)
            owner.register_buffer(name, torch.empty(shape))
        text = Given(768)
        text.frozen = nn.Linear(2, 2)
        backbone = MapBackbone(trunk, text, channels=512, width=512, preprocess=Preprocess())
        method = ComposeAE(Components(backbone, InfoNCE(), InBatch()), variant=variant)  # type: ignore[arg-type]
    shapes = released(variant)
    state = converted_state([{"model_state_dict": empty(shapes)}], method, official_state)
    unused = sum(key.startswith("text_model.") for key in shapes)
    assert len(state) == len(shapes) - unused + 2
    other = {**empty(shapes), "gated_feature_composer.3.bias": torch.empty(512)}
    with pytest.raises(CIRError, match=r"unexpected: gated_feature_composer\.3\.bias"):
        converted_state([{"model_state_dict": other}], method, official_state)


def test_the_fashioniq_recipe_is_real_space(garments_root: Path) -> None:
    plan = plan_of(METHOD, garments_root, backbone={"text": "bert"}, train={"lr": 0.01})
    assert plan.method.options["variant"] == "real"
    assert plan.data.options["caption_mode"] == "category_and_it"


@pytest.mark.parametrize("variant", ["complex", "real"])
def test_a_run_on_drawn_garments_learns(garments_root: Path, tmp_path: Path, variant: str) -> None:
    plan = plan_of(
        METHOD,
        garments_root,
        method={"variant": variant, "channels": 8},
        backbone={"text": "bert"},
        train={"epochs": 2, "lr": 0.01, "validate_every": 0},
    )
    outcome, losses = losses_of(plan, tmp_path / "run")
    assert losses[-1] < losses[0]
    assert 0 <= outcome.report["average"]["recall@10"] <= 1
