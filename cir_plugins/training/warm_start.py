"""The contrastive loss that a warm start trains with, on any method's own embeddings."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.features import select
from cir_plugins.method import Method, eligible
from cir_plugins.types import Batch, Features


class Objective(Protocol):
    """What a step minimises: a ``Method``, or the loss of its warm start."""

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted loss terms of a batch."""

    def embed_queries(self, features: Features, batch: Batch) -> Features:
        """Query embeddings, from the features of B references."""

    def embed_targets(self, features: Features) -> Features:
        """Candidate embeddings, from the features of C candidates."""

    def loss_terms_from(
        self, queries: Features, targets: Features, batch: Batch
    ) -> dict[str, Tensor]:
        """Weighted loss terms, from the embeddings of a whole batch."""


class Contrastive:
    """In-batch InfoNCE on the queries and candidates that a method retrieves with.

    Each query's negatives are all columns of the batch but its target and what is excluded.

    Args:
        method: Gives embeddings, similarity and temperature.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.loss = InfoNCE()

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The term ``warm_start`` of a batch."""
        features = self.method.features(batch)
        queries = self.embed_queries(select(features, batch.reference), batch)
        targets = self.embed_targets(select(features, batch.candidates))
        return self.loss_terms_from(queries, targets, batch)

    def embed_queries(self, features: Features, batch: Batch) -> Features:
        """Queries (B, D), from the features of B references."""
        return self.method.encode_query(features, batch.tokens)

    def embed_targets(self, features: Features) -> Features:
        """Candidates (C, D) or (C, T, D), from the features of C candidates."""
        return self.method.encode_gallery(features)

    def loss_terms_from(
        self, queries: Features, targets: Features, batch: Batch
    ) -> dict[str, Tensor]:
        """The term ``warm_start``, from the embeddings of a whole batch."""
        assert isinstance(queries, Tensor)
        assert isinstance(targets, Tensor)
        scores = self.method.similarity(queries, targets)
        negatives = eligible(batch.target, batch.excluded)
        return {"warm_start": self.method.reduce_loss(self.loss, scores, batch.target, negatives)}
