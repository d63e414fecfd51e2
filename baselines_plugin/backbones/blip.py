"""BLIP's image-text retrieval model as a backbone: a ViT and a text encoder with cross-attention.

Source: Li, Li, Xiong, Hoi, BLIP, ICML 2022, arXiv 2201.12086.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from baselines_plugin.backbones.blip_files import TOKENIZERS, load_model
from baselines_plugin.backbones.blip_tower import TINY, PooledTower, start_drawn
from baselines_plugin.ranges import Dropout, DropoutOrOwn, ImageSizeOrOwn, TextLength
from cir_plugins import ImageTextModel, Licence, Resize, Tokens, WordPieceTokenizer, unit


class Blip(ImageTextModel):
    """BLIP: one vector per image, one per text, and one per text grounded in an image.

    The composed query is the sum of the image's and the text's vector (BLIP4CIR's).

    Args:
        model: ``blip_base`` or ``blip_large`` for the published architectures at 384 pixels (no
            weights of their own), or hub name or local folder of a ``BlipForImageTextRetrieval``.
        weights: ``pretrained``; ``random`` to build the model from its configuration alone; or a
            checkpoint of BLIP's own repository such as ``model_base.pth``, read without
            executing anything, position embeddings interpolated to the model's size.
        tokenizer: Hub name or local folder of the tokenizer; empty for the model's own
            (``bert-base-uncased`` for a published architecture).
        vision: ``frozen``: ViT and image projection get no gradient, so features can be computed
            once; ``trained``: they are tuned with the rest.
        patches: Whether features hold all states of an image, or its [CLS] alone, which takes
            far less memory where no text is grounded in the image.
        image_size: Side of the input in pixels; 0 for the model's own. Position embeddings are
            interpolated where it differs.
        resize: How an image becomes a square (see ``cir_plugins.data.images``).
        text_length: Longest text in tokens, [CLS] and [SEP] included.
        dropout: Dropout of the text encoder, hidden states and attention, in [0, 1); -1 for the
            model's own. Converted hub models often state 0 where the original trained with 0.1.

    Raises:
        CIRError: If the model cannot be loaded.
    """

    licences: ClassVar[tuple[Licence, ...]] = (
        Licence(
            "BLIP, code and weights",
            "BSD-3-Clause",
            "yes",
            "https://github.com/salesforce/BLIP/blob/main/LICENSE.txt",
        ),
    )
    offers: ClassVar[frozenset[str]] = frozenset(
        {"image_embedding", "text_embedding", "raw_embeddings", "grounded_text"}
    )

    def __init__(
        self,
        *,
        model: str = "Salesforce/blip-itm-base-coco",
        weights: str = "pretrained",
        tokenizer: str = "",
        vision: Literal["frozen", "trained"] = "frozen",
        patches: bool = True,
        image_size: ImageSizeOrOwn = 0,
        resize: Resize = "target_pad",
        text_length: TextLength = 77,
        dropout: DropoutOrOwn = -1.0,
    ) -> None:
        super().__init__(
            load_model(model, weights, dropout),
            WordPieceTokenizer(tokenizer or TOKENIZERS.get(model, model), text_length),
            frozen=vision == "frozen",
            image_size=image_size,
            resize=resize,
        )
        self.patches = patches
        self.encode_token = int(self.model.config.text_config.vocab_size) - 1  # [ENC]
        if self.frozen_features:
            self.model.vision_proj.requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """ViT states (U, P, W) after the final layer norm, [CLS] first; (U, 1, W) without patches.

        Images may differ from the model's size where ``image_size`` is set.
        """
        tower = self.model.vision_model
        states: Tensor
        if isinstance(tower, PooledTower):
            states = tower.states(images)
        else:
            output = tower(pixel_values=images, interpolate_pos_encoding=self.interpolate)
            states = output.last_hidden_state
        return states if self.patches else states[:, :1]

    def text_states(self, tokens: Tokens, features: Tensor | None = None) -> Tensor:
        """Last hidden states (B, L, H) of texts, alone or grounded in an image.

        Args:
            tokens: Ids and masks (B, L).
            features: (B, P, W) of the image of each text; None for the text alone.
        """
        # Bidirectional as an encoder; the configuration is a decoder's only so that
        # cross-attention layers exist.
        output = self.model.text_encoder(
            input_ids=tokens["ids"],
            attention_mask=tokens["mask"],
            encoder_hidden_states=features,
            is_decoder=False,
        )
        states: Tensor = output.last_hidden_state
        return states

    def grounded_tokens(self, tokens: Tokens) -> Tokens:
        """Tokens with [ENC] first, for a text grounded in an image."""
        ids = tokens["ids"].clone()
        ids[:, 0] = self.encode_token
        return {**tokens, "ids": ids}

    def raw_image(self, features: Tensor) -> Tensor:
        """Projected [CLS] (U, D) of images, not normalised."""
        projected: Tensor = self.model.vision_proj(features[:, 0])
        return projected

    def raw_text(self, tokens: Tokens) -> Tensor:
        """Projected [CLS] (B, D) of texts alone, not normalised."""
        projected: Tensor = self.model.text_proj(self.text_states(tokens)[:, 0])
        return projected

    def raw_grounded(self, features: Tensor, tokens: Tokens) -> Tensor:
        """Projected [ENC] (B, D) of texts grounded in images, not normalised."""
        states = self.text_states(self.grounded_tokens(tokens), features)
        projected: Tensor = self.model.text_proj(states[:, 0])
        return projected

    def encode_query(self, features: Tensor, tokens: Tokens) -> Tensor:
        """Normalised sum (B, D) of the raw image and text vectors.

        Source: Liu et al., Bi-BLIP4CIR, WACV 2024, arXiv 2303.16604 (element-wise sum).
        """
        return unit(self.raw_image(features) + self.raw_text(tokens))

    def encode_gallery(self, features: Tensor) -> Tensor:
        """Image vectors (C, D), unit length."""
        return unit(self.raw_image(features))

    def image(self, features: Tensor) -> Tensor:
        """Image vectors (B, D), unit length."""
        return unit(self.raw_image(features))

    def text(self, tokens: Tokens) -> Tensor:
        """Text vectors (B, D), unit length."""
        return unit(self.raw_text(tokens))

    def save(self, folder: Path) -> None:
        """Write model, configuration and tokenizer into a folder that ``model`` takes."""
        self.model.save_pretrained(folder)
        self.tokenizer.save(folder)


class TinyBlip(Blip):
    """BLIP at a small size, on the convolutional tower of ``tiny_blip2``.

    Args:
        vision: As for ``blip``; by default tuned, since drawn garments are not photographs.
        start: ``drawn``: tower and text layers of ``tiny_blip2``, trained by the project on drawn
            garments; ``random``: random weights.
        text_length: Longest text in tokens.
        dropout: Dropout of the text encoder, in [0, 1).
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
        text_length: TextLength = 48,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__(
            model="tiny_blip",
            weights="random",
            tokenizer=str(TINY),
            vision=vision,
            resize="squash",
            text_length=text_length,
            dropout=dropout,
        )
        if start == "drawn":
            start_drawn(self.model)
