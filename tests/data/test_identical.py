"""Triplets with the same reference and the same captions, but different targets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cir_plugins.builtin.samplers import InBatch
from cir_plugins.data.batches import BatchPlan, BatchSource
from cir_plugins.data.check import check
from cir_plugins.data.identical import positives_across, targets_across
from cir_plugins.data.readers.cirr import CIRR
from cir_plugins.data.readers.fashioniq import FashionIQ
from cir_plugins.data.split import Query, Split
from cir_plugins.data.table import TrainingTable, training_table
from cir_plugins.method import Method
from cir_plugins.mining.miner import Mining, mine
from cir_plugins.retrieval.evaluate import evaluate
from tests.fakes import CPU, FakeBackbone, components, write_pictures
from tests.layouts import small_fashioniq, triplet, write_fashioniq

NAMES = ("a", "b", "c", "d", "e")


def query(number: int, reference: str, target: str | None, *captions: str) -> Query:
    known = () if target is None else (target,)
    return Query(f"q{number}", reference, captions, " and ".join(captions), target, known)


QUERIES = (
    query(0, "a", "b", "is red", "is long"),
    query(1, "a", "c", "is red", "is long"),
    query(2, "a", "d", "is red"),
    query(3, "e", "d", "is red", "is long"),
    query(4, "a", None, "is red", "is long"),
)


def split(folder: Path, queries: tuple[Query, ...] = QUERIES[:4], role: str = "train") -> Split:
    paths = write_pictures(folder, NAMES)
    return Split("dress", role, queries, NAMES, paths, measures=("recall@1", "any_recall@1"))  # type: ignore[arg-type]


def test_the_same_reference_and_captions_alone_are_identical() -> None:
    assert targets_across(QUERIES) == [("c",), ("b",), (), (), ("b", "c")]
    assert positives_across(QUERIES[:4]) == 2
    known = (replace(QUERIES[0], positives=("b", "c")), *QUERIES[1:4])
    assert positives_across(known) == 1
    both = [replace(q, text=text) for q in QUERIES[:4] for text in ("1", "2")]
    assert positives_across(both) == 2


def images(table: TrainingTable, known: str) -> list[set[str]]:
    lists = table.excluded_images(known)
    return [{table.images[image] for image in lists[row].tolist()} for row in range(4)]


def test_training_takes_none_as_a_negative_of_another(tmp_path: Path) -> None:
    """In the batch, both are pushed away from the query that both are right for."""
    table = training_table([split(tmp_path)])
    assert images(table, "all") == [{"c"}, {"b"}, set(), set()]
    assert images(table, "target") == [set()] * 4
    for known, excluded in (("all", [[False, True], [True, False]]), ("target", [[False] * 2] * 2)):
        source = BatchSource(table, FakeBackbone(), seed=0, known_positives=known)
        assert source[BatchPlan(0, 0, (0, 1))].excluded.tolist() == excluded


@pytest.mark.parametrize("known", ["all", "target"])
def test_mining_counts_them_as_positives(tmp_path: Path, known: str) -> None:
    table = training_table([split(tmp_path)])
    method = Method(components(FakeBackbone(), sampler=InBatch(), negatives="mined")).eval()
    mined = mine(
        method,
        table,
        CPU,
        Mining(4, known, seed=0),
        epoch=0,
        epochs=2,
        with_model=True,
    )
    drawn = [{table.images[image] for image in row} for row in mined.images.tolist()]
    assert ("c" in drawn[0]) == ("b" in drawn[1]) == (known == "target")
    assert mined.report["positives_across"] == 2
    assert (mined.report["false_negatives"] > 0) == (known == "target")


def test_measures_count_the_annotated_positives_alone(tmp_path: Path) -> None:
    method = Method(components()).eval()
    with torch.no_grad():
        whole = evaluate(method, split(tmp_path, role="val"), CPU)
        alone = [evaluate(method, split(tmp_path, (one,), role="val"), CPU) for one in QUERIES[:4]]
    for name in ("recall@1", "any_recall@1"):
        assert whole.values[name].tolist() == [float(one.values[name]) for one in alone]
    assert whole.positives_across == 2
    assert all(one.positives_across == 0 for one in alone)


def test_check_notes_them(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    both = [triplet("s1", "s2", "is green"), triplet("s1", "s3", "is green")]
    write_fashioniq(root, "shirt.val", both, ["s1", "s2", "s3"])
    write_fashioniq(root, "shirt.train", both, ["s1", "s2", "s3"])
    train, val = check(FashionIQ(), root).notes
    start = "positives known only across triplets, of the same reference and captions: 2; "
    assert train == (
        f"shirt.train: {start}training takes none of them as a negative (train.known_positives=all)"
    )
    assert val == f"shirt.val: {start}no measure counts them"


def rows_across(queries: tuple[Query, ...]) -> int:
    return sum(bool(names) for names in targets_across(queries))


def test_counts_of_public_data(shared_data: Callable[[str], Path]) -> None:
    splits = FashionIQ().annotations(shared_data("fashioniq"))
    counts = {"train": 0, "val": 0, "test": 0}
    for each in splits:
        counts[each.role] += rows_across(each.queries)
    assert (counts["train"], counts["val"]) == (189, 20)
    assert sum(positives_across(each.queries) for each in splits if each.role == "train") == 224
    (val,) = [each for each in CIRR().annotations(shared_data("cirr")) if each.name == "val"]
    assert rows_across(val.queries) == 12
    entries = json.loads((shared_data("shoes") / "relative_captions_shoes.json").read_text())
    shoes = tuple(
        query(number, entry["ReferenceImageName"], entry["ImageName"], entry["RelativeCaption"])
        for number, entry in enumerate(entries)
    )
    assert rows_across(shoes) == 59
