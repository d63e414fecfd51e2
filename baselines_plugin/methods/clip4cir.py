"""CLIP4Cir: CLIP fine-tuned on the sum of image and text, then a Combiner on the frozen CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from baselines_plugin.checkpoints.combiner import combiner_state
from baselines_plugin.licences import LICENCES
from baselines_plugin.parts.combiner import Stage, TwoStages, make_composer, raw_image
from baselines_plugin.ranges import Count, Dropout, Rate, Temperature, WidthOrOwn
from cir_plugins import (
    Batch,
    Component,
    Components,
    Features,
    Ledger,
    Method,
    Recipe,
    ScheduleSettings,
    Tokens,
    TrainSettings,
    need_entry,
    prefixed,
    unit,
)

_CLIP = (
    r"(?:visual|transformer|token_embedding|ln_final)\..+"
    r"|positional_embedding|text_projection|logit_scale"
)


def official_state(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """State of a ``CLIP4Cir`` from ``tuned_clip_*.pt`` and ``combiner*.pt``, in any order.

    Raises:
        CIRError: If an entry is missing or has other keys.
    """
    if not isinstance(method, CLIP4Cir):
        raise ValueError(f"the method must be a CLIP4Cir, not a {type(method).__name__}")
    what = "of tuned_clip_*.pt, the fine-tuned CLIP"
    ledger = Ledger(need_entry(checkpoints, "CLIP", what), "entry 'CLIP'")
    ledger.drop("input_resolution|context_length|vocab_size")  # numbers in OpenAI's own files
    clip = ledger.rename(f"({_CLIP})", r"\1")
    ledger.finish()
    if method.half_weights:
        clip = {k: v.half().float() if v.is_floating_point() else v for k, v in clip.items()}
    return {
        "log_temperature": method.log_temperature.detach(),
        **prefixed("backbone.model.", clip),
        **prefixed("composer.", combiner_state(checkpoints, method.composer)),
    }


class CLIP4Cir(TwoStages):
    """Stage 1: norm(image + text) with both towers tuned. Stage 2: the Combiner, CLIP frozen.

    Both are trained by in-batch cross-entropy of query to target on 100 times the cosine.

    Args:
        components: Backbone with raw embeddings, loss and sampler.
        stage: ``both`` in one run, ``sum`` (stage 1 alone) or ``combiner`` (stage 2 alone, on the
            backbone as loaded).
        sum_epochs: Epochs of stage 1 where there are both.
        projection: Width of the Combiner's projections; 0 for four times the embedding.
        hidden: Width of its hidden layers; 0 for eight times the embedding.
        dropout: Dropout of the Combiner, in [0, 1).
        combiner_lr: Learning rate of the Combiner; ``train.lr`` is that of stage 1.
        half_weights: Whether the CLIP weights of an official checkpoint are rounded to half
            precision when they are converted, as the official code does on a GPU.
        temperature: Temperature; 1/100 of the official code.
        learn_temperature: Whether it is trained; officially not.

    Source: Baldrati, Bertini, Uricchio, Del Bimbo, TOMM 2023, arXiv 2308.11485.
    Differs: a target that several queries of a batch share is one column here, not a negative of
    itself; both stages have one batch size (officially 128, then 4096), and stage 2 continues from
    the last epoch of stage 1, not from its best.
    """

    licences = LICENCES["clip4cir"]
    recipe = Recipe(
        source="Baldrati, Bertini, Uricchio, Del Bimbo, CLIP4Cir, TOMM 2023, arXiv 2308.11485",
        backbone=Component("clip", {"model": "RN50x4-quickgelu", "pretrained": "openai"}),
        train=TrainSettings(
            epochs=400,
            batch_size=128,
            drop_last=True,
            lr=2e-6,
            weight_decay=0.01,
            eps=1e-7,
            known_positives="target",
        ),
        schedule=ScheduleSettings(name="constant"),
        datasets={"fashioniq": {"data.caption_mode": "four_way"}},
    )
    needs: ClassVar[frozenset[str]] = frozenset({"raw_embeddings"})
    official = staticmethod(official_state)
    official_settings: ClassVar[Mapping[str, Any]] = {"backbone.pretrained": "random"}

    def __init__(
        self,
        components: Components,
        *,
        stage: Stage = "both",
        sum_epochs: Count = 100,
        projection: WidthOrOwn = 0,
        hidden: WidthOrOwn = 0,
        dropout: Dropout = 0.5,
        combiner_lr: Rate = 2e-5,
        half_weights: bool = False,
        temperature: Temperature = 0.01,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__(components, temperature=temperature, learn_temperature=learn_temperature)
        self.composer = make_composer(self.backbone, stage, sum_epochs, projection, hidden, dropout)
        self.combiner_lr = combiner_lr
        self.half_weights = half_weights

    def features(self, batch: Batch) -> Features:
        """Features of the batch's images, without gradient under the Combiner."""
        with self.tuning():
            return super().features(batch)

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed queries (B, D) of unit length."""
        with self.tuning():
            image = raw_image(self.backbone, features)
            text = self.backbone.raw_text(tokens)
        return unit(self.composer(image, text))

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The backbone at ``lr``, the Combiner at its own rate without decay."""
        combiner = list(self.composer.parameters())
        ids = {id(parameter) for parameter in combiner}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in ids]
        fixed = {"constant_rate": True, "weight_decay": 0.0, "eps": 1e-8}
        tuned = [] if self.composer.stage == "combiner" else rest
        return [
            {"params": tuned, "lr": lr},
            {"params": combiner, "lr": self.combiner_lr, **fixed},
        ]
