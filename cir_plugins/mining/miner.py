"""Negatives of every training row, drawn from what a sampler leaves of the training images.

K negatives per epoch are drawn from each row, without replacement until it is used up, by hashes
of (seed, epoch, row) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cir_plugins.data.table import ImageLists, TrainingTable
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.features import Encoding, TrainingFeatures, feature_batches
from cir_plugins.errors import SharedError
from cir_plugins.method import Method
from cir_plugins.mining.blocks import Block, blocks
from cir_plugins.mining.draw import draw
from cir_plugins.mining.relevance import Columns, relevance_of_columns
from cir_plugins.mining.report import PoolStatistics
from cir_plugins.retrieval.embed import embed, query_text
from cir_plugins.retrieval.scores import rows_per_block, score


@dataclass(frozen=True)
class Mined:
    """The negatives drawn at a refresh.

    Attributes:
        images: (R, L) int64 image indices for the R training rows, L = K times the epochs until
            the next refresh; -1 for a row without negatives.
        since: Epoch of the refresh.
        report: Numbers about what the sampler left (see ``PoolStatistics.report``), and
            ``positives_across``, the positives known only from identical queries, where there are.
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

    The report is that of ``PoolStatistics``.

    Args:
        method: Scores and sampler.
        table: Training rows.
        encoding: Where to encode.
        epoch: Epoch of the refresh, 0-based.
        epochs: Epochs until the next one.
        count: Negatives per row and epoch (K).
        seed: Seed of the run.
        known_positives: Which known images never are negatives.
        with_model: False to draw at random, while the model's scores mean nothing yet.
        store: Cached features, or None to encode the images.
        previous: The previous refresh, for the overlap.
        processes: The processes that share the rows and the encoding; all get the same negatives.

    Raises:
        CIRError: If no row has a negative.
    """
    processes = processes or ProcessGroup()
    images = torch.full((len(table.triplets), epochs * count), -1)
    statistics = PoolStatistics(len(table.triplets))
    for split in range(len(table.splits)):
        known = _known(table, split, known_positives)
        embedded: tuple[Tensor, Tensor] | None = None
        if with_model:
            embedded = _embed(method, table, split, encoding, store, processes)
        shard = processes.shard(len(known.rows))
        for block in _blocks(method, table, split, known, embedded, encoding, shard):
            rows, device = known.rows[block.rows], block.mask.device
            drawn = draw(
                block.mask,
                epochs * count,
                seed=seed,
                epoch=epoch,
                rows=rows.to(device),
                repeat=True,
            ).cpu()
            images[rows] = torch.where(
                drawn >= 0, table.negative_images[split][drawn.clamp(min=0)], -1
            )
            row, column = known.positives.block(block.rows.start, block.rows.stop)
            before = None if previous is None else known.column[previous.images[rows]].to(device)
            statistics.add_block(
                block, positives=(row.to(device), column.to(device)), previous=before
            )
    images = processes.all_reduce_max(images)
    if bool((images < 0).all()):
        raise SharedError(
            f"the sampler left no negative for any of the {len(table.triplets)} training triplets "
            f"at epoch {epoch}: widen its bounds"
        )
    whole = PoolStatistics.joined(processes.all_gather_object(statistics))
    return Mined(images, epoch, whole.report() | _across(table))


def _across(table: TrainingTable) -> dict[str, int]:
    return {"positives_across": table.positives_across} if table.positives_across else {}


def _blocks(
    method: Method,
    table: TrainingTable,
    split: int,
    known: _Known,
    embedded: tuple[Tensor, Tensor] | None,
    encoding: Encoding,
    shard: range,
) -> Iterable[Block]:
    """Blocks of a split's rows ``shard``, under a progress bar; no scores where not embedded."""
    candidates, device = len(table.negative_images[split]), torch.device("cpu")
    scores: Callable[[slice], Tensor] | None = None
    if embedded is not None:
        queries, gallery = embedded
        device = queries.device
        scores = lambda rows: score(queries[rows], gallery, method.similarity)  # noqa: E731
    bar: Iterable[Block] = tqdm(
        blocks(
            scores,
            relevance_of_columns(known.target, known.excluded, candidates, device),
            method.sampler,
            rows=shard,
            candidates=candidates,
            device=device,
        ),
        desc=f"mining {table.splits[split].name}",
        total=-(-len(shard) // rows_per_block(candidates, encoding.device)),
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
    """The exclusions and positives of a split's triplets, in columns."""
    images, arrays = table.negative_images[split], table.arrays
    column = torch.full((len(table.images) + 1,), -1)
    column[images] = torch.arange(len(images))
    triplets = (arrays.split == split).nonzero().flatten()
    place = torch.full((len(arrays.split),), -1)
    place[triplets] = torch.arange(len(triplets))

    def columns(lists: ImageLists) -> Columns:
        row = place[lists.triplets()]
        return Columns.gathered(row[row >= 0], column[lists.images[row >= 0]], len(triplets))

    excluded = columns(table.excluded_images(known_positives))
    target = column[arrays.target[triplets]]
    return _Known(triplets, column, target, excluded, columns(arrays.positives))


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
    pool = table.negative_images[split].tolist()
    rows = [row for row in table.triplets if row.split == split]
    shard, images = processes.shard(len(rows)), processes.shard(len(pool))
    queried = rows[shard.start : shard.stop] or rows[:1]
    gallery = pool[images.start : images.stop] or pool[:1]
    names = list(dict.fromkeys([*gallery, *(row.reference for row in queried)]))
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
            references=[place[row.reference] for row in queried],
            texts=[query_text(method, row.query, captions) for row in queried],
        )
    return (
        processes.all_gather(queries[: len(shard)], processes.shard_sizes(len(rows))),
        processes.all_gather(targets[: len(images)], processes.shard_sizes(len(pool))),
    )
