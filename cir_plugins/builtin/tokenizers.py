"""Word-piece tokenizers that load on first use and travel to loader workers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cir_plugins.builtin.hub import from_hub
from cir_plugins.types import Tokens


class WordPieceTokenizer:
    """Texts to word-piece ids and masks, padded to the longest text of the call.

    Args:
        name: Hub name or local folder; loaded with the first text.
        length: Longest text in tokens, [CLS] and [SEP] included.
    """

    def __init__(self, name: str, length: int) -> None:
        self.name = name
        self.length = length

    @cached_property
    def pretrained(self) -> Any:
        """The tokenizer of transformers.

        Raises:
            CIRError: If it cannot be loaded.
        """
        from transformers import AutoTokenizer

        return from_hub(AutoTokenizer.from_pretrained, "tokenizer", self.name)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """``ids`` and ``mask`` (n, L), L the longest text, at most ``length``."""
        encoded = self.pretrained(
            list(texts),
            padding="longest",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        )
        return {"ids": encoded["input_ids"], "mask": encoded["attention_mask"]}

    def pieces(self, word: str) -> list[int]:
        """Ids of a word's pieces, without special tokens."""
        ids: list[int] = self.pretrained(word, add_special_tokens=False)["input_ids"]
        return ids

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into a folder."""
        self.pretrained.save_pretrained(folder)
