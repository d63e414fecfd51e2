"""ComposeAE: reference features rotated by the text in a complex space, with two decoders.

Source: Anwaar, Labintcev, Kleinsteuber, Compositional Learning of Image-Text Query for Image
Retrieval, WACV 2021, arXiv 2006.11149, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from baselines_plugin.checkpoints.tirg import (
    IMAGE_RULES,
    Rules,
    check_variant,
    method_state,
    renamed,
)
from baselines_plugin.licences import LICENCES
from baselines_plugin.parts.rotation import Composer, two_layers
from baselines_plugin.parts.scaled_cosine import (
    FASHION200K,
    FASHION200K_SCHEDULE,
    Objective,
    ScaledCosine,
)
from baselines_plugin.ranges import Dropout, PerAnchor, Rate, Weight, Width, WidthOrOwn
from cir_plugins import (
    Batch,
    Component,
    Components,
    Features,
    Method,
    Official,
    Recipe,
    Tokens,
    select,
    unit,
)

RULES: Rules = (
    ("a", "composer.weights"),
    (r"encoderLinear\.0\.bert_features\.(.+)", r"composer.linear_rotation.text.\1"),
    (r"encoderLinear\.0\.image_features\.(.+)", r"composer.linear_rotation.image.\1"),
    (r"encoderWithConv\.0\.bert_features\.(.+)", r"composer.conv_rotation.text.\1"),
    (r"encoderWithConv\.0\.image_features\.(.+)", r"composer.conv_rotation.image.\1"),
    (r"encoderLinear\.1\.mapping\.(.+)", r"composer.linear_mapping.\1"),
    (r"encoderWithConv\.1\.mapping\.(.+)", r"composer.conv_mapping.\1"),
    (r"encoderWithConv\.1\.conv1?\.(.+)", r"composer.conv.\1"),
    (r"decoder\.(.+)", r"image_decoder.\1"),
    (r"txtdecoder\.(.+)", r"text_decoder.\1"),
)
_MARKS = MappingProxyType({"complex": "encoderLinear.0.", "real": "encoderWithConv.1.conv1."})


def official_state(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``ComposeAE`` from a released checkpoint, BERT's from the method.

    ComposeAE does not use the LSTM of official checkpoints. BERT is frozen and not in them.

    Raises:
        CIRError: If the checkpoint holds no model, an unknown key, or the other variant.
    """
    check_variant(checkpoints, str(method.variant), _MARKS)
    state = renamed(checkpoints, (*IMAGE_RULES, *RULES), unused=(r"text_model\..+",))
    return {**method_state(method, "backbone.text."), **state}


# 100,000 steps of 32 of FashionIQ's 18,000 triplets, a tenth of the rate every 8,000 steps.
_FASHIONIQ = {
    "method.variant": "real",
    "train.epochs": 178,
    "train.weight_decay": 1e-6,
    "schedule.milestones": (14, 28, 43, 57, 71, 85, 100, 114, 128, 142, 156, 171),
    "data.gallery": "merged",
    "data.caption_mode": "category_and_it",
    "data.strip": False,
    "data.capitalise": False,
    "data.lower": True,
}


class ComposeAE(ScaledCosine):
    """Composition by rotation in a complex space, with decoders and a symmetric pass.

    Args:
        components: Backbone with feature maps and frozen text vectors, loss and sampler.
        variant: ``complex``, or ``real`` for RealSpaceConcatAE, which has no symmetric pass.
        image_weight: Weight of the decoder of the reference's vector.
        text_weight: Weight of the decoder of the text's vector.
        rotation_weight: Weight of the symmetric pass: the target, rotated back, must retrieve the
            reference. Left out in batches with one reference only.
        channels: Channels of the convolution.
        pool: Positions after pooling; 0 to make it as wide as the linear branch's input.
        dropout: In the rotations, before their ReLU as in the official code, in [0, 1).
        objective: As for ``ScaledCosine``; officially ``soft_triplet`` on MIT-States.
        gradient: Of soft triplets.
        per_anchor: Soft triplets drawn per query and target.
        trunk_rate: Learning rate of the ResNet below its head, as a share of the others'.

    Source: Anwaar et al., WACV 2021, arXiv 2006.11149, equations 5 to 10, and the released code.
    Differs: batches of any size; the official constant has 32 rows. A term of weight 0 is not
    computed, so that its pass does not move the running statistics of norms either.
    """

    licences = LICENCES["composeae"]
    recipe = Recipe(
        source="Anwaar et al., ComposeAE, WACV 2021, arXiv 2006.11149; settings for Fashion200k, "
        "160,000 steps of 32 of its 172,049 images",
        backbone=Component("resnet", {"text": "bert", "text_length": 25}),
        train=FASHION200K.model_copy(update={"weight_decay": 5e-5}),
        schedule=FASHION200K_SCHEDULE,
        datasets={"fashioniq": _FASHIONIQ},
    )
    official: ClassVar[Official] = staticmethod(official_state)

    def __init__(
        self,
        components: Components,
        *,
        variant: Literal["complex", "real"] = "complex",
        image_weight: Weight = 0.1,
        text_weight: Weight = 0.1,
        rotation_weight: Weight = 0.01,
        channels: Width = 64,
        pool: WidthOrOwn = 0,
        dropout: Dropout = 0.5,
        objective: Objective = "classification",
        gradient: Literal["half", "true"] = "half",
        per_anchor: PerAnchor = 3,
        trunk_rate: Rate = 0.1,
    ) -> None:
        super().__init__(
            components,
            objective=objective,
            gradient=gradient,
            per_anchor=per_anchor,
            trunk_rate=trunk_rate,
        )
        self.variant = variant
        self.decode_weights = {"decode_image": image_weight, "decode_text": text_weight}
        self.rotation_weight = rotation_weight if variant == "complex" else 0.0
        width, text_width = self.backbone.width, self.backbone.text_width
        self.composer = Composer(
            width, text_width, space=variant, channels=channels, pool=pool, dropout=dropout
        )
        self.image_decoder = two_layers(width, width, width)
        self.text_decoder = two_layers(width, text_width, text_width)

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Queries (B, D) of unit length."""
        image, text = self.backbone.project(features), self.backbone.describe(tokens)
        return unit(self.composer(image, text).out)

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, ``decode_image``, ``decode_text`` and ``rotation``, weighted."""
        weights = {"loss": 1.0, "rotation": self.rotation_weight, **self.decode_weights}
        return {name: weights[name] * term for name, term in self.unweighted_terms(batch).items()}

    def unweighted_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Loss terms by name before weighting; terms of weight 0 are left out."""
        features = self.features(batch)
        image = self.backbone.project(select(features, batch.reference))
        text = self.backbone.describe(batch.tokens)
        targets = self.backbone.project(select(features, batch.candidates))
        composed = self.composer(image, text).out
        terms = {"loss": self.batch_loss(composed, targets, batch)}
        # The official code lets the gradient into the image encoder here, too.
        if self.decode_weights["decode_image"]:
            terms["decode_image"] = (self.image_decoder(composed) - image).square().mean()
        if self.decode_weights["decode_text"]:
            terms["decode_text"] = (self.text_decoder(composed) - text).square().mean()
        if self.rotation_weight:
            terms.update(self._rotation(image, text, targets[batch.target], batch.reference))
        return terms

    def _rotation(
        self, image: Tensor, text: Tensor, target: Tensor, reference: Tensor
    ) -> dict[str, Tensor]:
        """The retrieval loss of each reference from its target, rotated the other way."""
        back = self.composer(target, text, sign=-1).out
        with torch.no_grad():
            # Their outputs are unused; official running statistics include this pass, too.
            self.image_decoder(back), self.text_decoder(back)
        columns = torch.arange(len(image), device=image.device)
        same = reference[:, None] == reference[None]
        negatives = self.sampler((unit(back) @ unit(image).T).detach(), columns, same)
        if not bool(negatives.any()):
            return {}
        return {"rotation": self.objective_loss(back, image, columns, negatives)}
