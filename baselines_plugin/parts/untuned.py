"""What CoVR-2 is trained towards: BLIP-2's Q-Former before training, and scores of token sets."""

from __future__ import annotations

import copy
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from cir_plugins import Tokens, best_token, unit

# Keys of a BLIP-2 model that the copy has too.
COPIED = ("qformer.", "embeddings.", "text_projection.", "query_tokens")


class Untuned(nn.Module):
    """The Q-Former of a BLIP-2 as it is now, for good: copies that are never trained.

    Args:
        model: The model of a ``blip2`` backbone.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.qformer = copy.deepcopy(model.qformer)
        self.embeddings = copy.deepcopy(model.embeddings)
        self.text_projection = copy.deepcopy(model.text_projection)
        self.query_tokens = copy.deepcopy(model.query_tokens)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Untuned:
        """This module, which stays in evaluation mode."""
        return super().train(False)

    def image_states(self, seen: Tensor) -> Tensor:
        """Q-Former states (C, T, H) at the query tokens, of images (C, P, W) as it sees them."""
        states: Tensor = self.qformer(
            query_embeds=self.query_tokens.expand(len(seen), -1, -1), encoder_hidden_states=seen
        ).last_hidden_state
        return states

    def text(self, tokens: Tokens) -> Tensor:
        """One vector per text (B, D) of unit length: its projected [CLS], without an image."""
        hidden = self.qformer(
            query_embeds=self.embeddings(input_ids=tokens["ids"]),
            query_length=0,
            attention_mask=tokens["mask"],
        ).last_hidden_state
        return unit(self.text_projection(hidden[:, 0]))


def mean_score(query: Tensor, target: Tensor) -> Tensor:
    """Dot products (B, C) of the means of query tokens (B, S, D) and target tokens (C, T, D)."""
    return query.mean(dim=1) @ target.mean(dim=1).T


def best_pair(query: Tensor, target: Tensor) -> Tensor:
    """The best dot product (B, C) of any query token (B, S, D) and target token (C, T, D).

    A query token at a time for all queries, so that no more than (B, C, T) is held.
    """
    return reduce(torch.maximum, (best_token(tokens, target) for tokens in query.unbind(1)))
