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
    output = composed(method, case.inputs["reference_map"], text, case.inputs["target_map"])
    result = {f"eval.{name}": value for name, value in output.items()}
    terms = method.loss_terms(batch_of(case, tokens))
    total = torch.stack(list(terms.values())).sum()
    result |= official_gradients(
        total,
        method,
        case.weights,
        lambda weights: official_state(checkpoint(weights), method),
        case.inputs,
    )
    return {**result, "loss.total": total}


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
    """A backbone whose images are feature maps."""
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
    output: Composition = method.compositor(reference, text)
    query_raw, target_raw = backbone.project(output.out), backbone.project(target)
    query, goal = scale * F.normalize(query_raw, dim=1), scale * backbone.encode_gallery(target)
    result = {
        "text_features": text,
        "normalised_map": output.plain,
        "attention1_input": output.plain,
        "attention2_input": output.middle,
        "content_map": output.content,
        "style_gates": output.style.gates,
        "style_gamma_beta": output.style.shifts,
        "composed_map": output.out,
        "query_unnormalised": query_raw,
        "target_unnormalised": target_raw,
        "query": query,
        "target": goal,
        "scores": method.similarity(query, goal),
    }
    return result | attention("attention1", output.first) | attention("attention2", output.second)


def attention(name: str, output: Attended) -> dict[str, Tensor]:
    """Steps of an attention under the names of the cases."""
    return {
        f"{name}_fused": output.fused,
        f"{name}_values": output.values,
        f"{name}_self": output.self_attention,
        f"{name}_global": output.text_attention,
        f"{name}_weights": output.weights,
        f"{name}_out": output.out,
    }


def cross_entropy(method: Any, query: Tensor, target: Tensor) -> Tensor:
    """The method's loss of the published vectors, with target i in column i."""
    scores = method.similarity(query, target) / method.norm_scale**2
    columns = torch.arange(len(scores))
    negatives = ~torch.eye(len(scores), dtype=torch.bool)
    loss: Tensor = method.reduce_loss(method.loss, scores, columns, negatives)
    return loss


def batch_of(case: Case, tokens: dict[str, Tensor]) -> Batch:
    """The case as a batch: references first, then the targets, one column each."""
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
