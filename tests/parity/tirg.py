"""Our numbers for TIRG's parity cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from baselines_plugin.backbones.resnet import MapBackbone
from baselines_plugin.backbones.text_encoders import LstmText
from baselines_plugin.methods.tirg import TIRG, Gated, official_state
from cir_plugins import Batch, Components, Preprocess
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from tests.parity.cases import Case, load_official, official_gradients

VARIANTS = {
    "tirg": "tirg",
    "tirg_lastconv": "lastconv",
    "concat": "concat",
    "imgonly": "image_only",
    "textonly": "text_only",
}


def outputs(case: Case) -> dict[str, Tensor]:
    """All stored outputs, from fresh models for evaluation, training and soft triplets."""
    result = in_evaluation(case)
    result |= in_training(case)
    result |= triplet_gradients(case)
    return result


def build(case: Case) -> TIRG:
    settings: dict[str, Any] = case.meta["settings"]
    size = settings["embed_dim"]
    words = [f"word{index}" for index in range(settings["vocab_size"] - 1)]
    text = LstmText(words, "tirg", word_width=size, state_width=size, width=size, dropout=0.0)
    backbone = MapBackbone(
        nn.Identity(),
        text,
        channels=settings["map_channels"],
        width=size,
        preprocess=Preprocess(),
    )
    components = Components(backbone, InfoNCE(), InBatch())
    method = TIRG(components, variant=VARIANTS[settings["model"]], dropout=0.0)  # type: ignore[arg-type]
    load_official(method, [case.weights], official_state)
    return method


def batch_of(case: Case, tokens: dict[str, Tensor]) -> Batch:
    """Query i with reference i and target i, in official order."""
    rows = len(case.inputs["reference_map"])
    return Batch(
        images=None,
        features=torch.cat([case.inputs["reference_map"], case.inputs["target_map"]]),
        reference=torch.arange(rows),
        candidates=torch.arange(rows, 2 * rows),
        target=torch.arange(rows),
        excluded=torch.zeros(rows, rows, dtype=torch.bool),
        text=[""] * rows,
        tokens=tokens,
    )


def tokens_of(case: Case) -> dict[str, Tensor]:
    return {"ids": case.inputs["token_ids"], "lengths": case.inputs["lengths"]}


def gate_of(method: TIRG, case: Case) -> dict[str, Tensor]:
    reference = case.inputs["reference_map"]
    image = reference if method.variant == "lastconv" else method.backbone.project(reference)
    composed = method.composer(image, method.backbone.describe(tokens_of(case)))
    if not isinstance(composed, Gated):
        return {}
    return {"gate_logits": composed.gate, "residual": composed.residual}


@torch.no_grad()
def in_evaluation(case: Case) -> dict[str, Tensor]:
    method = build(case).eval()
    reference, target = case.inputs["reference_map"], case.inputs["target_map"]
    query, target_unit = (
        method.encode_query(reference, tokens_of(case)),
        method.encode_gallery(target),
    )
    result = {
        "query": method.compose(reference, tokens_of(case)),
        "target": method.backbone.project(target),
        "query_normalised": query,
        "target_normalised": target_unit,
        "scores": method.similarity(query, target_unit),
        "image_features": method.backbone.project(reference),
        "text_features": method.backbone.describe(tokens_of(case)),
        **gate_of(method, case),
    }
    return {f"eval.{name}": value for name, value in result.items()}


def in_training(case: Case) -> dict[str, Tensor]:
    method = build(case).train()
    query = method.compose(case.inputs["reference_map"], tokens_of(case))
    target = method.backbone.project(case.inputs["target_map"])
    scaled = method.scaled(query), method.scaled(target)
    result = {
        "train.query": query,
        "train.query_scaled": scaled[0],
        "train.target_scaled": scaled[1],
        "train.logits": scaled[0] @ scaled[1].T,
        "loss.soft_triplet": method.triplet_loss(query, target, case.inputs["triplets"]),
        **{f"train.{name}": value for name, value in gate_of(build(case).train(), case).items()},
    }
    stepped = build(case).train()
    total = stepped.loss_terms(batch_of(case, tokens_of(case)))["loss"]
    result |= {"loss.batch_classification": total, "loss.total": total}
    result |= gradients(total, stepped, case)
    return result | buffers(stepped, case)


def triplet_gradients(case: Case) -> dict[str, Tensor]:
    method = build(case).train()
    query = method.compose(case.inputs["reference_map"], tokens_of(case))
    target = method.backbone.project(case.inputs["target_map"])
    total = method.triplet_loss(query, target, case.inputs["triplets"])
    result = gradients(total, method, case)
    return {name.replace("grad.", "grad_soft_triplet.", 1): g for name, g in result.items()}


def gradients(total: Tensor, method: TIRG, case: Case) -> dict[str, Tensor]:
    return official_gradients(
        total, method, case.weights, lambda state: official_state([state], method), case.inputs
    )


def buffers(method: TIRG, case: Case) -> dict[str, Tensor]:
    """Our buffers under official names, by the mapping of the conversion."""
    marks = {key: torch.tensor(position) for position, key in enumerate(case.weights)}
    names = list(case.weights)
    ours = method.state_dict()
    positions = official_state([marks], method)
    return {f"after.{names[int(mark)]}": ours[key] for key, mark in positions.items()}
