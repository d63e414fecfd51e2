"""Our numbers for CoSMo's parity cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines_plugin.backbones.resnet import MapBackbone
from baselines_plugin.backbones.text_encoders import LstmText
from baselines_plugin.backbones.vocabulary import SPECIALS
from baselines_plugin.methods.cosmo import CoSMo, official_state
from baselines_plugin.parts.compositor import Attended, Composition
from cir_plugins import Batch, Components, Preprocess
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from tests.parity.cases import Case, load_official, official_gradients, split_entries

_ENTRIES = ("text_encoder", "upper_image_encoder", "layer4")


def outputs(case: Case) -> dict[str, Tensor]:
    """Every number we have for a case."""
    method = built(case)
    tokens = {"ids": case.inputs["token_ids"], "lengths": case.inputs["lengths"]}
    text = method.backbone.describe(tokens)
    made = composed(method, case.inputs["reference_map"], text, case.inputs["target_map"])
    found = {f"eval.{name}": value for name, value in made.items()}
    terms = method.loss_terms(batch_of(case, tokens))
    total = torch.stack(list(terms.values())).sum()
    found |= official_gradients(
        total,
        method,
        case.weights,
        lambda weights: official_state(checkpoint(weights), method),
        case.inputs,
    )
    return {**found, "loss.total": total}


def built(case: Case) -> CoSMo:
    """The method of a case with its weights, no dropout."""
    settings = case.meta["settings"]
    words = [f"word{number}" for number in range(settings["vocab_size"] - SPECIALS["cosmo"])]
    text = LstmText(
        words,
        "cosmo",
        word_width=settings["word_embedding_size"],
        state_width=settings["lstm_hidden_size"],
        width=settings["text_feature_size"],
        dropout=0.0,
    )
    method = CoSMo(
        in_batch(map_backbone(settings, text)),
        heads=settings["num_heads"],
        norm_scale=settings["norm_scale"],
    )
    load_official(method, checkpoint(case.weights), official_state)
    return method.eval()


def map_backbone(settings: dict[str, Any], text: nn.Module) -> MapBackbone:
    """A backbone that takes given maps."""
    return MapBackbone(
        nn.Identity(),
        text,
        channels=settings["map_channels"],
        width=settings["feature_size"],
        preprocess=Preprocess(),
    )


def in_batch(backbone: nn.Module) -> Components:
    """Cross-entropy over the batch on a backbone."""
    return Components(backbone, InfoNCE(), InBatch())


def checkpoint(weights: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The stored weights as the official file holds them."""
    return [{"model_state_dict": split_entries(weights, *_ENTRIES)}]


def composed(method: Any, reference: Tensor, text: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Maps, vectors and scores on the way from two maps and a text to the logits."""
    backbone, scale = method.backbone, method.norm_scale
    made: Composition = method.compositor(reference, text)
    asked, wanted = backbone.project(made.out), backbone.project(target)
    query, goal = scale * F.normalize(asked, dim=1), scale * backbone.encode_gallery(target)
    found = {
        "text_features": text,
        "normalised_map": made.plain,
        "attention1_input": made.plain,
        "attention2_input": made.middle,
        "content_map": made.content,
        "style_gates": made.style.gates,
        "style_gamma_beta": made.style.shifts,
        "composed_map": made.out,
        "query_unnormalised": asked,
        "target_unnormalised": wanted,
        "query": query,
        "target": goal,
        "scores": method.similarity(query, goal),
    }
    return found | attention("attention1", made.first) | attention("attention2", made.second)


def attention(name: str, made: Attended) -> dict[str, Tensor]:
    """Steps of an attention under the names of the cases."""
    return {
        f"{name}_fused": made.fused,
        f"{name}_values": made.values,
        f"{name}_self": made.places,
        f"{name}_global": made.asked,
        f"{name}_weights": made.weights,
        f"{name}_out": made.out,
    }


def cross_entropy(method: Any, query: Tensor, target: Tensor) -> Tensor:
    """The method's own price of the published vectors, row i's answer in column i."""
    scores = method.similarity(query, target) / method.norm_scale**2
    own = torch.arange(len(scores))
    negatives = ~torch.eye(len(scores), dtype=torch.bool)
    price: Tensor = method.reduce_loss(method.loss, scores, own, negatives)
    return price


def batch_of(case: Case, tokens: dict[str, Tensor]) -> Batch:
    """The case as a batch: references first, then the targets, each a column of its own."""
    reference = case.inputs["reference_map"]
    rows = len(reference)
    return Batch(
        images=None,
        features=torch.cat([reference, case.inputs["target_map"]]),
        reference=torch.arange(rows),
        candidates=torch.arange(rows, 2 * rows),
        target=torch.arange(rows),
        excluded=torch.zeros(rows, rows, dtype=torch.bool),
        text=[""] * rows,
        tokens=tokens,
    )
