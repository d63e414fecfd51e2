"""Our numbers for MGUR's parity cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from baselines_plugin.backbones.text_encoders import RobertaText
from baselines_plugin.methods.mgur import MGUR, official_state
from baselines_plugin.parts.uncertainty import under_uncertainty
from tests.parity.cases import Case, load_official, official_gradients, split_entries
from tests.parity.cosmo import batch_of, composed, cross_entropy, in_batch, map_backbone

_ENTRIES = ("text_encoder", "text_fc", "upper_image_encoder", "layer4")


def outputs(case: Case) -> dict[str, Tensor]:
    """Every number we have for a case."""
    method = built(case)
    with torch.no_grad():
        result = {f"eval.{name}": value for name, value in forward(method.eval(), case).items()}
    output = forward(method.train(), case)
    for name, buffer in method.text_head[0].named_buffers():
        result[f"after.text_fc.model.0.{name}"] = buffer.clone()
    settings = case.meta["settings"]
    method.on_epoch(settings["epoch"], settings["total_epochs"])
    terms, noise = loss_terms(method, output, case)
    result |= {f"train.{name}": value for name, value in (output | noise).items()}
    result |= {f"loss.{name}": value for name, value in terms.items()}
    return result | official_gradients(
        terms["total"],
        method,
        case.weights,
        lambda weights: official_state(checkpoint(weights), method),
        case.inputs,
    )


def built(case: Case) -> MGUR:
    """The method of a case with its weights, no dropout."""
    settings = case.meta["settings"]
    method = MGUR(
        in_batch(map_backbone(settings, roberta(settings))),
        heads=settings["num_heads"],
        text_width=settings["text_feature_size"],
        norm_scale=settings["norm_scale"],
        alpha_scale=settings["alpha_scale"],
        beta_scale=settings["beta_scale"],
        gamma_scale=settings["gamma_scale"],
    )
    load_official(method, checkpoint(case.weights), official_state)
    return method


def roberta(settings: dict[str, Any]) -> nn.Module:
    """A RoBERTa of the case's size without dropout; token ids come ready, so no tokenizer."""
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=settings["vocab_size"],
        hidden_size=settings["roberta_hidden"],
        num_hidden_layers=settings["roberta_layers"],
        num_attention_heads=settings["roberta_heads"],
        intermediate_size=settings["roberta_intermediate"],
        max_position_embeddings=settings["max_position_embeddings"],
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=1,
    )
    tokenizer: Any = None
    return RobertaText(RobertaModel(config), tokenizer)


def checkpoint(weights: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The stored weights as the official file holds them, its empty entry included."""
    return [{"model_state_dict": {**split_entries(weights, *_ENTRIES), "augmenter": {}}}]


def tokens_of(case: Case) -> dict[str, Tensor]:
    """The tokens as the text encoder takes them."""
    return {"ids": case.inputs["token_ids"], "mask": case.inputs["attention_mask"]}


def forward(method: MGUR, case: Case) -> dict[str, Tensor]:
    """The steps from maps and token ids to the scores."""
    first = method.backbone.describe(tokens_of(case))
    text = method.text_head(first)
    output = composed(method, case.inputs["reference_map"], text, case.inputs["target_map"])
    return {"text_token0": first, **output}


def loss_terms(
    method: MGUR, output: dict[str, Tensor], case: Case
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Loss terms, and the steps of the noised target."""
    scale = method.norm_scale
    noise = (case.inputs["noise_alpha"], case.inputs["noise_beta"])
    blurred = method.blur(output["target"] / scale, noise)
    steps = {
        "target_instance_normalised": blurred.normalised,
        "alpha": blurred.alpha,
        "beta": blurred.beta,
        "augmented_target": blurred.out,
        "augmented_scores": scale**2 * method.noised_scores(output["query"] / scale, blurred),
    }
    weighted = method.loss_terms(batch_of(case, tokens_of(case)), noise=noise)
    uncertain = cross_entropy(method, output["query"], blurred.out)
    terms = {
        "augmented_cross_entropy": uncertain,
        "augmented_std": blurred.spread,
        "info": cross_entropy(method, output["query"], output["target"]),
        "uncertainty": under_uncertainty(uncertain, blurred.spread),
        "total": torch.stack(list(weighted.values())).sum(),
    }
    return terms, steps
