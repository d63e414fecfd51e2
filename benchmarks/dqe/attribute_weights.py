r"""What the attribute weights of trained DQE-CIR runs do, and what weights over tokens could do.

    python benchmarks/dqe/attribute_weights.py RUNS/dqe-as-published-seed0 --json FILE

Prints a JSON line for each run, over the queries of its validation split:

- ``gate``: mean gate of each attribute;
- ``entropy``: mean entropy of its weights over the T query tokens, divided by log T; 1 is uniform;
- ``to_plain``: mean cosine of its sub-query and the plain query; 1 adds nothing;
- ``tokens``: mean cosine of two projected query tokens of a query; 1 leaves nothing to weigh;
- ``main``: the main measure of the run, of its plain query (gates at 0), of each token alone, and
  of the token that is best for each query, chosen with the target known: more than any choice of
  one token can reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lines import lines_of_runs
from torch import Tensor

import cir_plugins as cir
from cir_plugins.retrieval.evaluate import encode_split
from dqe_plugin.attributes import SubQueries


class Seen:
    """Sums over what the attribute weights were given and gave."""

    def __init__(self) -> None:
        self.count = self.tokens = 0
        self.sums: dict[str, Tensor] = {}

    def __call__(self, module: Any, inputs: tuple[Tensor, ...], output: SubQueries) -> None:
        """Forward hook of ``AttributeWeights``."""
        _, _, projected = inputs
        tokens = F.normalize(projected, dim=-1)
        count = self.tokens = tokens.shape[1]
        pairs = (tokens @ tokens.transpose(1, 2)).sum(dim=(1, 2)) - count
        entropy = -(output.weights * output.weights.clamp_min(1e-12).log()).sum(dim=-1)
        plain = projected.mean(dim=1)[:, None]
        self._add("entropy", entropy / torch.tensor(count).log())
        self._add("gate", output.gates)
        self._add("to_plain", F.cosine_similarity(output.sub_queries, plain, dim=-1))
        self._add("tokens", (pairs / (count * (count - 1)))[:, None])
        self.count += len(projected)

    def _add(self, name: str, values: Tensor) -> None:
        self.sums[name] = self.sums.get(name, torch.zeros(1)) + values.double().sum(dim=0)

    def means(self, attributes: tuple[str, ...]) -> dict[str, Any]:
        """Mean of each number, by attribute where there is one for each."""
        means = {name: (total / self.count).tolist() for name, total in self.sums.items()}
        tokens = means.pop("tokens")[0]
        named = {n: dict(zip(attributes, values, strict=True)) for n, values in means.items()}
        return {**named, "tokens": tokens}


@contextmanager
def plain_query(method: Any, token: int | None = None) -> Iterator[None]:
    """Without attribute weights; with a number, the query is that token alone."""
    weighting, project = method.weighting, method.backbone.project_text
    method.weighting = None
    if token is not None:
        method.backbone.project_text = lambda hidden: project(hidden)[:, token : token + 1]
    try:
        yield
    finally:
        method.weighting = weighting
        if token is not None:
            del method.backbone.project_text


def average_precision(retriever: cir.Retriever) -> Tensor:
    """The main measure of each query of the validation split."""
    evaluation = retriever.evaluate(progress=False)
    (name,) = evaluation.main_measures
    return torch.cat([values[name] for values in evaluation.values.values()])


def described(run: Path) -> dict[str, Any]:
    """The numbers of a run."""
    retriever = cir.load(run, progress=False)
    method: Any = retriever.method
    if getattr(method, "weighting", None) is None:
        raise SystemExit(f"{run}: the method has no attribute weights")
    seen = Seen()
    opened = retriever.open_data(progress=False)
    handle = method.weighting.register_forward_hook(seen)
    for split in opened.splits:
        encode_split(method, split, opened.encoding)
    handle.remove()
    values = {"run": average_precision(retriever)}
    with plain_query(method):
        values["plain query"] = average_precision(retriever)
    alone = []
    for token in range(seen.tokens):
        with plain_query(method, token):
            alone.append(average_precision(retriever))
    main: dict[str, Any] = {name: value.mean().item() for name, value in values.items()}
    main["tokens alone"] = [value.mean().item() for value in alone]
    main["best token of each query"] = torch.stack(alone).amax(dim=0).mean().item()
    return {"run": run.name, **seen.means(method.attributes), "main": main}


if __name__ == "__main__":
    lines_of_runs(__doc__, described)
