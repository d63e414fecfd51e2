"""A plugin host for composed image retrieval.

What users type first: ``load``, ``build``, ``train`` and ``compare``; the other names are for
authors of plugins. Names are resolved on first use, so ``import cir_plugins`` loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cir_plugins.audits.audit import Audit, audit
    from cir_plugins.bench.compare import compare
    from cir_plugins.bench.comparison import Comparison
    from cir_plugins.builtin.blip2 import WEIGHTS, Blip2
    from cir_plugins.builtin.clip import Clip
    from cir_plugins.builtin.hub import from_hub, hub_asked_once, hub_file
    from cir_plugins.builtin.image_text import ImageTextModel
    from cir_plugins.builtin.losses import mean_over, require_negatives
    from cir_plugins.builtin.similarity import best_token, full_precision, unit
    from cir_plugins.builtin.tokenizers import WordPieceTokenizer
    from cir_plugins.builtin.towers import ResNetTower
    from cir_plugins.config.plan import Plan
    from cir_plugins.config.settings import (
        Component,
        MemorySettings,
        MiningSettings,
        Recipe,
        ScheduleSettings,
        TrainSettings,
    )
    from cir_plugins.data.captions import Captions
    from cir_plugins.data.images import Preprocess, Resize, open_image
    from cir_plugins.data.split import Query, Split
    from cir_plugins.errors import CIRError, unknown_name
    from cir_plugins.features import concatenate, each, select
    from cir_plugins.files import read_json, read_text
    from cir_plugins.loading import build, load
    from cir_plugins.method import TEMPERATURE, Components, Fused, Method, eligible
    from cir_plugins.plugins.declarations import Licence
    from cir_plugins.plugins.hookspecs import Factories, hookimpl
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.retrieval.counting import count_true
    from cir_plugins.retrieval.search import Embeddings, Hits
    from cir_plugins.retriever import Retriever
    from cir_plugins.runs.convert import (
        Ledger,
        Official,
        entry,
        need_entry,
        prefixed,
    )
    from cir_plugins.runs.evaluation import Evaluation
    from cir_plugins.runs.protocol_record import ProtocolRecord
    from cir_plugins.runs.protocols import ProtocolTable
    from cir_plugins.runs.untrusted import load_untrusted
    from cir_plugins.search.index import Index
    from cir_plugins.search.query import Field, Hit, SearchQuery
    from cir_plugins.training_run import Run, train
    from cir_plugins.types import (
        Backbone,
        Batch,
        Features,
        GalleryVectors,
        Generated,
        Generator,
        IndexBackend,
        Loss,
        Sampler,
        SamplerWithAmbiguity,
        SamplerWithFallback,
        SamplerWithWeights,
        Tokens,
    )
    from cir_plugins.viewer.view import View, view
    from cir_plugins.workers import follow_parent

__all__ = [
    "TEMPERATURE",
    "WEIGHTS",
    "Audit",
    "Backbone",
    "Batch",
    "Blip2",
    "CIRError",
    "Captions",
    "Clip",
    "Comparison",
    "Component",
    "Components",
    "Embeddings",
    "Evaluation",
    "Factories",
    "Features",
    "Field",
    "Fused",
    "GalleryVectors",
    "Generated",
    "Generator",
    "Hit",
    "Hits",
    "ImageTextModel",
    "Index",
    "IndexBackend",
    "Ledger",
    "Licence",
    "Loss",
    "MemorySettings",
    "Method",
    "MiningSettings",
    "Official",
    "Plan",
    "Preprocess",
    "ProtocolRecord",
    "ProtocolTable",
    "Query",
    "Recipe",
    "Registry",
    "ResNetTower",
    "Resize",
    "Retriever",
    "Run",
    "Sampler",
    "SamplerWithAmbiguity",
    "SamplerWithFallback",
    "SamplerWithWeights",
    "ScheduleSettings",
    "SearchQuery",
    "Split",
    "Tokens",
    "TrainSettings",
    "View",
    "WordPieceTokenizer",
    "audit",
    "best_token",
    "build",
    "compare",
    "concatenate",
    "count_true",
    "each",
    "eligible",
    "entry",
    "follow_parent",
    "from_hub",
    "full_precision",
    "hookimpl",
    "hub_asked_once",
    "hub_file",
    "load",
    "load_untrusted",
    "mean_over",
    "need_entry",
    "open_image",
    "prefixed",
    "read_json",
    "read_text",
    "require_negatives",
    "select",
    "train",
    "unit",
    "unknown_name",
    "view",
]

_HOMES = MappingProxyType(
    {
        "bench.compare": ("compare",),
        "bench.comparison": ("Comparison",),
        "audits.audit": ("Audit", "audit"),
        "retrieval.search": ("Embeddings", "Hits"),
        "retriever": ("Retriever",),
        "loading": ("build", "load"),
        "training_run": ("Run", "train"),
        "search.index": ("Index",),
        "search.query": ("Field", "Hit", "SearchQuery"),
        "runs.evaluation": ("Evaluation",),
        "runs.protocol_record": ("ProtocolRecord",),
        "runs.protocols": ("ProtocolTable",),
        "builtin.blip2": ("WEIGHTS", "Blip2"),
        "builtin.clip": ("Clip",),
        "builtin.hub": ("from_hub", "hub_asked_once", "hub_file"),
        "builtin.image_text": ("ImageTextModel",),
        "builtin.losses": ("mean_over", "require_negatives"),
        "builtin.similarity": ("best_token", "full_precision", "unit"),
        "builtin.tokenizers": ("WordPieceTokenizer",),
        "builtin.towers": ("ResNetTower",),
        "config.plan": ("Plan",),
        "config.settings": (
            *("Component", "MemorySettings", "MiningSettings"),
            *("Recipe", "ScheduleSettings", "TrainSettings"),
        ),
        "data.captions": ("Captions",),
        "data.images": ("Preprocess", "Resize", "open_image"),
        "data.split": ("Query", "Split"),
        "errors": ("CIRError", "unknown_name"),
        "files": ("read_json", "read_text"),
        "features": ("concatenate", "each", "select"),
        "method": ("TEMPERATURE", "Components", "Fused", "Method", "eligible"),
        "plugins.declarations": ("Licence",),
        "plugins.hookspecs": ("Factories", "hookimpl"),
        "plugins.registry": ("Registry",),
        "retrieval.counting": ("count_true",),
        "runs.untrusted": ("load_untrusted",),
        "runs.convert": (*("Ledger", "Official", "entry", "need_entry", "prefixed"),),
        "viewer.view": ("View", "view"),
        "types": (
            *("Backbone", "Batch", "Features", "Generated"),
            *("GalleryVectors", "IndexBackend"),
            *("Generator", "Loss", "Sampler", "Tokens"),
            *("SamplerWithAmbiguity", "SamplerWithFallback", "SamplerWithWeights"),
        ),
        "workers": ("follow_parent",),
    }
)
_HOME = MappingProxyType({name: home for home, names in _HOMES.items() for name in names})


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cir-plugins")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
