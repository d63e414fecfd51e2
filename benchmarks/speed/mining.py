"""Mining against the bare matrix product it cannot do without, and against another library.

Prints one JSON line per case: median seconds of alternating runs in one process, and the ratio to
the bare product by blocks of the same size (with the maximum over tokens where there are several).
A case: scores of all queries, the sampler's mid-zone, K negatives drawn per query.

With ``--opponent`` (needs the extra ``sentence-transformers``) cases of one token are also run by
its ``mine_hard_negatives``, on the same embeddings, through a model of two table look-ups: what
is timed is its search and selection, in turn with runs of ours that the ratio is to. It draws K
at random from a range of ranks, below the positive's score (``absolute_margin=0``), as
tuples of a query, its positive and K negatives:

- ``same mid-zone``: the ranks of the sampler's mid-zone, as shares of all candidates instead of
  those below the target;
- ``top 100``: the ranks 0 to 99, a setting that spares it most of its selection.

Its similarity is the dot product, which spares it normalising unit vectors again, and its batches
are of ``--opponent-batch`` queries, for the memory. It has dot products of a text with a corpus and
no maximum over tokens.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from typing import Any

import torch
from clock import alternated, extra_mib
from torch import Tensor

from cir_plugins.bench.environment import hardware
from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.mining import negatives_of_embeddings
from cir_plugins.retrieval.scores import rows_per_block, score
from dqe_plugin.sampler import TargetRelative

MID_ZONES = {"0 to 0.3": (0.0, 0.3), "0.05 to 0.5": (0.05, 0.5)}


def made_up(
    queries: int, candidates: int, width: int, tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries near their targets, as after some training; gallery; target columns."""
    rng = torch.Generator().manual_seed(0)
    shape = (candidates, tokens, width) if tokens > 1 else (candidates, width)
    gallery = unit(torch.randn(shape, generator=rng))
    target = torch.randint(0, candidates, (queries,), generator=rng)
    near = gallery[target] if tokens == 1 else gallery[target, 0]
    noise = torch.randn(queries, width, generator=rng) / width**0.5
    return unit(near + 2 * noise), gallery, target


def bare(queries: Tensor, gallery: Tensor) -> None:
    """The scores alone, by the blocks that mining takes."""
    step = rows_per_block(len(gallery), queries.device)
    for first in range(0, len(queries), step):
        score(queries[first : first + step], gallery, best_token)


class Prepared:
    """What ``mine_hard_negatives`` needs of a model, with embeddings made beforehand."""

    def __init__(self, queries: Tensor, gallery: Tensor) -> None:
        from sentence_transformers.util import dot_score, pairwise_dot_score

        self.device = queries.device
        self.similarity = dot_score
        self.similarity_pairwise = pairwise_dot_score
        self._queries, self._gallery = queries.cpu(), gallery.cpu()

    def encode_query(self, texts: list[str], **kwargs: Any) -> Any:
        """Embeddings (Q, D) of queries, whose texts are their numbers."""
        return self._queries[torch.tensor([int(text) for text in texts])].numpy()

    def encode_document(self, texts: list[str], **kwargs: Any) -> Any:
        """Embeddings (N, D) of candidates, whose texts are their numbers."""
        return self._gallery[torch.tensor([int(text) for text in texts])].numpy()


def opponents(
    options: argparse.Namespace, queries: Tensor, gallery: Tensor, target: Tensor, mid_zone: str
) -> dict[str, Callable[[], Any]]:
    """The runs of ``mine_hard_negatives``, by the name of the setting."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    model = Prepared(queries, gallery)
    pairs = {
        "anchor": [str(number) for number in range(len(queries))],
        "positive": [str(number) for number in target.tolist()],
    }
    corpus = [str(number) for number in range(len(gallery))]
    low, high = (int(share * len(gallery)) for share in MID_ZONES[mid_zone])

    def mine(first: int, last: int) -> int:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            tuples = mine_hard_negatives(
                Dataset.from_dict(pairs),
                model,
                corpus=corpus,
                range_min=first,
                range_max=last,
                absolute_margin=0.0,
                num_negatives=options.drawn,
                sampling_strategy="random",
                output_format="n-tuple",
                faiss_batch_size=options.opponent_batch,
                verbose=False,
            )
        return len(tuples)

    return {"same mid-zone": partial(mine, low, high), "top 100": partial(mine, 0, 100)}


def measure(options: argparse.Namespace, tokens: int, mid_zone: str) -> dict[str, Any]:
    """One case's line."""
    device = torch.device(options.device)
    count = options.queries if tokens == 1 else max(1, options.queries // 10)
    queries, gallery, target = made_up(count, options.candidates, options.width, tokens)
    queries, gallery = queries.to(device), gallery.to(device)
    lower, upper = MID_ZONES[mid_zone]
    sampler = TargetRelative(lower=lower, upper=upper)

    def mine() -> None:
        negatives_of_embeddings(
            *(queries, gallery, target),
            sampler=sampler,
            count=options.drawn,
            similarity=best_token,
        )

    bare(queries[:64], gallery)  # warm, so that what follows is the mining's own memory
    extra = extra_mib(mine, device)
    times = alternated({"bare": lambda: bare(queries, gallery), "mine": mine}, options.runs, device)
    runs, ratios = {name: options.runs for name in times}, {}
    if options.opponent and tokens == 1:
        contenders = {"mine": mine, **opponents(options, queries, gallery, target, mid_zone)}
        beside = alternated(contenders, options.opponent_runs, device)
        mine_seconds = beside.pop("mine")
        for name, value in beside.items():
            times[name], runs[name] = value, options.opponent_runs
            ratios[name] = round(value / mine_seconds, 2)
    return {
        "case": "mining",
        "queries": count,
        "candidates": options.candidates,
        "width": options.width,
        "tokens": tokens,
        "mid_zone": mid_zone,
        "drawn": options.drawn,
        "seconds": {name: round(value, 4) for name, value in times.items()},
        "ratio_to_bare": round(times["mine"] / times["bare"], 2),
        **({"ratio_to_opponent": ratios} if ratios else {}),
        "extra_mib": round(extra, 1),
        "runs": runs,
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=20_000, help="a tenth with several tokens")
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--drawn", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--opponent", action="store_true", help="run mine_hard_negatives too")
    parser.add_argument("--opponent-runs", type=int, default=3)
    parser.add_argument(
        "--opponent-batch", type=int, default=2048, help="queries it scores at once"
    )
    options = parser.parse_args()
    for tokens in options.tokens:
        for mid_zone in MID_ZONES:
            print(json.dumps(measure(options, tokens, mid_zone)), flush=True)


if __name__ == "__main__":
    main()
