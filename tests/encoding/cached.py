"""Pictures, and their features by way of a cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.encoding.features import Encoding, feature_batches
from tests.fakes import CPU, write_pictures


def cached(folder: Path, dtype: str = "same") -> Encoding:
    return replace(CPU, cache=FeatureCache(folder, dtype))


def pictures(folder: Path, count: int = 17) -> list[Path]:
    return list(write_pictures(folder, [str(n) for n in range(count)]).values())


def whole(backbone: Any, paths: list[Path], encoding: Encoding) -> Any:
    return torch.cat([features for _, features in feature_batches(backbone, paths, encoding, "x")])
