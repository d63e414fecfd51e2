"""CoVR-2's target encoder: a frozen copy of BLIP-2's initial Q-Former."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from cir_plugins import Tokens, unit

# Keys of a BLIP-2 model that are copied.
COPIED = ("qformer.", "embeddings.", "text_projection.", "query_tokens")


class FrozenQFormer(nn.Module):
    """A copy of a BLIP-2's Q-Former, embeddings, text projection and query tokens; never trained.

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

    def train(self, mode: bool = True) -> FrozenQFormer:
        """This module, which stays in evaluation mode."""
        return super().train(False)

    def image_states(self, states: Tensor) -> Tensor:
        """Q-Former states (C, T, H) at the query tokens, of normed ViT states (C, P, W)."""
        hidden: Tensor = self.qformer(
            query_embeds=self.query_tokens.expand(len(states), -1, -1), encoder_hidden_states=states
        ).last_hidden_state
        return hidden

    def text(self, tokens: Tokens) -> Tensor:
        """One vector per text (B, D) of unit length: its projected [CLS], without an image."""
        hidden = self.qformer(
            query_embeds=self.embeddings(input_ids=tokens["ids"]),
            query_length=0,
            attention_mask=tokens["mask"],
        ).last_hidden_state
        return unit(self.text_projection(hidden[:, 0]))
