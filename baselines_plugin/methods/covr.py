"""CoVR and CoVR-2: composed queries learned against targets of the model before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from baselines_plugin.checkpoints.covr import official_covr, official_covr2
from baselines_plugin.parts.untuned import Untuned, best_pair, mean_score
from cir_plugins import (
    TEMPERATURE,
    Batch,
    Component,
    Components,
    Features,
    Fused,
    Method,
    Official,
    Plan,
    Recipe,
    Tokens,
    TrainSettings,
    unit,
)

CAPTIONS = "target_caption"
_SOURCE = (
    "Ventura, Yang, Schmid, Varol, CoVR, AAAI 2024, and CoVR-2, IEEE TPAMI 2024, arXiv 2308.14746"
)
_TRAIN = TrainSettings(
    epochs=6,
    batch_size=512,
    drop_last=True,
    lr=1e-4,
    weight_decay=0.05,
    augment="rand_augment",
    known_positives="target",
    select="last",
    precision="fp32",
)
_TEXT = {"data.lower": True, "data.symbols": "blank", "data.max_words": 30}
_CIRCO = {**_TEXT, "data.drop_reference": True}
_FASHIONIQ = {
    **_TEXT,
    "data.strip": False,
    "data.capitalise": False,
    "data.drop_reference": True,
}


def refuse_tuned_targets(plan: Plan) -> str:
    """Why a plan whose targets would move cannot be, or ""."""
    if plan.backbone.options.get("vision") != "trained":
        return ""
    return (
        "its targets are those of the model before training, which a tuned tower would change; "
        "accepted: backbone.vision=frozen"
    )


class CoVR(Method):
    """BLIP's text encoder, looking at the reference, is tuned towards the images' own embeddings.

    Query: the projected state of the text's first token, which [ENC] replaces. Target: the
    projected [CLS] of the ViT. Only the text encoder and its projection learn.

    Args:
        components: A backbone whose texts look at images, loss and sampler.
        temperature: Temperature of the loss.
        learn_temperature: Whether it is trained; it is fixed in the paper.

    Source: Ventura, Yang, Schmid, Varol, CoVR, AAAI 2024, arXiv 2308.14746.
    Differs: the released training leaves stochastic depth (up to 0.1) on in its frozen ViT, which
    transformers' ViT does not have; an image of a batch is augmented once, so targets are too;
    negatives come from one device's batch; targets that a batch holds twice are one column; texts
    are cut at 64 tokens also in training, not at 35; training starts from BLIP's COCO weights,
    where the published one starts from a model tuned on WebVid-CoVR (``cir train covr --from`` the
    run that ``cir convert`` makes of it).
    """

    recipe = Recipe(
        source=_SOURCE,
        backbone=Component(
            "blip",
            {
                "model": "Salesforce/blip-itm-large-coco",
                "image_size": 384,
                "resize": "squash",
                "text_length": 64,
                "dropout": 0.1,
            },
        ),
        loss=Component("hn_nce"),
        train=_TRAIN,
        datasets={
            "cirr": _TEXT,
            "fashioniq": {**_FASHIONIQ, "train.batch_size": 256},
            "circo": _CIRCO,
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"grounded_text", "image_embedding"})
    official: ClassVar[Official] = official_covr
    # By the hub's configuration the ViT's epsilon is another one.
    official_settings: ClassVar[Mapping[str, Any]] = {
        "backbone.model": "blip_large",
        "backbone.weights": "random",
        "backbone.image_size": 0,
    }
    refuses = staticmethod(refuse_tuned_targets)

    def __init__(
        self,
        components: Components,
        *,
        temperature: float = TEMPERATURE,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__(components, temperature=temperature, learn_temperature=learn_temperature)

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed queries (B, D) of unit length."""
        return unit(self.backbone.raw_grounded(features, tokens))

    def encode_gallery(self, features: Features) -> Tensor:
        """Image embeddings (C, D) of unit length, without gradient."""
        with torch.no_grad():
            embedded: Tensor = self.backbone.image(features)
        return embedded


class CoVR2(Method):
    """BLIP-2's query tokens, fused with the text, are tuned towards tokens of the un-tuned model.

    Queries and targets are T tokens of unit length each; their score is the dot product of the
    two means, which are not normalised again. Learned are the Q-Former without its word
    embeddings, the query tokens and the text projection.

    Args:
        components: A ``blip2`` backbone with a frozen tower, loss and sampler. What makes the targets
            is copied from it as it is when the method is built.
        score: What ranks in evaluation. ``mean``: the training score; ``max``: the best of all
            pairs of a query token and a target token, as the released CIRR evaluation has it.
        image_weight: Weight of the loss towards target images.
        caption_weight: Weight of the loss towards captions of the targets, which the batch must
            bring as tokens ``text_variants["target_caption"]``; pre-training on WebVid-CoVR and CC-CoIR
            has 0.5 and 0.5. 0 to leave it out.
        temperature: Temperature of the loss.
        learn_temperature: Whether it is trained; it is fixed in the paper.

    Source: Ventura, Yang, Schmid, Varol, CoVR-2, IEEE TPAMI 2024, arXiv 2308.14746. The released
    training freezes the word embeddings by way of the language-model head that shares them.
    Differs: an image of a batch is augmented once, so targets are too; negatives come from one
    device's batch; targets that a batch holds twice are one column; texts are cut at 64 tokens
    also in training, not at 32.
    """

    recipe = Recipe(
        source=_SOURCE,
        backbone=Component(
            "blip2",
            {
                "model": "Salesforce/blip2-itm-vit-g-coco",
                "image_size": 364,
                "resize": "squash",
                "vision_norm": "frozen",
                "text_length": 64,
            },
        ),
        loss=Component("hn_nce"),
        train=_TRAIN,
        datasets={
            "cirr": {**_TEXT, "method.score": "max"},
            "fashioniq": _FASHIONIQ,
            "circo": {**_CIRCO, "method.score": "mean"},
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"query_tokens"})
    eval_only_options: ClassVar[frozenset[str]] = frozenset({"score"})
    official: ClassVar[Official] = official_covr2

    def __init__(
        self,
        components: Components,
        *,
        score: Literal["mean", "max"] = "mean",
        image_weight: float = 1.0,
        caption_weight: float = 0.0,
        temperature: float = TEMPERATURE,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__(components, temperature=temperature, learn_temperature=learn_temperature)
        if min(image_weight, caption_weight) < 0 or not image_weight + caption_weight:
            raise ValueError("image_weight and caption_weight must be at least 0, and one above")
        self.score = score
        self.image_weight, self.caption_weight = image_weight, caption_weight
        model = self.backbone.model
        self.untuned = Untuned(model)
        model.vision_projection.requires_grad_(False)
        model.vision_model.post_layernorm.requires_grad_(False)
        model.embeddings.word_embeddings.requires_grad_(False)

    @staticmethod
    def check_compatibility(plan: Plan) -> str:
        """Why a plan cannot be, or ""."""
        if plan.method.options["caption_weight"]:
            return "no reader gives captions of targets; accepted: method.caption_weight=0"
        return refuse_tuned_targets(plan)

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Query tokens (B, T, D), each of unit length."""
        fused: Fused = self.backbone.fuse(features, tokens)
        return unit(self.backbone.project_text(fused.tokens))

    @torch.no_grad()
    def encode_gallery(self, features: Features) -> Tensor:
        """Tokens (C, T, D) of the un-tuned model, each of unit length, without gradient."""
        states = self.untuned.image_states(self.backbone.seen(features))
        return unit(self.backbone.model.vision_projection(states))

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Scores (B, C) in [-1, 1], as ``score`` says in evaluation and by means in training."""
        if self.training or self.score == "mean":
            return mean_score(query, target)
        return best_pair(query, target)

    def loss_terms_from(
        self, queries: Features, targets: Features, batch: Batch
    ) -> dict[str, Tensor]:
        """``image`` and ``caption``, weighted; those of weight 0 are left out.

        Raises:
            ValueError: If captions of the targets are wanted and the batch brings none.
        """
        scores = mean_score(queries, targets)
        negatives = self.negatives(scores, batch)
        terms = {}
        if self.image_weight:
            cost = self.reduce_loss(self.loss, scores, batch.target, negatives)
            terms["image"] = self.image_weight * cost
        if self.caption_weight:
            terms["caption"] = self.caption_weight * self._caption_cost(queries, batch, negatives)
        return terms

    def _caption_cost(self, query: Tensor, batch: Batch, negatives: Tensor) -> Tensor:
        """Price of the queries against the captions of the batch's targets, one per query."""
        if CAPTIONS not in batch.text_variants:
            raise ValueError(f"the batch brings no tokens '{CAPTIONS}' of the targets' captions")
        with torch.no_grad():
            captions = self.untuned.text(batch.text_variants[CAPTIONS])
        scores = query.mean(dim=1) @ captions.T  # (B, B)
        place = torch.arange(len(query), device=scores.device)
        return self.reduce_loss(self.loss, scores, place, negatives[:, batch.target])
