"""Everything that is computed for an audit: values of each query under several rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cir_plugins.audits.twins import Twins, twins_by_embedding, twins_by_hash
from cir_plugins.audits.variants import Variant, variants_of
from cir_plugins.builtin.methods import ImageOnly, ImageTextProduct, ImageTextSum, TextOnly
from cir_plugins.builtin.similarity import unit
from cir_plugins.data.split import Split
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.method import Components, Method
from cir_plugins.plugins.declarations import NEEDS, OFFERS
from cir_plugins.retrieval.evaluate import (
    Encoded,
    SplitResult,
    encode_split,
    evaluate_encoded,
    score_blocks,
)
from cir_plugins.retrieval.metrics import positive_ranks

SHORTCUTS = ("image alone", "text alone", "sum", "product")
HASH, EMBEDDING = "phash", "embedding"


@dataclass(frozen=True)
class Ranked:
    """Some queries of a split under one ranking.

    Attributes:
        rows: (n,) positions of the queries in the split.
        values: Measure -> (n,) value of each.
        ranks: (n,) rank of the target from 1; 0 for one that is not ranked.
    """

    rows: Tensor
    values: Mapping[str, Tensor]
    ranks: Tensor


@dataclass(frozen=True)
class Measured:
    """The rankings of a split's Q queries.

    Attributes:
        split: The split, without queries that have no target.
        result: The run's measures.
        run: The run's ranking.
        shortcuts: Name of a training-free method -> its ranking; none where the backbone cannot.
        variants: Name of a change of the captions -> the run's ranking of the queries it changes.
        twins: Near-duplicates of references and targets in the gallery.
        any_recall: (Q,) whether the run has a positive among its first k.
        with_twins: (Q,) the same where near-duplicates of the target are positives too.
    """

    split: Split
    result: SplitResult
    run: Ranked
    shortcuts: Mapping[str, Ranked]
    variants: Mapping[str, Ranked]
    twins: Twins
    any_recall: Tensor = field(repr=False)
    with_twins: Tensor = field(repr=False)


def measure_split(
    method: Method, split: Split, encoding: Encoding, *, near: float, duplicates: str, k: int
) -> Measured:
    """The rankings of a split: its images are encoded twice, once for the shortcuts.

    Raises:
        CIRError: If the split is blind, or an image cannot be read.
    """
    labelled = tuple(query for query in split.queries if query.target is not None)
    if not labelled:
        raise CIRError(f"split '{split.name}' is blind or empty; accepted: a split with targets")
    blind = len(split.queries) - len(labelled)
    split = replace(split, queries=labelled)
    variants = variants_of(split)
    encoded, of_variants, images = _encode(method, split, variants, encoding)
    result = replace(evaluate_encoded(method, encoded), blind=blind)
    if duplicates == HASH:
        twins = twins_by_hash(split, near)
    else:
        twins = twins_by_embedding(split, images, near)
    return Measured(
        split,
        result,
        _ranked(method, encoded, result),
        _shortcuts(method, split, encoding),
        {
            variant.name: _ranked(method, each, rows=variant.rows)
            for variant, each in zip(variants, of_variants, strict=True)
        },
        twins,
        _any_recall(method, encoded, k),
        _any_recall(method, encoded, k, twins.of_target),
    )


def _encode(
    method: Method, split: Split, variants: Sequence[Variant], encoding: Encoding
) -> tuple[Encoded, list[Encoded], Tensor]:
    """The split's own queries, those of each variant, and all images, from one pass."""
    queries = (*split.queries, *(query for each in variants for query in each.queries))
    # References outside the gallery too: near-duplicates are looked for by their vectors.
    together = replace(split, queries=queries, gallery=split.arrays.images)
    whole = encode_split(method, together, encoding)
    gallery = whole.targets[: len(split.gallery)]
    own = Encoded(split, whole.queries[: len(split.queries)], gallery)
    first, others = len(split.queries), []
    for variant in variants:
        rows = slice(first, first + len(variant.queries))
        changed = replace(split, queries=variant.queries)
        others.append(Encoded(changed, whole.queries[rows], gallery))
        first = rows.stop
    return own, others, whole.targets


def missing_abilities(method: Method) -> list[str]:
    """What the training-free methods need and the method's backbone does not offer."""
    return sorted(NEEDS.of(ImageTextProduct) - OFFERS.of(method.backbone))


def _shortcuts(method: Method, split: Split, encoding: Encoding) -> dict[str, Ranked]:
    """The training-free rankings on the run's own backbone, with its weights."""
    if missing_abilities(method):
        return {}
    components = Components(method.backbone, method.loss, method.sampler)
    product = ImageTextProduct(components).to(encoding.device).eval()
    encoded = encode_split(product, split, encoding)
    image, text = encoded.queries[:, 0], encoded.queries[:, 1]
    combined = ImageTextSum(components)
    weight = combined.text_weight
    queries: tuple[tuple[Method, Tensor], ...] = (
        (ImageOnly(components), image),
        (TextOnly(components), text),
        (combined, unit((1 - weight) * image + weight * text)),
        (product, encoded.queries),
    )
    return {
        name: _ranked(each, Encoded(split, vectors, encoded.targets))
        for name, (each, vectors) in zip(SHORTCUTS, queries, strict=True)
    }


def _ranked(
    method: Method,
    encoded: Encoded,
    result: SplitResult | None = None,
    rows: Sequence[int] | None = None,
) -> Ranked:
    result = result or evaluate_encoded(method, encoded)
    ranks = target_ranks(method, encoded)
    positions = range(len(encoded.queries)) if rows is None else rows
    return Ranked(torch.tensor(list(positions)), result.values, ranks)


def target_ranks(method: Method, encoded: Encoded) -> Tensor:
    """Rank (Q,) int64 of each query's target from 1; 0 for one that is not ranked."""
    target = encoded.split.arrays.target[:, None].to(encoded.queries.device)
    ranks = [
        positive_ranks(scores, target[rows])[:, 0].cpu()
        for rows, scores in score_blocks(method, encoded)
    ]
    return torch.cat(ranks)


def _any_recall(
    method: Method, encoded: Encoded, k: int, more: Sequence[Sequence[str]] = ()
) -> Tensor:
    """Whether a positive is among the first k, (Q,), those further ones among them.

    The reference is no further positive, however near it is: the text asks for a change.
    """
    split = encoded.split
    queries = tuple(
        replace(query, positives=tuple(dict.fromkeys((*query.positives, *names))))
        for query, names in zip(split.queries, _without_reference(split, more), strict=True)
    )
    wider = replace(split, queries=queries, measures=(f"any_recall@{k}",))
    result = evaluate_encoded(method, Encoded(wider, encoded.queries, encoded.targets))
    return result.values[f"any_recall@{k}"]


def _without_reference(split: Split, more: Sequence[Sequence[str]]) -> list[list[str]]:
    if not more:
        return [[] for _ in split.queries]
    return [
        [name for name in names if name != query.reference]
        for query, names in zip(split.queries, more, strict=True)
    ]
