from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from cir_plugins.builtin.similarity import best_token
from cir_plugins.retrieval.gallery import Gallery
from cir_plugins.retrieval.scores import score

CPU = torch.device("cpu")


def vectors(seed: int, *shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("width", [64, 256, 768])
@pytest.mark.parametrize("tokens", [0, 3])
@pytest.mark.parametrize("number", [1, 3, 5, 15, 17, 40])
def test_a_query_has_the_same_scores_alone_and_among_others(
    width: int, tokens: int, number: int
) -> None:
    """Only small widths were tried: from 128 on a product of 4 rows rounds otherwise."""
    shape = (501, tokens, width) if tokens else (501, width)
    queries, gallery = vectors(0, 100, width), vectors(1, *shape)
    whole = score(queries, gallery, best_token)
    assert torch.equal(score(queries[:number], gallery, best_token), whole[:number])


def test_a_large_gallery_is_ranked_alike_one_by_one() -> None:
    gallery = Gallery(torch.arange(70_000), vectors(1, 70_000, 128), best_token, CPU)
    queries = vectors(0, 70, 128)
    values, rows = gallery.best(queries, 10)
    for query in (0, 33, 69):
        alone = gallery.best(queries[query : query + 1], 10)
        assert torch.equal(alone[0][0], values[query])
        assert torch.equal(alone[1][0], rows[query])
