"""The same seed draws the same negatives everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.samplers import Hardest, InBatch
from cir_plugins.builtin.similarity import best_token
from cir_plugins.data.images import open_image
from cir_plugins.data.table import TrainingTable, training_table
from cir_plugins.method import Method
from cir_plugins.mining import negatives_of_embeddings, negatives_of_scores
from cir_plugins.mining.miner import Mining, mine
from cir_plugins.mining.relevance import Columns
from dqe_plugin.sampler import TargetRelative
from tests.fakes import CPU, FakeBackbone, components, made_up_split


@torch.no_grad()
def embedded(method: Method, table: TrainingTable) -> tuple[Tensor, Tensor]:
    """Queries (Q, D) and gallery of the only split of a table, one at a time."""
    backbone = method.backbone

    def features(image: int) -> Any:
        return backbone.features(backbone.preprocess(open_image(table.paths[image]))[None])

    queries = [
        backbone.encode_query(features(row.reference), backbone.tokenize([row.query.text]))
        for row in table.triplets
    ]
    gallery = [
        backbone.encode_gallery(features(image)) for image in table.negative_images[0].tolist()
    ]
    return torch.cat(queries), torch.cat(gallery)


@pytest.mark.parametrize("tokens", [0, 3])
@pytest.mark.parametrize(
    "sampler", [TargetRelative(lower=0.1, upper=0.6), Hardest(count=9), InBatch()]
)
def test_training_and_library_draw_the_same(tmp_path: Path, sampler: Any, tokens: int) -> None:
    """Two engines that hash otherwise make a library's result say nothing about training's."""
    table = training_table([made_up_split(tmp_path, queries=40, images=25)])
    method = Method(components(FakeBackbone(targets=tokens), sampler=sampler))
    queries, gallery = embedded(method, table)
    column = {image: place for place, image in enumerate(table.negative_images[0].tolist())}
    target = torch.tensor([column[row.target] for row in table.triplets])
    positives = [[column[i] for i in row.positives if i in column] for row in table.triplets]
    for seed, epoch in ((0, 0), (3, 0), (3, 4)):
        mined = mine(
            method,
            table,
            CPU,
            Mining(3, "all", seed),
            epoch=epoch,
            epochs=1,
            with_model=True,
        ).images
        options: dict[str, Any] = {"count": 3, "seed": seed, "epoch": epoch}
        of_embeddings = negatives_of_embeddings(
            queries,
            gallery,
            target,
            sampler=sampler,
            similarity=best_token,
            excluded=Columns.of(positives),
            **options,
        )
        excluded = torch.zeros(40, len(gallery), dtype=torch.bool)
        for row, columns in enumerate(positives):
            excluded[row, columns] = True
        of_scores = negatives_of_scores(
            best_token(queries, gallery), target, sampler, excluded=excluded, **options
        )
        assert torch.equal(of_embeddings, of_scores)
        images = torch.where(of_scores >= 0, table.negative_images[0][of_scores.clamp(min=0)], -1)
        full = (of_scores >= 0).all(dim=1)
        assert int(full.sum()) > 10
        assert torch.equal(images[full], mined[full])
        # Training repeats a short row from its start.
        for library, training in zip(images.tolist(), mined.tolist(), strict=True):
            distinct = [image for image in library if image >= 0] or [-1]
            assert training == [distinct[place % len(distinct)] for place in range(3)]
