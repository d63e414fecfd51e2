"""Negatives from scores or embeddings: blocks, the draw, and numbers about them.

All but ``miner`` and ``scored_by`` import torch alone, so that any contrastive project can use it.
"""

from __future__ import annotations

from cir_plugins.mining.agreement import agreement_of_queries
from cir_plugins.mining.draw import draw
from cir_plugins.mining.negatives import (
    NegativeTable,
    negatives_of_embeddings,
    negatives_of_scores,
)
from cir_plugins.mining.report import PoolStatistics, negative_pool_report
from cir_plugins.retrieval.counting import count_true

__all__ = [
    "NegativeTable",
    "PoolStatistics",
    "agreement_of_queries",
    "count_true",
    "draw",
    "negative_pool_report",
    "negatives_of_embeddings",
    "negatives_of_scores",
]
