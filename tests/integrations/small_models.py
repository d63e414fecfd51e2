"""Models of sentence-transformers in miniature, and what they embed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = [f"w{i}" for i in range(20)]
ANCHORS = ["w0 w1", "w2 w3", "w4 w5", "w0 w1", "w6 w7", "w8 w9"]
POSITIVES = ["w1 w0 w2", "w3 w2 w4", "w5 w6", "w0 w7", "w7 w6", "w9 w8 w1"]


def text_model() -> SentenceTransformer:
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    rng = torch.Generator().manual_seed(0)
    weights = torch.randn(len(vocabulary), 16, generator=rng)
    return SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=weights.numpy())], device="cpu"
    )


def clip_model(folder: Path) -> SentenceTransformer:
    from sentence_transformers.base.modules import Transformer
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        PreTrainedTokenizerFast,
    )

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config={**size, "num_attention_heads": 2, "vocab_size": 24, "eos_token_id": 22},
        vision_config={**size, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    names = ["[UNK]", *WORDS, "[BOS]", "[EOS]", "[PAD]"]
    raw = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", eos_token="[EOS]", pad_token="[PAD]"
    )
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return SentenceTransformer(modules=[Transformer(str(folder))], device="cpu")


class Fused(InputModule):
    """Texts, images, and dicts of both as one: the sum of word vectors and a seen colour."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(len(WORDS), 8)
        self.colour = torch.nn.Linear(3, 8)
        self.met: list[Any] = []

    @property
    def modalities(self) -> list[Any]:
        """What the library's checks let through."""
        return ["text", "image", ("image", "text")]

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **options: Any
    ) -> dict[str, torch.Tensor]:
        """Word counts and the colour of the first pixel; 0 where a part is missing."""
        counts, pixels = torch.zeros(len(inputs), len(WORDS)), torch.zeros(len(inputs), 3)
        self.met += inputs
        for row, item in enumerate(inputs):
            name = "text" if isinstance(item, str) else "image"
            fields = item if isinstance(item, dict) else {name: item}
            for word in fields.get("text", "").split():
                counts[row, WORDS.index(word)] += 1
            if "image" in fields:
                pixels[row] = torch.tensor(fields["image"].getpixel((0, 0))) / 255
        return {"counts": counts, "pixel_values": pixels}

    def forward(self, features: dict[str, torch.Tensor], **options: Any) -> dict[str, torch.Tensor]:
        """The features with their embedding."""
        words = features["counts"] @ self.words.weight
        features["sentence_embedding"] = words + self.colour(features["pixel_values"])
        return features

    def save(self, *args: Any, **options: Any) -> None:
        """Nothing is saved: the trainer of these tests saves no model."""
