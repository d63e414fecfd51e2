"""pytorch-metric-learning: its hard miner against target-relative triplets, labels incomplete.

Of 20 items that show one concept, every two have a label of their own: the other 18 are false
negatives of each.
"""

from __future__ import annotations

import torch
from measured import compare, concepts, network, precision
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner

from cir_plugins.integrations.metric_learning import SamplerMiner
from dqe_plugin.sampler import TargetRelative

# In a batch of 100 items 2 are false negatives and 7 are siblings, on average.
SAMPLER = TargetRelative(lower=0.03, upper=0.1)


def train(way: str, seed: int, quick: bool) -> float:
    """Precision on new concepts after 15 epochs."""
    _, items, _ = concepts(seed, split=0, families=12, kinds=4, copies=20, noise=0.15)
    labels = torch.arange(len(items)) // 2
    rng = torch.Generator().manual_seed(seed)
    model, loss = network(seed), TripletMarginLoss(margin=0.5)
    miners = {"no miner": None, "batch-hard": BatchHardMiner()}
    miner = miners.get(way, SamplerMiner(SAMPLER, count=8))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(1 if quick else 15):
        for some in torch.randperm(len(items) // 2, generator=rng).split(50):
            rows = torch.isin(labels, some).nonzero()[:, 0]
            embeddings = model(items[rows])
            triplets = miner(embeddings, labels[rows]) if miner else None
            optimizer.zero_grad()
            loss(embeddings, labels[rows], triplets).backward()
            optimizer.step()
    queries, items, concept = concepts(seed, split=1, kinds=4, copies=6, noise=0.15)
    with torch.no_grad():
        return precision(model(queries), model(items), concept, concept)


if __name__ == "__main__":
    compare("R-precision on new concepts", train, ("no miner", "batch-hard", "target-relative"))
