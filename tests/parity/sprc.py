"""Our numbers for SPRC's cases."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines_plugin.methods.sprc import ENTRY, SPRC, official_state
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.method import Components
from tests.parity.cases import Case, load_official, official_gradients, weighted_sum
from tests.parity.tiny_blip2 import build_blip2
from tests.parity.triplets import batch_of

TERMS = ("contrast", "text", "align")


def build(case: Case) -> SPRC:
    """The method with the case's weights; all terms count alike."""
    components = Components(build_blip2(case.meta), InfoNCE(), InBatch())
    method = SPRC(components, text_weight=1.0, align_weight=1.0)
    load_official(method, [{"epoch": 0, ENTRY: case.weights}], official_state)
    return method


def outputs(case: Case) -> dict[str, Tensor]:
    """Every output of the case, ours."""
    method = build(case)
    tokens = {"ids": case.inputs["input_ids"], "mask": case.inputs["attention_mask"]}
    result = embeddings(method, case, tokens)
    method.train()
    terms = method.loss_terms(
        batch_of([case.inputs["reference_image"], case.inputs["target_image"]], tokens)
    )
    total = weighted_sum(terms, dict(zip(TERMS, case.meta["loss_weights"], strict=True)))
    result["loss_itc"] = terms["contrast"]
    result["loss_rtc"] = terms["text"]
    result["loss_align"] = terms["align"]
    result["loss_total"] = total
    return result | official_gradients(
        total,
        method,
        case.weights,
        lambda state: official_state([{ENTRY: state}], method),
        case.inputs,
    )


@torch.no_grad()
def embeddings(method: SPRC, case: Case, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
    """States, embeddings and scores in evaluation mode."""
    method.eval()
    backbone = method.backbone
    reference = backbone.features(case.inputs["reference_image"])
    target = backbone.features(case.inputs["target_image"])
    prompts = backbone.fuse(reference, tokens).tokens
    second = method.prompted_states(prompts, tokens)
    alone = method.text_only_states(tokens)
    queries = backbone.model.query_tokens.expand(len(target), -1, -1)
    looked = backbone.model.qformer(
        query_embeds=queries, encoder_hidden_states=backbone.normed(target)
    ).last_hidden_state
    query, text, tokens_of_target = (
        method.encode_query(reference, tokens),
        method.read_text(tokens),
        method.encode_gallery(target),
    )
    scores = method.similarity(query, tokens_of_target)
    return {
        "vision_reference": reference,
        "image_features_reference": backbone.normed(reference),
        "image_features_target": backbone.normed(target),
        "prompts": prompts,
        "pass2_states": second,
        "query_raw": backbone.project_text(second[:, prompts.shape[1]]),
        "query": query,
        "target_query_states": looked,
        "target_tokens": tokens_of_target,
        "scores": scores,
        "text_only_states": alone,
        "text_only_raw": backbone.project_text(alone[:, 0]),
        "text_only": text,
        "training_scores": scores / method.temperature,
        "training_scores_text_only": method.similarity(text, tokens_of_target) / method.temperature,
    }
