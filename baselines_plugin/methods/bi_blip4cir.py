"""Bi-BLIP4CIR: BLIP4CIR trained in both directions, each marked by a tag in the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from baselines_plugin.backbones.blip_files import POSITIONS, fit_positions, take_blip
from baselines_plugin.checkpoints.combiner import combiner_state
from baselines_plugin.licences import LICENCES
from baselines_plugin.parts.combiner import Composer, Stage, TwoStages, make_composer
from baselines_plugin.ranges import Count, Dropout, Rate, Temperature, Weight, WidthOrOwn
from cir_plugins import (
    Batch,
    CIRError,
    Component,
    Components,
    Features,
    Ledger,
    Method,
    Recipe,
    ScheduleSettings,
    Tokens,
    TrainSettings,
    full_precision,
    need_entry,
    prefixed,
    unit,
)


def tag(caption: str, word: str) -> str:
    """A raw caption with " [WORD] " before each piece between the letters "and".

    The letters count inside words too ("sandals" becomes "s" and "als"), as in the official code;
    only lower-case ones do. The tag is ordinary text that the tokenizer splits into word pieces.
    """
    return "and".join(f" [{word}] {piece}" for piece in caption.split("and"))


def tag_forward(caption: str) -> str:
    """A raw caption tagged for the direction from reference to target."""
    return tag(caption, "FORWARD")


def tag_backward(caption: str) -> str:
    """A raw caption tagged for the direction from target to reference."""
    return tag(caption, "BACKWARD")


def reverse_scores(
    composer: Composer, text: Tensor, candidates: Tensor, reference: Tensor
) -> Tensor:
    """Cosine (B, C) of each reference with every candidate composed with its backward text.

    Args:
        composer: Sum or Combiner.
        text: Raw backward text features (B, D).
        candidates: Image features (C, D) that enter the composition.
        reference: Raw image features (B, D).

    Source: Liu et al., arXiv 2303.16604, and the official code: the negatives are the batch's
    targets with the same text, not other references.
    """
    shape = (len(text), len(candidates), -1)
    pairs = composer(candidates[None].expand(shape), text[:, None].expand(shape))  # (B, C, D)
    return _row_products(unit(pairs), unit(reference))


@full_precision
def _row_products(pairs: Tensor, reference: Tensor) -> Tensor:
    return torch.einsum("bcd,bd->bc", pairs, reference)


class QueryEmbeddings(NamedTuple):
    """Embeddings of B queries for the forward and the backward loss.

    Attributes:
        query: (B, D) the composed query, of unit length.
        text: (B, D) raw features of the backward text; ``reference`` where that has no weight.
        reference: (B, D) raw features of the reference.
    """

    query: Tensor
    text: Tensor
    reference: Tensor


def official_state(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """State of a ``BiBLIP4CIR`` from ``tuned_blip_*.pt``, ``model_base.pth`` and ``combiner*.pt``.

    The image encoder comes from BLIP's ``model_base.pth``, since the tuned files lack it.

    Raises:
        CIRError: If an entry is missing or has other keys.
    """
    if not isinstance(method, BiBLIP4CIR):
        raise ValueError(f"the method must be a BiBLIP4CIR, not a {type(method).__name__}")
    what = "of tuned_blip_*.pt, the fine-tuned text encoder"
    text = Ledger(need_entry(checkpoints, "BLIPTextEncoder", what), "entry 'BLIPTextEncoder'")
    tuned = take_blip(text)
    text.finish()
    what = "of BLIP's model_base.pth, whose image encoder the tuned files lack"
    image = Ledger(need_entry(checkpoints, "model", what), "entry 'model'")
    original = take_blip(image)
    image.finish()
    vision = {k: v for k, v in original.items() if k.startswith(("vision_", "itm_head."))}
    head = prefixed("itm_head.", method.backbone.model.itm_head.state_dict())
    if POSITIONS in vision:
        table = method.backbone.model.state_dict().get(POSITIONS)
        count = vision[POSITIONS].shape[1] if table is None else table.shape[1]
        vision[POSITIONS] = fit_positions(vision[POSITIONS], count)
    if overlap := sorted(set(tuned) & set(vision)):
        raise CIRError(
            f"entry 'BLIPTextEncoder' holds keys of the image encoder: {', '.join(overlap[:5])}; "
            "accepted: tuned_blip_*.pt, which has the text encoder alone"
        )
    return {
        "log_temperature": method.log_temperature.detach(),
        **prefixed("backbone.model.", {**head, **vision, **tuned}),
        **prefixed("composer.", combiner_state(checkpoints, method.composer)),
    }


class BiBLIP4CIR(TwoStages):
    """BLIP4CIR (sum, then Combiner, on BLIP's text encoder) with a loss in the reverse direction.

    loss = CE(forward) + w CE(backward), on 100 times the cosine. Forward: the query of reference
    and forward text against the targets. Backward: each target composed with the backward text,
    scored against the query's reference. The text encoder learns in stage 1 only.

    Args:
        components: The ``blip`` backbone, loss and sampler.
        stage: ``both`` in one run, ``sum`` (stage 1 alone) or ``combiner`` (stage 2 alone).
        sum_epochs: Epochs of stage 1 where there are both.
        sum_weight: w of stage 1; 0 leaves the reverse direction out (BLIP4CIR).
        combiner_weight: w of stage 2.
        symmetric: Whether targets enter the reverse sum of stage 1 raw, as references enter the
            forward one. Officially they are brought to unit length first; stage 2 takes raw ones.
        projection: Width of the Combiner's projections.
        hidden: Width of its hidden layers.
        dropout: Dropout of the Combiner, in [0, 1).
        combiner_lr: Learning rate of the Combiner; ``train.lr`` is that of the text encoder.
        projection_lr_factor: Rate of the text projection over that of the text encoder.
        temperature: Temperature; 1/100 of the official code.
        learn_temperature: Whether it is trained; officially not.

    Source: Liu, Sun, Hong, Teney, Gould, WACV 2024, arXiv 2303.16604. Quirks of the official code
    remain: tags at every "and", the cosine that rises again after epoch 10, and ``symmetric``.
    Differs: a target that several queries of a batch share is one column. Both stages have one
    batch size (officially 128, then 512). Stage 2 continues from the last epoch of stage 1.
    """

    licences = LICENCES["bi_blip4cir"]
    recipe = Recipe(
        source="Liu, Sun, Hong, Teney, Gould, Bi-directional Training for Composed Image "
        "Retrieval via Text Prompt Learning, WACV 2024, arXiv 2303.16604",
        backbone=Component("blip", {"patches": False, "image_size": 384, "dropout": 0.1}),
        train=TrainSettings(
            epochs=320,
            batch_size=128,
            drop_last=True,
            lr=5e-5,
            weight_decay=0.05,
            known_positives="target",
        ),
        schedule=ScheduleSettings(name="cosine", epochs=10),
        datasets={
            "fashioniq": {"data.caption_mode": "four_way"},
            "cirr": {"method.sum_weight": 0.1, "method.combiner_weight": 0.1},
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"raw_embeddings", "grounded_text"})
    caption_edit: ClassVar[Callable[[str], str] | None] = staticmethod(tag_forward)
    text_variants: ClassVar[Mapping[str, Callable[[str], str]]] = {"backward": tag_backward}
    official = staticmethod(official_state)
    official_settings: ClassVar[Mapping[str, Any]] = {
        "backbone.model": "blip_base",
        "backbone.weights": "random",
        "backbone.image_size": 0,
    }

    def __init__(
        self,
        components: Components,
        *,
        stage: Stage = "both",
        sum_epochs: Count = 20,
        sum_weight: Weight = 0.4,
        combiner_weight: Weight = 0.5,
        symmetric: bool = False,
        projection: WidthOrOwn = 2560,
        hidden: WidthOrOwn = 5120,
        dropout: Dropout = 0.5,
        combiner_lr: Rate = 2e-5,
        projection_lr_factor: Rate = 100.0,
        temperature: Temperature = 0.01,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__(components, temperature=temperature, learn_temperature=learn_temperature)
        if min(sum_weight, combiner_weight) < 0:
            raise ValueError("sum_weight and combiner_weight must be at least 0")
        self.composer = make_composer(self.backbone, stage, sum_epochs, projection, hidden, dropout)
        self.sum_weight, self.combiner_weight = sum_weight, combiner_weight
        self.symmetric = symmetric
        self.combiner_lr = combiner_lr
        self.projection_lr_factor = projection_lr_factor

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed queries (B, D) of unit length."""
        return unit(self.composer(self._image(features), self._text(tokens)))

    def embed_queries(self, features: Features, batch: Batch) -> QueryEmbeddings:
        """Composed queries, and the inputs of the backward loss."""
        reference = self._image(features)
        query = unit(self.composer(reference, self._text(batch.tokens)))
        text = self._text(batch.text_variants["backward"]) if self._backward_weight else reference
        return QueryEmbeddings(query, text, reference)

    def embed_targets(self, features: Features) -> Tensor:
        """Raw image features (C, D) of the candidates."""
        return self._image(features)

    def loss_terms_from(
        self, queries: QueryEmbeddings, targets: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """``forward``, and ``backward`` times its weight where that is not 0."""
        terms = {
            "forward": self._direction_loss(self.similarity(queries.query, unit(targets)), batch)
        }
        weight = self._backward_weight
        if weight:
            images = self.reverse_inputs(targets)
            scores = reverse_scores(self.composer, queries.text, images, queries.reference)
            terms["backward"] = weight * self._direction_loss(scores, batch)
        return terms

    @property
    def _backward_weight(self) -> float:
        return self.combiner_weight if self.composer.combines else self.sum_weight

    def reverse_inputs(self, target: Tensor) -> Tensor:
        """Image features (C, D) of the reverse composition, from raw target features."""
        raw = self.symmetric or self.composer.combines
        return target if raw else unit(target)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Text encoder at ``lr`` with the schedule; projection and Combiner at constant rates."""
        combiner = list(self.composer.parameters())
        projection = list(self.backbone.model.text_proj.parameters())
        ids = {id(parameter) for parameter in (*combiner, *projection)}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in ids]
        groups = [{"params": combiner, "lr": self.combiner_lr, "weight_decay": 0.0}]
        groups[0]["constant_rate"] = True
        if self.composer.stage == "combiner":
            return groups
        faster = {"lr": lr * self.projection_lr_factor, "constant_rate": True}
        return [{"params": rest, "lr": lr}, {"params": projection, **faster}, *groups]

    def _image(self, features: Features) -> Tensor:
        with self.tuning():
            raw: Tensor = self.backbone.raw_image(features)
            return raw

    def _text(self, tokens: Tokens) -> Tensor:
        with self.tuning():
            raw: Tensor = self.backbone.raw_text(tokens)
            return raw

    def _direction_loss(self, scores: Tensor, batch: Batch) -> Tensor:
        return self.reduce_loss(self.loss, scores, batch.target, self.negatives(scores, batch))
