"""ResNets with a text encoder: feature maps and text vectors for composition methods.

The backbone gives the last feature map of an image (or three levels of maps), a linear head on its
average, and a vector per text. Composition is up to the method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from baselines_plugin.backbones.text_factory import make_text_encoder
from baselines_plugin.backbones.trunks import NORM_MOMENTUM, build_trunk, tiny_trunk
from baselines_plugin.backbones.vocabulary import Rule, Words, learn_words, seen_once
from baselines_plugin.ranges import Dropout, ImageSize, Momentum, TextLength, Width, WidthOrOwn
from cir_plugins import CIRError, Features, Plan, Preprocess, Resize, Tokens, best_token, unit

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_TINY_SIDE = 64
_TEXT_LENGTH = 77


class MapBackbone(nn.Module):
    """Feature maps of images and vectors of texts, from an image network and a text encoder.

    Args:
        trunk: Images (U, 3, H, W) to a map (U, C, h, w) or to ``Levels``.
        text: A text encoder (see ``baselines_plugin.backbones.text_encoders``).
        channels: Channels C of the last map.
        width: Size D of the head above the map's average; 0 for no head (D is then C).
        preprocess: Picture to pixels.
        frozen: Whether the trunk is frozen.
        shapes: (C, h, w) of each level, last one last, for methods whose size depends on them.
    """

    offers: ClassVar[frozenset[str]] = frozenset(
        {"feature_map", "feature_levels", "text_features", "image_embedding"}
    )
    # Options that training fills in from its texts if empty.
    learned_options: ClassVar[Mapping[str, Callable[[Sequence[str]], Any]]] = MappingProxyType(
        {"vocabulary": learn_words, "seen_once": seen_once}
    )

    def __init__(
        self,
        trunk: nn.Module,
        text: nn.Module,
        *,
        channels: int,
        width: int,
        preprocess: Preprocess,
        frozen: bool = False,
        shapes: tuple[tuple[int, int, int], ...] = (),
    ) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(not frozen)
        self.text = text
        tokenizer: Callable[[Sequence[str]], Tokens] = text.tokenizer  # type: ignore[assignment]
        self.tokenize = tokenizer
        self.preprocess = preprocess
        self.frozen_features = frozen
        self.channels = channels
        self.width = width or channels
        self.text_width = int(text.width)  # type: ignore[arg-type]
        self.shapes = shapes
        self.head: nn.Module = nn.Linear(channels, width) if width else nn.Identity()

    def train(self, mode: bool = True) -> MapBackbone:
        """This module in training mode, its trunk in evaluation mode while frozen."""
        super().train(mode)
        if self.frozen_features:
            self.trunk.eval()
        return self

    def features(self, images: Tensor) -> Features:
        """The last map (U, C, h, w), or three ``Levels``."""
        return self.trunk(images)

    def project(self, features: Features) -> Tensor:
        """Head on the average of the (last) map (n, D), not normalised."""
        last = features if isinstance(features, Tensor) else features[-1]
        projected: Tensor = self.head(last.mean(dim=(2, 3)))
        return projected

    def describe(self, tokens: Tokens) -> Tensor:
        """Text vectors (B, text width), not normalised."""
        described: Tensor = self.text(tokens)
        return described

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Normalised sum (B, D) of the head's and the text's vector.

        Raises:
            CIRError: If the two differ in size.
        """
        if self.text_width != self.width:
            raise CIRError(
                f"texts have {self.text_width} values and images {self.width}, so this method "
                "cannot add them; accepted: a method that composes feature maps, such as tirg, or "
                "equal backbone.width and backbone.text_width"
            )
        return unit(self.project(features) + self.describe(tokens))

    def encode_gallery(self, features: Features) -> Tensor:
        """Head on the average of a map (C, D), unit length."""
        return unit(self.project(features))

    def image(self, features: Features) -> Tensor:
        """One vector per image (B, D), unit length."""
        return self.encode_gallery(features)

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Cosine (B, C)."""
        return best_token(query, target)


class ResNet(MapBackbone):
    """A ResNet of timm and a text encoder.

    Args:
        model: Name of a ResNet in timm, such as ``resnet18``, ``resnet50``, ``resnetv2_50``.
        weights: ``pretrained`` (timm's, from its hub), ``random``, or a local file of a state
            dict with torchvision's or timm's names (``.pth`` of tensors only, ``.safetensors``).
        width: Size of the linear head above the average of the last map; 0 for none.
        levels: ``last`` map, or ``three`` of the last stages, of stride 16, 32 and 32.
        layer4_stride: 1 removes the stride of the last stage, without dilation (MGUR).
        vision: Whether the ResNet is ``trained`` or ``frozen``.
        text: Kind of text encoder.
        text_model: Hub name or local folder of BERT or RoBERTa; empty for ``bert-base-uncased``
            and ``roberta-base``, ``tiny`` for a small random one.
        text_length: Longest text of BERT and RoBERTa in tokens.
        rule: Method of the LSTM and its tokenizer: ``tirg``, ``cosmo`` or ``val``.
        word_width: Size of the LSTM's word vectors.
        word_vectors: GloVe text file with start values of ``val``'s words; empty for none.
        state_width: Size of the LSTM's state.
        text_width: Size of the LSTM's text vector.
        text_dropout: Dropout before the LSTM's last layer, in [0, 1).
        norm_momentum: Weight of a batch in the running statistics of ``val``'s additional norms;
            0.1 suits a run of a few hundred updates.
        vocabulary: The LSTM's words in the order of their ids; if empty, training fills in those
            of its texts.
        seen_once: Words that ``val`` reads as unknown outside training, as in its official test; if
            empty, training fills in those that its texts hold once. [""] for none.
        image_size: Side of the input in pixels.
        resize: How an image becomes a square (see ``cir_plugins.data.images``).
        scale: Pixel normalisation: ``imagenet`` by mean and deviation, ``unit`` to [-1, 1].

    Raises:
        CIRError: If the model or its weights cannot be loaded.

    Source: He et al., Deep Residual Learning, CVPR 2016, arXiv 1512.03385.
    Differs: under ``three``, pre-activation ResNets (VAL's) are timm's, with the stride in the
    first unit of a stage and padding on both sides. TF-slim has it in the last unit, so that its
    maps are of stride 16, 32 and 32; here the first two maps are subsampled by 2.
    """

    def __init__(
        self,
        *,
        model: str = "resnet18.tv_in1k",
        weights: str = "pretrained",
        width: WidthOrOwn = 512,
        levels: Literal["last", "three"] = "last",
        layer4_stride: Literal[1, 2] = 2,
        vision: Literal["trained", "frozen"] = "trained",
        text: Literal["lstm", "bert", "roberta"] = "lstm",
        text_model: str = "",
        text_length: TextLength = _TEXT_LENGTH,
        rule: Rule = "tirg",
        word_width: Width = 512,
        word_vectors: str = "",
        state_width: Width = 512,
        text_width: Width = 512,
        text_dropout: Dropout = 0.1,
        norm_momentum: Momentum = NORM_MOMENTUM,
        vocabulary: tuple[str, ...] = (),
        seen_once: tuple[str, ...] = (),
        image_size: ImageSize = 224,
        resize: Resize = "clip",
        scale: Literal["imagenet", "unit"] = "imagenet",
    ) -> None:
        trunk, shapes = build_trunk(
            model, weights, levels, layer4_stride, image_size, norm_momentum
        )
        encoder = make_text_encoder(
            text,
            rule=rule,
            words=Words(vocabulary, seen_once),
            word_width=word_width,
            state_width=state_width,
            width=text_width,
            dropout=text_dropout,
            vectors=word_vectors,
            model=text_model,
            length=text_length,
            norm_momentum=norm_momentum,
        )
        super().__init__(
            trunk,
            encoder,
            channels=shapes[-1][0],
            width=width,
            preprocess=_preprocess(image_size, resize, scale),
            frozen=vision == "frozen",
            shapes=shapes,
        )


class TinyResNet(MapBackbone):
    """A small ResNet with group norm for 64 pixels, and a small text encoder.

    Args:
        start: ``drawn`` for weights trained by the project on drawn garments, or ``random``.
        width: Size of the linear head; 0 for none.
        levels: ``last`` map, or the ``three`` last.
        layer4_stride: As for ``resnet``; this network has no stride there, so both are the same.
        vision: ``trained`` or ``frozen``.
        text: Kind of text encoder; ``bert`` and ``roberta`` are small random ones.
        rule: As for ``resnet``.
        word_width: Size of the LSTM's word vectors.
        state_width: Size of the LSTM's state.
        text_width: Size of the LSTM's text vector.
        text_dropout: Dropout before the LSTM's last layer, in [0, 1).
        norm_momentum: Weight of a batch in the running statistics of the norm of ``val``'s texts.
        vocabulary: As for ``resnet``.
        seen_once: As for ``resnet``.
    """

    suggested_lr: ClassVar[float] = 1e-3  # for notes on recipes of large backbones

    def __init__(
        self,
        *,
        start: Literal["drawn", "random"] = "drawn",
        width: WidthOrOwn = 64,
        levels: Literal["last", "three"] = "last",
        layer4_stride: Literal[1, 2] = 2,
        vision: Literal["trained", "frozen"] = "trained",
        text: Literal["lstm", "bert", "roberta"] = "lstm",
        rule: Rule = "tirg",
        word_width: Width = 64,
        state_width: Width = 64,
        text_width: Width = 64,
        text_dropout: Dropout = 0.1,
        norm_momentum: Momentum = NORM_MOMENTUM,
        vocabulary: tuple[str, ...] = (),
        seen_once: tuple[str, ...] = (),
    ) -> None:
        trunk, shapes = tiny_trunk(start, levels, _TINY_SIDE)
        encoder = make_text_encoder(
            text,
            rule=rule,
            words=Words(vocabulary, seen_once),
            word_width=word_width,
            state_width=state_width,
            width=text_width,
            dropout=text_dropout,
            vectors="",
            model="tiny",
            length=_TEXT_LENGTH,
            norm_momentum=norm_momentum,
        )
        super().__init__(
            trunk,
            encoder,
            channels=shapes[-1][0],
            width=width,
            preprocess=Preprocess(size=_TINY_SIDE, resize="squash"),
            frozen=vision == "frozen",
            shapes=shapes,
        )


def _preprocess(size: int, resize: Resize, scale: Literal["imagenet", "unit"]) -> Preprocess:
    mean, std = (_HALF, _HALF) if scale == "unit" else (IMAGENET_MEAN, IMAGENET_STD)
    return Preprocess(size=size, resize=resize, mean=mean, std=std, interpolation="bilinear")


def check_levels(plan: Plan, levels: Literal["last", "three"]) -> str:
    """Reason why a plan's backbone has other maps than a method needs; "" where it fits."""
    option = plan.backbone.options.get("levels", levels)
    if option == levels:
        return ""
    what = "the last feature map" if levels == "last" else "three levels of feature maps"
    return f"it composes {what}, but backbone.levels is '{option}'; accepted: '{levels}'"
