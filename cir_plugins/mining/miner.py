"""Negatives of every training triplet, drawn from the candidates that a sampler leaves.

K negatives per epoch are drawn for each triplet, without replacement until they are used up, by
hashes of (seed, epoch, triplet) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cir_plugins.config.settings import TrainingSettings
from cir_plugins.data.table import ImageLists, TrainingTable
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.features import Encoding, TrainingFeatures, feature_batches
from cir_plugins.errors import SharedError
from cir_plugins.method import Method
from cir_plugins.mining.blocks import Block, ambiguous, blocks
from cir_plugins.mining.draw import draw
from cir_plugins.mining.relevance import Columns, relevance_of_columns
from cir_plugins.mining.report import PoolStatistics
from cir_plugins.mining.scored_by import ScoredBy, scores_of
from cir_plugins.retrieval.embed import embed, query_text
from cir_plugins.retrieval.scores import rows_per_block


@dataclass(frozen=True)
class Mined:
    """The negatives drawn at a refresh, and what it found ambiguous.

    Attributes:
        images: (R, L) int64 image indices for the R triplets, L = K times the epochs until the
            next refresh; -1 for a triplet without negatives.
        since: Epoch of the refresh.
        report: Numbers about what the sampler left (see ``PoolStatistics.report``), and
            ``positives_across``, the positives known only from identical queries, where there are.
        ambiguous: Images that are no negatives of each triplet in its batches; None for no filter.
    """

    images: Tensor
    since: int
    report: Mapping[str, Any]
    ambiguous: ImageLists | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        lists = self.ambiguous
        ambiguous = None if lists is None else {"starts": lists.starts, "images": lists.images}
        return {"images": self.images, "since": self.since, "ambiguous": ambiguous}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Mined:
        """The negatives that a checkpoint holds, without their report."""
        lists = state["ambiguous"]
        ambiguous = None if lists is None else ImageLists(lists["starts"], lists["images"])
        return cls(state["images"], state["since"], {}, ambiguous)

    def epoch(self, epoch: int, count: int) -> Tensor:
        """The (R, K) negatives of an epoch."""
        first = (epoch - self.since) * count
        if not 0 <= first <= self.images.shape[1] - count:
            raise ValueError(f"epoch {epoch} lies outside the refresh of epoch {self.since}")
        return self.images[:, first : first + count]


@dataclass(frozen=True)
class Mining:
    """How negatives are mined.

    Attributes:
        count: Negatives per triplet and epoch (K); 0 for none.
        known_positives: Which positives never are negatives (``TrainSettings.known_positives``).
        seed: Seed of the run.
        filtered: Whether the sampler marks what is ambiguous (``mining.filter`` is ``corpus``).
        scored_by: What the candidates are scored by (``MiningSettings.scored_by``).
    """

    count: int
    known_positives: str | float
    seed: int
    filtered: bool = False
    scored_by: ScoredBy = "query"

    @classmethod
    def of(cls, settings: TrainingSettings, seed: int) -> Mining:
        """How the settings of a run say."""
        mining = settings.mining
        return cls(
            0 if mining.negatives == "batch" else mining.per_query,
            settings.train.known_positives,
            seed,
            mining.filter == "corpus",
            mining.scored_by,
        )


def mine(
    method: Method,
    table: TrainingTable,
    encoding: Encoding,
    mining: Mining,
    *,
    epoch: int,
    epochs: int,
    with_model: bool,
    store: TrainingFeatures | None = None,
    previous: Mined | None = None,
    processes: ProcessGroup | None = None,
) -> Mined:
    """Negatives for the next ``epochs`` epochs, and what is ambiguous in them.

    The report is that of ``PoolStatistics``.

    Args:
        method: Scores and sampler.
        table: Training triplets.
        encoding: Where to encode.
        mining: How many negatives, and which.
        epoch: Epoch of the refresh, 0-based.
        epochs: Epochs until the next one.
        with_model: False to draw at random, while the model's scores mean nothing yet; nothing is
            ambiguous then.
        store: Cached features, or None to encode the images.
        previous: The previous refresh, for the overlap.
        processes: The processes that share mining and encoding; all get the same negatives.

    Raises:
        CIRError: If no triplet has a negative.
    """
    processes = processes or ProcessGroup()
    images = torch.full((len(table.triplets), epochs * mining.count), -1)
    statistics = PoolStatistics(len(table.triplets))
    ambiguous_pairs: list[Tensor] = []  # (2, m) triplets and images
    for split in range(len(table.splits)):
        labels = _labels(table, split, mining.known_positives)
        scores, device = None, torch.device("cpu")
        if with_model:
            embedded = _embed(method, table, split, encoding, store, processes)
            device = embedded[0].device
            scores = scores_of(mining.scored_by, *embedded, labels.target, method.similarity)
        shard = processes.shard(len(labels.rows))
        for block in _blocks(method, table, split, labels, scores, device, encoding, shard):
            rows = labels.rows[block.rows]
            if mining.count:
                drawn = _drawn(block, rows, mining, epoch, epochs)
                found = table.negative_images[split][drawn.clamp(min=0)]
                images[rows] = torch.where(drawn >= 0, found, -1)
            mask = None
            if mining.filtered and with_model:
                mask = ambiguous(method.sampler, block)
                row, column = mask.nonzero(as_tuple=True)
                columns = table.negative_images[split][column.cpu()]
                ambiguous_pairs.append(torch.stack([rows[row.cpu()], columns]))
            _count(statistics, block, labels, rows, previous, mask)
    images = processes.all_reduce_max(images)
    if mining.count and bool((images < 0).all()):
        raise SharedError(
            f"the sampler left no negative for any of the {len(table.triplets)} training triplets "
            f"at epoch {epoch}: widen its bounds"
        )
    whole = PoolStatistics.joined(processes.all_gather_object(statistics))
    found_ambiguous = None
    if mining.filtered:
        found_ambiguous = _lists(processes.all_gather_object(ambiguous_pairs), len(table.triplets))
    return Mined(images, epoch, whole.report() | _across(table), found_ambiguous)


def _drawn(block: Block, rows: Tensor, mining: Mining, epoch: int, epochs: int) -> Tensor:
    """Columns (q, L) int64 drawn for a block's triplets, on the CPU."""
    return draw(
        block.mask,
        epochs * mining.count,
        seed=mining.seed,
        epoch=epoch,
        rows=rows.to(block.mask.device),
        repeat=True,
        weights=block.weights,
    ).cpu()


def _count(
    statistics: PoolStatistics,
    block: Block,
    labels: _Labels,
    rows: Tensor,
    previous: Mined | None,
    ambiguous: Tensor | None,
) -> None:
    device = block.mask.device
    row, column = labels.positives.block(block.rows.start, block.rows.stop)
    positives = row.to(device), column.to(device)
    before = None
    if previous is not None and previous.images.shape[1]:
        before = labels.column[previous.images[rows]].to(device)
    statistics.add_block(block, positives=positives, previous=before)
    if ambiguous is not None:
        statistics.add_ambiguous(ambiguous, block.relevance.excluded, positives)


def _lists(pairs: Sequence[Sequence[Tensor]], triplets: int) -> ImageLists:
    """The images of each triplet, from the pairs (2, m) that each process found."""
    every = [pair for share in pairs for pair in share]
    rows, images = torch.cat(every, dim=1) if every else torch.empty(2, 0, dtype=torch.long)
    starts = torch.zeros(triplets + 1, dtype=torch.long)
    starts[1:] = torch.bincount(rows, minlength=triplets).cumsum(0)
    return ImageLists(starts, images[rows.argsort(stable=True)])


def _across(table: TrainingTable) -> dict[str, int]:
    return {"positives_across": table.positives_across} if table.positives_across else {}


def _blocks(
    method: Method,
    table: TrainingTable,
    split: int,
    labels: _Labels,
    scores: Callable[[slice], Tensor] | None,
    device: torch.device,
    encoding: Encoding,
    shard: range,
) -> Iterable[Block]:
    """Blocks of a split's rows ``shard``, under a progress bar; no scores where not embedded."""
    candidates = len(table.negative_images[split])
    bar: Iterable[Block] = tqdm(
        blocks(
            scores,
            relevance_of_columns(labels.target, labels.excluded, candidates, device),
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
class _Labels:
    """Positives and exclusions of a split's R triplets, in columns of its N candidates.

    Attributes:
        rows: (R,) numbers of the triplets in the table.
        column: Column of each image of the table; -1 for one that is no candidate, and at its end,
            for image -1.
        target: (R,) column of the target.
        excluded: Columns that are no negatives.
        positives: Columns of known positives.
    """

    rows: Tensor
    column: Tensor
    target: Tensor
    excluded: Columns
    positives: Columns


def _labels(table: TrainingTable, split: int, known_positives: str | float) -> _Labels:
    """The exclusions and positives of a split's triplets, in columns."""
    images, arrays = table.negative_images[split], table.arrays
    column = torch.full((len(table.images) + 1,), -1)
    column[images] = torch.arange(len(images))
    triplets = (arrays.split == split).nonzero().flatten()
    position = torch.full((len(arrays.split),), -1)
    position[triplets] = torch.arange(len(triplets))

    def columns(lists: ImageLists) -> Columns:
        row = position[lists.triplets()]
        return Columns.gathered(row[row >= 0], column[lists.images[row >= 0]], len(triplets))

    excluded = columns(table.excluded_images(known_positives))
    target = column[arrays.target[triplets]]
    return _Labels(triplets, column, target, excluded, columns(arrays.positives))


def _embed(
    method: Method,
    table: TrainingTable,
    split: int,
    encoding: Encoding,
    store: TrainingFeatures | None,
    processes: ProcessGroup,
) -> tuple[Tensor, Tensor]:
    """Queries (Q, D) of a split's triplets in their order, and embeddings of its candidates.

    Each process embeds its shard; one without a shard embeds the first item, for its shape.
    """
    candidates = table.negative_images[split].tolist()
    triplets = [triplet for triplet in table.triplets if triplet.split == split]
    shard, images = processes.shard(len(triplets)), processes.shard(len(candidates))
    local = triplets[shard.start : shard.stop] or triplets[:1]
    gallery = candidates[images.start : images.stop] or candidates[:1]
    names = list(dict.fromkeys([*gallery, *(triplet.reference for triplet in local)]))
    position_of = {image: position for position, image in enumerate(names)}
    captions = table.splits[split].captions
    with processes.synchronise_errors():
        batches = (
            store.batches(torch.tensor(names), encoding)
            if store is not None
            else feature_batches(
                method.backbone, [table.paths[image] for image in names], encoding, "mining"
            )
        )
        queries, targets = embed(
            method,
            batches,
            encoding,
            gallery=len(gallery),
            references=[position_of[triplet.reference] for triplet in local],
            texts=[query_text(method, triplet.query, captions) for triplet in local],
        )
    return (
        processes.all_gather(queries[: len(shard)], processes.shard_sizes(len(triplets))),
        processes.all_gather(targets[: len(images)], processes.shard_sizes(len(candidates))),
    )
