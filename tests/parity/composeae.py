"""Our numbers for ComposeAE's parity cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from baselines_plugin.backbones.resnet import MapBackbone
from baselines_plugin.methods.composeae import ComposeAE, official_state
from baselines_plugin.parts.rotation import Composition, Rotated
from cir_plugins import Batch, Components, Preprocess, Tokens, unit
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from tests.parity.cases import Case, load_official, official_gradients, weighted_sum

TERMS = ("loss", "decode_image", "decode_text", "rotation")
SPACES = {"composeAE": "complex", "RealSpaceConcatAE": "real"}


class Given(nn.Module):
    """Stands for BERT: the sentence vector is the token tensor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.tokenizer = dict

    def forward(self, tokens: Tokens) -> Tensor:
        """The input vectors."""
        return tokens["vector"]


def outputs(case: Case) -> dict[str, Tensor]:
    """All stored outputs, from fresh models for evaluation, training and the step."""
    return {**in_evaluation(case), **in_training(case), **stepped(case)}


def build(case: Case) -> ComposeAE:
    settings: dict[str, Any] = case.meta["settings"]
    width = settings["image_embed_dim"]
    backbone = MapBackbone(
        nn.Identity(),
        Given(settings["text_embed_dim"]),
        channels=case.inputs["reference_map"].shape[1],
        width=width,
        preprocess=Preprocess(),
    )
    method = ComposeAE(
        Components(backbone, InfoNCE(), InBatch()),
        variant=SPACES[settings["model"]],  # type: ignore[arg-type]
        image_weight=1.0,
        text_weight=1.0,
        rotation_weight=1.0,
        channels=settings["conv_channels"],
        pool=settings["pool_size"],
        dropout=0.0,
    )
    load_official(method, [case.weights], official_state)
    return method


def batch_of(case: Case) -> Batch:
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
        tokens={"vector": case.inputs["bert_vector"]},
    )


def steps(composed: Composition) -> dict[str, Tensor]:
    result = {
        "rho_linear": composed.rho_linear,
        "conv_pooled": composed.pooled,
        "rho_conv": composed.rho_convolved,
        "query": composed.out,
    }
    for name, rotated in (("linear", composed.linear), ("conv", composed.convolved)):
        if isinstance(rotated, Rotated):
            members = zip(("k", "delta", "re", "im"), rotated, strict=True)
            result.update({f"{name}_{member}": value for member, value in members})
    return result


def decoded(method: ComposeAE, query: Tensor) -> dict[str, Tensor]:
    return {
        "decoded_image": method.image_decoder(query),
        "decoded_text": method.text_decoder(query),
    }


@torch.no_grad()
def in_evaluation(case: Case) -> dict[str, Tensor]:
    method = build(case).eval()
    batch = batch_of(case)
    image = method.backbone.project(case.inputs["reference_map"])
    target = method.backbone.project(case.inputs["target_map"])
    composed = method.composer(image, batch.tokens["vector"])
    query = method.encode_query(case.inputs["reference_map"], batch.tokens)
    result = {
        "image_features": image,
        "target": target,
        "query_normalised": query,
        "target_normalised": method.encode_gallery(case.inputs["target_map"]),
        "scores": method.similarity(query, unit(target)),
        **steps(composed),
        **decoded(method, composed.out),
    }
    return {f"eval.{name}": value for name, value in result.items()}


def in_training(case: Case) -> dict[str, Tensor]:
    method = build(case).train()
    vector = case.inputs["bert_vector"]
    image = method.backbone.project(case.inputs["reference_map"])
    target = method.backbone.project(case.inputs["target_map"])
    composed = method.composer(image, vector)
    result = {"image_features": image, **steps(composed), **decoded(method, composed.out)}
    trained = {f"train.{name}": value for name, value in result.items()}
    trained["loss.soft_triplet"] = method.triplet_loss(
        composed.out, target, case.inputs["triplets"]
    )
    if method.variant == "complex":
        back = method.composer(target, vector, sign=-1).out
        trained["train.conjugate_query"] = back
        triplets = case.inputs["triplets_rot_sym"]
        trained["loss.soft_triplet_rot_sym"] = method.triplet_loss(back, image, triplets)
    return trained


def stepped(case: Case) -> dict[str, Tensor]:
    method = build(case).train()
    terms = method.unweighted_terms(batch_of(case))
    # The official code computes every term whatever its weight, which batch norms see.
    term_weights = dict(zip(TERMS, case.meta["settings"]["loss_weights"], strict=False))
    total = weighted_sum(terms, dict.fromkeys(TERMS, 0.0) | term_weights)
    result = {"loss.total": total}
    result |= official_gradients(
        total,
        method,
        case.weights,
        lambda state: official_state([state], method),
        case.inputs,
    )
    # The mapping of official keys, from the conversion.
    marks = {key: torch.tensor(position) for position, key in enumerate(case.weights)}
    positions, ours = official_state([marks], method), method.state_dict()
    names = list(case.weights)
    result |= {f"after.{names[int(mark)]}": ours[key] for key, mark in positions.items()}
    official = {"loss": "batch_classification", "rotation": "rot_sym"}
    return result | {f"loss.{official.get(name, name)}": term for name, term in terms.items()}
