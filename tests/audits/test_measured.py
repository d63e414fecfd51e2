from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cir_plugins.audits.measured import SHORTCUTS, measure_split, missing_abilities
from cir_plugins.builtin.methods import ImageOnly, ImageTextProduct, ImageTextSum, TextOnly
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.retrieval.evaluate import encode_split, evaluate, score_blocks
from tests import reference
from tests.fakes import CPU, FakeBackbone, components, made_up_split

MEASURES = ("recall@1", "recall@3", "map@3")
SETTINGS: dict[str, Any] = {"near": 0.9, "duplicates": "embedding", "k": 3}


def made_up(folder: Path, **options: Any) -> Split:
    chosen = {"role": "val", "images": 13, "queries": 40, "outside": 4, "positives": 3}
    return made_up_split(folder, measures=MEASURES, **{**chosen, **options})


@pytest.mark.parametrize("drop_reference", [False, True])
def test_every_ranking_is_that_of_an_evaluation_alone(tmp_path: Path, drop_reference: bool) -> None:
    """One pass for several rankings must not mix up their rows."""
    split = made_up(tmp_path, drop_reference=drop_reference)
    method = Method(components(FakeBackbone(targets=3)))
    measured = measure_split(method, split, CPU, **SETTINGS)
    alone = evaluate(method, split, CPU)
    for name in MEASURES:
        assert measured.run.values[name].tolist() == alone.values[name].tolist()
    assert tuple(measured.shortcuts) == SHORTCUTS
    for kind, ranked in zip(
        (ImageOnly, TextOnly, ImageTextSum, ImageTextProduct),
        measured.shortcuts.values(),
        strict=True,
    ):
        values = evaluate(kind(components(method.backbone)), split, CPU).values["recall@3"]
        assert ranked.values["recall@3"].tolist() == values.tolist()
        assert ((ranked.ranks > 0) & (ranked.ranks <= 3)).double().tolist() == values.tolist()
    assert measured.shortcuts["text alone"].ranks.tolist() != measured.run.ranks.tolist()


def test_ranks_are_those_of_a_plain_version(tmp_path: Path) -> None:
    split = made_up(tmp_path)
    method = Method(components())
    measured = measure_split(method, split, CPU, **SETTINGS)
    encoded = encode_split(method, split, CPU)
    scores = torch.cat([block.clone() for _, block in score_blocks(method, encoded)])
    for row, rank in enumerate(measured.run.ranks.tolist()):
        target = int(split.arrays.target[row])
        better = [s for s in scores[row].tolist() if s > float(scores[row, target])]
        assert rank == 1 + len(better)


def test_variants_are_ranked_as_queries_with_those_captions(tmp_path: Path) -> None:
    split = made_up(tmp_path)
    method = Method(components())
    measured = measure_split(method, split, CPU, **SETTINGS)
    order = measured.variants["order"]
    assert order.rows.tolist() == list(range(40))
    turned = replace(
        split,
        queries=tuple(
            replace(q, captions=q.captions[::-1], text=split.captions.texts(q.captions[::-1])[0])
            for q in split.queries
        ),
    )
    assert order.values["map@3"].tolist() == evaluate(method, turned, CPU).values["map@3"].tolist()
    # "is red" gets a subject, "more red" does not.
    assert split.queries[0].text.startswith("is ")
    assert set(measured.variants) == {"order", "all rules", "subject"}


def test_near_duplicates_count_as_positives(tmp_path: Path) -> None:
    """With every image a near-duplicate of every other, all but the reference are right."""
    split = made_up(tmp_path, outside=0)
    measured = measure_split(Method(components()), split, CPU, **{**SETTINGS, "near": 1e-9, "k": 2})
    as_annotated, with_all = measured.any_recall, measured.with_twins
    assert bool((with_all >= as_annotated).all())
    encoded = encode_split(Method(components()), split, CPU)
    scores = torch.cat([b.clone() for _, b in score_blocks(Method(components()), encoded)])
    for row, query in enumerate(split.queries):
        near = {*measured.twins.of_target[row], *query.positives} - {query.reference}
        right = [split.gallery.index(name) for name in near]
        assert float(with_all[row]) == reference.any_recall(scores[row].tolist(), right, 2)


def test_a_backbone_without_one_modality_has_no_shortcuts(tmp_path: Path) -> None:
    class Fused(FakeBackbone):
        offers = frozenset({"query_tokens"})

    method = Method(components(Fused()))
    assert missing_abilities(method) == ["image_embedding", "text_embedding"]
    assert measure_split(method, made_up(tmp_path), CPU, **SETTINGS).shortcuts == {}


def test_blind_splits_are_an_error(tmp_path: Path) -> None:
    split = made_up(tmp_path)
    blind = tuple(replace(q, target=None, positives=()) for q in split.queries)
    with pytest.raises(CIRError, match="val-split' is blind"):
        measure_split(Method(components()), replace(split, queries=blind), CPU, **SETTINGS)
