"""What a backbone offers beyond the protocol, held to what methods rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from torch import Tensor

from cir_plugins.features import count
from cir_plugins.testing.contract import calling, require, require_tensor, require_unit

# Alike enough to be meant: 'image_embeding' is, a plugin's own 'audio_embedding' is not.
_ALIKE = 0.85


def require_known(what: str, names: Iterable[str]) -> None:
    """Nothing, if no name is a known offer misspelt; a plugin may have offers of its own."""
    for name in sorted(names):
        near = get_close_matches(name, _CHECKS, n=1, cutoff=_ALIKE) if name not in _CHECKS else []
        require(
            not near,
            f"{what} names '{name}'; did you mean '{''.join(near)}'? Known are "
            f"{', '.join(sorted(_CHECKS))}",
        )


def check_offers(backbone: Any, features: Any, tokens: Mapping[str, Tensor]) -> None:
    """Nothing, if what a backbone offers is there and gives what methods rely on.

    Args:
        backbone: The backbone, built, in evaluation mode.
        features: Its features of n images.
        tokens: Its tokens of n texts.
    """
    require_known("'offers'", backbone.offers)
    for name in sorted(backbone.offers & _CHECKS.keys()):
        for method in _METHODS[name]:
            require(
                callable(getattr(backbone, method, None)),
                f"'{name}' is offered, but the backbone has no method '{method}'",
            )
        with calling(f"the offer '{name}'", f"features and tokens of {count(features)} images"):
            _CHECKS[name](backbone, features, tokens)


def _check_query_tokens(backbone: Any, features: Any, tokens: Mapping[str, Tensor]) -> None:
    fused = backbone.fuse(features, tokens)
    hidden = require_tensor("fuse(...).tokens", fused.tokens, (count(features), None, None))
    width = hidden.shape[-1]
    require_tensor("fuse(...).text", fused.text, (count(features), width))
    projected = backbone.project_text(hidden)
    require_tensor("project_text", projected, (*hidden.shape[:2], None))
    words = ["colour", "shape"]
    require_tensor("embed_words", backbone.embed_words(words), (len(words), width))


def _check_image(backbone: Any, features: Any, tokens: Mapping[str, Tensor]) -> None:
    image = require_tensor("image", backbone.image(features), (count(features), None))
    require_unit("image", image)


def _check_text(backbone: Any, features: Any, tokens: Mapping[str, Tensor]) -> None:
    text = require_tensor("text", backbone.text(tokens), (count(features), None))
    require_unit("text", text)


def _check_raw(backbone: Any, features: Any, tokens: Mapping[str, Tensor]) -> None:
    text = require_tensor("raw_text", backbone.raw_text(tokens), (count(features), None))
    project = getattr(backbone, "raw_image", None)
    plain = "features, to which 'raw_embeddings' adds texts as there is no raw_image,"
    what = plain if project is None else "raw_image"
    image = features if project is None else project(features)
    require_tensor(what, image, tuple(text.shape))


def _check_map(backbone: Any, features: Any, tokens: Mapping[str, Tensor]) -> None:
    if isinstance(features, Tensor) or "feature_levels" not in backbone.offers:
        what = "features, a map where 'feature_map' is offered,"
        require_tensor(what, features, (count(features), None, None, None))
    require_tensor("project", backbone.project(features), (count(features), None))


def _check_levels(backbone: Any, features: Any, tokens: Mapping[str, Tensor]) -> None:
    # A backbone that offers both has an option to choose, and gives one of the two.
    if isinstance(features, Tensor) and "feature_map" in backbone.offers:
        return
    several = not isinstance(features, Tensor) and len(features) > 1
    require(several, "'feature_levels' is offered, but features are not several maps")
    for level in features:
        require_tensor("a level of the features", level, (count(features), None, None, None))


def _check_description(backbone: Any, features: Any, tokens: Mapping[str, Tensor]) -> None:
    require_tensor("describe", backbone.describe(tokens), (count(features), None))


_CHECKS: Mapping[str, Callable[[Any, Any, Mapping[str, Tensor]], None]] = MappingProxyType(
    {
        "query_tokens": _check_query_tokens,
        "image_embedding": _check_image,
        "text_embedding": _check_text,
        "raw_embeddings": _check_raw,
        "feature_map": _check_map,
        "feature_levels": _check_levels,
        "text_features": _check_description,
    }
)
_METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "query_tokens": ("fuse", "project_text", "embed_words"),
        "image_embedding": ("image",),
        "text_embedding": ("text",),
        "raw_embeddings": ("raw_text",),
        "feature_map": ("project",),
        "feature_levels": (),
        "text_features": ("describe",),
    }
)
KNOWN = tuple(_CHECKS)
