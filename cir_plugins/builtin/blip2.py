"""BLIP-2's image-text retrieval model as a backbone: a frozen ViT and a Q-Former over it.

Source: Li, Li, Savarese, Hoi, BLIP-2, ICML 2023, arXiv 2301.12597, section 3.1 (first stage).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cir_plugins.builtin.blip2_files import TOKENIZERS, load_model, save_model
from cir_plugins.builtin.image_text import ImageTextModel
from cir_plugins.builtin.similarity import unit
from cir_plugins.builtin.tokenizers import WordPieceTokenizer
from cir_plugins.builtin.towers import Tower
from cir_plugins.data.images import Resize
from cir_plugins.method import Fused
from cir_plugins.plugins.declarations import Licence
from cir_plugins.plugins.ranges import Dropout, DropoutOrOwn, ImageSize, TextLength
from cir_plugins.types import Tokens

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the weights that ship with the host: ``tiny_blip2`` and ``tiny_clip``."""


class Blip2(ImageTextModel):
    """BLIP-2 stage one: queries are fused query tokens, targets are T token vectors.

    The composed query is the mean of the projected query tokens (QuRe's); a target keeps its T
    tokens and is scored by the best of them.

    Args:
        model: ``vit_g`` or ``vit_l`` for the published architectures (random weights only, no
            download), or hub name or local folder of a ``Blip2ForImageTextRetrieval``. The
            ``model_type`` of a folder's vision config chooses the tower: BLIP-2's own EVA ViT,
            ``clip_vision_model`` (the ViT-L variant of QuRe and SPRC) or ``timm_resnet``.
        weights: ``pretrained``, or ``random`` to build the model from the folder's (or the hub's)
            configuration alone.
        tokenizer: Hub name or local folder of the tokenizer; empty for the model's own
            (``bert-base-uncased`` for a published architecture).
        vision: ``frozen``: the ViT is in evaluation mode and gets no gradient, so its features can
            be computed once; ``trained``: it is tuned with the rest.
        vision_norm: Whether the layer norm above the ViT is ``trained`` (SPRC, QuRe) or ``frozen``
            (CoVR-2).
        image_size: Side of the input in pixels; 0 for the model's own. Position embeddings are
            interpolated where it differs.
        resize: How an image becomes a square (see ``cir_plugins.data.images``).
        text_length: Longest text in tokens, [CLS] and [SEP] included.
        dropout: Dropout of the Q-Former, hidden states and attention, in [0, 1); -1 for the
            model's own.

    Raises:
        CIRError: If the model cannot be loaded.
    """

    licences: ClassVar[tuple[Licence, ...]] = (
        Licence(
            "LAVIS, code and weights",
            "BSD-3-Clause",
            "yes",
            "https://github.com/salesforce/LAVIS/blob/main/LICENSE.txt",
        ),
    )
    offers: ClassVar[frozenset[str]] = frozenset(
        {"query_tokens", "image_embedding", "text_embedding"}
    )

    def __init__(
        self,
        *,
        model: str = "Salesforce/blip2-itm-vit-g",
        weights: Literal["pretrained", "random"] = "pretrained",
        tokenizer: str = "",
        vision: Literal["frozen", "trained"] = "frozen",
        vision_norm: Literal["frozen", "trained"] = "trained",
        image_size: ImageSize = 0,
        resize: Resize = "target_pad",
        text_length: TextLength = 32,
        dropout: DropoutOrOwn = -1.0,
    ) -> None:
        super().__init__(
            load_model(model, weights, dropout),
            WordPieceTokenizer(tokenizer or TOKENIZERS.get(model, model), text_length),
            frozen=vision == "frozen",
            image_size=image_size,
            resize=resize,
        )
        self.model.vision_model.post_layernorm.requires_grad_(vision_norm == "trained")

    def features(self, images: Tensor) -> Tensor:
        """ViT states (U, P, W) of [CLS] and the image patches, below the vision layer norm."""
        tower = self.model.vision_model
        if isinstance(tower, Tower):
            return tower.states(images, self.interpolate)
        embedded = tower.embeddings(images, interpolate_pos_encoding=self.interpolate)
        states: Tensor = tower.encoder(inputs_embeds=embedded).last_hidden_state
        return states

    def normed(self, features: Tensor) -> Tensor:
        """Features (U, P, W) after the vision layer norm, the input of the Q-Former."""
        states: Tensor = self.model.vision_model.post_layernorm(features)
        return states

    def fuse(self, features: Tensor, tokens: Tokens) -> Fused:
        """Q-Former states of [query tokens; text] over the image."""
        queries = self._queries(features.shape[0])
        embedded = self.model.embeddings(input_ids=tokens["ids"], query_embeds=queries)
        mask = torch.ones(queries.shape[:2], dtype=torch.long, device=features.device)
        hidden = self.model.qformer(
            query_embeds=embedded,
            query_length=queries.shape[1],
            attention_mask=torch.cat([mask, tokens["mask"]], dim=1),
            encoder_hidden_states=self.normed(features),
        ).last_hidden_state
        return Fused(hidden[:, : queries.shape[1]], hidden[:, queries.shape[1]])

    def encode_query(self, features: Tensor, tokens: Tokens) -> Tensor:
        """Mean of the projected query tokens (B, D), unit length.

        Source: Kwak et al., QuRe, ICML 2025, arXiv 2507.12416.
        """
        return unit(self.project_text(self.fuse(features, tokens).tokens).mean(dim=1))

    def encode_gallery(self, features: Tensor) -> Tensor:
        """Projected query tokens of an image alone (C, T, D), each of unit length."""
        hidden = self.model.qformer(
            query_embeds=self._queries(features.shape[0]),
            encoder_hidden_states=self.normed(features),
        ).last_hidden_state
        return unit(self.model.vision_projection(hidden))

    def image(self, features: Tensor) -> Tensor:
        """One vector per image (B, D): the mean of its target tokens at unit length."""
        return unit(self.encode_gallery(features).mean(dim=1))

    def text(self, tokens: Tokens) -> Tensor:
        """One vector per text (B, D): projected [CLS] of the text alone, unit length."""
        embedded = self.model.embeddings(input_ids=tokens["ids"])
        hidden = self.model.qformer(
            query_embeds=embedded, query_length=0, attention_mask=tokens["mask"]
        ).last_hidden_state
        return unit(self.project_text(hidden[:, 0]))

    def project_text(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., H) projected into the embedding space (..., D), not normalised."""
        projected: Tensor = self.model.text_projection(hidden)
        return projected

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Mean word-piece embedding (n, H) of each of the words, without gradient."""
        table = self.model.embeddings.word_embeddings.weight.detach()
        pieces = [self.tokenizer.pieces(word) for word in words]
        return torch.stack([table[ids].mean(dim=0) for ids in pieces])

    def save(self, folder: Path) -> None:
        """Write model, configuration and tokenizer into a folder that ``model`` takes."""
        save_model(self.model, folder)
        self.tokenizer.save(folder)

    def _queries(self, images: int) -> Tensor:
        tokens: Tensor = self.model.query_tokens.expand(images, -1, -1)
        return tokens


class TinyBlip2(Blip2):
    """BLIP-2 at a small size, with weights the project trained on drawn garments.

    Args:
        vision: As for ``blip2``; by default tuned, since drawn garments are not photographs.
        start: ``drawn`` for the project's weights, or ``random``.
        resize: How an image becomes a square; squashed by default, since a crop of so small an
            image can lose the hem or the collar of a garment.
        text_length: Longest text in tokens.
        dropout: Dropout of the Q-Former, in [0, 1).
    """

    suggested_lr: ClassVar[float] = 1e-3  # for notes on recipes of large backbones

    licences: ClassVar[tuple[Licence, ...]] = (
        Licence("code and weights", "MIT", "yes", "the file LICENSE of cir-plugins"),
    )

    def __init__(
        self,
        *,
        vision: Literal["frozen", "trained"] = "trained",
        start: Literal["drawn", "random"] = "drawn",
        resize: Resize = "squash",
        text_length: TextLength = 32,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__(
            model=str(WEIGHTS / "tiny_blip2"),
            weights="pretrained" if start == "drawn" else "random",
            vision=vision,
            resize=resize,
            text_length=text_length,
            dropout=dropout,
        )
