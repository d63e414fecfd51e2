"""The contract of search backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from cir_plugins.builtin.similarity import best_token
from cir_plugins.retrieval.gallery import Gallery
from cir_plugins.testing.contract import calling, require, require_tensor

_COUNT, _SIZE, _TOKENS, _K = 60, 16, 3, 5
_LEAST_RECALL = 0.9  # of made-up vectors, which are harder than real ones


def check_index(make: Callable[[], Any], *, seed: int = 0) -> None:
    """Check that a search backend finds and forgets as the host relies on.

    What is added is found, also by another object that opens the folder after ``flush``; keys may
    be added twice and removed where they are not; several tokens of a picture have one key; rows
    that are not allowed are not found; scores are those of exact scoring, best first; -1 fills up;
    of the true first pictures nine in ten are found. A backend that stores nothing is held to the
    search alone.

    Args:
        make: Gives a new backend, always of the same options, such as the class.
        seed: Of the made-up vectors.

    Raises:
        ContractError: With what to fix.
    """
    for tokens in (0, _TOKENS):
        with TemporaryDirectory() as folder:
            _check(make, Path(folder) / "store", _gallery(seed, tokens))


def _gallery(seed: int, tokens: int) -> Gallery:
    rng = torch.Generator().manual_seed(seed)
    shape = (_COUNT, tokens, _SIZE) if tokens else (_COUNT, _SIZE)
    vectors = torch.nn.functional.normalize(torch.randn(shape, generator=rng), dim=-1)
    return Gallery(_keys(rng), vectors, best_token, torch.device("cpu"))


def _keys(rng: torch.Generator) -> Tensor:
    """Distinct keys up to 63 bits, in no order."""
    return torch.randint(2**50, (_COUNT,), generator=rng) * 8192 + torch.arange(_COUNT)


def _check(make: Callable[[], Any], folder: Path, gallery: Gallery) -> None:
    backend = make()
    with calling("the backend", "a new folder"):
        if backend.stores:
            backend.open(folder, _SIZE)
            require(len(backend.keys()) == 0, "a new store has keys")
            _add(backend, gallery, torch.arange(_COUNT))
            backend.flush()
            _require_keys(backend, gallery.keys, "after add and flush")
    _check_search(backend, gallery)
    if not backend.stores:
        return
    with calling("the backend", "keys that are removed, twice, and added again"):
        gone = torch.arange(0, _COUNT, 2)
        backend.remove(gallery.keys[gone])
        backend.remove(gallery.keys[gone])
        backend.flush()
        _require_keys(backend, gallery.keys[1::2], "after remove and flush")
    left = Gallery(gallery.keys[1::2], gallery.vectors[1::2], best_token, gallery.device)
    _check_search(backend, left)
    del backend
    with calling("another backend", "the same folder"):
        again = make()
        again.open(folder, _SIZE)
        _require_keys(again, gallery.keys[1::2], "in another object that opens the folder")
        _check_search(again, left)
        _add(again, gallery, gone)
        again.flush()
        _require_keys(again, gallery.keys, "after adding again what was removed")
    _check_search(again, gallery)


def _add(backend: Any, gallery: Gallery, rows: Tensor) -> None:
    chosen = gallery.vectors[rows]
    tokens = chosen.shape[1] if chosen.dim() == 3 else 1
    keys = gallery.keys[rows].repeat_interleave(tokens)
    backend.add(keys, chosen.reshape(-1, _SIZE))


def _require_keys(backend: Any, expected: Tensor, when: str) -> None:
    keys = require_tensor("keys", backend.keys(), (None,))
    require(keys.dtype == torch.int64, f"keys must be int64, not {keys.dtype}")
    same = torch.equal(keys.sort().values, expected.sort().values)
    require(same, f"{when} the store has other keys ({len(keys)}, not {len(expected)})")


def _check_search(backend: Any, gallery: Gallery) -> None:
    rng = torch.Generator().manual_seed(1)
    queries = torch.nn.functional.normalize(torch.randn(8, _SIZE, generator=rng), dim=-1)
    count = len(gallery.keys)
    for allowed in (None, torch.arange(count) % 3 == 0, torch.zeros(count, dtype=torch.bool)):
        what = "queries" if allowed is None else f"queries and {int(allowed.sum())} allowed rows"
        with calling("search", what):
            scores, rows = backend.search(gallery, queries, _K, allowed)
        _check_result(gallery, queries, allowed, scores, rows)


def _check_result(
    gallery: Gallery, queries: Tensor, allowed: Tensor | None, scores: Tensor, rows: Tensor
) -> None:
    rows = require_tensor("the rows", rows, (len(queries), _K))
    scores = require_tensor("the scores", scores, tuple(rows.shape))
    _, true_rows = gallery.best(queries, _K, allowed)
    require(
        torch.equal(rows < 0, true_rows < 0),
        "as many rows must be found as are allowed, and -1 fill up what is left of k",
    )
    exact = best_token(queries, gallery.vectors).gather(1, rows.clamp(min=0))
    found = rows >= 0
    require(
        torch.allclose(scores[found], exact[found], atol=1e-5),
        "scores must be those of exact scoring: give candidates to gallery.best_of",
    )
    require(bool((scores[:, 1:] <= scores[:, :-1]).all()), "hits must come best first")
    if allowed is not None:
        require(bool(allowed[rows[found]].all()), "a row that is not allowed is found")
    hits = [set(a.tolist()) & set(b.tolist()) for a, b in zip(rows, true_rows, strict=True)]
    recall = sum(map(len, hits)) / rows.numel()
    least = _LEAST_RECALL if bool(found.any()) else 0
    require(recall >= least, f"of the true first {_K} only {recall:.0%} are found")
