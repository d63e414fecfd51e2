"""Queries and candidates of several splits embedded in one pass over the images, for evaluation.

Every forward pass has one shape, so that an embedding does not depend on what stands beside it in
a batch: kernels round by the shape of their input. A split gives the same bits alone and among
others, and what several splits have in common is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from cir_plugins.encoding.device import autocast, move_tokens
from cir_plugins.encoding.features import Encoding, by_shape
from cir_plugins.features import concatenate, select
from cir_plugins.method import Method
from cir_plugins.types import Features, Tokens

_Key: TypeAlias = "tuple[object, ...]"


def embed_fixed(
    method: Method,
    batches: Iterator[tuple[Tensor, Features]],
    encoding: Encoding,
    *,
    gallery: int,
    references: Sequence[int],
    texts: Sequence[str],
) -> tuple[Tensor, Tensor]:
    """Query embeddings (Q, D) or (Q, S, D) in order, and those of the gallery, on the device.

    Queries wait until there are enough for a pass; features of a pass for each length of text
    are held beside those of a batch of images. Equal queries are composed once.

    Args:
        method: Put into evaluation mode.
        batches: (positions, features on the device); the gallery has the first positions.
        encoding: Device, precision and images of a pass.
        gallery: Number of images that are candidates.
        references: Position of each query's reference.
        texts: Text of each query.
    """
    method.eval()
    queries = _Queries(method, encoding, references, texts)
    images: list[Tensor] = []
    with torch.no_grad(), autocast(encoding.device, encoding.dtype):
        for positions, features in batches:
            inside = int((positions < gallery).sum())
            if inside:
                found = by_shape(method.encode_gallery, features, encoding.pass_size)
                images.append(found[:inside].float())
            queries.add(positions.tolist(), features)
        return queries.embeddings(), torch.cat(images)


class _Queries:
    """Queries that wait for others of their length, and the embeddings of those that did."""

    def __init__(
        self, method: Method, encoding: Encoding, references: Sequence[int], texts: Sequence[str]
    ) -> None:
        self._method = method
        self._encoding = encoding
        self._size = encoding.pass_size
        self._tokens = {text: method.backbone.tokenize([text]) for text in dict.fromkeys(texts)}
        self._shape = {text: shape_of(tokens) for text, tokens in self._tokens.items()}
        keys = {text: _content(tokens) for text, tokens in self._tokens.items()}
        numbers: dict[tuple[int, _Key], int] = {}
        self._at: dict[int, dict[int, str]] = {}  # position -> number of a distinct query -> text
        self._number = []
        for position, text in zip(references, texts, strict=True):
            number = numbers.setdefault((position, keys[text]), len(numbers))
            self._number.append(number)
            self._at.setdefault(position, {}).setdefault(number, text)
        self._waiting: dict[_Key, list[tuple[Features, list[int], list[str]]]] = {}
        self._found: list[Tensor] = []
        self._order: list[int] = []

    def add(self, positions: Sequence[int], features: Features) -> None:
        """Compose the queries of these images, as far as they fill passes."""
        groups: dict[_Key, list[tuple[int, int, str]]] = {}
        for row, position in enumerate(positions):
            for number, text in self._at.get(position, {}).items():
                groups.setdefault(self._shape[text], []).append((row, number, text))
        for shape, group in groups.items():
            rows = torch.tensor([row for row, _, _ in group])
            entry = select(features, rows), [n for _, n, _ in group], [t for _, _, t in group]
            self._waiting.setdefault(shape, []).append(entry)
            if sum(len(numbers) for _, numbers, _ in self._waiting[shape]) >= self._size:
                self._compose(shape, whole=True)

    def embeddings(self) -> Tensor:
        """Embedding of each query, in order; those that still wait are composed."""
        for shape in list(self._waiting):
            self._compose(shape, whole=False)
        found = torch.cat(self._found)
        row_of = torch.empty(len(self._order), dtype=torch.long)
        row_of[torch.tensor(self._order)] = torch.arange(len(self._order))
        return found[row_of[torch.tensor(self._number)].to(found.device)]

    def _compose(self, shape: _Key, *, whole: bool) -> None:
        """Compose the waiting queries of a shape; with ``whole`` those that fill passes."""
        entries = self._waiting.pop(shape)
        features = concatenate([each for each, _, _ in entries])
        numbers = [number for _, several, _ in entries for number in several]
        texts = [text for _, _, several in entries for text in several]
        last = len(numbers) // self._size * self._size if whole else len(numbers)
        if last < len(numbers):
            rest = select(features, torch.arange(last, len(numbers)))
            self._waiting[shape] = [(rest, numbers[last:], texts[last:])]
        for first in range(0, last, self._size):
            rows = torch.arange(first, first + self._size).clamp(max=len(numbers) - 1)
            tokens = stacked([self._tokens[texts[row]] for row in rows.tolist()])
            tokens = move_tokens(tokens, self._encoding.device)
            composed = self._method.encode_query(select(features, rows), tokens).float()
            several = numbers[first : min(first + self._size, last)]
            self._found.append(composed[: len(several)])
            self._order += several


def shape_of(tokens: Tokens) -> _Key:
    """Names and shapes of token tensors: what a pass needs to be of one shape."""
    return tuple((name, tuple(tensor.shape)) for name, tensor in tokens.items())


def _content(tokens: Tokens) -> _Key:
    """Names, shapes and values of token tensors: of texts that a model cannot tell apart equal."""
    return tuple(
        (name, tuple(tensor.shape), tensor.numpy().tobytes()) for name, tensor in tokens.items()
    )


def stacked(tokens: Sequence[Tokens]) -> Mapping[str, Tensor]:
    """Token tensors of several texts of one shape."""
    return {name: torch.cat([each[name] for each in tokens]) for name in tokens[0]}
