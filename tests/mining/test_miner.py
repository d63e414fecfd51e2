from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import cir_plugins.encoding.loading as encode_module
import cir_plugins.mining.blocks as blocks_module
import cir_plugins.mining.miner as mining_module
from cir_plugins.builtin.samplers import Hardest, InBatch, SemiHard
from cir_plugins.data.images import open_image
from cir_plugins.data.table import TrainingTable, Triplet, training_table
from cir_plugins.encoding.features import TrainingFeatures
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.mining.miner import Mined, Mining, mine
from dqe_plugin.sampler import TargetRelative
from tests.fakes import CPU, FakeBackbone, components, made_up_split
from tests.reference_training import target_relative


def two_splits(folder: Path, **kwargs: Any) -> TrainingTable:
    first = made_up_split(folder / "1", queries=23, images=14, outside=3, **kwargs)
    second = made_up_split(folder / "2", queries=9, images=6, seed=8, **kwargs)
    rename = {name: f"other-{name}" for name in second.paths}
    queries = tuple(
        replace(
            query,
            reference=rename[query.reference],
            target=rename[query.target or ""],
            positives=tuple(rename[name] for name in query.positives),
        )
        for query in second.queries
    )
    gallery = tuple(rename[name] for name in second.gallery)
    paths = {rename[name]: path for name, path in second.paths.items()}
    other = replace(second, name="other", queries=queries, gallery=gallery, paths=paths)
    return training_table([first, other])


def run(method: Method, table: TrainingTable, **kwargs: Any) -> Mined:
    options = {
        **{"count": 2, "known_positives": "all", "seed": 4},
        **{"filtered": False, "scored_by": "query"},
    }
    mining = Mining(**{name: kwargs.pop(name, value) for name, value in options.items()})
    when = {"epoch": 2, "epochs": 3, "with_model": True}
    return mine(method, table, CPU, mining, **{**when, **kwargs})


def negative_pools(
    method: Method, table: TrainingTable, sampler: Any, known_positives: str
) -> list[set[int]]:
    """The negatives of each row, one query and one image at a time."""
    backbone = method.backbone
    candidate_sets = []
    for row in table.triplets:
        split = table.splits[row.split]
        gallery = table.negative_images[row.split].tolist()
        pictures = {
            image: backbone.preprocess(open_image(table.paths[image]))[None] for image in gallery
        }
        query = one_query(method, table, row)
        with torch.no_grad():
            scores = [
                max(
                    float(token @ query)
                    for token in backbone.encode_gallery(backbone.features(pictures[image])).view(
                        -1, 8
                    )
                )
                for image in gallery
            ]
        out = set(row.positives) if known_positives == "all" else set()
        if split.drop_reference and known_positives == "all":
            out.add(row.reference)
        excluded = [image in out and image != row.target for image in gallery]
        negatives = sampler(scores, gallery.index(row.target), excluded)
        candidate_sets.append(
            {image for image, is_negative in zip(gallery, negatives, strict=True) if is_negative}
        )
    return candidate_sets


def plain_zone(scores: list[float], target: int, excluded: list[bool]) -> list[bool]:
    return target_relative(
        scores, target, excluded, lower=0.1, upper=0.6, unit="quantile", fallback=2
    )


def excluded(row: Triplet, drop_reference: bool, known_positives: str) -> set[int]:
    """The false-negative mask of one triplet, the plain way."""
    if known_positives == "target":
        return set()
    return {*row.positives, *([row.reference] if drop_reference else [])} - {row.target}


@pytest.mark.parametrize("drop_reference", [True, False])
@pytest.mark.parametrize("known_positives", ["all", "target"])
def test_known_positives_are_those_of_each_triplet(
    tmp_path: Path, known_positives: str, drop_reference: bool
) -> None:
    table = two_splits(tmp_path, drop_reference=drop_reference)
    lists = table.excluded_images(known_positives)
    for split, candidates in enumerate(table.negative_images):
        relevance = mining_module._labels(table, split, known_positives)
        numbered = [
            (number, row) for number, row in enumerate(table.triplets) if row.split == split
        ]
        assert relevance.rows.tolist() == [number for number, _ in numbered]
        assert candidates[relevance.target].tolist() == [row.target for _, row in numbered]
        for place, (number, row) in enumerate(numbered):
            inside = [
                image for image in dict.fromkeys(row.positives) if image in candidates.tolist()
            ]
            assert candidates[relevance.positives.block(place, place + 1)[1]].tolist() == inside
            out = excluded(row, drop_reference, known_positives) & set(candidates.tolist())
            assert set(lists[number].tolist()) & set(candidates.tolist()) == out
            assert set(candidates[relevance.excluded.block(place, place + 1)[1]].tolist()) == out


@pytest.mark.parametrize("targets", [0, 3])
@pytest.mark.parametrize("known_positives", ["all", "target"])
def test_draws_from_what_a_plain_version_leaves(
    tmp_path: Path, known_positives: str, targets: int
) -> None:
    table = two_splits(tmp_path, drop_reference=known_positives == "all")
    sampler = TargetRelative(lower=0.1, upper=0.6, fallback=2)
    method = Method(components(FakeBackbone(targets=targets), sampler=sampler))
    expected = negative_pools(method, table, plain_zone, known_positives)
    many = run(method, table, epochs=20, known_positives=known_positives)
    assert many.images.shape == (32, 40)
    for drawn, candidates in zip(many.images.tolist(), expected, strict=True):
        if not candidates:
            assert drawn == [-1] * 40
            continue
        assert set(drawn) == candidates  # forty draws use up at most fourteen candidates
        assert len(set(drawn[: len(candidates)])) == len(candidates)
        assert drawn == [drawn[place % len(candidates)] for place in range(40)]
    sizes = torch.tensor([len(candidates) for candidates in expected], dtype=torch.float64)
    assert many.report["negative_pool"]["mean"] == pytest.approx(float(sizes.mean()))
    assert many.report["negative_pool"]["quartiles"][1] == pytest.approx(float(sizes.quantile(0.5)))
    wrong = sum(
        len(candidates & set(row.positives))
        for candidates, row in zip(expected, table.triplets, strict=True)
    )
    assert many.report["false_negatives"] == pytest.approx(wrong / float(sizes.sum()))
    assert (wrong > 0) == (known_positives == "target")
    assert sum(many.report["score_gap"]["counts"]) == int(sizes.sum())
    assert many.report["empty"] == expected.count(set()) / 32


def test_targets_of_near_queries_are_ambiguous(tmp_path: Path) -> None:
    """With what near means taken from the data, one pair of queries of a split after another."""
    table = two_splits(tmp_path)
    method = Method(components(FakeBackbone(), sampler=TargetRelative(unit="absolute")))
    queries = [one_query(method, table, row) for row in table.triplets]
    near = float(torch.stack([a @ b for a in queries[:23] for b in queries[:23]]).quantile(0.7))
    bound = TargetRelative(unit="absolute", lower=1 - near, upper=2)
    method = Method(components(FakeBackbone(), sampler=bound))
    mined = run(method, table, count=0, filtered=True, scored_by="queries", known_positives="all")
    assert mined.ambiguous is not None
    seen = 0
    for number, (row, query) in enumerate(zip(table.triplets, queries, strict=True)):
        out = excluded(row, False, "all") | {row.target}
        expected = {
            other.target
            for other, asked in zip(table.triplets, queries, strict=True)
            if other.split == row.split and float(query @ asked) > near
        } - out
        assert set(mined.ambiguous[number].tolist()) == expected
        seen += len(expected)
    assert seen > 32


def one_query(method: Method, table: TrainingTable, row: Triplet) -> Tensor:
    backbone = method.backbone
    picture = backbone.preprocess(open_image(table.paths[row.reference]))[None]
    with torch.no_grad():
        tokens = backbone.tokenize([row.query.text])
        embedded: Tensor = backbone.encode_query(backbone.features(picture), tokens)[0]
    return embedded


def test_no_target_excluded_or_foreign_image_is_mined(tmp_path: Path) -> None:
    table = two_splits(tmp_path, drop_reference=True)
    for with_model in (True, False):
        mined = run(Method(components()), table, epochs=30, with_model=with_model)
        for row, drawn in zip(table.triplets, mined.images.tolist(), strict=True):
            forbidden = {row.target, row.reference, *row.positives}
            assert not forbidden & set(drawn)
            assert set(drawn) == set(table.negative_images[row.split].tolist()) - forbidden
        assert ("score_gap" in mined.report) == with_model


@pytest.mark.parametrize("with_model", [True, False])
def test_size_of_blocks_and_of_batches_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_model: bool
) -> None:
    table = two_splits(tmp_path)
    method = Method(components(sampler=TargetRelative()))
    whole = run(method, table, with_model=with_model)
    for block in (1, 5):
        monkeypatch.setattr(blocks_module, "rows_per_block", lambda *_, rows=block: rows)
        mined = mine(
            method,
            table,
            replace(CPU, batch_size=block + 2),
            Mining(2, "all", seed=4),
            epoch=2,
            epochs=3,
            with_model=with_model,
        )
        assert torch.equal(mined.images, whole.images)


def test_draw_depends_on_seed_and_epoch(tmp_path: Path) -> None:
    table = two_splits(tmp_path)
    method = Method(components())
    first = run(method, table).images
    torch.manual_seed(99)
    assert torch.equal(run(method, table).images, first)
    assert not torch.equal(run(method, table, seed=5).images, first)
    assert not torch.equal(run(method, table, epoch=3).images, first)


def test_each_epoch_has_columns_of_its_own() -> None:
    mined = Mined(torch.arange(12).view(2, 6), since=4, report={})
    assert mined.epoch(4, 2).tolist() == [[0, 1], [6, 7]]
    assert mined.epoch(6, 2).tolist() == [[4, 5], [10, 11]]
    for epoch in (3, 7):
        with pytest.raises(ValueError, match=f"epoch {epoch} lies outside the refresh of epoch 4"):
            mined.epoch(epoch, 2)


def test_rows_without_negatives_are_marked(tmp_path: Path) -> None:
    table = two_splits(tmp_path)

    def first_row_only(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        mask = InBatch()(scores, target, excluded)
        mask[1:] = False
        return mask

    mined = run(Method(components(sampler=first_row_only)), table)
    there = (mined.images >= 0).all(dim=1)
    assert int(there.sum()) == 2  # one block of each split
    assert (mined.images[~there] == -1).all()
    assert mined.report["empty"] == pytest.approx(30 / 32)


def test_no_negatives_at_all_is_an_error(tmp_path: Path) -> None:
    table = two_splits(tmp_path)
    method = Method(components(sampler=SemiHard(margin=1e-12)))
    with pytest.raises(
        CIRError, match="no negative for any of the 32 training triplets at epoch 2"
    ):
        run(method, table)


def test_a_samplers_mistake_cannot_draw_the_target(tmp_path: Path) -> None:
    """Plugins bring samplers: what they let through is held to the exclusions once more."""
    table = two_splits(tmp_path)
    careless = Method(components(sampler=lambda scores, target, excluded: excluded | True))
    for row, drawn in zip(
        table.triplets, run(careless, table, epochs=30).images.tolist(), strict=True
    ):
        assert not {row.target, *row.positives} & set(drawn)


def test_report_of_the_previous_refresh_and_of_fallbacks(tmp_path: Path) -> None:
    table = two_splits(tmp_path)
    hardest = Method(components(sampler=Hardest(count=3)))
    before = run(hardest, table)
    assert "kept" not in before.report
    assert "fallback" not in before.report
    assert run(hardest, table, epoch=5, previous=before).report["kept"] == 1.0
    far = TargetRelative(unit="absolute", lower=5, upper=6, fallback=1)
    method = Method(components(sampler=far))
    report = run(method, table, previous=before).report
    assert report["fallback"] == 1.0
    assert 0 <= report["kept"] < 1


def test_cached_features_mine_the_same_without_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = two_splits(tmp_path)
    method = Method(components(FakeBackbone(frozen=True), sampler=TargetRelative()))
    plain = run(method, table)
    store = TrainingFeatures.build(method.backbone, table.paths, CPU, 10)
    assert store is not None

    def fail(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(encode_module, "open_image", fail)
    assert torch.equal(run(method, table, store=store).images, plain.images)
