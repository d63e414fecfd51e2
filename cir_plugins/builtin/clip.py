"""CLIP models of open_clip as a backbone; composes by the normalised sum of image and text.

Source: Radford et al., Learning Transferable Visual Models, ICML 2021, arXiv 2103.00020.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from cir_plugins.builtin.hub import hub_asked_once, without_network
from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.data.images import Preprocess, Resize
from cir_plugins.errors import CIRError
from cir_plugins.files import read_json, read_text
from cir_plugins.plugins.declarations import Licence
from cir_plugins.types import Tokens

WEIGHTS = Path(__file__).parent / "weights"


class Clip(nn.Module):
    """An open_clip model: one vector per image and per text.

    Args:
        model: Architecture name of open_clip, such as ``RN50x4-quickgelu``, or a folder with
            ``open_clip_config.json`` (and ``model.safetensors``, ``vocab.txt`` where the tokenizer
            is a word-piece one).
        pretrained: Pretrained tag of open_clip, or a local weights file (``.safetensors``, or a
            pickle that holds tensors only); ``random`` for random weights. A folder holds its own
            weights, and any value but ``random`` loads them.
        tower: ``trained``: both towers are tuned; ``frozen``: neither is, and image features can
            be computed once; ``text``: the text tower alone is tuned.
        resize: How an image becomes a square (see ``cir_plugins.data.images``).

    Raises:
        CIRError: If the model or its weights cannot be loaded.
    """

    licences: ClassVar[tuple[Licence, ...]] = (
        Licence(
            "open_clip's code",
            "MIT",
            "yes",
            "https://github.com/mlfoundations/open_clip/blob/main/LICENSE",
        ),
        # The card puts "any deployed use case" out of scope.
        Licence(
            "pretrained openai",
            "MIT, with a restrictive model card",
            "unclear",
            "https://github.com/openai/CLIP/blob/main/model-card.md",
        ),
        Licence(
            "pretrained laion*",
            "MIT",
            "yes",
            "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        ),
        Licence(
            "pretrained dfn*",
            "Apple's own",
            "unclear",
            "https://huggingface.co/apple/DFN5B-CLIP-ViT-H-14-378",
        ),
        Licence(
            "pretrained metaclip*",
            "CC-BY-NC-4.0",
            "no",
            "https://github.com/facebookresearch/MetaCLIP",
        ),
    )
    offers: ClassVar[frozenset[str]] = frozenset(
        {"image_embedding", "text_embedding", "raw_embeddings"}
    )

    def __init__(
        self,
        *,
        model: str = "ViT-B-32",
        pretrained: str = "laion2b_s34b_b79k",
        tower: Literal["trained", "frozen", "text"] = "trained",
        resize: Resize = "target_pad",
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, size = _load(model, pretrained)
        self.preprocess = Preprocess(size=size, resize=resize)
        self.frozen_features = tower != "trained"
        if self.frozen_features:
            self.model.visual.requires_grad_(False)
        if tower == "frozen":
            self.model.requires_grad_(False)
        # open_clip's temperature is unused: methods have their own.
        self.model.logit_scale.requires_grad_(False)

    def train(self, mode: bool = True) -> Clip:
        """This module, the CLIP model always in evaluation mode.

        CLIP has no dropout, and the batch statistics of its ResNets are never updated in
        fine-tuning (CLIP4Cir does the same).
        """
        super().train(mode)
        self.model.eval()
        return self

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids (n, context length)."""
        return {"ids": self.tokenizer(list(texts))}

    def features(self, images: Tensor) -> Tensor:
        """Image embeddings (U, D), not normalised."""
        embedded: Tensor = self.model.encode_image(images)
        return embedded

    def encode_query(self, features: Tensor, tokens: Tokens) -> Tensor:
        """Normalised sum (B, D) of the raw image and text embeddings.

        Source: Baldrati et al., CLIP4Cir, TOMM 2023, arXiv 2308.11485 (element-wise sum).
        """
        return unit(features + self.raw_text(tokens))

    def raw_text(self, tokens: Tokens) -> Tensor:
        """Text embeddings (B, D), not normalised."""
        embedded: Tensor = self.model.encode_text(tokens["ids"])
        return embedded

    def encode_gallery(self, features: Tensor) -> Tensor:
        """Image embeddings (C, D), unit length."""
        return unit(features)

    def image(self, features: Tensor) -> Tensor:
        """Image embeddings (B, D), unit length."""
        return unit(features)

    def text(self, tokens: Tokens) -> Tensor:
        """Text embeddings (B, D), unit length."""
        return unit(self.raw_text(tokens))

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Cosine scores (B, C)."""
        return best_token(query, target)


class TinyClip(Clip):
    """CLIP at a small size (a ResNet tower), with weights the project trained on drawn garments.

    Args:
        tower: As for ``clip``.
        start: ``drawn`` for the project's weights, or ``random``.
        resize: As for ``tiny_blip2``.
    """

    suggested_lr: ClassVar[float] = 1e-3  # for notes on recipes of large backbones

    licences: ClassVar[tuple[Licence, ...]] = (
        Licence("code and weights", "MIT", "yes", "the file LICENSE of cir-plugins"),
    )

    def __init__(
        self,
        *,
        tower: Literal["trained", "frozen", "text"] = "trained",
        start: Literal["drawn", "random"] = "drawn",
        resize: Resize = "squash",
    ) -> None:
        super().__init__(
            model=str(WEIGHTS / "tiny_clip"),
            pretrained="folder" if start == "drawn" else "random",
            tower=tower,
            resize=resize,
        )


class WordPieces:
    """A word-piece tokenizer with a fixed context length, for open_clip models with a vocabulary.

    Args:
        vocabulary: A ``vocab.txt``, one piece a line.
        context_length: Tokens per text, [CLS] and [SEP] included.
    """

    def __init__(self, vocabulary: Path, context_length: int) -> None:
        from transformers import BertTokenizer

        self.context_length = context_length
        lines = read_text(vocabulary).splitlines()
        self.tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(lines)})

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids (n, context length)."""
        encoded = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        )
        ids: Tensor = encoded["input_ids"]
        return ids


def _load(name: str, pretrained: str) -> tuple[Any, Any, int]:
    """Model in fp32, tokenizer, and the side of its input."""
    folder = Path(name)
    if folder.is_dir():
        return _load_folder(folder, read_weights=pretrained != "random")
    if name.startswith((".", "~", os.sep)):
        raise CIRError(f"no such folder: {name}\naccepted: a model of open_clip, or a folder")
    import open_clip

    if name not in open_clip.list_models():
        from cir_plugins.errors import unknown_name

        raise unknown_name("open_clip model", name, open_clip.list_models())
    try:
        local = pretrained == "random" or Path(pretrained).is_file()
        with nullcontext() if local else hub_asked_once():
            tag = None if pretrained == "random" else pretrained
            model = open_clip.create_model(name, pretrained=tag)
    except (RuntimeError, OSError, ValueError) as error:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name))
        raise CIRError(
            f"open_clip model '{name}' with weights '{pretrained}' could not be loaded: "
            f"{str(error).splitlines()[0]}{without_network('backbone=tiny_clip')}\n"
            f"accepted: a file, or one of {tags}"
        ) from error
    size = model.visual.image_size
    return model, open_clip.get_tokenizer(name), int(size[0] if isinstance(size, tuple) else size)


def _settings(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except CIRError as error:
        raise ValueError(str(error)) from error
    if not isinstance(content, dict) or not isinstance(content["model_cfg"], dict):
        raise ValueError(f"{file} is no configuration of an open_clip model")
    return content["model_cfg"]


def _load_folder(folder: Path, read_weights: bool) -> tuple[Any, Any, int]:
    import open_clip
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config_file = folder / "open_clip_config.json"
    if not config_file.is_file():
        raise CIRError(f"no open_clip model in {folder}: open_clip_config.json is missing")
    try:
        config = _settings(config_file)
        model = open_clip.CLIP(**config)
        if read_weights:
            state = load_file(str(folder / "model.safetensors"))
            model.load_state_dict({key: value.float() for key, value in state.items()})
        length, side = config["text_cfg"]["context_length"], config["vision_cfg"]["image_size"]
    except KeyError as error:
        raise CIRError(
            f"open_clip model in {folder} could not be loaded: {error} is missing in {config_file}"
        ) from error
    # A state of other names or shapes is a RuntimeError to torch.
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise CIRError(f"open_clip model in {folder} could not be loaded: {reason}") from error
    vocabulary = folder / "vocab.txt"
    if vocabulary.is_file():
        return model, WordPieces(vocabulary, length), int(side)
    return model, open_clip.tokenizer.SimpleTokenizer(context_length=length), int(side)
