"""Our numbers for CoVR's cases: CoVR-2 on BLIP-2, and CoVR on BLIP."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines_plugin.checkpoints.covr import official_covr, official_covr2
from baselines_plugin.methods.covr import CoVR, CoVR2
from baselines_plugin.parts.losses import HardNegativeNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.method import Components, Method
from tests.parity.blip_model import blip_backbone
from tests.parity.cases import Case, load_official, official_gradients, weighted_sum
from tests.parity.tiny_blip2 import build_blip2
from tests.parity.triplets import batch_of

TERMS = ("image", "caption")


def outputs(case: Case) -> dict[str, Tensor]:
    """Every output of the case, ours."""
    return covr2_outputs(case) if "qformer" in case.meta else covr_outputs(case)


def loss_of(case: Case, beta: float | None = None) -> HardNegativeNCE:
    """The case's loss, perhaps with another beta."""
    options = case.meta["hn_nce"]
    return HardNegativeNCE(alpha=options["alpha"], beta=options["beta"] if beta is None else beta)


def tokens_of(case: Case, prefix: str = "") -> dict[str, Tensor]:
    """Token tensors of the case."""
    return {
        "ids": case.inputs[f"{prefix}input_ids"],
        "mask": case.inputs[f"{prefix}attention_mask"],
    }


def hn_nce_outputs(case: Case, method: Method, scores: Tensor) -> dict[str, Tensor]:
    """Training scores, the loss's weights, and its cross-entropy variant."""
    scaled = scores / method.temperature
    target = torch.arange(len(scores))
    negatives = ~torch.eye(len(scores), dtype=torch.bool)
    rows, columns = loss_of(case).log_weights(scaled, target, negatives)
    plain = HardNegativeNCE(beta=0.0)(scaled, target, negatives)
    return {
        "training_scores": scaled,
        "weights_rows": rows.exp(),
        "weights_columns": columns.exp(),
        "loss_image_cross_entropy": plain.mean() / 2,
    }


def covr2_outputs(case: Case) -> dict[str, Tensor]:
    """CoVR-2's."""
    captioned = "caption_input_ids" in case.inputs
    method = CoVR2(
        Components(build_blip2(case.meta), loss_of(case), InBatch()),
        score="max",
        caption_weight=float(captioned),
        temperature=case.meta["temperature"],
    )
    start = {**case.weights, **case.extra["weights_target"]}
    load_official(method, [{"epoch": 0, "model": case.weights}, {"model": start}], official_covr2)
    result = covr2_embeddings(method, case)
    method.train()
    images = [case.inputs["reference_image"], case.inputs["target_image"]]
    batch = batch_of(images, tokens_of(case))
    if captioned:
        batch.text_variants = {"target_caption": tokens_of(case, "caption_")}
    terms = method.loss_terms(batch)
    total = weighted_sum(terms, dict(zip(TERMS, case.meta["loss_weights"], strict=True)))
    result |= {f"loss_{name}": term for name, term in terms.items()} | {"loss_total": total}
    return result | official_gradients(
        total,
        method,
        case.weights,
        lambda state: official_covr2([{"model": state}, {"model": start}], method),
        case.inputs,
    )


@torch.no_grad()
def covr2_embeddings(method: CoVR2, case: Case) -> dict[str, Tensor]:
    """States, embeddings, scores and weights in evaluation mode."""
    method.eval()
    backbone = method.backbone
    reference = backbone.features(case.inputs["reference_image"])
    states = backbone.fuse(reference, tokens_of(case)).tokens
    query = method.encode_query(reference, tokens_of(case))
    target = method.encode_gallery(backbone.features(case.inputs["target_image"]))
    best = method.similarity(query, target)
    method.score = "mean"
    scores = method.similarity(query, target)
    result = {
        "target_tokens": target,
        "target_embedding": target.mean(dim=1),
        "vision_reference": reference,
        "image_features_reference": backbone.normed(reference),
        "query_states": states,
        "query_raw": backbone.project_text(states),
        "query_tokens_normalised": query,
        "query": query.mean(dim=1),
        "scores": scores,
        "scores_cirr_max": best,
    }
    if "caption_input_ids" in case.inputs:
        result["target_caption_feature"] = method.untuned.text(tokens_of(case, "caption_"))
    return result | hn_nce_outputs(case, method, scores)


def covr_outputs(case: Case) -> dict[str, Tensor]:
    """CoVR's."""
    method = CoVR(
        Components(blip_backbone(case.meta), loss_of(case), InBatch()),
        temperature=case.meta["temperature"],
    )
    method.backbone.encode_token = case.meta["text_encoder"]["enc_token_id"]
    load_official(method, [{"epoch": 0, "model": case.weights}], official_covr)
    result = covr_embeddings(method, case)
    method.train()
    images = [case.inputs["reference_image"], case.inputs["target_image"]]
    (total,) = method.loss_terms(batch_of(images, tokens_of(case))).values()
    result["loss_image"] = total
    result["loss_total"] = case.meta["loss_weights"][0] * total
    return result | official_gradients(
        result["loss_total"],
        method,
        case.weights,
        lambda state: official_covr([{"model": state}], method),
        case.inputs,
    )


@torch.no_grad()
def covr_embeddings(method: CoVR, case: Case) -> dict[str, Tensor]:
    """States, embeddings, scores and weights in evaluation mode."""
    method.eval()
    backbone = method.backbone
    tokens = tokens_of(case)
    reference = backbone.features(case.inputs["reference_image"])
    features = backbone.features(case.inputs["target_image"])
    query, target = method.encode_query(reference, tokens), method.encode_gallery(features)
    scores = method.similarity(query, target)
    return {
        "image_features_target": features,
        "target_raw": backbone.raw_image(features),
        "target": target,
        "image_features_reference": reference,
        "text_states": backbone.text_states(backbone.grounded_tokens(tokens), reference),
        "query_raw": backbone.raw_grounded(reference, tokens),
        "query": query,
        "scores": scores,
    } | hn_nce_outputs(case, method, scores)
