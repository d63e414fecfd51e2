"""Vectors of search queries: composed, of a picture alone or of a text alone, many in a batch.

A query has the same vector, to the bit, alone and among others: only texts of the same number of
tokens share a batch, and a batch of few rows is filled up, since the matrix products of a CPU sum
in another order there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from cir_plugins.builtin.similarity import unit
from cir_plugins.data.inputs import ImageLike, identity, opened
from cir_plugins.encoding.device import autocast, move_tokens
from cir_plugins.encoding.features import by_shape
from cir_plugins.errors import CIRError
from cir_plugins.features import concatenate, select
from cir_plugins.plugins.declarations import ENCODE_WEIGHTED
from cir_plugins.retrieval.fixed import shape_of, stacked
from cir_plugins.retriever import Retriever
from cir_plugins.types import Features, Tokens


@dataclass(frozen=True)
class Part:
    """A query with one picture at most; several of them may make one search.

    Attributes:
        query: Number of the search.
        image: The picture; None for a text alone.
        text: The text; "" for a picture alone.
        weight: Share of the text; None for the method's own.
    """

    query: int
    image: ImageLike | None
    text: str
    weight: float | None


class QueryEncoder:
    """Makes vectors of search queries.

    Args:
        retriever: The model.
    """

    def __init__(self, retriever: Retriever) -> None:
        self.retriever, self.method = retriever, retriever.method
        self.backbone, self.device = retriever.method.backbone, retriever.device
        encoding = retriever.encoding
        self.size = encoding.pass_size
        # On a CPU passes are those of an evaluation: products of fewer rows round otherwise.
        self.least = self.size if retriever.device.type == "cpu" else 1
        self._form: tuple[int, ...] | None = None

    def vectors(self, parts: Sequence[Part]) -> Tensor:
        """Vectors (Q, D) or (Q, S, D) of searches, the mean of its parts where one has several.

        Args:
            parts: Of Q searches, numbered from 0.

        Raises:
            CIRError: If a picture cannot be read, or the model cannot encode such a query.
        """
        with torch.no_grad(), autocast(self.device, self.retriever.encoding.dtype):
            vectors = self._encoded(parts)
        by_query: dict[int, list[Tensor]] = {}
        for part, vector in zip(parts, vectors, strict=True):
            by_query.setdefault(part.query, []).append(vector)
        lists = (vectors for _, vectors in sorted(by_query.items()))
        return torch.stack(
            [some[0] if len(some) == 1 else unit(torch.stack(some).mean(dim=0)) for some in lists]
        )

    def _encoded(self, parts: Sequence[Part]) -> list[Tensor]:
        """A vector for each part."""
        features = self._features([part.image for part in parts if part.image is not None])
        tokens = {text: self.backbone.tokenize([text]) for text in {p.text for p in parts} if text}
        result: dict[int, Tensor] = {}
        encoders = {
            "composed": self._composed,
            "weighted": self._weighted,
            "image": self._image_alone,
            "text": self._text_alone,
        }
        groups: dict[tuple[str, object], list[int]] = {}
        for number, part in enumerate(parts):
            shape = shape_of(tokens.get(part.text, {}))
            groups.setdefault((_kind(part), shape), []).append(number)
        for (kind, _), numbers in groups.items():
            for first in range(0, len(numbers), self.size):
                batch = numbers[first : first + self.size]
                members = [parts[n] for n in batch]
                found = self._filled(members, features, tokens, encoders[kind])
                result.update(zip(batch, found, strict=True))
        return [result[number] for number in range(len(parts))]

    def _features(self, images: Sequence[ImageLike]) -> Mapping[object, Features]:
        """Features (1, ...) of each distinct picture."""
        distinct = {identity(image): image for image in images}
        rows: dict[object, Features] = {}
        names = list(distinct)
        for first in range(0, len(names), self.size):
            batch = names[first : first + self.size]
            pixels = torch.stack([self.backbone.preprocess(opened(distinct[n])) for n in batch])
            size = max(len(batch), self.least)
            features = by_shape(self.backbone.features, pixels.to(self.device), size)
            for row, name in enumerate(batch):
                rows[name] = select(features, torch.tensor([row]))
        return rows

    def _filled(
        self,
        parts: Sequence[Part],
        features: Mapping[object, Features],
        tokens: Mapping[str, Tokens],
        encode: Callable[[Features, Tokens, Tensor], Tensor],
    ) -> Tensor:
        """Vectors of parts of one kind, in a batch that is not too small."""
        padded = [*parts, *[parts[-1]] * (self.least - len(parts))]
        images = [features[identity(p.image)] for p in padded if p.image is not None]
        texts = [tokens[p.text] for p in padded if p.text]
        words = move_tokens(stacked(texts), self.device) if texts else {}
        weights = torch.tensor([[p.weight or 0.0] for p in padded], dtype=torch.float64)
        whole = concatenate(images) if images else None
        return encode(whole, words, weights.to(self.device))[: len(parts)].float()

    def _composed(self, features: Features, tokens: Tokens, weight: Tensor) -> Tensor:
        return self.method.encode_query(features, tokens)

    def _weighted(self, features: Features, tokens: Tokens, weight: Tensor) -> Tensor:
        encode = ENCODE_WEIGHTED.of(self.method)
        if encode is None:
            raise CIRError(
                f"method '{self.retriever.plan.method.name}' is no weighted sum of picture and "
                "text, so that it has no weight\naccepted: no weight, or method image_text_sum"
            )
        vectors: Tensor = encode(features, tokens, weight)
        return vectors

    def _image_alone(self, features: Features, tokens: Tokens, weight: Tensor) -> Tensor:
        """The picture as it is found itself; where that is several vectors, with an empty text."""
        vectors = self.method.encode_gallery(features)
        if vectors.dim() == 2:
            return self._like_a_query(vectors)
        if "image_embedding" in self.backbone.offers:
            return self._like_a_query(self.backbone.image(features))
        tokens = self.backbone.tokenize([""] * len(vectors))
        return self._composed(features, move_tokens(tokens, self.device), weight)

    def _text_alone(self, features: Features, tokens: Tokens, weight: Tensor) -> Tensor:
        if "text_embedding" not in self.backbone.offers:
            raise CIRError(
                f"backbone '{self.retriever.plan.backbone.name}' has no embedding of a text alone\n"
                "accepted: a picture, or a picture and a text"
            )
        return self._like_a_query(self.backbone.text(tokens))

    def _like_a_query(self, vectors: Tensor) -> Tensor:
        """Vectors (B, D) in the form of the method's queries: each S times where they have S."""
        if self._form is None:
            pixels = self.backbone.preprocess(Image.new("RGB", (64, 64)))[None].to(self.device)
            tokens = move_tokens(self.backbone.tokenize(["red"]), self.device)
            composed = self.method.encode_query(self.backbone.features(pixels), tokens)
            self._form = tuple(composed.shape[1:-1])
        for _ in self._form:
            vectors = vectors[:, None].expand(-1, *self._form, -1)
        return vectors


def _kind(part: Part) -> str:
    if part.image is None:
        return "text"
    if not part.text:
        return "image"
    return "composed" if part.weight is None else "weighted"
