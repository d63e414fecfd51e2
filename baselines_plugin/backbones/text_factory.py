"""Text encoders by kind and options."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import nn

from baselines_plugin.backbones.text_encoders import (
    BertText,
    LstmText,
    MaxLstmText,
    RobertaText,
)
from baselines_plugin.backbones.vocabulary import Rule, Words
from cir_plugins import WEIGHTS, WordPieceTokenizer, from_hub

_PUBLISHED = MappingProxyType({"bert": "bert-base-uncased", "roberta": "roberta-base"})
_TINY: Mapping[str, int] = MappingProxyType(
    {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
)


def transformer_text(kind: Literal["bert", "roberta"], name: str, length: int) -> nn.Module:
    """BERT or RoBERTa as a text encoder.

    Args:
        kind: Which of the two.
        name: Hub name or local folder, or ``tiny`` for a small one with random weights.
        length: Longest text in tokens.

    Raises:
        CIRError: If it cannot be loaded.
    """
    import transformers

    bert = kind == "bert"
    factory = transformers.BertModel if bert else transformers.RobertaModel
    if name == "tiny":
        tokenizer = WordPieceTokenizer(str(WEIGHTS / "tiny_blip2"), length)
        config_class = transformers.BertConfig if bert else transformers.RobertaConfig
        # Frozen weights are not in checkpoints, so every build needs the same ones.
        with torch.random.fork_rng(devices=[], enabled=bert):
            if bert:
                torch.manual_seed(0)
            model = factory(_tiny_config(config_class, tokenizer.pretrained, length))
    else:
        tokenizer = WordPieceTokenizer(name, length)
        what = "BERT" if bert else "RoBERTa"
        model = from_hub(factory.from_pretrained, what, name, offline="backbone=tiny_resnet")
    return BertText(model, tokenizer) if bert else RobertaText(model, tokenizer)


def _tiny_config(config_class: Any, tokenizer: Any, length: int) -> Any:
    padding = tokenizer.pad_token_id
    return config_class(
        vocab_size=len(tokenizer),
        intermediate_size=2 * _TINY["hidden_size"],
        max_position_embeddings=length + padding + 1,
        pad_token_id=padding,
        # At the usual 0.02 the texts of a random model are hardly distinguishable.
        initializer_range=0.1,
        type_vocab_size=2,
        **_TINY,
    )


def make_text_encoder(
    kind: Literal["lstm", "bert", "roberta"],
    *,
    rule: Rule,
    words: Words,
    word_width: int,
    state_width: int,
    width: int,
    dropout: float,
    vectors: str,
    model: str,
    length: int,
    norm_momentum: float,
) -> nn.Module:
    """The text encoder of a kind; options of other kinds are unused."""
    if kind != "lstm":
        return transformer_text(kind, model or _PUBLISHED[kind], length)
    if rule == "val":
        return MaxLstmText(
            words.vocabulary,
            once=words.once,
            word_width=word_width,
            state_width=state_width,
            width=width,
            dropout=dropout,
            vectors=vectors,
            norm_momentum=norm_momentum,
        )
    return LstmText(
        words.vocabulary,
        rule,
        word_width=word_width,
        state_width=state_width,
        width=width,
        dropout=dropout,
    )
