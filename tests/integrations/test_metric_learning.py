from __future__ import annotations

import os
import socket
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.multiprocessing.spawn import spawn

pytest.importorskip("pytorch_metric_learning", reason="needs the extra metric-learning")

from pytorch_metric_learning.losses import CrossBatchMemory, NTXentLoss, TripletMarginLoss
from pytorch_metric_learning.utils.distributed import DistributedMinerWrapper

from cir_plugins.builtin.samplers import Hardest, InBatch
from cir_plugins.integrations.metric_learning import SamplerMiner
from cir_plugins.mining import negatives_of_scores
from dqe_plugin.sampler import TargetRelative

ZONE = TargetRelative(lower=0.1, upper=0.7, unit="absolute", fallback=0)


def points(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    made = F.normalize(torch.randn(rows, 6, generator=rng), dim=1)
    return made, torch.randint(0, 4, (rows,), generator=rng)


def reference(
    anchors: torch.Tensor, labels: torch.Tensor, others: torch.Tensor, theirs: torch.Tensor
) -> set[tuple[int, int, int]]:
    mined = set()
    for a in range(len(anchors)):
        for p in range(len(others)):
            if labels[a] != theirs[p] or (anchors is others and a == p):
                continue
            for n in range(len(others)):
                score_gap = float(anchors[a] @ others[p] - anchors[a] @ others[n])
                if labels[a] != theirs[n] and 0.1 <= score_gap <= 0.7:
                    mined.add((a, p, n))
    return mined


def as_set(triplets: tuple[torch.Tensor, ...]) -> set[tuple[int, ...]]:
    return set(zip(*(column.tolist() for column in triplets), strict=True))


@pytest.mark.parametrize("block", [3, 4096])
def test_triplets_equal_a_slow_plain_reference(block: int) -> None:
    embeddings, labels = points(0, 14)
    miner = SamplerMiner(ZONE, block=block)
    expected = reference(embeddings, labels, embeddings, labels)
    assert as_set(miner(embeddings, labels)) == expected
    assert miner.num_triplets == len(expected)
    others, theirs = points(1, 9)
    assert as_set(miner(embeddings, labels, others, theirs)) == reference(
        embeddings, labels, others, theirs
    )


def test_a_count_draws_from_the_same_triplets() -> None:
    embeddings, labels = points(0, 14)
    whole = as_set(SamplerMiner(ZONE)(embeddings, labels))
    few = as_set(SamplerMiner(ZONE, count=1, block=5)(embeddings, labels))
    assert few < whole
    assert {t[:2] for t in few} == {t[:2] for t in whole}
    assert len(few) == len({t[:2] for t in few})


def test_a_large_memory_is_sampled_by_small_blocks() -> None:
    """4096 pairs at once against a memory of 8,192 embeddings took more than a gigabyte."""
    cells = []

    class Watched(TargetRelative):
        def negatives_and_fallback(
            self, scores: torch.Tensor, *masks: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            cells.append(scores.numel())
            return super().negatives_and_fallback(scores, *masks)

    (embeddings, labels), (others, theirs) = points(0, 4), points(1, 8192)
    mined = SamplerMiner(Watched(), count=2)(embeddings, labels, others, theirs)
    whole = SamplerMiner(TargetRelative(), count=2, block=4096)(embeddings, labels, others, theirs)
    assert max(cells) <= 1_300_000
    assert as_set(mined) == as_set(whole)


@pytest.mark.parametrize("loss", [TripletMarginLoss(), NTXentLoss()], ids=["triplet", "ntxent"])
def test_the_librarys_losses_take_the_triplets(loss: torch.nn.Module) -> None:
    embeddings, labels = points(0, 14)
    embeddings.requires_grad_()
    loss(embeddings, labels, SamplerMiner(TargetRelative())(embeddings, labels)).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0


def test_as_the_miner_of_a_memory_across_batches() -> None:
    loss = CrossBatchMemory(
        TripletMarginLoss(), embedding_size=6, memory_size=32, miner=SamplerMiner(TargetRelative())
    )
    for step in range(4):
        embeddings, labels = points(step, 14)
        value = loss(embeddings.requires_grad_(), labels)
        assert torch.isfinite(value)
    value.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0


def test_any_sampler_mines_and_no_label_is_crossed() -> None:
    """The miner was made for one sampler; what another lets through is held to the labels."""
    embeddings, labels = points(0, 14)
    careless = SamplerMiner(lambda scores, target, excluded: torch.ones_like(excluded))
    for miner in (SamplerMiner(Hardest(count=2)), careless):
        anchor, positive, negative = miner(embeddings, labels)
        assert len(anchor) > 0
        assert (labels[anchor] == labels[positive]).all()
        assert (labels[anchor] != labels[negative]).all()


def test_the_draw_is_that_of_the_library() -> None:
    embeddings, labels = points(0, 14)
    miner = SamplerMiner(ZONE, count=2, seed=3)
    for epoch in (0, 5):
        miner.epoch = epoch
        anchor, positive, negative = miner(embeddings, labels)
        every = SamplerMiner(InBatch())(embeddings, labels)
        rows = torch.stack([every[0], every[1]], dim=1).unique(dim=0)
        ids = negatives_of_scores(
            (embeddings @ embeddings.T)[rows[:, 0]],
            rows[:, 1],
            ZONE,
            excluded=labels[rows[:, 0], None] == labels,
            count=2,
            seed=3,
            epoch=epoch,
        )
        drawn = {
            (*row.tolist(), column)
            for row, columns in zip(rows, ids.tolist(), strict=True)
            for column in columns
            if column >= 0
        }
        assert as_set((anchor, positive, negative)) == drawn


def test_no_pair_gives_no_triplet() -> None:
    embeddings, _ = points(0, 4)
    assert as_set(SamplerMiner(TargetRelative())(embeddings, torch.arange(4))) == set()


def one_process(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    embeddings, labels = points(rank, 8)
    miner = DistributedMinerWrapper(SamplerMiner(ZONE), efficient=True)
    torch.save(miner(embeddings, labels), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_mine_each_others_rows(tmp_path: os.PathLike[str]) -> None:
    """Efficient wrapper: own rows are anchors, all rows are candidates, own rows first."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spawn(one_process, (port, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    shards = [points(rank, 8) for rank in range(2)]
    for rank in range(2):
        local, other = shards[rank], shards[1 - rank]
        embeddings = torch.cat([local[0], other[0]])
        labels = torch.cat([local[1], other[1]])
        expected = {t for t in reference(embeddings, labels, embeddings, labels) if t[0] < 8}
        assert as_set(torch.load(f"{tmp_path}/{rank}.pt")) == expected
