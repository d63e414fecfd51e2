"""Contract checks for plugins: what the host holds every component to, its own included.

Each check raises ``ContractError`` with what was found and what is expected. Call them from the
tests of a plugin; the inputs are small, made up and the same every time.
"""

from __future__ import annotations

from cir_plugins.testing.backbones import check_backbone
from cir_plugins.testing.contract import ContractError
from cir_plugins.testing.generators import check_generator
from cir_plugins.testing.indexes import check_index
from cir_plugins.testing.losses import check_loss
from cir_plugins.testing.methods import check_method
from cir_plugins.testing.plugins import check_plugin
from cir_plugins.testing.readers import check_reader
from cir_plugins.testing.samplers import check_sampler

__all__ = [
    "ContractError",
    "check_backbone",
    "check_generator",
    "check_index",
    "check_loss",
    "check_method",
    "check_plugin",
    "check_reader",
    "check_sampler",
]
