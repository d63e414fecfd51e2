"""The arithmetic works for people who installed torch and nothing else, NumPy included."""

from __future__ import annotations

import subprocess
import sys

import torch

from cir_plugins.mining import negatives_of_embeddings
from dqe_plugin.sampler import TargetRelative
from tests.places import ROOT

# No import works but the standard library, torch with what it requires, or ours.
FENCE = """
import re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

def plain(name):
    return re.sub("[-_.]+", "-", name).lower()

wanted, left = set(), ["torch"]
while left:
    name = left.pop()
    if name not in wanted:
        wanted.add(name)
        try:
            lines = [line for line in requires(name) or [] if "extra ==" not in line]
        except PackageNotFoundError:  # for another platform
            lines = []
        left += [plain(re.split("[^A-Za-z0-9._-]", line)[0]) for line in lines]
owners = packages_distributions()

class Fence:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("cir_plugins", "dqe_plugin"):
            return None
        held = {plain(one) for one in owners.get(top, ())}
        if held & wanted or not held:
            return None
        raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Fence())
"""

HIDDEN = "numpy PIL pluggy pydantic typer transformers open_clip timm torchvision"

USE = f"""
for name in {HIDDEN!r}.split():
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{{name}} can be imported: the fence leaks")
import warnings
warnings.simplefilter("ignore")  # torch warns once that it has no NumPy
import torch
import dqe_plugin.attributes, dqe_plugin.loss
import cir_plugins.mining.draw, cir_plugins.retrieval.scores
from cir_plugins.mining import NegativeTable, negative_pool_report, negatives_of_embeddings
from dqe_plugin.sampler import TargetRelative
rng = torch.Generator().manual_seed(0)
queries, items = (torch.randn(7, 4, generator=rng) for _ in range(2))
ids = negatives_of_embeddings(
    queries, items, torch.arange(7), sampler=TargetRelative(), count=1, complete=True
)
scores, nothing = queries @ items.T, torch.zeros(7, 7, dtype=torch.bool)
mid_zone = TargetRelative(lower=0.2, upper=0.9)(scores, torch.arange(7), nothing)
negative_pool_report(scores, torch.arange(7), TargetRelative())
print(NegativeTable(ids).ids.tolist(), mid_zone.tolist())
for name in cir_plugins.mining.__all__:
    getattr(cir_plugins.mining, name)
ours = ("cir_plugins.integrations", "cir_plugins.mining.miner", "cir_plugins.retriever")
loaded = [name for name in [*{HIDDEN!r}.split(), *ours] if name in sys.modules]
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""


def test_it_works_where_torch_alone_is_installed() -> None:
    """What imports NumPy or transformers for a sampler makes it useless to everybody else."""
    done = subprocess.run(
        [sys.executable, "-c", FENCE + USE],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    rng = torch.Generator().manual_seed(0)
    queries, items = (torch.randn(7, 4, generator=rng) for _ in range(2))
    ids = negatives_of_embeddings(
        queries, items, torch.arange(7), sampler=TargetRelative(), count=1, complete=True
    )
    nothing = torch.zeros(7, 7, dtype=torch.bool)
    mid_zone = TargetRelative(lower=0.2, upper=0.9)(queries @ items.T, torch.arange(7), nothing)
    assert done.stdout.strip() == f"{ids.tolist()} {mid_zone.tolist()}"
