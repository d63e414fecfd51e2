"""CoVR and CoVR-2: composed queries trained towards target embeddings of the initial model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from baselines_plugin.checkpoints.covr import official_covr, official_covr2
from baselines_plugin.licences import LICENCES
from baselines_plugin.parts.frozen_qformer import FrozenQFormer
from baselines_plugin.parts.token_scores import best_pair, mean_score
from baselines_plugin.ranges import Temperature, Weight
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


def check_frozen_vision(plan: Plan) -> str:
    """Reason why a plan would change the targets during training; "" where it would not."""
    if plan.backbone.options.get("vision") != "trained":
        return ""
    return (
        "the targets are embeddings of the initial model, and a tuned tower would change them; "
        "accepted: backbone.vision=frozen"
    )


class CoVR(Method):
    """BLIP's text encoder with the reference as context, tuned towards target image embeddings.

    Query: the projected state of the text's first token, which [ENC] replaces. Target: the
    projected [CLS] of the ViT. Only the text encoder and its projection learn.

    Args:
        components: A backbone with grounded text, loss and sampler.
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

    licences = LICENCES["covr"]
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
    check_compatibility = staticmethod(check_frozen_vision)

    def __init__(
        self,
        components: Components,
        *,
        temperature: Temperature = TEMPERATURE,
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
    """BLIP-2's query tokens, fused with the text, tuned towards tokens of the initial model.

    Queries and targets are T tokens of unit length each; their score is the dot product of the
    two means, which are not normalised again. Learned are the Q-Former without its word
    embeddings, the query tokens and the text projection.

    Args:
        components: A ``blip2`` backbone with a frozen tower, loss and sampler. The Q-Former that
            encodes targets is a copy of the backbone's, made when the method is built.
        score: Ranking score of evaluation. ``mean``: the training score; ``max``: the best of all
            pairs of a query token and a target token, as in the released CIRR evaluation.
        image_weight: Weight of the loss towards target images.
        caption_weight: Weight of the loss towards captions of the targets, 0 to leave it out. The
            batch needs tokens ``text_variants["target_caption"]``. Pre-training on WebVid-CoVR and
            CC-CoIR has 0.5 and 0.5.
        temperature: Temperature of the loss.
        learn_temperature: Whether it is trained; it is fixed in the paper.

    Source: Ventura, Yang, Schmid, Varol, CoVR-2, IEEE TPAMI 2024, arXiv 2308.14746. The released
    training freezes the word embeddings by way of the language-model head that shares them.
    Differs: an image of a batch is augmented once, so targets are too; negatives come from one
    device's batch; targets that a batch holds twice are one column; texts are cut at 64 tokens
    also in training, not at 32.
    """

    licences = LICENCES["covr"]
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
        image_weight: Weight = 1.0,
        caption_weight: Weight = 0.0,
        temperature: Temperature = TEMPERATURE,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__(components, temperature=temperature, learn_temperature=learn_temperature)
        if min(image_weight, caption_weight) < 0 or not image_weight + caption_weight:
            raise ValueError("image_weight and caption_weight must be at least 0, and one above")
        self.score = score
        self.image_weight, self.caption_weight = image_weight, caption_weight
        model = self.backbone.model
        self.untuned = FrozenQFormer(model)
        model.vision_projection.requires_grad_(False)
        model.vision_model.post_layernorm.requires_grad_(False)
        model.embeddings.word_embeddings.requires_grad_(False)

    @staticmethod
    def check_compatibility(plan: Plan) -> str:
        """Reason why the plan cannot be trained; "" where it can."""
        if plan.method.options["caption_weight"]:
            return "no reader has captions of targets; accepted: method.caption_weight=0"
        return check_frozen_vision(plan)

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Query tokens (B, T, D), each of unit length."""
        fused: Fused = self.backbone.fuse(features, tokens)
        return unit(self.backbone.project_text(fused.tokens))

    @torch.no_grad()
    def encode_gallery(self, features: Features) -> Tensor:
        """Tokens (C, T, D) of the initial model, each of unit length, without gradient."""
        states = self.untuned.image_states(self.backbone.normed(features))
        return unit(self.backbone.model.vision_projection(states))

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Scores (B, C) in [-1, 1]: of ``score`` in evaluation, of the means in training."""
        if self.training or self.score == "mean":
            return mean_score(query, target)
        return best_pair(query, target)

    def loss_terms_from(
        self, queries: Features, targets: Features, batch: Batch
    ) -> dict[str, Tensor]:
        """``image`` and ``caption``, weighted; those of weight 0 are left out.

        Raises:
            ValueError: If ``caption_weight`` is above 0 and the batch has no target captions.
        """
        scores = mean_score(queries, targets)
        negatives = self.negatives(scores, batch)
        terms = {}
        if self.image_weight:
            value = self.reduce_loss(self.loss, scores, batch.target, negatives)
            terms["image"] = self.image_weight * value
        if self.caption_weight:
            terms["caption"] = self.caption_weight * self._caption_loss(queries, batch, negatives)
        return terms

    def _caption_loss(self, query: Tensor, batch: Batch, negatives: Tensor) -> Tensor:
        """Loss of the queries against the captions of the batch's targets, a scalar."""
        if CAPTIONS not in batch.text_variants:
            raise ValueError(f"the batch has no text variant '{CAPTIONS}', the targets' captions")
        with torch.no_grad():
            captions = self.untuned.text(batch.text_variants[CAPTIONS])
        scores = query.mean(dim=1) @ captions.T  # (B, B)
        columns = torch.arange(len(query), device=scores.device)
        return self.reduce_loss(self.loss, scores, columns, negatives[:, batch.target])
