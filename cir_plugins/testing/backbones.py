"""The contract of backbones."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cir_plugins.features import count, select
from cir_plugins.testing.contract import (
    TEXTS,
    ContractError,
    calling,
    pictures,
    require,
    require_built,
    require_close,
    require_finite,
    require_tensor,
    require_unit,
)
from cir_plugins.testing.offers import check_offers

_METHODS = ("preprocess", "tokenize", "features", "encode_query", "encode_gallery", "similarity")


def check_backbone(backbone: Any, *, images: int = 3, seed: int = 0) -> None:
    """Check that a backbone turns images and texts into embeddings as the host relies on.

    Embeddings have unit length and do not depend on what else is in the batch; ``preprocess`` and
    ``tokenize`` can be sent to loader workers; frozen features are frozen; what it offers is there.

    Args:
        backbone: The backbone, built, on the CPU.
        images: How many made-up images to encode, 2 or more.
        seed: Of the made-up images.

    Raises:
        ContractError: With what to fix.
    """
    require(isinstance(backbone, nn.Module | type), "a backbone is an nn.Module")
    require_built("backbone", backbone)
    lacking = [name for name in _METHODS if not callable(getattr(backbone, name, None))]
    require(
        not lacking,
        f"the backbone lacks {', '.join(lacking)}; a backbone has {', '.join(_METHODS)} "
        "(see cir_plugins.Backbone)",
    )
    for name, kind in (("frozen_features", bool), ("offers", frozenset)):
        value = getattr(backbone, name, None)
        require(isinstance(value, kind), f"'{name}' must be a {kind.__name__}, not {value!r}")
    training = backbone.training
    backbone.eval()
    try:
        pixels = _check_preprocess(backbone, images, seed)
        tokens = _check_tokenize(backbone, images)
        with torch.no_grad():
            with calling("features", f"pixels {tuple(pixels.shape)}"):
                features = backbone.features(pixels)
            _check_features(features, images)
            _check_embeddings(backbone, pixels, features, tokens)
            check_offers(backbone, features, tokens)
        _check_frozen(backbone, pixels, features)
    finally:
        backbone.train(training)


def _texts(number: int) -> list[str]:
    return [TEXTS[index % len(TEXTS)] for index in range(number)]


def _check_preprocess(backbone: Any, images: int, seed: int) -> Tensor:
    _require_picklable("preprocess", backbone.preprocess)
    made = []
    for picture in pictures(images, seed):
        before = picture.tobytes()
        with calling("preprocess", f"an RGB image of {picture.width} x {picture.height} pixels"):
            result = backbone.preprocess(picture)
        pixels = require_tensor("preprocess", result, (3, None, None))
        require(pixels.dtype == torch.float32, f"pixels must be float32, not {pixels.dtype}")
        require(picture.tobytes() == before, "preprocess changes its image")
        made.append(pixels)
    shapes = {tuple(pixels.shape) for pixels in made}
    require(len(shapes) == 1, f"preprocess must give one size for all images, found {shapes}")
    return torch.stack(made)


def _require_picklable(name: str, value: Any) -> None:
    try:
        pickle.dumps(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ContractError(
            f"'{name}' runs in loader workers and must be picklable: {error}"
        ) from error


def _check_tokenize(backbone: Any, number: int) -> Mapping[str, Tensor]:
    _require_picklable("tokenize", backbone.tokenize)
    for texts in (_texts(number), ["", "word " * 400]):
        with calling("tokenize", f"the texts {[text[:40] for text in texts]}"):
            tokens = backbone.tokenize(texts)
        require(
            isinstance(tokens, Mapping), f"tokenize gives {type(tokens).__name__}, not a mapping"
        )
        for name, value in tokens.items():
            require(isinstance(value, Tensor), f"tokens '{name}' must be a tensor")
            require(
                value.shape[:1] == (len(texts),),
                f"tokens '{name}' must have the {len(texts)} texts first, found shape "
                f"{tuple(value.shape)}",
            )
    made: Mapping[str, Tensor] = backbone.tokenize(_texts(number))
    return made


def _check_features(features: Any, images: int) -> None:
    tensors = (features,) if isinstance(features, Tensor) else features
    accepted = isinstance(features, Tensor) or hasattr(features, "_fields")
    require(accepted, f"features are {type(features).__name__}, not a tensor or a named tuple")
    for tensor in tensors:
        require(isinstance(tensor, Tensor), "a named tuple of features must hold tensors only")
        require(
            tensor.shape[:1] == (images,),
            f"features must have the {images} images first, found shape {tuple(tensor.shape)}",
        )
        require_finite("features", tensor)
    require(count(features) == images, "features must be of all the images")


def _check_embeddings(
    backbone: Any, pixels: Tensor, features: Any, tokens: Mapping[str, Tensor]
) -> None:
    images = len(pixels)
    inputs = f"the features and tokens of {images} images and texts"
    with calling("encode_query", inputs):
        result = backbone.encode_query(features, tokens)
    with calling("encode_gallery", f"the features of {images} images"):
        target = backbone.encode_gallery(features)
    query = require_tensor("query", result, (images, None))
    rank = target.dim() if isinstance(target, Tensor) else 0
    shape = (images, *([None] if rank == 3 else []), query.shape[-1])
    require_tensor("target, (C, D) or (C, T, D),", target, shape)
    require_unit("query", query)
    require_unit("target", target)
    _check_similarity(backbone, query, target)
    for index in range(images):
        with calling("the backbone", "a single image and text"):
            one = backbone.features(pixels[index : index + 1])
            alone = backbone.tokenize(_texts(images)[index : index + 1])
            embedding, composed = (
                backbone.encode_gallery(one)[0],
                backbone.encode_query(one, alone)[0],
            )
        where = f"of image {index} alone and in a batch of {images}"
        require_close(f"target {where}", embedding, target[index], 1e-3)
        require_close(f"query {where}", composed, query[index], 1e-3)
    backwards = torch.arange(images - 1, -1, -1)
    with calling("encode_gallery", "the features in another order"):
        moved = backbone.encode_gallery(select(features, backwards))
    require_close("targets in another order", moved, target[backwards], 1e-3)


def _check_similarity(backbone: Any, query: Tensor, target: Tensor) -> None:
    """Fewer queries than candidates, so that queries and candidates cannot change places."""
    images, some = len(target), query[: max(1, len(target) - 1)]
    inputs = f"query {tuple(some.shape)} and target {tuple(target.shape)}"
    with calling("similarity", inputs):
        scores = backbone.similarity(some, target)
        whole = backbone.similarity(query, target)
    require_finite(
        "similarity", require_tensor(f"similarity of {inputs}", scores, (len(some), images))
    )
    require_tensor("similarity", whole, (images, images))
    require_close("similarity of some of the queries", scores, whole[: len(some)], 1e-3)


def _check_frozen(backbone: Any, pixels: Tensor, features: Any) -> None:
    if not backbone.frozen_features:
        return
    backbone.train()
    with calling("features", "pixels in training mode"):
        again = backbone.features(pixels)
    tensors = (again,) if isinstance(again, Tensor) else again
    require(
        not any(tensor.requires_grad for tensor in tensors),
        "frozen_features is True but a gradient reaches what features are made of",
    )
    expected = (features,) if isinstance(features, Tensor) else features
    for tensor, before in zip(tensors, expected, strict=True):
        require_close("frozen features in training mode", tensor, before)
