from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import cir_plugins.data.batches as data_module
from cir_plugins.data.batches import BatchPlan, BatchSource, epoch_plans
from cir_plugins.data.images import open_image
from cir_plugins.data.split import Query, Split
from cir_plugins.data.table import TrainingTable, training_table
from cir_plugins.errors import CIRError
from cir_plugins.seeds import mix_seed
from tests.fakes import FakeBackbone, made_up_split, table_of, write_pictures


def source(table: TrainingTable, **kwargs: Any) -> BatchSource:
    return BatchSource(table, FakeBackbone(), **{"seed": 5, **kwargs})


def small_split(folder: Path, queries: list[Query], **kwargs: Any) -> Split:
    names = ("a", "b", "c", "d", "e")
    return Split("small", "train", tuple(queries), names, write_pictures(folder, names), **kwargs)


def query(number: int, reference: str, target: str, *others: str) -> Query:
    captions = (f"x {number}",)  # queries of one reference are not identical
    return Query(f"q{number}", reference, captions, "x", target, (target, *others))


# the table


def test_an_image_of_several_splits_has_one_number(tmp_path: Path) -> None:
    first = small_split(tmp_path, [query(0, "a", "b", "c")])
    second = replace(first, name="more", queries=(query(1, "c", "a"),), gallery=("c", "a"))
    table = training_table([first, replace(first, role="val"), second])
    assert table.images == ("a", "b", "c", "d", "e")
    assert [images.tolist() for images in table.negative_images] == [[0, 1, 2, 3, 4], [2, 0]]
    assert [(r.split, r.reference, r.target, r.positives) for r in table.triplets] == [
        (0, 0, 1, (1, 2)),
        (1, 2, 0, (0,)),
    ]


def test_a_table_needs_triplets_with_targets(tmp_path: Path) -> None:
    split = small_split(tmp_path, [query(0, "a", "b")])
    with pytest.raises(CIRError, match="no training split; its splits: small"):
        training_table([replace(split, role="val")])
    with pytest.raises(CIRError, match="no training split; its splits: none"):
        training_table([])
    with pytest.raises(CIRError, match="hold no query with a target and an image"):
        training_table([replace(split, queries=())])
    blind = replace(split.queries[0], target=None, positives=())
    with pytest.raises(CIRError, match="training query 'q0' has no target"):
        training_table([replace(split, queries=(blind,))])


def test_positives_without_a_picture_are_left_out(tmp_path: Path) -> None:
    table = training_table([small_split(tmp_path, [query(0, "a", "b", "gone")])])
    assert table.triplets[0].positives == (1,)


# the order of an epoch


@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_is_a_permutation_cut_into_batches(drop_last: bool) -> None:
    mined = torch.arange(23)[:, None] * torch.tensor([[10, 100]])
    plans = epoch_plans(23, batch_size=5, drop_last=drop_last, seed=1, epoch=2, mined=mined)
    rows = [row for plan in plans for row in plan.triplet_index]
    assert len(set(rows)) == len(rows) == (20 if drop_last else 23)
    assert set(rows) <= set(range(23))
    assert [plan.number for plan in plans] == list(range(len(plans)))
    for plan in plans:
        assert plan.mined is not None
        assert plan.mined.tolist() == [[10 * row, 100 * row] for row in plan.triplet_index]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[tuple[int, ...]]:
        torch.manual_seed(epoch * 100 + seed)  # must not matter
        plans = epoch_plans(40, batch_size=8, drop_last=False, seed=seed, epoch=epoch, mined=None)
        return [plan.triplet_index for plan in plans]

    assert order(1, 2) == order(1, 2)
    assert len({str(order(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def test_batch_larger_than_the_data_is_error() -> None:
    with pytest.raises(CIRError, match=r"train\.batch_size 9 exceeds the 8 training triplets"):
        epoch_plans(8, batch_size=9, drop_last=True, seed=0, epoch=0, mined=None)
    (plan,) = epoch_plans(8, batch_size=9, drop_last=False, seed=0, epoch=0, mined=None)
    assert len(plan.triplet_index) == 8


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [
        (13, 4, [4, 3, 3, 3]),
        (33, 32, [17, 16]),
        (12, 4, [4, 4, 4]),
        (3, 1, [1, 1, 1]),
        (1, 4, [1]),
    ],
)
def test_no_batch_is_left_with_few_triplets(rows: int, batch_size: int, sizes: list[int]) -> None:
    """CIRR's 28,225 triplets are 882 batches of 32 and one more, which has no negative."""
    plans = epoch_plans(rows, batch_size=batch_size, drop_last=False, seed=0, epoch=0, mined=None)
    assert [len(plan.triplet_index) for plan in plans] == sizes
    assert sorted(row for plan in plans for row in plan.triplet_index) == list(range(rows))


def test_mix_depends_on_each_number_and_their_order() -> None:
    seeds = {mix_seed(*numbers) for numbers in ((0,), (1,), (0, 1), (1, 0), (0, 0), (0, 1, 1))}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**62 for seed in seeds)
    assert mix_seed(3, 4) == mix_seed(3, 4)


# batches


def test_duplicate_targets_share_a_column(tmp_path: Path) -> None:
    queries = [query(0, "a", "b", "c"), query(1, "e", "b"), query(2, "b", "c"), query(3, "a", "d")]
    table = training_table([small_split(tmp_path, queries)])
    batch = source(table)[BatchPlan(0, 0, (0, 1, 2, 3))]
    # columns b, c, d; then the references a, e that are no candidates
    assert batch.image_index is not None
    assert batch.image_index.tolist() == [1, 2, 3, 0, 4]
    assert batch.candidates.tolist() == [0, 1, 2]
    assert batch.reference.tolist() == [3, 4, 0, 3]
    assert batch.target.tolist() == [0, 0, 1, 2]
    assert batch.excluded.tolist() == [[False, True, False], [False] * 3, [False] * 3, [False] * 3]
    assert batch.triplet_index is not None
    assert batch.triplet_index.tolist() == [0, 1, 2, 3]


def test_targets_alone_leave_other_positives_in(tmp_path: Path) -> None:
    queries = [query(0, "a", "b", "c"), query(1, "e", "c")]
    table = training_table([small_split(tmp_path, queries)])
    assert not source(table, known_positives="target")[BatchPlan(0, 0, (0, 1))].excluded.any()
    assert source(table, known_positives="all")[BatchPlan(0, 0, (0, 1))].excluded[0, 1]
    assert table.excluded_images("all")[0].tolist() == [2]
    assert table.excluded_images("target")[0].tolist() == []


def test_a_share_of_the_other_positives_is_known(tmp_path: Path) -> None:
    """Which ones is drawn once: the same in every process, and none that ``all`` does not have."""
    names = [f"p{number}" for number in range(40)]
    queries = [query(number, "a", names[0], *names[1:]) for number in range(5)]
    gallery = ("a", *names)
    split = Split("s", "train", tuple(queries), gallery, write_pictures(tmp_path, gallery))
    table = training_table([split])
    everything, half = table.excluded_images("all"), table.excluded_images(0.5)
    assert len(everything.images) == 5 * 39
    assert abs(len(half.images) / len(everything.images) - 0.5) < 0.1
    for triplet in range(5):
        assert set(half[triplet].tolist()) < set(everything[triplet].tolist())
    assert half[0].tolist() != half[1].tolist()  # drawn for each triplet
    assert half.images.equal(table.excluded_images(0.5).images)
    assert table.excluded_images(1.0).images.equal(everything.images)
    assert not len(table.excluded_images(0.0).images)


@pytest.mark.parametrize(("known", "negative"), [("all", False), ("target", True), (0.0, True)])
def test_a_reference_that_is_positive_is_no_negative_where_known(
    tmp_path: Path, known: str | float, negative: bool
) -> None:
    table = training_table([small_split(tmp_path, [query(0, "a", "b", "a"), query(1, "b", "b")])])
    reference = table.reference_negatives(known).tolist()
    assert reference == [table.images.index("a") if negative else -1, -1]


def test_a_removed_reference_is_excluded(tmp_path: Path) -> None:
    queries = [query(0, "a", "b"), query(1, "b", "a"), query(2, "c", "d")]
    table = training_table([small_split(tmp_path, queries, drop_reference=True)])
    plan = BatchPlan(0, 0, (0, 1, 2))
    # columns b, a, d: each of the first two rows has its reference among them
    excluded = source(table, known_positives="all")[plan].excluded
    assert excluded.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    assert not source(table, known_positives="target")[plan].excluded.any()


def test_negatives_can_come_from_a_splits_targets(tmp_path: Path) -> None:
    queries = [query(0, "a", "e"), query(1, "b", "c"), query(2, "b", "e")]
    split = small_split(tmp_path, queries)
    assert training_table([split]).negative_images[0].tolist() == list(range(len(split.gallery)))
    table = training_table([split], "targets")
    assert [table.images[i] for i in table.negative_images[0].tolist()] == ["c", "e"]


def test_a_target_equal_to_the_reference_stays(tmp_path: Path) -> None:
    table = training_table([small_split(tmp_path, [query(0, "a", "a")], drop_reference=True)])
    assert not source(table)[BatchPlan(0, 0, (0,))].excluded.any()


def test_mined_images_become_columns(tmp_path: Path) -> None:
    table = training_table([small_split(tmp_path, [query(0, "a", "b"), query(1, "e", "c")])])
    mined = torch.tensor([[3, 2], [-1, -1]])
    batch = source(table)[BatchPlan(0, 0, (0, 1), mined)]
    assert batch.image_index is not None
    assert batch.image_index[batch.candidates].tolist() == [1, 2, 3]
    assert batch.mined is not None
    assert batch.mined.tolist() == [[False, True, True], [False, False, False]]


def test_each_image_is_opened_once_per_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(tmp_path, queries=30, images=6)
    opened: list[Path] = []

    def counted(path: Path) -> Any:
        opened.append(path)
        return open_image(path)

    monkeypatch.setattr(data_module, "open_image", counted)
    mined = torch.arange(30)[:, None] % 6
    batch = source(table)[BatchPlan(0, 0, tuple(range(30)), mined)]
    assert len(opened) == len(set(opened)) == 6
    assert batch.images is not None
    assert batch.images.shape == (6, 3, 4, 4)
    opened.clear()
    assert source(table, with_images=False)[BatchPlan(0, 0, (0, 1))].images is None
    assert not opened


def test_pictures_stand_where_the_indices_say(tmp_path: Path) -> None:
    table = table_of(tmp_path, queries=10, outside=3)
    backbone = FakeBackbone()
    batch = source(table)[BatchPlan(0, 0, tuple(range(10)))]
    assert batch.images is not None
    for place, row in enumerate(table.triplets):
        for image, column in (
            (row.reference, int(batch.reference[place])),
            (row.target, int(batch.candidates[batch.target[place]])),
        ):
            picture = open_image(table.paths[image])
            assert torch.equal(batch.images[column], backbone.preprocess(picture))


def test_drawn_captions_depend_on_seed_epoch_and_triplet(tmp_path: Path) -> None:
    table = table_of(tmp_path, mode="four_way", queries=40)

    def texts(seed: int, plans: list[BatchPlan]) -> dict[int, str]:
        batches = source(table, seed=seed, with_images=False)
        return {
            row: text
            for plan in plans
            for row, text in zip(plan.triplet_index, batches[plan].text, strict=True)
        }

    rows = tuple(range(40))
    forward = texts(1, [BatchPlan(0, 0, rows)])
    backward = [BatchPlan(0, 7 - n, rows[::-1][n * 5 : n * 5 + 5]) for n in range(8)]
    assert texts(1, backward) == forward
    assert texts(1, [BatchPlan(1, 0, rows)]) != forward
    assert texts(2, [BatchPlan(0, 0, rows)]) != forward
    kinds = set()
    for row, text in forward.items():
        first, second = table.triplets[row].query.captions
        options = [f"{first} and {second}", f"{second} and {first}", first, second]
        kinds.add(options.index(text))
    assert kinds == {0, 1, 2, 3}


def test_two_query_modes_give_each_triplet_its_text(tmp_path: Path) -> None:
    split = small_split(tmp_path, [])
    captions = replace(split.captions, mode="both_orders")
    queries = tuple(
        Query(f"q{n}", "a", ("is red", "longer"), text, "b", ("b",))
        for n, text in enumerate(captions.texts(("is red", "longer")))
    )
    table = training_table([replace(split, captions=captions, queries=queries)])
    assert [row.order for row in table.triplets] == [0, 1]
    text = source(table)[BatchPlan(0, 0, (0, 1))].text
    assert text == ["is red and longer", "longer and is red"]


def test_text_variants_are_tokenised_beside_the_text(tmp_path: Path) -> None:
    table = training_table([small_split(tmp_path, [query(0, "a", "b")])])
    text_variants = {"back": lambda text: f"back {text}"}
    batches = BatchSource(
        table,
        FakeBackbone(),
        seed=0,
        text_variants=text_variants,
        caption_edit=lambda text: f"to {text}",
    )
    batch = batches[BatchPlan(0, 0, (0,))]
    assert batch.text == ["to x 0"]
    expected: Tensor = FakeBackbone().tokenize(["back x 0"])["ids"]
    assert torch.equal(batch.text_variants["back"]["ids"], expected)


def test_augmented_pictures_repeat_with_seed_and_epoch(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    batches = source(table, augmentation="photo")
    first, again = batches[BatchPlan(0, 0, (0, 1))], batches[BatchPlan(0, 0, (0, 1))]
    other = batches[BatchPlan(1, 0, (0, 1))]
    assert first.images is not None
    assert again.images is not None
    assert other.images is not None
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_made_up_splits_have_what_tests_need(tmp_path: Path) -> None:
    split = made_up_split(tmp_path, outside=4, groups=True)
    assert any(query.reference not in split.gallery for query in split.queries)
    assert all(query.target in query.group for query in split.queries)
    assert all(query.reference not in query.group for query in split.queries)
