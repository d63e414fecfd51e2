"""Negatives of every training row, drawn from what a sampler leaves of the training images.

Scores are computed by blocks of queries against the split's pool; a sampler turns a block into a
mask; K negatives per epoch are drawn from each row of it, without replacement until it is used up,
by numbers that depend on (seed, epoch, row) alone. The size of the blocks does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cir_plugins.data.table import TrainingTable
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.features import Encoding, TrainingFeatures, feature_batches
from cir_plugins.errors import SharedError
from cir_plugins.method import Method
from cir_plugins.mining.blocks import Columns, Pool, pools
from cir_plugins.mining.draw import draw
from cir_plugins.mining.report import PoolStatistics
from cir_plugins.retrieval.embed import embed, query_text
from cir_plugins.retrieval.scores import rows_per_block
from cir_plugins.seeds import mix_seed


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


def mine(
    method: Method,
    table: TrainingTable,
    encoding: Encoding,
    *,
    epoch: int,
    epochs: int,
    count: int,
    seed: int,
    known_positives: str,
    with_model: bool,
    store: TrainingFeatures | None = None,
    previous: Mined | None = None,
    processes: ProcessGroup | None = None,
) -> Mined:
    """Negatives for the next ``epochs`` epochs, ``count`` per row and epoch.

    The report has ``pool`` (mean and quartiles of the pools' sizes), ``empty`` (share of rows
    without any negative), ``fallback`` (share of rows that the sampler filled from outside its
    rule, where it tells), ``kept`` (share of the previous draw that is still in the pools),
    ``false_negatives`` (share of known positives in the pools) and ``drop`` (a histogram of
    score drops from the target over the pools).

    Args:
        method: Scores and sampler.
        table: Training rows.
        encoding: Where to encode.
        epoch: Epoch of the refresh, 0-based.
        epochs: Epochs until the next one.
        count: Negatives per row and epoch (K).
        seed: Seed of the run.
        known_positives: Which known images never are negatives.
        with_model: False to draw at random, before the model is worth asking.
        store: Cached features, or None to encode the images.
        previous: The previous refresh, for the overlap.
        processes: The processes that share the rows and the encoding; all get the same negatives.

    Raises:
        CIRError: If no row has a negative.
    """
    processes = processes or ProcessGroup()
    images = torch.full((len(table.rows), epochs * count), -1)
    tally = PoolStatistics(len(table.rows))
    for split in range(len(table.splits)):
        known_columns = _known(table, split, known_positives)
        embedded: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
        if with_model:
            embedded = _embed(method, table, split, encoding, store, processes)
        own = processes.shard(len(known_columns.rows))
        bar = _blocks(method, table, split, known_columns, embedded, encoding, own)
        for block in bar:
            rows = known_columns.rows[block.rows]
            drawn = draw(
                block.mask,
                rows.to(block.mask.device),
                epochs * count,
                mix_seed(seed, epoch) & 0xFFFFFFFF,
            ).cpu()
            pool = table.pools[split]
            images[rows] = torch.where(drawn >= 0, pool[drawn.clamp(min=0)], -1)
            before = None if previous is None else known_columns.column[previous.images[rows]]
            _count(tally, block, known_columns, before)
    images = processes.all_reduce_max(images)
    if bool((images < 0).all()):
        raise SharedError(
            f"sampler left no negative for any of the {len(table.rows)} training rows at epoch "
            f"{epoch}: widen its bounds"
        )
    return Mined(images, epoch, PoolStatistics.joined(processes.all_gather_object(tally)).report())


def _blocks(
    method: Method,
    table: TrainingTable,
    split: int,
    known: _Known,
    embedded: tuple[Tensor, Tensor] | tuple[None, None],
    encoding: Encoding,
    own: range,
) -> Iterable[Pool]:
    """Pools of a split's rows ``own``, under a progress bar."""
    candidates = len(table.pools[split])
    bar: Iterable[Pool] = tqdm(
        pools(
            embedded[0],
            embedded[1],
            known.target,
            known.excluded,
            candidates=candidates,
            similarity=method.similarity,
            sampler=method.sampler,
            rows=own,
        ),
        desc=f"mining {table.splits[split].name}",
        total=-(-len(own) // rows_per_block(candidates, encoding.device)),
        disable=not encoding.progress,
        leave=False,
    )
    return bar


@dataclass(frozen=True)
class _Known:
    """What is known of a split's R training rows, in columns of its pool of N images.

    Attributes:
        rows: (R,) numbers of the rows in the table.
        column: Column of each image of the table; -1 for one outside the pool, and at its end, so
            that it may be asked for image -1.
        target: (R,) column of the target.
        excluded: Columns that are no negatives.
        positives: Columns of known positives.
    """

    rows: Tensor
    column: Tensor
    target: Tensor
    excluded: Columns
    positives: Columns


def _known(table: TrainingTable, split: int, known_positives: str) -> _Known:
    """As ``excluded_images`` of every row, all at once."""
    pool, flat = table.pools[split], table.arrays
    column = torch.full((len(table.images) + 1,), -1)
    column[pool] = torch.arange(len(pool))
    rows = (flat.split == split).nonzero().flatten()
    target = flat.target[rows]
    place = torch.full((len(flat.split),), -1)
    place[rows] = torch.arange(len(rows))
    row = place[flat.answered]
    row, image = row[row >= 0], flat.answer[row >= 0]
    positives = Columns.gathered(row, column[image], len(rows))
    if known_positives != "all":
        row, image = row[:0], image[:0]
    elif table.splits[split].drop_reference:
        row, image = torch.cat([row, place[rows]]), torch.cat([image, flat.reference[rows]])
    out = torch.where(image == target[row], -1, column[image])
    excluded = Columns.gathered(row, out, len(rows))
    return _Known(rows, column, column[target], excluded, positives)


def _count(tally: PoolStatistics, block: Pool, known: _Known, before: Tensor | None) -> None:
    """Count a block; ``before`` (q, L) has the columns of the previous draw, -1 for none."""
    device = block.mask.device
    row, column = known.positives.block(block.rows.start, block.rows.stop)
    tally.add(block.mask, (row.to(device), column.to(device)))
    if block.scores is not None:
        tally.add_scores(block.scores, block.target, block.mask, block.outside)
    if before is not None:
        tally.add_previous(before.to(device), block.mask)


def _embed(
    method: Method,
    table: TrainingTable,
    split: int,
    encoding: Encoding,
    store: TrainingFeatures | None,
    processes: ProcessGroup,
) -> tuple[Tensor, Tensor]:
    """Queries (Q, D) of a split's rows in their order, and targets of its pool.

    Each process embeds its share; one without a share embeds what is there first, for its shape.
    """
    pool = table.pools[split].tolist()
    rows = [row for row in table.rows if row.split == split]
    span, shown = processes.shard(len(rows)), processes.shard(len(pool))
    asked = rows[span.start : span.stop] or rows[:1]
    gallery = pool[shown.start : shown.stop] or pool[:1]
    names = list(dict.fromkeys([*gallery, *(row.reference for row in asked)]))
    place = {image: position for position, image in enumerate(names)}
    captions = table.splits[split].captions
    with processes.synchronise_errors():
        chunks = (
            store.batches(torch.tensor(names), encoding)
            if store is not None
            else feature_batches(
                method.backbone, [table.paths[image] for image in names], encoding, "mining"
            )
        )
        queries, targets = embed(
            method,
            chunks,
            encoding,
            gallery=len(gallery),
            references=[place[row.reference] for row in asked],
            texts=[query_text(method, row.query, captions) for row in asked],
        )
    return (
        processes.all_gather(queries[: len(span)], processes.counts(len(rows))),
        processes.all_gather(targets[: len(shown)], processes.counts(len(pool))),
    )
