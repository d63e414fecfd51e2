"""Our numbers for Bi-BLIP4CIR."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines_plugin.methods.bi_blip4cir import BiBLIP4CIR, official_state
from baselines_plugin.parts.combiner import Combiner
from cir_plugins import Batch
from tests.fakes import components
from tests.parity.blip_model import blip_backbone
from tests.parity.cases import (
    Case,
    State,
    load_official,
    official_gradients,
    weighted_sum,
)

_IMAGE = ("visual_encoder.", "vision_proj.")
_TEXT = ("text_encoder.", "text_proj.")


def checkpoints(weights: State) -> list[dict[str, State]]:
    """The three official files that a case stores in one."""
    image = {key: value for key, value in weights.items() if key.startswith(_IMAGE)}
    text = {key: value for key, value in weights.items() if key.startswith(_TEXT)}
    rest = {key: value for key, value in weights.items() if key not in image | text}
    return [{"BLIPTextEncoder": text}, {"model": image}, {"Combiner": rest}]


def outputs(case: Case) -> State:
    meta, sizes = case.meta, case.meta["combiner"]
    method = BiBLIP4CIR(
        components(blip_backbone(meta)),
        sum_weight=1.0,
        combiner_weight=1.0,
        projection=sizes["projection"],
        hidden=sizes["hidden"],
        dropout=0.0,
        temperature=1 / sizes["logit_scale"],
    )
    load_official(method, checkpoints(case.weights), official_state)
    result = encoded(case, method)
    result |= staged(case, method, "stage1")
    result |= staged(case, method, "stage2")
    return result


def encoded(case: Case, method: BiBLIP4CIR) -> State:
    """Features of images and texts."""
    backbone = method.eval().backbone
    reference = backbone.features(case.inputs["reference_image"])
    target = backbone.features(case.inputs["target_image"])
    return {
        "vision_reference": reference,
        "reference_raw": backbone.raw_image(reference),
        "target_raw": backbone.raw_image(target),
        "target": method.encode_gallery(target),
        **{f"text_states_{way}": backbone.text_states(tokens(case, way)) for way in WAYS},
        **{f"text_{way}": backbone.raw_text(tokens(case, way)) for way in WAYS},
    }


WAYS = ("forward", "backward")


def tokens(case: Case, way: str) -> State:
    ids, mask = (case.inputs[f"{way}_{kind}"] for kind in ("input_ids", "attention_mask"))
    return {"ids": ids, "mask": mask}


def batch_of(case: Case) -> Batch:
    """References, then targets; query i has target i."""
    images = torch.cat([case.inputs["reference_image"], case.inputs["target_image"]])
    rows = torch.arange(len(images) // 2)
    return Batch(
        images=images,
        features=None,
        reference=rows,
        candidates=rows + len(rows),
        target=rows,
        excluded=torch.zeros(len(rows), len(rows), dtype=torch.bool),
        text=[""] * len(rows),
        tokens=tokens(case, "forward"),
        text_variants={"backward": tokens(case, "backward")},
    )


class Recorder:
    """A loss that records its scores."""

    scaled = True

    def __init__(self, loss: object) -> None:
        self.loss = loss
        self.seen: list[Tensor] = []

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """What the loss gives."""
        self.seen.append(scores)
        values: Tensor = self.loss(scores, target, negatives)  # type: ignore[operator]
        return values


def staged(case: Case, method: BiBLIP4CIR, stage: str) -> State:
    """Query, scores, logits, losses and gradients of a stage."""
    method.composer.start_epoch(0 if stage == "stage1" else method.composer.sum_epochs)
    method.eval()
    batch = batch_of(case)
    backbone = method.backbone
    query = method.encode_query(backbone.features(case.inputs["reference_image"]), batch.tokens)
    target = method.encode_gallery(backbone.features(case.inputs["target_image"]))
    method.train()
    plain = method.loss
    method.loss = Recorder(plain)
    terms = method.loss_terms(batch)
    forward, backward = method.loss.seen
    method.loss = plain
    weights = {"forward": 1.0, "backward": case.meta["backward_weight"][stage]}
    total = weighted_sum(terms, weights)
    result = {
        "query": query,
        "scores": method.similarity(query, target),
        "logits_forward": forward,
        "logits_backward": backward,
        "loss_forward": terms["forward"],
        "loss_backward": terms["backward"],
        "loss_total": total,
    }
    gradients = official_gradients(
        total,
        method,
        case.weights,
        lambda state: official_state(checkpoints(state), method),
        case.inputs,
    )
    combiner = set(Combiner(1, 1, 1, 0.0).state_dict())
    stage_gradients = {
        name: value
        for name, value in gradients.items()
        if (name.removeprefix("grad.") in combiner) == (stage == "stage2")
    }
    return {f"{stage}.{name}": value for name, value in result.items()} | stage_gradients
