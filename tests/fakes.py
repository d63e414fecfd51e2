"""A backbone small enough to train in a second, with random pictures and splits for it."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from cir_plugins.builtin.losses import InfoNCE, Pairwise
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.config.settings import (
    MemorySettings,
    MiningSettings,
    ScheduleSettings,
    TrainingSettings,
    TrainSettings,
)
from cir_plugins.data.captions import Captions
from cir_plugins.data.split import Query, Split
from cir_plugins.data.table import TrainingTable, training_table
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.encoding.features import Encoding
from cir_plugins.method import Components, Fused, Method
from cir_plugins.retrieval.evaluate import evaluate
from cir_plugins.training.trainer import Trainer, Validate
from cir_plugins.types import Tokens
from dqe_plugin.method import DQEPublished
from dqe_plugin.sampler import TargetRelative

CPU = Encoding(torch.device("cpu"), batch_size=7, progress=False)
COLOURS = ("red", "blue", "green", "long", "short", "striped")


def shrink(image: Image.Image) -> Tensor:
    """Pixels (3, 4, 4) in [-1, 1]."""
    small = image.resize((4, 4))
    values = torch.tensor(list(small.tobytes()), dtype=torch.float32)
    return values.view(4, 4, 3).permute(2, 0, 1).contiguous() / 127.5 - 1


def number_words(texts: Sequence[str]) -> dict[str, Tensor]:
    """Word numbers (n, L) from 1, 0 for padding."""
    rows = [[1 + zlib.crc32(word.encode()) % 63 for word in text.lower().split()] for text in texts]
    width = max(map(len, rows))
    return {"ids": torch.tensor([row + [0] * (width - len(row)) for row in rows])}


class FakeBackbone(nn.Module):
    """Random projections with all functions of the protocol and of the offers.

    Args:
        targets: Token vectors of a target, 0 for a single vector.
        dropout: Dropout of the fused tokens.
        frozen: Whether the tower is frozen.
        seed: Seed of the weights.
    """

    offers: frozenset[str] = frozenset({"query_tokens", "image_embedding", "text_embedding"})

    def __init__(
        self, *, targets: int = 0, dropout: float = 0.0, frozen: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=rng) / shape[-1] ** 0.5)

        self.tower = random(16, 48).requires_grad_(not frozen)
        self.words = random(64, 16)
        self.slots = random(5, 16)
        self.to_query = random(8, 16)
        self.to_target = random(8, 16)
        self.targets = targets
        self.dropout = nn.Dropout(dropout)
        self.frozen_features = frozen
        self.preprocess = shrink
        self.tokenize = number_words

    def features(self, images: Tensor) -> Tensor:
        """States (U, 16) of the pixels."""
        return images.flatten(1) @ self.tower.T

    def _text(self, tokens: Tokens) -> Tensor:
        ids = tokens["ids"]
        weights = torch.nn.functional.one_hot(ids, 64).float()[..., 1:].sum(dim=1)
        return weights @ self.words[1:]

    def fuse(self, features: Tensor, tokens: Tokens) -> Fused:
        """Five query tokens of image and text."""
        text = self._text(tokens)
        hidden = torch.tanh(self.slots + features[:, None] + text[:, None] * self.slots)
        return Fused(self.dropout(hidden), text)

    def project_text(self, hidden: Tensor) -> Tensor:
        """Hidden states in the embedding space."""
        return hidden @ self.to_query.T

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """The embedding of each word."""
        return self.words[number_words(words)["ids"][:, 0]].detach().clone()

    def encode_query(self, features: Tensor, tokens: Tokens) -> Tensor:
        """Mean projected query token."""
        return unit(self.project_text(self.fuse(features, tokens).tokens).mean(dim=1))

    def encode_gallery(self, features: Tensor) -> Tensor:
        """One vector, or as many as ``targets``."""
        if not self.targets:
            return unit(features @ self.to_target.T)
        slots = self.slots[: self.targets]
        return unit(torch.tanh(slots + features[:, None]) @ self.to_target.T)

    def image(self, features: Tensor) -> Tensor:
        """One vector per image."""
        return unit(features @ self.to_target.T)

    def text(self, tokens: Tokens) -> Tensor:
        """One vector per text."""
        return unit(self._text(tokens) @ self.to_query.T)

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Best token's cosine."""
        return best_token(query, target)


def components(
    backbone: Any = None, *, sampler: Any = None, loss: Any = None, **other: Any
) -> Components:
    """Components of a method, with fakes as defaults."""
    return Components(backbone or FakeBackbone(), loss or InfoNCE(), sampler or InBatch(), **other)


def write_pictures(folder: Path, names: Sequence[str], seed: int = 0) -> dict[str, Path]:
    """A different small picture for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    paths = {}
    for name in names:
        image = Image.frombytes("RGB", (4, 4), rng.randbytes(48))
        paths[name] = folder / f"{name}.png"
        image.save(paths[name])
    return paths


def made_up_split(
    folder: Path,
    *,
    role: Any = "train",
    images: int = 12,
    queries: int = 20,
    outside: int = 0,
    positives: int = 2,
    groups: bool = False,
    seed: int = 0,
    mode: Any = "and",
    **other: Any,
) -> Split:
    """A split with random queries; ``outside`` references are not in the gallery."""
    rng = random.Random(seed)
    gallery = [f"{role}{number}" for number in range(images)]
    others = [f"{role}x{number}" for number in range(outside)]
    paths = write_pictures(folder / str(role), [*gallery, *others], seed)
    captions = Captions(mode=mode)
    entries = []
    for number in range(queries):
        reference = rng.choice([*gallery, *others])
        right = rng.sample([name for name in gallery if name != reference], positives)
        words = (f"is {rng.choice(COLOURS)}", f"more {rng.choice(COLOURS)}")
        group = tuple(
            sorted(
                {right[0]} | set(rng.sample([n for n in gallery if n != reference], 4)),
                key=gallery.index,
            )
        )
        entries.append(
            Query(
                f"q{number}",
                reference,
                words,
                captions.texts(words)[0],
                right[0],
                tuple(right),
                group=group if groups else (),
            )
        )
    return Split(
        f"{role}-split", role, tuple(entries), tuple(gallery), paths, captions=captions, **other
    )


def make_trainer(
    folder: Path,
    data: Path,
    *,
    method: str = "contrastive",
    workers: int = 0,
    epochs: int = 4,
    validated: bool = True,
    backbone: dict[str, Any] | None = None,
    cache: FeatureCache | None = None,
    schedule: dict[str, Any] | None = None,
    mining: dict[str, Any] | None = None,
    memory: dict[str, Any] | None = None,
    processes: ProcessGroup | None = None,
    sampler: Any = None,
    **settings: Any,
) -> Trainer:
    """A trainer over made-up data; equal arguments give equal trainers in every process.

    ``schedule``, ``mining`` and ``memory`` are tables of settings; further keywords are [train]'s.
    """
    table = training_table([made_up_split(data)])
    judged = made_up_split(data, role="val", images=9, queries=15, seed=1)
    encoding = Encoding(torch.device("cpu"), workers=workers, progress=False, cache=cache)
    torch.manual_seed(11)
    kwargs = {"batch_size": 6, "lr": 0.01, **settings}
    if method == "dqe":
        mining = {"negatives": "mined", **(mining or {})}
        made: Method = DQEPublished(
            components(
                FakeBackbone(**{"dropout": 0.2, "targets": 3, **(backbone or {})}),
                sampler=TargetRelative(),
                loss=Pairwise(),
                negatives="mined",
            ),
            **DQEPublished.recipe.options,
        )
    else:
        made = Method(
            components(
                FakeBackbone(**{"dropout": 0.2, **(backbone or {})}),
                sampler=sampler or InBatch(),
                negatives=(mining or {}).get("negatives", "batch"),
                filter=(mining or {}).get("filter", "batch"),
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    return Trainer(
        made,
        table,
        TrainingSettings(
            TrainSettings(epochs=epochs, **kwargs),
            ScheduleSettings(**(schedule or {})),
            MiningSettings(**(mining or {})),
            MemorySettings(**{"feature_cache_mb": 64, **(memory or {})}),
        ),
        folder,
        encoding,
        seed=3,
        validate=_validate(judged, encoding) if validated else None,
        processes=processes,
    )


def _validate(split: Split, encoding: Encoding) -> Validate:
    def validate(method: Method) -> tuple[Any, float]:
        measures = evaluate(method, split, encoding).measures
        return measures, measures["recall@5"]

    return validate


def table_of(folder: Path, **kwargs: Any) -> TrainingTable:
    """The training table of one random split."""
    return training_table([made_up_split(folder, **kwargs)])
