"""Our numbers for QuRe's cases: the model's, and those of the sampler alone."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines_plugin.methods.qure import QuRe, official_state
from baselines_plugin.parts.samplers import TwoDrops
from cir_plugins.builtin.losses import Pairwise
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.method import Components
from tests.parity.cases import Case, load_official, official_gradients
from tests.parity.tiny_blip2 import build_blip2
from tests.parity.triplets import batch_of


def outputs(case: Case) -> dict[str, Tensor]:
    """Every output of the case, ours."""
    return model_outputs(case) if case.weights else sampler_outputs(case)


def model_outputs(case: Case) -> dict[str, Tensor]:
    """States, embeddings, scores, the loss and its gradients."""
    tempered = case.meta.get("use_temp", True)
    components = Components(build_blip2(case.meta), Pairwise(), InBatch(), "mined")
    method = QuRe(components, learn_temperature=tempered)
    # Scores that the official code does not divide have a temperature of 1, whatever is stored.
    weights = case.weights if tempered else {**case.weights, "temp": torch.ones(())}
    load_official(method, [weights], official_state)
    tokens = {"ids": case.inputs["input_ids"], "mask": case.inputs["attention_mask"]}
    result = embeddings(method, case, tokens)
    method.train()
    names = ("reference_image", "target_image", "negative_image")
    batch = batch_of([case.inputs[name] for name in names], tokens)
    (total,) = method.loss_terms(batch).values()
    result["loss_total"] = total
    return result | official_gradients(
        total, method, weights, lambda state: official_state([state], method), case.inputs
    )


@torch.no_grad()
def embeddings(method: QuRe, case: Case, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
    """States, embeddings and scores in evaluation mode."""
    method.eval()
    backbone = method.backbone
    reference, target, negative = (
        backbone.features(case.inputs[f"{name}_image"])
        for name in ("reference", "target", "negative")
    )
    states = backbone.fuse(reference, tokens).tokens
    queries = backbone.model.query_tokens.expand(len(target), -1, -1)
    looked = backbone.model.qformer(
        query_embeds=queries, encoder_hidden_states=backbone.normed(target)
    ).last_hidden_state
    query = method.encode_query(reference, tokens)
    right, wrong = method.encode_gallery(target), method.encode_gallery(negative)
    scores, others = method.similarity(query, right), method.similarity(query, wrong)
    pairs = torch.stack([scores.diagonal(), others.diagonal()], dim=1)
    return {
        "vision_reference": reference,
        "image_features_reference": backbone.normed(reference),
        "image_features_target": backbone.normed(target),
        "image_features_negative": backbone.normed(negative),
        "query_states": states,
        "target_query_states": looked,
        "query_raw": backbone.project_text(states).mean(dim=1),
        "query": query,
        "target_tokens": right,
        "negative_tokens": wrong,
        "scores": scores,
        "scores_negative": others,
        "training_scores": pairs / method.temperature,
    }


def sampler_outputs(case: Case) -> dict[str, Tensor]:
    """The sets of every threshold, compared in the rows where the case holds them binding.

    ``must_match`` comes back as it is stored but for rows that we have no window for, so that a
    window missing in a binding row shows.
    """
    result = {}
    for threshold in case.meta["consecutive_threshold"]:
        ending = "" if threshold == 1 else f"_threshold{threshold}"
        sampler = TwoDrops(apart=threshold)
        binding = case.outputs[f"must_match{ending}"]
        negatives, fallback = sets(sampler, case)
        result[f"hard_mask{ending}"] = negatives & binding[:, None]
        result[f"must_match{ending}"] = binding & ~fallback
        result[f"hard_size{ending}"] = distinct(negatives, case) * binding
    return result


def images_of(case: Case) -> Tensor:
    """Image index (N,) of each candidate; all distinct unless the case has indices."""
    columns = torch.arange(case.inputs["scores"].shape[1])
    return case.inputs.get("candidate_image", columns)


def sets(sampler: TwoDrops, case: Case) -> tuple[Tensor, Tensor]:
    """Columns (Q, N) whose image is in the set, the target's image never; rows that fell back."""
    scores, target = case.inputs["scores"], case.inputs["target_candidate"]
    excluded = torch.zeros_like(scores, dtype=torch.bool)
    if "candidate_category" in case.inputs:
        excluded = case.inputs["candidate_category"] != case.inputs["query_category"][:, None]
    images = images_of(case)
    same = images[:, None] == images[None, :]  # (N, N)
    mask, fallback = sampler.negatives_and_fallback(scores, target, excluded)
    negatives = (mask.int() @ same.int() > 0) & ~excluded
    return negatives & ~same[target], fallback


def distinct(negatives: Tensor, case: Case) -> Tensor:
    """How many images (Q,) the columns of each row show."""
    images = images_of(case)
    return torch.tensor([len(set(images[row].tolist())) for row in negatives])
