"""MGUR: CoSMo's composition under RoBERTa, trained against targets blurred by noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from baselines_plugin.backbones.resnet import check_levels
from baselines_plugin.checkpoints.cosmo import SHARED, finish, read_entries, shared_state
from baselines_plugin.licences import LICENCES
from baselines_plugin.parts.compositor import Compositor
from baselines_plugin.parts.uncertainty import Noised, epoch_weight, noised, under_uncertainty
from baselines_plugin.ranges import Heads, Rate, Scale, Weight, Width
from cir_plugins import (
    Batch,
    Component,
    Components,
    Features,
    Method,
    Plan,
    Recipe,
    ScheduleSettings,
    Tokens,
    TrainSettings,
    select,
    unit,
)


def official_state(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``MGUR`` from an official ``best.pth``.

    Raises:
        CIRError: If an entry or a key is missing or left over.
    """
    needed = ("text_encoder", "text_fc", *SHARED[:2])
    entries = read_entries(checkpoints, needed, (*SHARED[2:], "augmenter"))
    text, head = entries["text_encoder"], entries["text_fc"]
    state = shared_state(entries)
    # Counters that older releases of transformers saved with the weights.
    text.drop(r"model\.embeddings\.(position_ids|token_type_ids)")
    state |= text.rename(r"model\.(.+)", r"backbone.text.model.\1")
    state |= head.rename(r"model\.([01])\.(.+)", r"text_head.\1.\2")
    finish(entries)
    return {**state, "log_temperature": method.log_temperature.detach()}


class MGUR(Method):
    """CoSMo's composition with a loss on plain targets and one on noised targets.

    Terms at 0-based epoch e of E, with gamma = exp(-gamma_scale · e / E):
    ``uncertainty`` = gamma · ½ (exp(-S) · loss(query, noised target) + S), S the deviation over
    all entries of the noised targets, and ``info`` = (1 - gamma) · loss(query, target). The first
    epoch has the uncertain term alone, and its weight never reaches 0. As in the official code,
    S is about 1 throughout and noised targets are about √D long: the uncertain term has logits
    several times larger than the 16 · cosine of the other.

    Args:
        components: Backbone with a feature map and text features, loss and sampler.
        heads: Attention heads; they must divide the map's channels.
        text_width: Size of the text vector that the compositor reads.
        norm_scale: Length that embeddings have in the published method, above 0.
        alpha_scale: Multiplies the noised factors.
        beta_scale: Multiplies the noised offsets.
        gamma_scale: How fast the uncertain term loses weight, at least 0.
        text_rate: Learning rate of the text encoder as a share of the others', at least 0.

    Source: Chen et al., ICLR 2024, arXiv 2211.07394; settings and numbers of the authors' code.
    Differs: equal targets of a batch share a column, one noised vector each; the official code
    takes row i's target as the only positive. Caption pairs come from the annotations, not from
    pair files in which an empty caption shifts all later lines.
    """

    licences = LICENCES["mgur"]
    recipe = Recipe(
        source="Chen, Zheng, Ji, Qu, Chua, Composed Image Retrieval with Text Feedback via "
        "Multi-grained Uncertainty Regularization, ICLR 2024, arXiv 2211.07394",
        backbone=Component(
            "resnet",
            {
                "model": "resnet50.tv_in1k",
                "layer4_stride": 1,
                "text": "roberta",
                "resize": "squash",
            },
        ),
        train=TrainSettings(
            epochs=60,
            batch_size=32,
            drop_last=True,
            lr=2e-2,
            weight_decay=5e-5,
            optimizer="sgd",
            augment="crop_flip",
            known_positives="target",
            precision="fp32",
        ),
        schedule=ScheduleSettings(
            name="step", warmup=5 / 60, start_factor=0.01, milestones=(35, 42)
        ),
        datasets={
            "fashioniq": {
                "data.gallery": "val",
                "data.drop_reference": True,
                "data.caption_mode": "both_orders",
                "data.strip": False,
                "data.capitalise": False,
                "data.symbols": "words",
            }
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"feature_map", "text_features"})
    official = staticmethod(official_state)

    def __init__(
        self,
        components: Components,
        *,
        heads: Heads = 8,
        text_width: Width = 512,
        norm_scale: Scale = 4.0,
        alpha_scale: Weight = 1.0,
        beta_scale: Weight = 1.0,
        gamma_scale: Weight = 1.0,
        text_rate: Rate = 0.01,
    ) -> None:
        if norm_scale <= 0:
            raise ValueError(f"norm_scale must be above 0, not {norm_scale}")
        if gamma_scale < 0 or text_rate < 0:
            raise ValueError("gamma_scale and text_rate must be at least 0")
        super().__init__(components, temperature=norm_scale**-2, learn_temperature=False)
        self.norm_scale, self.text_rate = norm_scale, text_rate
        self.alpha_scale, self.beta_scale = alpha_scale, beta_scale
        self.gamma_scale, self.gamma = gamma_scale, 1.0
        states = self.backbone.text.width
        self.text_head = nn.Sequential(nn.BatchNorm1d(states), nn.Linear(states, text_width))
        self.compositor = Compositor(self.backbone.channels, text_width, heads=heads)

    @staticmethod
    def check_compatibility(plan: Plan) -> str:
        """Reason why the plan's components cannot work together; "" where they can."""
        if not getattr(plan.loss.factory, "scaled", True):
            return (
                f"loss '{plan.loss.name}' works on cosines, and noised targets have none; "
                "accepted: a loss on scores over the temperature, such as 'info_nce'"
            )
        return check_levels(plan, "last")

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed queries (B, D) of unit length."""
        text = self.text_head(self.backbone.describe(tokens))
        return unit(self.backbone.project(self.compositor(features, text).out))

    def loss_terms(
        self, batch: Batch, noise: tuple[Tensor, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """``uncertainty`` and ``info``, weighted by the epoch.

        Args:
            batch: A training batch.
            noise: Standard normal numbers (C, D) for factors and offsets; drawn by default.
        """
        features = self.features(batch)
        query = self.encode_query(select(features, batch.reference), batch.tokens)
        target = self.encode_gallery(select(features, batch.candidates))
        scores = self.similarity(query, target)
        negatives = self.negatives(scores, batch)
        blurred = self.blur(target, noise)
        noised_scores = self.noised_scores(query, blurred)
        uncertain = self.reduce_loss(self.loss, noised_scores, batch.target, negatives)
        plain = self.reduce_loss(self.loss, scores, batch.target, negatives)
        return {
            "uncertainty": self.gamma * under_uncertainty(uncertain, blurred.spread),
            "info": (1 - self.gamma) * plain,
        }

    def blur(self, target: Tensor, noise: tuple[Tensor, Tensor] | None = None) -> Noised:
        """The targets (C, D), of unit length, noised at their published length."""
        return noised(
            target * self.norm_scale,
            alpha_scale=self.alpha_scale,
            beta_scale=self.beta_scale,
            noise=noise,
        )

    def noised_scores(self, query: Tensor, blurred: Noised) -> Tensor:
        """Scores (B, C) of unit queries and noised targets, on the scale of cosines.

        Over the temperature they are the dot products of the published lengths.
        """
        return query.float() @ (blurred.out / self.norm_scale).T

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Set the weight of the uncertain term for the epoch."""
        self.gamma = epoch_weight(epoch, epochs, self.gamma_scale)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The text encoder at its own rate, the rest at ``lr``."""
        text = {id(parameter) for parameter in self.backbone.text.parameters()}
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        encoder = [parameter for parameter in trained if id(parameter) in text]
        rest = [parameter for parameter in trained if id(parameter) not in text]
        return [{"params": rest, "lr": lr}, {"params": encoder, "lr": lr * self.text_rate}]
