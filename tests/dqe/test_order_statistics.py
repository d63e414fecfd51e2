from __future__ import annotations

import numpy as np
import pytest
import torch

from dqe_plugin import order_statistics
from dqe_plugin.order_statistics import bounds_below


@pytest.fixture(params=["partitions", "counting"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By NumPy, and as on a GPU or without NumPy."""
    if request.param == "counting":
        monkeypatch.setattr(order_statistics, "in_numpy", lambda values: False)
    return str(request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_quantiles_are_numpys_and_ranks_count(way: str, dtype: torch.dtype, spread: float) -> None:
    """Of rows with about as many eligible gaps, and of rows with none, few and nearly all."""
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(40, 301, generator=rng, dtype=torch.float64)
    values = (values + spread * torch.linspace(-3, 3, 40)[:, None]).to(dtype)
    excluded = torch.rand(40, 301, generator=rng) < 0.1
    excluded[0] = True
    values[:, 1::9] = values[:, :1]  # ties
    values[5, 3] = values[7, :9] = torch.nan
    values[9] = -1
    for shares in ([0.3], [0.0, 1.0], [0.05, 0.5], [0.5, 0.5], [0.3, 0.3001], [0.77, 1.0]):
        bounds = bounds_below(values.clone(), excluded, shares, "quantile")
        assert bounds.shape == (len(shares), 40)
        for row in range(40):
            eligible = values[row][(values[row] > 0) & ~excluded[row]].double().numpy()
            if not len(eligible):
                assert bounds[:, row].tolist() == [torch.inf] * len(shares)
                continue
            expected = np.quantile(eligible, shares)
            assert bounds[:, row].tolist() == pytest.approx(expected.tolist(), rel=1e-6), (way, row)
    for ranks in ([1], [4], [25, 200], [7, 7], [250, 400]):
        bounds = bounds_below(values.clone(), excluded, ranks, "rank")
        for row in range(40):
            eligible = values[row][(values[row] > 0) & ~excluded[row]].sort().values.tolist()
            expected = [
                eligible[min(rank, len(eligible)) - 1] if eligible else torch.inf for rank in ranks
            ]
            assert bounds[:, row].tolist() == expected, (way, row, ranks)
