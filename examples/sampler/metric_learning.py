"""pytorch-metric-learning: its hard miner against target-relative triplets, labels 20 % wrong."""

from __future__ import annotations

import torch
from measured import compare, concepts, network, recall
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner

from dqe_plugin.adapters.metric_learning import TargetRelativeMiner


def train(way: str, seed: int) -> float:
    """Recall of new concepts after 15 epochs."""
    _, items, concept = concepts(seed, split=0)
    chance = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(items), generator=chance) < 0.2
    labels = torch.where(wrong, concept[torch.randperm(len(items), generator=chance)], concept)
    model, loss = network(seed), TripletMarginLoss(margin=0.2)
    miners = {"no miner": None, "batch-hard": BatchHardMiner()}
    miner = miners.get(way, TargetRelativeMiner(count=8))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(15):
        # a quarter of the concepts at once, all their copies
        for some in torch.randperm(150, generator=chance).chunk(4):
            rows = torch.isin(labels, some).nonzero()[:, 0]
            embeddings = model(items[rows])
            chosen = miner(embeddings, labels[rows]) if miner else None
            optimizer.zero_grad()
            loss(embeddings, labels[rows], chosen).backward()
            optimizer.step()
    queries, items, concept = concepts(seed, split=1)
    with torch.no_grad():
        return recall(model(queries), model(items), concept, concept)


if __name__ == "__main__":
    compare("recall@1 of new concepts", train, ("no miner", "batch-hard", "target-relative"))
