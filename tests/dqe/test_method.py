from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.losses import Pairwise
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import Config
from cir_plugins.data.batches import BatchPlan, BatchSource
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Registry
from cir_plugins.types import Batch
from dqe_plugin import hooks
from dqe_plugin.attributes import mentions
from dqe_plugin.method import DQEPublished
from dqe_plugin.sampler import TargetRelative
from tests.fakes import FakeBackbone, components, table_of


def made_up(
    folder: Path, mined: Tensor | None = None, **options: Any
) -> tuple[DQEPublished, Batch]:
    backbone = FakeBackbone(targets=3)
    batch = BatchSource(table_of(folder, positives=1), backbone, seed=0)[
        BatchPlan(0, 0, (0, 1, 2, 3), mined)
    ]
    torch.manual_seed(1)
    output = components(backbone, sampler=TargetRelative(), loss=Pairwise(), negatives="mined")
    return DQEPublished(output, **{**DQEPublished.recipe.options, **options}), batch


def mined_for(folder: Path) -> Tensor:
    """One negative per row that is not its target."""
    return torch.tensor(
        [[(row.target + 1) % 12] for row in table_of(folder, positives=1).triplets[:4]]
    )


def test_without_attributes_it_is_qures_pairwise_loss(tmp_path: Path) -> None:
    """-log sigmoid((s_p - s_n) / tau), its mean and its gradient with respect to the scores."""
    method, batch = made_up(
        tmp_path, mined_for(tmp_path), attributes=(), margin_weight=0.0, temperature=0.2
    )
    terms = method.loss_terms(batch)
    assert list(terms) == ["loss"]
    backbone = method.backbone
    assert batch.images is not None
    assert batch.mined is not None
    features = backbone.features(batch.images)
    query = backbone.encode_query(features[batch.reference], batch.tokens)
    target = backbone.encode_gallery(features[batch.candidates])
    scores = torch.stack([(target @ vector).amax(dim=1) for vector in query])
    temperature = method.temperature
    total = scores.new_zeros(())
    for row in range(4):
        (negative,) = batch.mined[row].nonzero().flatten().tolist()
        lead = scores[row, batch.target[row]] - scores[row, negative]
        total = total - torch.log(torch.sigmoid(lead / temperature)) / 4
    assert terms["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(terms["loss"], trained, allow_unused=True)
    expected = torch.autograd.grad(total, trained, allow_unused=True)
    pairs = [(a, b) for a, b in zip(gradients, expected, strict=True) if b is not None]
    assert len(pairs) >= 6
    assert all(a is not None and torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_zero_gates_give_the_backbones_query(tmp_path: Path) -> None:
    """With its gates at zero the query is the backbone's, to the bit."""
    method, batch = made_up(tmp_path)
    assert method.weighting is not None
    assert batch.images is not None
    features = method.backbone.features(batch.images)[batch.reference]
    plain = method.backbone.encode_query(features, batch.tokens)
    assert not torch.equal(method.encode_query(features, batch.tokens), plain)
    with torch.no_grad():
        method.weighting.gate.bias.fill_(-200.0)
    assert torch.equal(method.encode_query(features, batch.tokens), plain)


def test_query_is_the_gated_sum_at_unit_length(tmp_path: Path) -> None:
    method, batch = made_up(tmp_path, gate=0.7)
    assert method.weighting is not None
    assert batch.images is not None
    features = method.backbone.features(batch.images)[batch.reference]
    fused = method.backbone.fuse(features, batch.tokens)
    projected = method.backbone.project_text(fused.tokens)
    output = method.weighting(fused.tokens, fused.text, projected)
    for row in range(4):
        whole = projected[row].mean(dim=0)
        for attribute in range(2):
            whole = whole + output.gates[row, attribute] * output.sub_queries[row, attribute]
        query = method.encode_query(features, batch.tokens)[row]
        assert torch.allclose(query, whole / whole.norm(), atol=1e-6)


def test_weights_scale_or_remove_terms(tmp_path: Path) -> None:
    """Terms are weighted, and those of weight 0 are left out."""
    mined = mined_for(tmp_path)
    method, batch = made_up(tmp_path, mined)
    terms = method.loss_terms(batch)
    assert list(terms) == ["loss", "margin", "attribute"]
    doubled, _ = made_up(tmp_path, mined, margin_weight=2.0, attribute_weight=1.0)
    twice = doubled.loss_terms(batch)
    assert twice["loss"].item() == terms["loss"].item()
    assert twice["margin"].item() == pytest.approx(2 * terms["margin"].item())
    assert twice["attribute"].item() == pytest.approx(2 * terms["attribute"].item())
    without, _ = made_up(tmp_path, mined, margin_weight=0.0, attribute_weight=0.0)
    assert list(without.loss_terms(batch)) == ["loss"]


def test_the_attribute_term_covers_mentioned_attributes(tmp_path: Path) -> None:
    """Attributes that a text does not mention have no loss."""
    method, batch = made_up(tmp_path, mined_for(tmp_path), attribute_margin=0.5)
    batch.text = ["nothing of that", "is blue", "more", "red and long"]
    mask = mentions(batch.text, method.attributes)
    assert mask.tolist() == [[False, False], [True, False], [False, False], [True, True]]
    assert batch.images is not None
    assert batch.mined is not None
    assert method.weighting is not None
    features = method.backbone.features(batch.images)
    fused = method.backbone.fuse(features[batch.reference], batch.tokens)
    projected = method.backbone.project_text(fused.tokens)
    output = method.weighting(fused.tokens, fused.text, projected)
    target = method.backbone.encode_gallery(features[batch.candidates])
    losses = []
    for row, attribute in mask.nonzero().tolist():
        sub_query = output.sub_queries[row, attribute]
        scores = (target @ (sub_query / sub_query.norm())).amax(dim=1)
        (negative,) = batch.mined[row].nonzero().flatten().tolist()
        lead = scores[batch.target[row]] - scores[negative]
        losses.append(max(0.0, 0.5 - lead.item()))
    expected = method.attribute_weight * sum(losses) / 3
    assert method.loss_terms(batch)["attribute"].item() == pytest.approx(expected, rel=1e-5)
    assert expected > 0
    batch.text = ["nothing of that"] * 4
    assert method.loss_terms(batch)["attribute"].item() == 0.0


def test_embeddings_of_attributes_start_at_their_words(tmp_path: Path) -> None:
    method, _ = made_up(tmp_path, attributes=("sleeve", "pattern"))
    assert method.weighting is not None
    words = method.backbone.embed_words(["sleeve", "pattern"])
    assert torch.equal(method.weighting.embedding.detach(), words)


def test_repeated_attributes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attributes must be distinct, not shape, shape"):
        made_up(tmp_path, attributes=("shape", "shape"))


def test_training_moves_every_weight_of_it(tmp_path: Path) -> None:
    method, batch = made_up(tmp_path, mined_for(tmp_path), gate=0.3, attribute_margin=0.5)
    sum(method.loss_terms(batch).values()).backward()  # type: ignore[union-attr]
    silent = [
        name
        for name, parameter in method.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert silent == ["backbone.to_target"] or not silent


def test_query_tokens_are_checked_in_the_plan() -> None:
    """A backbone without query tokens is an error before anything is built."""
    registry = Registry.load({"dqe": hooks})
    assert not registry.failures
    config = {
        "method": {"name": "dqe"},
        "backbone": {"name": "tiny_clip"},
        "data": {"name": "fashioniq", "root": "nowhere"},
    }
    with pytest.raises(
        CIRError,
        match=r"method 'dqe' needs query_tokens, which backbone 'tiny_clip' does not offer "
        r"\(it offers: image_embedding, raw_embeddings, text_embedding\)",
    ):
        make_plan(registry, config)
    plan = make_plan(registry, {**config, "backbone": {"name": "tiny_blip2"}})
    assert (plan.sampler.name, plan.loss.name) == ("target_relative", "info_nce")
    assert (plan.mining.filter, plan.mining.scored_by) == ("corpus", "queries")
    published = {**config, "method": {"name": "dqe_published"}}
    plan = make_plan(registry, {**published, "backbone": {"name": "tiny_blip2"}})
    assert (plan.sampler.name, plan.loss.name) == ("target_relative", "pairwise")
    assert (plan.mining.negatives, plan.mining.per_query) == ("mined", 1)


def test_the_published_form_has_the_options_of_its_recipe() -> None:
    registry = Registry.load({"dqe": hooks})
    config = {"backbone": {"name": "tiny_blip2"}, "data": {"name": "fashioniq", "root": "nowhere"}}

    def planned(*layers: Config) -> tuple[Any, Any]:
        options = make_plan(registry, config, *layers).method.options
        return options["attributes"], options["margin_weight"]

    published: Config = {"method": {"name": "dqe_published"}}
    assert planned(published) == (("colour", "shape"), 1.0)
    assert planned(published, {"method": {"margin_weight": 0.5}}) == (("colour", "shape"), 0.5)
    assert planned(published, {"method": {"name": "dqe"}}) == ((), 0.0)
