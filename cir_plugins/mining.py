"""Negatives of every training row, drawn from what a sampler leaves of the training images.

Scores are computed by blocks of queries against the split's pool; a sampler turns a block into a
mask; K negatives per epoch are drawn from each row of it, without replacement until it is used up,
by keys that depend on (seed, epoch, row, image) alone. Neither block size nor order matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cir_plugins.data import TrainingTable, excluded_images, mix
from cir_plugins.embed import embed, query_text
from cir_plugins.encode import Encoding, FeatureStore, feature_chunks
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.tally import Tally

BLOCK = 512


@dataclass(frozen=True)
class Mined:
    """The negatives drawn at a refresh.

    Attributes:
        images: (R, L) int64 image indices for the R training rows, L = K times the epochs until
            the next refresh; -1 for a row without negatives.
        since: Epoch of the refresh.
        report: Numbers about the pools (see ``mine``).
    """

    images: Tensor
    since: int
    report: Mapping[str, Any]

    def epoch(self, epoch: int, count: int) -> Tensor:
        """The (R, K) negatives of an epoch."""
        first = (epoch - self.since) * count
        if not 0 <= first <= self.images.shape[1] - count:
            raise ValueError(f"epoch {epoch} lies outside the refresh of epoch {self.since}")
        return self.images[:, first : first + count]


def draw(mask: Tensor, rows: Tensor, images: Tensor, count: int, seed: int) -> Tensor:
    """Columns (q, count) int64 drawn from each row's True columns, -1 for a row without any.

    Without replacement until the row is used up, then again from its start.

    Args:
        mask: (q, N) bool.
        rows: (q,) number of each training row.
        images: (N,) number of each column's image.
        count: How many to draw, at least 1.
        seed: Depends on the run's seed and the epoch.
    """
    keys = scramble(rows[:, None] * 0x632BE5AB + images[None, :] * 0x85157AF5 + seed)
    keys = keys.masked_fill(~mask, -1)
    top = keys.topk(min(count, mask.shape[1]), dim=1)
    there = (top.values >= 0).sum(dim=1)
    turn = torch.arange(count, device=mask.device)[None, :] % there.clamp(min=1)[:, None]
    drawn = top.indices.gather(1, turn)
    return drawn.masked_fill((there == 0)[:, None], -1)


def scramble(keys: Tensor) -> Tensor:
    """Well-mixed non-negative int64 keys, equal for equal input (a 32-bit integer finaliser)."""
    keys = keys & 0xFFFFFFFF
    keys = (keys ^ (keys >> 16)) * 0x7FEB352D & 0xFFFFFFFF
    keys = (keys ^ (keys >> 15)) * 0x846CA68B & 0xFFFFFFFF
    return keys ^ (keys >> 16)


def mine(
    method: Method,
    table: TrainingTable,
    encoding: Encoding,
    *,
    epoch: int,
    epochs: int,
    count: int,
    seed: int,
    known: str,
    with_model: bool,
    store: FeatureStore | None = None,
    previous: Mined | None = None,
) -> Mined:
    """Negatives for the next ``epochs`` epochs, ``count`` per row and epoch.

    The report has ``pool`` (mean and quartiles of the pools' sizes), ``empty`` (share of rows
    without any negative), ``fallback`` (share of rows that the sampler filled from outside its
    rule, where it tells), ``kept`` (share of the previous draw that is still in the pools),
    ``false_negatives`` (share of known right answers in the pools) and ``drop`` (a histogram of
    score drops from the target over the pools).

    Args:
        method: Scores and sampler.
        table: Training rows.
        encoding: Where to encode.
        epoch: Epoch of the refresh, 0-based.
        epochs: Epochs until the next one.
        count: Negatives per row and epoch (K).
        seed: Seed of the run.
        known: Which known images never are negatives.
        with_model: False to draw at random, before the model is worth asking.
        store: Cached features, or None to encode the images.
        previous: The previous refresh, for the overlap.

    Raises:
        CIRError: If no row has a negative.
    """
    length = epochs * count
    images = torch.full((len(table.rows), length), -1)
    tally = Tally()
    for split in range(len(table.splits)):
        blocks = (
            _scored(method, table, split, encoding, store)
            if with_model
            else _unscored(table, split)
        )
        pool = table.pools[split].to(encoding.device)
        column = {image: place for place, image in enumerate(table.pools[split].tolist())}
        for numbers, scores in blocks:
            target, excluded, answers = _columns(table, numbers, column, known, encoding.device)
            allowed = ~excluded.scatter(1, target[:, None], True)
            mask = allowed if scores is None else method.sampler(scores, target, excluded) & allowed
            rows = torch.tensor(numbers, device=encoding.device)
            drawn = draw(mask, rows, pool, length, mix(seed, epoch) & 0xFFFFFFFF)
            images[numbers] = torch.where(drawn >= 0, pool[drawn.clamp(min=0)], -1).cpu()
            tally.add(mask, answers)
            if scores is not None:
                tally.add_scores(
                    scores, target, mask, _facts(method.sampler, scores, target, excluded)
                )
            if previous is not None:
                tally.add_previous(previous.images[numbers], mask, column)
    if bool((images < 0).all()):
        raise CIRError(
            f"sampler left no negative for any of the {len(table.rows)} training rows at epoch "
            f"{epoch}: widen its bounds"
        )
    return Mined(images, epoch, tally.report())


def _facts(sampler: Any, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor | None:
    """Rows (q,) that the sampler filled from outside its rule, where it tells."""
    fallback = getattr(sampler, "fallback_rows", None)
    return None if fallback is None else fallback(scores, target, excluded)


def _unscored(table: TrainingTable, split: int) -> Iterator[tuple[list[int], None]]:
    numbers = [index for index, row in enumerate(table.rows) if row.split == split]
    for first in range(0, len(numbers), BLOCK):
        yield numbers[first : first + BLOCK], None


def _scored(
    method: Method,
    table: TrainingTable,
    split: int,
    encoding: Encoding,
    store: FeatureStore | None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Blocks of (training rows, scores (q, N) against the split's pool)."""
    queries, targets, numbers = _embed(method, table, split, encoding, store)
    bar = tqdm(
        range(0, len(numbers), BLOCK),
        desc=f"mining {table.splits[split].name}",
        disable=not encoding.progress,
        leave=False,
    )
    for first in bar:
        with torch.no_grad():
            scores = method.similarity(queries[first : first + BLOCK], targets)
        yield numbers[first : first + BLOCK], scores


def _embed(
    method: Method,
    table: TrainingTable,
    split: int,
    encoding: Encoding,
    store: FeatureStore | None,
) -> tuple[Tensor, Tensor, list[int]]:
    """Queries (Q, D) of a split's rows, targets of its pool, and the rows' numbers in order."""
    pool = table.pools[split].tolist()
    numbers = [index for index, row in enumerate(table.rows) if row.split == split]
    rows = [table.rows[number] for number in numbers]
    names = list(dict.fromkeys([*pool, *(row.reference for row in rows)]))
    place = {image: position for position, image in enumerate(names)}
    chunks = (
        store.chunks(torch.tensor(names), encoding)
        if store is not None
        else feature_chunks(
            method.backbone, [table.paths[image] for image in names], encoding, "mining"
        )
    )
    captions = table.splits[split].captions
    queries, targets = embed(
        method,
        chunks,
        encoding,
        gallery=len(pool),
        references=[place[row.reference] for row in rows],
        texts=[query_text(method, row.query, captions) for row in rows],
    )
    return queries, targets, numbers


def _columns(
    table: TrainingTable,
    numbers: Sequence[int],
    column: Mapping[int, int],
    known: str,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Target columns (q,), exclusions (q, N) and known answers (q, N) of training rows."""
    target = torch.empty(len(numbers), dtype=torch.long)
    excluded = torch.zeros(len(numbers), len(column), dtype=torch.bool)
    answers = torch.zeros(len(numbers), len(column), dtype=torch.bool)
    for index, number in enumerate(numbers):
        row = table.rows[number]
        target[index] = column[row.target]
        for image in excluded_images(row, table.splits[row.split], known):
            if image in column:
                excluded[index, column[image]] = True
        answers[index, [column[image] for image in row.answers if image in column]] = True
    return target.to(device), excluded.to(device), answers.to(device)
