"""The base of every method: plain contrastive learning on a backbone.

A method holds a backbone, a loss and a sampler. It has three functions for retrieval
(``encode_query``, ``encode_gallery``, ``similarity``) and one for training (``loss_terms``), and
overrides only what differs from contrastive learning.

A backbone lists its abilities beyond the protocol in ``offers``, a method its requirements in
``needs``. A combination that cannot work is an error before anything is built. These names are
in use; a plugin may add its own:

* ``query_tokens``: ``fuse(features, tokens) -> Fused``, ``project_text(hidden)`` and
  ``embed_words(words)`` of a text-conditioned set of query tokens.
* ``image_embedding``: ``image(features) -> (B, D)``, one vector per image.
* ``text_embedding``: ``text(tokens) -> (B, D)``, one vector per text, without an image.
* ``raw_embeddings``: ``raw_text(tokens) -> (B, D)`` and ``raw_image(features) -> (B, D)``, neither
  normalised; a backbone without ``raw_image`` has them as its features (B, D).
* ``feature_map``: ``features`` is a map (U, C, h, w), and ``project(map) -> (n, D)``.
* ``feature_levels``: ``features`` is a named tuple of several such maps.
* ``text_features``: ``describe(tokens) -> (B, W)``, one vector per text, not normalised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from cir_plugins.config.settings import (
    Component,
    Recipe,
    ScheduleSettings,
    TrainSettings,
)
from cir_plugins.errors import CIRError
from cir_plugins.features import select
from cir_plugins.plugins.ranges import Temperature
from cir_plugins.types import Batch, Features, Tokens

TEMPERATURE = 0.07
"""Start value of the temperature, the divisor of cosines before a softmax.

Source: CLIP (Radford et al. 2021, arXiv 2103.00020); BLIP-2 starts from the same value.
"""


class Fused(NamedTuple):
    """Text-conditioned hidden states of a reference image.

    Attributes:
        tokens: (B, T, H) hidden states at the query positions.
        text: (B, H) hidden state of the text's [CLS].
    """

    tokens: Tensor
    text: Tensor


@dataclass
class Components:
    """The components of a method.

    Attributes:
        backbone: An ``nn.Module`` with the protocol ``cir_plugins.types.Backbone``.
        loss: A ``cir_plugins.types.Loss``.
        sampler: A ``cir_plugins.types.Sampler``.
        negatives: Where negatives come from (``MiningSettings.negatives``).
        filter: What filters the batch's columns (``MiningSettings.filter``).
    """

    backbone: Any
    loss: Any
    sampler: Any
    negatives: Literal["batch", "mined", "both"] = "batch"
    filter: Literal["batch", "corpus", "none"] = "batch"


class Method(nn.Module):
    """Contrastive learning of composed queries; the base class of every method.

    Args:
        components: Backbone, loss and sampler.
        temperature: Start value of the temperature that scores are divided by, above 0.
        learn_temperature: Whether the temperature is trained.

    Attributes:
        recipe: The published components and settings; the only home of the method's defaults.
        needs: Names of backbone abilities that the method uses beyond the protocol.
        trained: False for a method without trainable behaviour; it ignores loss and sampler.
        text_variants: Name -> caption edit of a further text of each query, tokenised into
            ``Batch.text_variants``.
        caption_edit: Edit of every raw caption before it becomes the text of a query, in training
            and evaluation; None for none.
        eval_only_options: Options that affect evaluation alone. On another data set the recipe's
            value applies, not the run's.

    A class may have these optional members:

    * ``check_compatibility(plan) -> str``, a static method: the reason why the plan's components or
      settings cannot work with this method, or "". Called before anything is built.
    * ``official(checkpoints, method) -> dict[str, Tensor]``, a static method: the method's state
      from the contents of official files, for ``cir convert`` (see ``cir_plugins.Official``).
    * ``official_files``: file suffix -> function from a path to options by ``table.option``, for
      files other than checkpoints, such as a vocabulary.
    * ``official_settings``: default options of a converted run by ``table.option``; without it
      ``backbone.weights`` is ``random``, since the checkpoint has the weights.
    """

    recipe: ClassVar[Recipe] = Recipe(
        source="van den Oord et al., Representation Learning with Contrastive Predictive Coding, "
        "arXiv 1807.03748, equation 4; CLIP's in-batch form",
        train=TrainSettings(epochs=30, lr=5e-6),
        schedule=ScheduleSettings(floor=0.01),
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    trained: ClassVar[bool] = True
    eval_only_options: ClassVar[frozenset[str]] = frozenset()
    text_variants: ClassVar[Mapping[str, Callable[[str], str]]] = {}
    caption_edit: ClassVar[Callable[[str], str] | None] = None

    def __init__(
        self,
        components: Components,
        *,
        temperature: Temperature = TEMPERATURE,
        learn_temperature: bool = True,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        self.backbone = components.backbone
        self.loss = components.loss
        self.sampler = components.sampler
        self.source_of_negatives = components.negatives
        self.filter = components.filter
        # The logarithm is learned, so that the temperature stays above 0.
        start = torch.tensor(math.log(temperature))
        self.log_temperature = nn.Parameter(start, requires_grad=learn_temperature)

    @property
    def temperature(self) -> Tensor:
        """The temperature, a scalar above 0."""
        return self.log_temperature.exp()

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed queries (B, D) of unit length, from references' features and token tensors."""
        result: Tensor = self.backbone.encode_query(features, tokens)
        return result

    def encode_gallery(self, features: Features) -> Tensor:
        """Candidate embeddings (C, D) or (C, T, D) of unit length."""
        result: Tensor = self.backbone.encode_gallery(features)
        return result

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Cosine scores (B, C), higher is closer."""
        result: Tensor = self.backbone.similarity(query, target)
        return result

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted loss terms of a batch, scalars by name; training minimises their sum."""
        features = self.features(batch)
        queries = self.embed_queries(select(features, batch.reference), batch)
        targets = self.embed_targets(select(features, batch.candidates))
        return self.loss_terms_from(queries, targets, batch)

    def embed_queries(self, features: Features, batch: Batch) -> Features:
        """Query embeddings for ``loss_terms_from``: a tensor or named tuple, leading dimension B.

        Args:
            features: Features of the B references.
            batch: The batch of the same B triplets; a micro-batch has texts, tokens and text
                variants, but no images.
        """
        return self.encode_query(features, batch.tokens)

    def embed_targets(self, features: Features) -> Features:
        """Candidate embeddings for ``loss_terms_from``: tensor or named tuple, leading dimension C.

        Args:
            features: Features of the C candidates.
        """
        return self.encode_gallery(features)

    def loss_terms_from(
        self, queries: Features, targets: Features, batch: Batch
    ) -> dict[str, Tensor]:
        """Weighted loss terms by name, from the embeddings of a whole batch."""
        scores = self.similarity(queries, targets)
        negatives = self.negatives(scores, batch)
        return {"loss": self.reduce_loss(self.loss, scores, batch.target, negatives)}

    @classmethod
    def supports_micro_batches(cls) -> bool:
        """Whether a batch may be embedded in micro-batches: ``loss_terms`` is not overridden."""
        return cls.loss_terms is Method.loss_terms

    def features(self, batch: Batch) -> Features:
        """Features of the batch's U images: those in the batch, or computed from its pixels."""
        if batch.features is not None:
            return batch.features
        if batch.images is None:
            raise ValueError("a batch needs images or features")
        if self.backbone.frozen_features:
            with torch.no_grad():
                return self.backbone.features(batch.images)
        return self.backbone.features(batch.images)

    def negatives(self, scores: Tensor, batch: Batch) -> Tensor:
        """Negatives (B, C) bool of the batch: mined, from the sampler, or both."""
        if batch.mined is not None and self.source_of_negatives == "mined":
            return batch.mined
        if self.filter != "batch":  # of a corpus: ambiguous columns are excluded already
            mask = eligible(batch.target, batch.excluded)
        else:
            mask = self.sampler(scores.detach(), batch.target, batch.excluded)
            _check_result("sampler", self.sampler, mask, torch.bool, scores.shape, "(B, C)")
        return mask if batch.mined is None else mask | batch.mined

    def reduce_loss(self, loss: Any, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Mean of a per-query loss, on scores over the temperature if ``loss.scaled``."""
        scaled = scores / self.temperature if loss.scaled else scores
        values: Tensor = loss(scaled, target, negatives)
        _check_result("loss", loss, values, None, scores.shape[:1], "(B,)")
        return values.mean()

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Hook before each 0-based epoch, for methods whose loss terms depend on it."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser, each with its ``lr``; all at one rate by default."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": lr}]


def eligible(target: Tensor, excluded: Tensor) -> Tensor:
    """Candidates (Q, N) bool that may be negatives: neither the target (Q,) nor excluded (Q, N)."""
    return (~excluded).scatter(1, target[:, None], False)


def _check_result(
    kind: str,
    component: Any,
    result: Any,
    dtype: torch.dtype | None,
    shape: torch.Size,
    letters: str,
) -> None:
    """Check what a loss or sampler returned: another shape would be broadcast without an error.

    Raises:
        CIRError: If the result has another type or shape.
    """
    if isinstance(result, Tensor) and result.shape == shape and dtype in (None, result.dtype):
        return
    owner = type(component)
    shown = type(result).__name__
    if isinstance(result, Tensor):
        shown = f"{str(result.dtype).removeprefix('torch.')} of shape {tuple(result.shape)}"
    word = "floats" if dtype is None else "bool"
    raise CIRError(
        f"{kind} {owner.__qualname__} of {owner.__module__} returned {shown}; "
        f"accepted: {word} of shape {letters}, here {tuple(shape)}"
    )


__all__ = ["TEMPERATURE", "Component", "Components", "Fused", "Method", "Recipe", "TrainSettings"]
