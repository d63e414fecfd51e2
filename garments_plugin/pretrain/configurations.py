"""Configurations of the small models, and their word pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = Path(__file__).parent / "words.txt"
SUFFIXES = ("s", "es", "ed", "er", "est", "ing", "ly", "ish", "less", "y", "n", "d", "r", "t")
PUNCTUATION = list("'-,.!?&/()\":;+%$#*")

BLIP2_CONFIG: dict[str, Any] = {
    "model_type": "blip-2",
    "architectures": ["Blip2ForImageTextRetrieval"],
    "num_query_tokens": 8,
    "image_text_hidden_size": 64,
    "initializer_range": 0.1,
    "vision_config": {
        "model_type": "timm_resnet",
        "stem": 8,
        "channels": [24, 48, 96, 128],
        "layers": [1, 1, 1, 1],
        "groups": 8,
        "output_stride": 8,
        "hidden_size": 128,
        "image_size": 64,
    },
    "qformer_config": {
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": 64,
        "use_qformer_text_input": True,
        "initializer_range": 0.1,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    },
}
CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
    "text_cfg": {
        "context_length": 32,
        "width": 96,
        "heads": 4,
        "layers": 2,
        "pool_type": "first",
        "no_causal_mask": True,
    },
}


def vocabulary() -> list[str]:
    """Word pieces: specials, letters and digits (any word can be spelt), suffixes, words."""
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PUNCTUATION, *letters]
    pieces += ["##" + piece for piece in letters + [s for s in SUFFIXES if len(s) > 1]]
    words = WORDS.read_text(encoding="utf-8").split()
    return list(dict.fromkeys(pieces + words))


def write_configurations(out: Path) -> None:
    """Write configurations and tokenizers of ``tiny_blip2`` and ``tiny_clip``."""
    from transformers import BertTokenizer

    words = vocabulary()
    blip2, clip = out / "tiny_blip2", out / "tiny_clip"
    for folder in (blip2, clip):
        folder.mkdir(parents=True, exist_ok=True)
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    tokenizer.save_pretrained(blip2)
    config = json.loads(json.dumps(BLIP2_CONFIG))
    config["qformer_config"]["vocab_size"] = len(words)
    config["qformer_config"]["encoder_hidden_size"] = config["vision_config"]["hidden_size"]
    (blip2 / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    clip_config = json.loads(json.dumps(CLIP_CONFIG))
    clip_config["text_cfg"]["vocab_size"] = len(words)
    text = json.dumps({"model_cfg": clip_config}, indent=2) + "\n"
    (clip / "open_clip_config.json").write_text(text)
    (clip / "vocab.txt").write_text("\n".join(words) + "\n")
