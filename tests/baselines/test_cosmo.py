from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines_plugin.backbones.resnet import MapBackbone, ResNet, TinyResNet
from baselines_plugin.backbones.text_encoders import LstmText
from baselines_plugin.methods.cosmo import CoSMo, official_state
from cir_plugins import Batch, Components, Preprocess, hookimpl
from cir_plugins.builtin.losses import InfoNCE, Margin
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.config.resolve import make_plan
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.convert import converted_state
from cir_plugins.runs.execute import execute
from cir_plugins.testing import check_method
from tests.baselines import cosmo_files

WORDS = ("blue", "is", "longer", "red", "sleeves")


def words_of(root: Path) -> tuple[str, ...]:
    """Every word of a drawn set's captions."""
    files = sorted((root / "captions").glob("cap.*.json"))
    captions = [
        text for file in files for row in json.loads(file.read_text()) for text in row["captions"]
    ]
    return tuple(sorted({word for text in captions for word in text.lower().split()}))


def on_maps(loss: Any = None, **options: Any) -> CoSMo:
    """The method over maps of 8 channels."""
    torch.manual_seed(0)
    text = LstmText(WORDS, "cosmo", word_width=6, state_width=6, width=5, dropout=0.0)
    backbone = MapBackbone(nn.Identity(), text, channels=8, width=7, preprocess=Preprocess())
    return CoSMo(Components(backbone, loss or InfoNCE(), InBatch()), **{"heads": 2, **options})


def batch_of_maps(rows: int = 4) -> Batch:
    """A batch of triplets with distinct references and targets."""
    rng = torch.Generator().manual_seed(1)
    return Batch(
        images=None,
        features=torch.rand(2 * rows, 8, 3, 2, generator=rng),
        reference=torch.arange(rows),
        candidates=torch.arange(rows, 2 * rows),
        target=torch.arange(rows),
        excluded=torch.zeros(rows, rows, dtype=torch.bool),
        text=[""] * rows,
        tokens={
            "ids": torch.randint(4, 9, (rows, 3), generator=rng),
            "lengths": torch.tensor([3, 1, 2, 3] * rows)[:rows],
        },
    )


def maps_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """References and targets of ``batch_of_maps``."""
    assert batch.features is not None
    references, targets = batch.features.chunk(2)
    return references, targets


def small_checkpoint() -> dict[str, Any]:
    """An official checkpoint of ``on_maps``' size, filled at random."""
    entries = {
        "text_encoder": cosmo_files.lstm_shapes(len(WORDS) + 4, 6, 6, 5),
        "lower_image_encoder": {},
        "upper_image_encoder": {"fc.weight": (7, 8), "fc.bias": (7,)},
        "layer4": cosmo_files.compositor_shapes(8, 5),
    }
    return cosmo_files.checkpoint(entries, torch.randn)


def tiny() -> TinyResNet:
    return TinyResNet(start="random", text="lstm", rule="cosmo", vocabulary=WORDS)


def plan_of(root: Path, **config: Any) -> Any:
    def cir_methods() -> Any:
        return {"cosmo": CoSMo}

    def cir_backbones() -> Any:
        return {"tiny_resnet": TinyResNet}

    plugin = SimpleNamespace(
        cir_methods=hookimpl(cir_methods), cir_backbones=hookimpl(cir_backbones)
    )
    registry = Registry.load({"mine": plugin})
    assert not registry.failures
    words = list(words_of(root))
    backbone = {"name": "tiny_resnet", "start": "random", "rule": "cosmo", "vocabulary": words}
    content = {
        "method": {"name": "cosmo"},
        "backbone": backbone,
        "data": {"name": "fashioniq", "root": str(root), "categories": ["dress"]},
        "run": {"device": "cpu", "workers": 0},
        **config,
    }
    return make_plan(registry, content)


def test_it_keeps_the_contract_of_methods() -> None:
    check_method(CoSMo, tiny())


def test_logits_are_sixteen_times_the_cosine() -> None:
    method, batch = on_maps(), batch_of_maps()
    references, targets = maps_of(batch)
    query, target = method.encode_query(references, batch.tokens), method.encode_gallery(targets)
    assert torch.allclose(query.norm(dim=1), torch.ones(4), atol=1e-5)
    expected = F.cross_entropy(16 * query @ target.T, torch.arange(4))
    terms = method.loss_terms(batch)
    assert list(terms) == ["loss"]
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    louder = on_maps(norm_scale=2.0).loss_terms(batch)["loss"].item()
    quiet = F.cross_entropy(4 * query @ target.T, torch.arange(4)).item()
    assert louder == pytest.approx(quiet, rel=1e-5)


def test_the_query_uses_the_targets_head() -> None:
    """The query is the composed map under the head of the targets."""
    method, batch = on_maps(), batch_of_maps()
    references, _ = maps_of(batch)
    text = method.backbone.describe(batch.tokens)
    maps = method.compositor(references, text).out
    head = method.backbone.head
    pooled = maps.flatten(2).mean(dim=2) @ head.weight.T + head.bias
    query = method.encode_query(references, batch.tokens)
    assert torch.allclose(query, pooled / pooled.norm(dim=1, keepdim=True), atol=1e-6)


def test_there_is_no_temperature_to_learn() -> None:
    method = on_maps()
    assert method.temperature.item() == pytest.approx(1 / 16)
    trained = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert "log_temperature" not in trained
    assert "compositor.weights" in trained


def test_another_loss_takes_the_same_scores() -> None:
    method, batch = on_maps(Margin(margin=0.3)), batch_of_maps()
    references, targets = maps_of(batch)
    query, target = method.encode_query(references, batch.tokens), method.encode_gallery(targets)
    scores = query @ target.T
    losses = [
        max(0.0, 0.3 - (scores[row, row] - scores[row, other]).item()) / 3
        for row in range(4)
        for other in range(4)
        if other != row
    ]
    assert method.loss_terms(batch)["loss"].item() == pytest.approx(sum(losses) / 4, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm_scale": 0.0}, "norm_scale must be above 0, not 0.0"),
        ({"heads": 3}, "heads must div"),
    ],
)
def test_options_out_of_range_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_maps(**options)


def test_three_levels_of_maps_are_errors(garments_root: Path) -> None:
    with pytest.raises(CIRError, match=r"method 'cosmo': .*levels"):
        plan_of(
            garments_root,
            backbone={"name": "tiny_resnet", "rule": "cosmo", "levels": "three"},
        )


def test_an_official_checkpoint_is_taken_key_by_key() -> None:
    method = on_maps()
    content = small_checkpoint()
    method.load_state_dict(converted_state([content], method, official_state), strict=True)
    tensors = content["model_state_dict"]
    first = tensors["layer4"]["att_module.self_att_generator.W_q.weight"]
    second = tensors["layer4"]["att_module2.merge.weight"]
    gate = tensors["layer4"]["global_styler.gate.linear.weight_orig"]
    assert torch.equal(method.compositor.first.query.weight, first)
    assert torch.equal(method.compositor.second.fuse.weight, second)
    assert torch.equal(method.compositor.style.gate.weight, gate)
    assert torch.equal(method.backbone.head.weight, tensors["upper_image_encoder"]["fc.weight"])
    assert method.temperature.item() == pytest.approx(1 / 16)


def test_unfitting_checkpoints_are_errors() -> None:
    method = on_maps()

    def assert_error(message: str, content: dict[str, Any]) -> None:
        with pytest.raises(CIRError, match=message):
            converted_state([content], method, official_state)

    assert_error("no 'model_state_dict'; it holds: Combiner", {"Combiner": {}})
    content = small_checkpoint()
    del content["model_state_dict"]["layer4"]
    content["model_state_dict"]["text_fc"] = {}
    assert_error(r"missing: layer4; unexpected: text_fc\naccepted: text_encoder, upper", content)
    content = small_checkpoint()
    content["model_state_dict"]["layer4"]["att_module3.W_v.weight"] = torch.ones(1)
    assert_error(r"entry 'layer4' does not fit; unexpected: att_module3\.W_v\.weight", content)
    content = small_checkpoint()
    del content["model_state_dict"]["layer4"]["att_module.merge.weight"]
    assert_error("missing: compositor.first.fuse.weight", content)
    content = small_checkpoint()
    content["model_state_dict"]["layer4"]["weights"] = torch.ones(3)
    assert_error(r"shapes: compositor.weights \(3,\) instead of \(2,\)", content)


def test_the_published_sizes_fit_an_official_checkpoint() -> None:
    """On the meta device: keys and shapes of the full model, no weights."""
    words = tuple(f"word{number}" for number in range(4672))
    options = CoSMo.recipe.backbone.options
    with torch.device("meta"):
        backbone = ResNet(weights="random", vocabulary=words, **options)
        method = CoSMo(Components(backbone, InfoNCE(), InBatch()))
    content = cosmo_files.checkpoint(
        {
            "text_encoder": cosmo_files.lstm_shapes(4676, 512, 512, 512),
            "lower_image_encoder": cosmo_files.resnet50_shapes(),
            "upper_image_encoder": {"fc.weight": (512, 2048), "fc.bias": (512,)},
            "layer4": cosmo_files.compositor_shapes(2048, 512),
        },
        cosmo_files.empty,
    )
    state = converted_state([content], method, official_state)
    assert state["compositor.first.fuse.weight"].shape == (2048, 2560, 1, 1)
    assert state["backbone.trunk.layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)


def test_it_trains_and_evaluates_on_drawn_garments(garments_root: Path, tmp_path: Path) -> None:
    plan = plan_of(
        garments_root, train={"epochs": 4, "batch_size": 8, "lr": 1e-3, "validate_every": 0}
    )
    assert plan.data.options["caption_mode"] == "both_orders"
    outcome = execute(plan, tmp_path / "run", progress=False)
    losses = [line["loss"] for line in outcome.curve if "loss" in line]
    assert losses[-1] < losses[0]
    assert 0 <= outcome.report["average"]["recall@10"] <= 1
