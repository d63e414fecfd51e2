"""Vectors of images and queries that belong to no data set: paths, or pictures in memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor
from tqdm import tqdm

from cir_plugins.data.inputs import ImageLike, identity, opened
from cir_plugins.encoding.device import autocast, move_tokens
from cir_plugins.encoding.features import Encoding, feature_batches
from cir_plugins.features import select
from cir_plugins.method import Method
from cir_plugins.types import Features
from cir_plugins.workers import worker_errors


@worker_errors()
def gallery_vectors(method: Method, images: Sequence[ImageLike], encoding: Encoding) -> Tensor:
    """Gallery embeddings (N, D) or (N, T, D) of images, in their order, on the device.

    Raises:
        CIRError: If an image cannot be read.
    """
    vectors = []
    for _, features in _feature_batches(method, images, encoding, "images"):
        with torch.no_grad(), autocast(encoding.device, encoding.dtype):
            vectors.append(method.encode_gallery(features).float())
    return torch.cat(vectors)


@worker_errors()
def query_vectors(
    method: Method, images: Sequence[ImageLike], texts: Sequence[str], encoding: Encoding
) -> Tensor:
    """Query embeddings (Q, D) or (Q, S, D) of reference images with their texts, on the device.

    Each distinct image is encoded once.

    Raises:
        CIRError: If an image cannot be read.
    """
    number: dict[Hashable, int] = {}
    image_of = [number.setdefault(identity(each), len(number)) for each in images]
    distinct = [images[image_of.index(each)] for each in range(len(number))]
    vectors: dict[int, Tensor] = {}
    for positions, features in _feature_batches(method, distinct, encoding, "queries"):
        row_of = {image: row for row, image in enumerate(positions.tolist())}
        waiting = [query for query, image in enumerate(image_of) if image in row_of]
        for first in range(0, len(waiting), encoding.batch_size):
            batch = waiting[first : first + encoding.batch_size]
            rows = torch.tensor([row_of[image_of[query]] for query in batch])
            tokens = method.backbone.tokenize([texts[query] for query in batch])
            tokens = move_tokens(tokens, encoding.device)
            with torch.no_grad(), autocast(encoding.device, encoding.dtype):
                composed = method.encode_query(select(features, rows), tokens).float()
            vectors.update(zip(batch, composed, strict=True))
    return torch.stack([vectors[query] for query in range(len(texts))])


def _feature_batches(
    method: Method, images: Sequence[ImageLike], encoding: Encoding, title: str
) -> Iterator[tuple[Tensor, Features]]:
    """Batches of (positions, features on the device); files go through loader processes."""
    backbone = method.backbone
    paths = [Path(each) for each in images if not isinstance(each, Image)]
    if len(paths) == len(images):
        yield from feature_batches(backbone, paths, encoding, title)
        return
    starts = range(0, len(images), encoding.batch_size)
    for first in tqdm(starts, desc=title, disable=not encoding.progress, leave=False):
        batch = [opened(each) for each in images[first : first + encoding.batch_size]]
        pixels = torch.stack([backbone.preprocess(each) for each in batch]).to(encoding.device)
        with torch.no_grad(), autocast(encoding.device, encoding.dtype):
            features = backbone.features(pixels)
        yield torch.arange(first, first + len(batch)), features
