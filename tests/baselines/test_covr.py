from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from baselines_plugin.backbones.blip import Blip, TinyBlip
from baselines_plugin.checkpoints.covr import official_covr, official_covr2
from baselines_plugin.methods.covr import CoVR, CoVR2
from baselines_plugin.parts.losses import HardNegativeNCE
from baselines_plugin.parts.token_scores import best_pair, mean_score
from cir_plugins import CIRError, Components, unit
from cir_plugins.builtin.blip2 import Blip2, TinyBlip2
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.runs.convert import converted_state
from cir_plugins.runs.execute import execute
from cir_plugins.testing import check_method
from tests.baselines.lavis_shapes import (
    HEAD,
    TEMP,
    VIT_G,
    Shapes,
    empty,
    filled,
    linear,
    norm,
    qformer,
    visual,
)
from tests.baselines.tiny_runs import plan_of
from tests.parity.triplets import batch_of


def components(backbone: Any) -> Components:
    return Components(backbone, HardNegativeNCE(), InBatch())


def tiny2(**options: Any) -> CoVR2:
    torch.manual_seed(0)
    return CoVR2(components(TinyBlip2(start="random", vision="frozen", dropout=0.0)), **options)


def test_keep_the_contract_of_methods() -> None:
    for loss in (None, HardNegativeNCE()):
        check_method(CoVR2, TinyBlip2(start="random", vision="frozen"), loss=loss)
        check_method(CoVR, TinyBlip(start="random", vision="frozen"), loss=loss)


def test_scores_of_token_sets_by_hand() -> None:
    """Queries {(1,0), (0,1)} and {(1,0), (1,0)}; targets {(0,1), (0,1)} and {(-1,0), (0.6,0.8)}."""
    query = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    target = torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[-1.0, 0.0], [0.6, 0.8]]])
    means = torch.tensor([[0.5, 0.5 * -0.2 + 0.5 * 0.4], [0.0, -0.2]])
    assert torch.allclose(mean_score(query, target), means)
    assert torch.allclose(best_pair(query, target), torch.tensor([[1.0, 0.8], [0.0, 0.6]]))
    method = tiny2(score="max").eval()
    assert torch.equal(method.similarity(query, target), best_pair(query, target))
    assert torch.equal(method.train().similarity(query, target), mean_score(query, target))
    assert torch.equal(tiny2().eval().similarity(query, target), mean_score(query, target))


def test_best_pair_needs_one_product_per_token() -> None:
    """Mining a block of queries took a Python step for each of them."""
    rng = torch.Generator().manual_seed(0)
    query = unit(torch.randn(9, 4, 8, generator=rng)).requires_grad_()
    target = unit(torch.randn(7, 3, 8, generator=rng))
    plain = torch.einsum("bsd,ctd->bcst", query, target).flatten(2).amax(dim=2)
    with count_products() as products:
        result = best_pair(query, target)
    assert products.count == 4  # one for each of the S tokens
    assert torch.allclose(result, plain, atol=1e-6)
    weights = torch.randn(9, 7, generator=rng)
    (gradient,) = torch.autograd.grad((result * weights).sum(), query)
    (expected,) = torch.autograd.grad((plain * weights).sum(), query)
    assert torch.allclose(gradient, expected, atol=1e-6)


class count_products(TorchDispatchMode):  # noqa: N801
    """A counter of the matrix products in its context."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += function is torch.ops.aten.mm.default
        return function(*args, **(kwargs or {}))


def some_batch(method: CoVR2) -> Any:
    images = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    tokens = method.backbone.tokenize(["make it red", "longer and blue", "no"])
    return batch_of([images[:3], images[3:]], tokens)


def test_targets_stay_while_the_queries_learn() -> None:
    method = tiny2()
    batch = some_batch(method)
    trained = [p for p in method.parameters() if p.requires_grad]
    names = {name for name, p in method.named_parameters() if p.requires_grad}
    assert not [name for name in names if name.startswith("untuned.")]
    assert not [name for name in names if "word_embeddings" in name or "vision" in name]
    assert "backbone.model.embeddings.position_embeddings.weight" in names
    before = method.eval().encode_gallery(method.features(batch))
    query_before = method.encode_query(
        method.features(batch), {k: v.repeat(2, 1) for k, v in batch.tokens.items()}
    )
    method.train()
    assert not method.untuned.qformer.training
    optimizer = torch.optim.SGD(trained, lr=0.1)
    torch.stack(list(method.loss_terms(batch).values())).sum().backward()
    optimizer.step()
    method.eval()
    assert torch.equal(method.encode_gallery(method.features(batch)), before)
    now = method.encode_query(
        method.features(batch), {k: v.repeat(2, 1) for k, v in batch.tokens.items()}
    )
    assert not torch.allclose(now, query_before)


def test_captions_of_the_targets_are_a_second_term() -> None:
    method = tiny2(image_weight=0.5, caption_weight=0.5)
    batch = some_batch(method)
    with pytest.raises(ValueError, match="no text variant 'target_caption'"):
        method.loss_terms(batch)
    batch.text_variants = {
        "target_caption": method.backbone.tokenize(["a red dress", "a hat", "boots"])
    }
    terms = method.loss_terms(batch)
    assert list(terms) == ["image", "caption"]
    alone = tiny2().loss_terms(batch)
    assert terms["image"].item() == pytest.approx(alone["image"].item() / 2)
    only = tiny2(image_weight=0.0, caption_weight=1.0).loss_terms(batch)
    assert list(only) == ["caption"]
    assert only["caption"].item() == pytest.approx(2 * terms["caption"].item())
    with pytest.raises(ValueError, match="at least 0, and one above"):
        tiny2(image_weight=0.0)


def test_a_tuned_tower_is_an_error(garments_root: Path) -> None:
    """CoVR's targets must not change during training."""
    for method, backbone in (("covr2", "tiny_blip2"), ("covr", "tiny_blip")):
        with pytest.raises(CIRError, match=r"tuned tower .*\n?.*backbone\.vision=frozen"):
            plan_of(garments_root, method, backbone={"name": backbone})
    frozen = {"name": "tiny_blip2", "vision": "frozen"}
    with pytest.raises(CIRError, match="no reader has captions of targets"):
        plan_of(
            garments_root,
            "covr2",
            backbone=frozen,
            method={"caption_weight": 0.5},
        )


def test_full_size_covr2_keys_are_converted() -> None:
    with torch.device("meta"):
        method = CoVR2(components(Blip2(model="vit_g", weights="random")))
    shapes = {**visual(VIT_G), **qformer(1408)}
    start = {**shapes, **HEAD, **TEMP}
    files = [{"epoch": 5, "model": filled(one, empty)} for one in (shapes, start)]
    state = converted_state(files, method, official_covr2)
    assert state["untuned.query_tokens"].shape == (1, 32, 768)
    assert "untuned.qformer.encoder.layer.11.output_query.dense.weight" in state


def blip_shapes() -> Shapes:
    """BLIP-Large as CoVR keeps it."""
    shapes: Shapes = {
        "visual_encoder.cls_token": (1, 1, 1024),
        "visual_encoder.pos_embed": (1, 577, 1024),
        "visual_encoder.patch_embed.proj.weight": (1024, 3, 16, 16),
        "visual_encoder.patch_embed.proj.bias": (1024,),
        "text_encoder.embeddings.position_ids": (1, 512),
        "text_encoder.embeddings.word_embeddings.weight": (30524, 768),
        "text_encoder.embeddings.position_embeddings.weight": (512, 768),
        **norm("visual_encoder.norm", 1024),
        **norm("text_encoder.embeddings.LayerNorm", 768),
        **linear("vision_proj", 256, 1024),
        **linear("text_proj", 256, 768),
    }
    for block in (f"visual_encoder.blocks.{number}" for number in range(24)):
        shapes |= norm(f"{block}.norm1", 1024) | norm(f"{block}.norm2", 1024)
        shapes |= linear(f"{block}.attn.qkv", 3072, 1024)
        shapes |= linear(f"{block}.attn.proj", 1024, 1024)
        shapes |= linear(f"{block}.mlp.fc1", 4096, 1024) | linear(f"{block}.mlp.fc2", 1024, 4096)
    for layer in (f"text_encoder.encoder.layer.{number}" for number in range(12)):
        for name, inputs in (("attention", 768), ("crossattention", 1024)):
            shapes |= linear(f"{layer}.{name}.self.query", 768, 768)
            shapes |= linear(f"{layer}.{name}.self.key", 768, inputs)
            shapes |= linear(f"{layer}.{name}.self.value", 768, inputs)
            shapes |= linear(f"{layer}.{name}.output.dense", 768, 768)
            shapes |= norm(f"{layer}.{name}.output.LayerNorm", 768)
        shapes |= linear(f"{layer}.intermediate.dense", 3072, 768)
        shapes |= linear(f"{layer}.output.dense", 768, 3072)
        shapes |= norm(f"{layer}.output.LayerNorm", 768)
    return shapes


@pytest.mark.parametrize("prefix", ["", "module."])
def test_full_size_covr_keys_are_converted(prefix: str) -> None:
    with torch.device("meta"):
        method = CoVR(components(Blip(model="blip_large", weights="random")))
    inputs = {prefix + key: value for key, value in filled(blip_shapes(), empty).items()}
    state = converted_state([{"epoch": 5, "model": inputs}], method, official_covr)
    assert state["backbone.model.text_encoder.embeddings.word_embeddings.weight"].shape[0] == 30524


def test_unfitting_checkpoints_are_errors() -> None:
    method = tiny2()
    with pytest.raises(CIRError, match="needs two checkpoints, found 1"):
        official_covr2([{"model": {}}], method)
    with pytest.raises(CIRError, match="no entry 'model'"):
        official_covr2([{"model": {}}, {}], method)
    with pytest.raises(CIRError, match="unexpected: prompt_tokens"):
        official_covr2([{"model": {"prompt_tokens": torch.zeros(1)}}, {"model": {}}], method)
    with pytest.raises(CIRError, match="CoVR has one checkpoint; found 2"):
        official_covr([{}, {}], method)
    with pytest.raises(CIRError, match="unexpected: query_tokens"):
        official_covr([{"model": {"query_tokens": torch.zeros(1)}}], method)


@pytest.mark.parametrize(("method", "backbone"), [("covr2", "tiny_blip2"), ("covr", "tiny_blip")])
def test_they_train_and_evaluate_on_drawn_garments(
    method: str, backbone: str, garments_root: Path, tmp_path: Path
) -> None:
    plan = plan_of(garments_root, method, backbone={"name": backbone, "vision": "frozen"})
    assert plan.loss.name == "hn_nce"
    outcome = execute(plan, tmp_path / "run", progress=False)
    losses = [line["loss"] for line in outcome.curve if "loss" in line]
    assert losses[-1] < losses[0]
    assert 0 <= outcome.report["average"]["recall@10"] <= 1


def test_covr_is_converted_without_the_hub() -> None:
    """The hub's configuration leaves the ViT's epsilon to transformers, which has 1e-5."""
    from cir_plugins import Registry
    from cir_plugins.cli.convert import plan_converted

    config: dict[str, Any] = {"method": {"name": "covr"}, "data": {"name": "cirr", "root": "."}}
    factory: Any = Registry.load().factory("method", "covr")
    plan = plan_converted(config, factory.official_settings, {})
    with torch.device("meta"):
        backbone: Any = plan.backbone.build()
    config = backbone.model.config
    assert config.vision_config.layer_norm_eps == 1e-6
    assert backbone.model.vision_model.post_layernorm.eps == 1e-6
    assert (config.vision_config.image_size, backbone.interpolate) == (384, False)
    assert (backbone.preprocess.size, backbone.preprocess.resize) == (384, "squash")
    assert config.text_config.hidden_dropout_prob == 0.1
    assert backbone.encode_token == 30523
