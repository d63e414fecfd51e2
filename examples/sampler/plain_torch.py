"""Random, hardest and target-relative negatives in a plain PyTorch loop with a shared table."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from measured import arguments, compare, concepts, network, precision
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cir_plugins.mining import NegativeTable, negatives_of_embeddings
from dqe_plugin.sampler import TargetRelative

COUNT = 8
# Of 800 items 3 are right and unmarked: the mid-zone begins behind the nearest 8 and ends at 40.
SAMPLER = TargetRelative(lower=0.01, upper=0.05)


class Rows(Dataset[tuple[int, Tensor]]):
    """A row and its negatives of now."""

    def __init__(self, table: NegativeTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> tuple[int, Tensor]:
        return row, self.table[row]


def mined(
    way: str,
    queries: Tensor,
    items: Tensor,
    seed: int,
    epoch: int,
    sampler: TargetRelative = SAMPLER,
) -> Tensor:
    """Negatives (Q, COUNT); only the marked item of each query is known as right."""
    marked = torch.arange(len(queries))
    if way == "target-relative":
        return negatives_of_embeddings(
            *(queries, items, marked),
            sampler=sampler,
            count=COUNT,
            seed=seed,
            epoch=epoch,
            complete=True,
        )
    scores = queries @ items.T
    if way == "random":
        rng = torch.Generator().manual_seed(100 * seed + epoch)
        scores = torch.rand(scores.shape, generator=rng)
    return scores.fill_diagonal_(-torch.inf).topk(COUNT).indices


def train(way: str, seed: int, quick: bool, sampler: TargetRelative = SAMPLER) -> float:
    """Precision on new concepts after 20 epochs."""
    queries, items, _ = concepts(seed, split=0)
    model = network(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    table = NegativeTable(torch.zeros(len(queries), COUNT))
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(Rows(table), batch_size=50, shuffle=True, generator=order)
    for epoch in range(1 if quick else 20):
        with torch.no_grad():
            anchors, gallery = (F.normalize(model(each), dim=1) for each in (queries, items))
            table.refresh(mined(way, anchors, gallery, seed, epoch, sampler))
        for row, negatives in loader:
            columns = torch.cat([row[:, None], negatives], dim=1)
            anchors = F.normalize(model(queries[row]), dim=1)
            candidates = F.normalize(model(items[columns]), dim=2)
            logits = torch.einsum("bd,bkd->bk", anchors, candidates) / 0.1
            optimizer.zero_grad()
            F.cross_entropy(logits, torch.zeros_like(row)).backward()
            optimizer.step()
    queries, items, concept = concepts(seed, split=1)
    with torch.no_grad():
        return precision(model(queries), model(items), concept, concept)


if __name__ == "__main__":
    parser = arguments()
    parser.add_argument("--lower", type=float, default=SAMPLER.lower, help="of the mid-zone")
    parser.add_argument("--upper", type=float, default=SAMPLER.upper, help="of the mid-zone")
    parser.add_argument("--unit", choices=["quantile", "absolute"], default=SAMPLER.unit)
    options = parser.parse_args()
    sampler = TargetRelative(lower=options.lower, upper=options.upper, unit=options.unit)
    ways = ("random", "hardest", "target-relative")
    compare("R-precision on new concepts", partial(train, sampler=sampler), ways, options)
