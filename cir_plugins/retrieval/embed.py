"""Queries and candidates embedded in one pass over the images, for evaluation and for mining."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cir_plugins.data.captions import Captions
from cir_plugins.data.split import Query
from cir_plugins.encoding.device import autocast, move_tokens
from cir_plugins.encoding.features import Encoding
from cir_plugins.features import select
from cir_plugins.method import Method
from cir_plugins.types import Features


def embed(
    method: Method,
    batches: Iterator[tuple[Tensor, Features]],
    encoding: Encoding,
    *,
    gallery: int,
    references: Sequence[int],
    texts: Sequence[str],
) -> tuple[Tensor, Tensor]:
    """Query embeddings (Q, D) or (Q, S, D) in order, and those of the gallery, on the device.

    Queries are composed as soon as their reference's features are there, so that the features of
    one batch of images are all that is held.

    Args:
        method: Put into evaluation mode.
        batches: (positions, features on the device); the gallery has the first positions.
        encoding: Device, precision and batch size.
        gallery: Number of images that are candidates.
        references: Position of each query's reference.
        texts: Text of each query.
    """
    queries_at: dict[int, list[int]] = {}
    for number, position in enumerate(references):
        queries_at.setdefault(position, []).append(number)
    images: list[Tensor] = []
    queries: list[Tensor] = []
    order: list[int] = []
    method.eval()
    with torch.no_grad(), autocast(encoding.device, encoding.dtype):
        for positions, features in batches:
            # The gallery comes first, so its images are the first of a batch.
            inside = int((positions < gallery).sum())
            if inside:
                first = torch.arange(inside, device=encoding.device)
                images.append(method.encode_gallery(select(features, first)).float())
            pairs = [
                (row, number)
                for row, position in enumerate(positions.tolist())
                for number in queries_at.get(position, ())
            ]
            for start in range(0, len(pairs), encoding.batch_size):
                batch = pairs[start : start + encoding.batch_size]
                rows = torch.tensor([row for row, _ in batch], device=encoding.device)
                tokens = method.backbone.tokenize([texts[number] for _, number in batch])
                tokens = move_tokens(tokens, encoding.device)
                queries.append(method.encode_query(select(features, rows), tokens).float())
                order += [number for _, number in batch]
    row_of = torch.empty(len(order), dtype=torch.long)
    row_of[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(queries)[row_of.to(encoding.device)], torch.cat(images)


def query_text(method: Method, query: Query, captions: Captions) -> str:
    """The text of a query in evaluation, with the method's edit of its raw captions."""
    caption_edit = type(method).caption_edit
    if caption_edit is None:
        return query.text
    plain = captions.texts(query.captions, query.category)
    order = plain.index(query.text) if query.text in plain else 0
    return captions.texts(query.captions, query.category, caption_edit)[order]
