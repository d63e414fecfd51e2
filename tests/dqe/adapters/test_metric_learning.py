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

from dqe_plugin.adapters.metric_learning import TargetRelativeMiner
from dqe_plugin.sampler import TargetRelative

ZONE = TargetRelative(lower=0.1, upper=0.7, unit="absolute", fallback=0)


def points(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    made = F.normalize(torch.randn(rows, 6, generator=chance), dim=1)
    return made, torch.randint(0, 4, (rows,), generator=chance)


def reference(
    anchors: torch.Tensor, labels: torch.Tensor, others: torch.Tensor, theirs: torch.Tensor
) -> set[tuple[int, int, int]]:
    found = set()
    for a in range(len(anchors)):
        for p in range(len(others)):
            if labels[a] != theirs[p] or (anchors is others and a == p):
                continue
            for n in range(len(others)):
                drop = float(anchors[a] @ others[p] - anchors[a] @ others[n])
                if labels[a] != theirs[n] and 0.1 <= drop <= 0.7:
                    found.add((a, p, n))
    return found


def as_set(triplets: tuple[torch.Tensor, ...]) -> set[tuple[int, ...]]:
    return set(zip(*(column.tolist() for column in triplets), strict=True))


@pytest.mark.parametrize("block", [3, 4096])
def test_triplets_equal_a_slow_plain_reference(block: int) -> None:
    embeddings, labels = points(0, 14)
    miner = TargetRelativeMiner(ZONE, block=block)
    wanted = reference(embeddings, labels, embeddings, labels)
    assert as_set(miner(embeddings, labels)) == wanted
    assert miner.num_triplets == len(wanted)
    others, theirs = points(1, 9)
    assert as_set(miner(embeddings, labels, others, theirs)) == reference(
        embeddings, labels, others, theirs
    )


def test_a_count_draws_from_the_same_triplets() -> None:
    embeddings, labels = points(0, 14)
    whole = as_set(TargetRelativeMiner(ZONE)(embeddings, labels))
    few = as_set(TargetRelativeMiner(ZONE, count=1, block=5)(embeddings, labels))
    assert few < whole
    assert {t[:2] for t in few} == {t[:2] for t in whole}
    assert len(few) == len({t[:2] for t in few})


def test_a_large_memory_is_sampled_by_small_blocks() -> None:
    """4096 pairs at once against a memory of 8,192 embeddings took more than a gigabyte."""
    cells = []

    class Watched(TargetRelative):
        def __call__(self, scores: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
            cells.append(scores.numel())
            return super().__call__(scores, *given)

    (embeddings, labels), (others, theirs) = points(0, 4), points(1, 8192)
    found = TargetRelativeMiner(Watched(), count=2)(embeddings, labels, others, theirs)
    whole = TargetRelativeMiner(count=2, block=4096)(embeddings, labels, others, theirs)
    assert max(cells) <= 1_300_000
    assert as_set(found) == as_set(whole)


@pytest.mark.parametrize("loss", [TripletMarginLoss(), NTXentLoss()], ids=["triplet", "ntxent"])
def test_the_librarys_losses_take_the_triplets(loss: torch.nn.Module) -> None:
    embeddings, labels = points(0, 14)
    embeddings.requires_grad_()
    loss(embeddings, labels, TargetRelativeMiner()(embeddings, labels)).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0


def test_as_the_miner_of_a_memory_across_batches() -> None:
    loss = CrossBatchMemory(
        TripletMarginLoss(), embedding_size=6, memory_size=32, miner=TargetRelativeMiner()
    )
    for step in range(4):
        embeddings, labels = points(step, 14)
        value = loss(embeddings.requires_grad_(), labels)
        assert torch.isfinite(value)
    value.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0


def test_no_pair_gives_no_triplet() -> None:
    embeddings, _ = points(0, 4)
    assert as_set(TargetRelativeMiner()(embeddings, torch.arange(4))) == set()


def one_process(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    embeddings, labels = points(rank, 8)
    miner = DistributedMinerWrapper(TargetRelativeMiner(ZONE), efficient=True)
    torch.save(miner(embeddings, labels), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_mine_each_others_rows(tmp_path: os.PathLike[str]) -> None:
    """Efficient wrapper: own rows are anchors, all rows are candidates, own rows first."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spawn(one_process, (port, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    parts = [points(rank, 8) for rank in range(2)]
    for rank in range(2):
        own, other = parts[rank], parts[1 - rank]
        embeddings = torch.cat([own[0], other[0]])
        labels = torch.cat([own[1], other[1]])
        wanted = {t for t in reference(embeddings, labels, embeddings, labels) if t[0] < 8}
        assert as_set(torch.load(f"{tmp_path}/{rank}.pt")) == wanted
