from __future__ import annotations

import pytest

from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import parse_set
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Registry


@pytest.mark.parametrize("method", ["qure", "clip4cir", "val"])
@pytest.mark.parametrize("negatives", ["mined", "both"])
def test_a_symmetric_loss_needs_the_batch(method: str, negatives: str) -> None:
    """Mined negatives have no query for the second direction."""
    registry = Registry.load()
    config = {"method": {"name": method}, "data": {"name": "fashioniq", "root": "somewhere"}}
    sets = parse_set(["loss=two_way_hinge", f"mining.negatives={negatives}"])
    with pytest.raises(CIRError, match="loss 'two_way_hinge' is symmetric, from each target"):
        make_plan(registry, config, sets)
    assert make_plan(registry, config, parse_set(["loss=two_way_hinge", "mining.negatives=batch"]))
