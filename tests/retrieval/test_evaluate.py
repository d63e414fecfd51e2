from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import cir_plugins.encoding.loading as encode_module
from cir_plugins.builtin.methods import ImageTextProduct
from cir_plugins.cli.terminal import show_report
from cir_plugins.data.images import open_image
from cir_plugins.data.split import Query, Split
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.retrieval.embed import query_text
from cir_plugins.retrieval.evaluate import (
    SplitResult,
    average,
    encode_split,
    evaluate,
    evaluate_encoded,
    main_value,
    rankings,
    report,
    score_blocks,
)
from tests import reference
from tests.fakes import CPU, FakeBackbone, components, made_up_split
from tests.retrieval.wide import MANY_IMAGES, widened, with_empty_last

MEASURES = ("recall@1", "recall@3", "any_recall@2", "map@3", "map@50", "subset_recall@1")


def texts_of(method: Method, split: Split) -> list[str]:
    return [query_text(method, query, split.captions) for query in split.queries]


def made_up(folder: Path, **kwargs: Any) -> Split:
    settings = {
        "role": "val",
        "images": 13,
        "queries": 40,
        "outside": 4,
        "positives": 3,
        "groups": True,
        "measures": MEASURES,
    }
    return made_up_split(folder, **{**settings, **kwargs})


def plain_scores(method: Method, split: Split, query: Query, text: str) -> list[float]:
    """Scores of one query, each image opened anew, the removed reference at -inf."""
    backbone = method.backbone

    def features(name: str) -> Tensor:
        pixels = backbone.preprocess(open_image(split.paths[name]))[None]
        states: Tensor = backbone.features(pixels)
        return states

    with torch.no_grad():
        embedded = method.encode_query(features(query.reference), backbone.tokenize([text]))
        scores = [
            float(method.similarity(embedded, method.encode_gallery(features(name)))[0, 0])
            for name in split.gallery
        ]
    if split.drop_reference and query.reference in split.gallery:
        scores[split.gallery.index(query.reference)] = float("-inf")
    return scores


def plain_value(measure: str, scores: Sequence[float], query: Query, split: Split) -> float:
    kind, _, cut = measure.partition("@")
    positives = [split.gallery.index(name) for name in query.positives]
    group = [split.gallery.index(name) for name in query.group]
    return {
        "recall": lambda k: reference.recall(scores, positives, k),
        "any_recall": lambda k: reference.any_recall(scores, positives, k),
        "map": lambda k: reference.average_precision(scores, positives, k),
        "subset_recall": lambda k: reference.subset_recall(scores, positives[0], group, k),
    }[kind](int(cut))


@pytest.mark.parametrize("drop_reference", [False, True])
@pytest.mark.parametrize("kind", ["one vector", "tokens", "product"])
@pytest.mark.parametrize("several_blocks", [False, True])
def test_every_value_is_that_of_a_plain_version(
    tmp_path: Path, drop_reference: bool, kind: str, several_blocks: bool
) -> None:
    split = made_up(tmp_path, drop_reference=drop_reference)
    backbone = FakeBackbone(targets=3 if kind == "tokens" else 0)
    method = with_empty_last(ImageTextProduct if kind == "product" else Method)(
        components(backbone)
    )
    if several_blocks:
        encoded = widened(encode_split(method, split, CPU))
        assert [rows.start for rows, _ in score_blocks(method, encoded)] == [0, 16, 32]
        result = evaluate_encoded(method, encoded)
    else:
        result = evaluate(method, split, CPU)
    assert tuple(result.measures) == MEASURES
    assert (result.queries, result.gallery) == (40, MANY_IMAGES if several_blocks else 13)
    plain = [plain_scores(method, split, query, query.text) for query in split.queries]
    for measure in MEASURES:
        expected = [
            plain_value(measure, scores, query, split)
            for scores, query in zip(plain, split.queries, strict=True)
        ]
        assert result.values[measure].tolist() == pytest.approx(expected)
        assert result.measures[measure] == pytest.approx(sum(expected) / 40)
    assert 0 < result.measures["recall@3"] < 1


def test_a_query_may_be_several_vectors(tmp_path: Path) -> None:
    split = made_up(tmp_path)
    encoded = encode_split(ImageTextProduct(components()), split, CPU)
    assert encoded.queries.shape == (40, 2, 8)
    assert encoded.targets.shape == (13, 8)


def test_each_image_is_opened_once_queries_stay_ordered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = made_up(tmp_path)
    method = Method(components())
    opened: list[Path] = []

    def counted(path: Path) -> Any:
        opened.append(path)
        return open_image(path)

    monkeypatch.setattr(encode_module, "open_image", counted)
    encoded = encode_split(method, split, CPU)
    assert len(opened) == len(set(opened))
    used = {*split.gallery, *(query.reference for query in split.queries)}
    assert set(opened) == {split.paths[name] for name in used}
    with torch.no_grad():
        for row, query in enumerate(split.queries):
            pixels = method.backbone.preprocess(open_image(split.paths[query.reference]))[None]
            tokens = method.backbone.tokenize([query.text])
            expected = method.encode_query(method.backbone.features(pixels), tokens)[0]
            assert torch.allclose(encoded.queries[row], expected, atol=1e-6)


def test_size_of_batches_changes_nothing_but_rounding(tmp_path: Path) -> None:
    split = made_up(tmp_path)
    method = Method(components())
    one = encode_split(method, split, Encoding(torch.device("cpu"), batch_size=1, progress=False))
    all_at_once = encode_split(method, split, replace(CPU, batch_size=100))
    assert torch.allclose(one.queries, all_at_once.queries, atol=1e-6)
    assert torch.allclose(one.targets, all_at_once.targets, atol=1e-6)


def test_positives_outside_the_gallery_count_as_misses(tmp_path: Path) -> None:
    split = made_up(tmp_path, groups=False, measures=("recall@50", "map@50"))
    query = split.queries[0]
    target, other = query.positives[0], query.positives[1]
    gallery = tuple(name for name in split.gallery if name != target)
    query = replace(query, positives=(target, other))
    small = replace(split, queries=(query,), gallery=gallery)
    result = evaluate(Method(components()), small, CPU)
    assert result.measures["recall@50"] == 0.0
    (order,) = rankings(Method(components()), encode_split(Method(components()), small, CPU), 50)
    # one of the two positives is found, at this rank
    assert result.measures["map@50"] == pytest.approx(1 / (order.index(other) + 1) / 2)


def test_equal_scores_rank_by_gallery_order(tmp_path: Path) -> None:
    class Indifferent(Method):
        def similarity(self, query: Tensor, target: Tensor) -> Tensor:
            return torch.zeros(len(query), len(target))

    split = made_up(tmp_path, groups=False, measures=("recall@1", "recall@3"))
    method = Indifferent(components())
    result = evaluate(method, split, CPU)
    indices = [split.gallery.index(query.target or "") for query in split.queries]
    assert result.values["recall@3"].tolist() == [float(place < 3) for place in indices]
    assert rankings(method, encode_split(method, split, CPU), 4)[5] == list(split.gallery[:4])


def test_rankings_are_the_first_of_a_sort(tmp_path: Path) -> None:
    split = made_up(tmp_path, drop_reference=True)
    method = with_empty_last(Method)(components())
    encoded = widened(encode_split(method, split, CPU))
    for k in (4, 50):
        ranked = [
            [name for name in images if not name.startswith("far-")]
            for images in rankings(method, encoded, k)
        ]
        for row, query in enumerate(split.queries):
            scores = plain_scores(method, split, query, query.text)
            assert ranked[row] == [split.gallery[i] for i in reference.ranking(scores)[:k]]
    assert rankings(method, encoded, 4, rows=[30, 2, 8]) == [
        rankings(method, encoded, 4)[row] for row in (30, 2, 8)
    ]


def test_several_tokens_are_scored_by_gallery_slices(tmp_path: Path) -> None:
    """Scores of all tokens of a gallery take as many times the memory of its scores."""
    widths: list[int] = []

    class Watched(Method):
        def similarity(self, query: Tensor, target: Tensor) -> Tensor:
            widths.append(len(target))
            return super().similarity(query, target)

    split = made_up(tmp_path)
    method = Watched(components(FakeBackbone(targets=3)))
    encoded = encode_split(method, split, CPU)
    whole = torch.cat([scores for _, scores in score_blocks(method, encoded)])
    assert set(widths) == {13}
    widths.clear()
    wide = replace(encoded, targets=encoded.targets.repeat(3000, 1, 1))
    sliced = torch.cat([scores for _, scores in score_blocks(method, wide)])
    assert len(widths) > 1
    assert sum(widths) == 13 * 3000
    assert torch.allclose(sliced, whole.repeat(1, 3000), atol=1e-6)


def test_an_encoded_split_is_measured_as_evaluate_does(tmp_path: Path) -> None:
    split, method = made_up(tmp_path), Method(components())
    measured = evaluate_encoded(method, encode_split(method, split, CPU))
    assert measured.measures == evaluate(method, split, CPU).measures


@pytest.mark.parametrize("drop_reference", [False, True])
def test_the_rest_of_a_group_follows_in_order(tmp_path: Path, drop_reference: bool) -> None:
    split = made_up(tmp_path, drop_reference=drop_reference)
    # Of a group a member may be missing, and the reference named as one.
    first = split.queries[0]
    odd = replace(first, group=(*first.group[1:], "nowhere", first.reference))
    split = replace(split, queries=(odd, *split.queries[1:]))
    method = with_empty_last(Method)(components())
    encoded = widened(encode_split(method, split, CPU))
    longer = 0
    whole = rankings(method, encoded, 50)
    for k in (0, 2, 5, 50):
        short = rankings(method, encoded, k, groups=True)
        for query, images, first in zip(split.queries, whole, short, strict=True):
            assert first == images[:k] + [name for name in images[k:] if name in query.group]
            longer += len(first) > k > 0
    assert longer


def test_blind_queries_of_a_split_are_not_misses(tmp_path: Path) -> None:
    """Half of the targets unknown: recall was halved, as if the queries had failed."""
    split, method = made_up(tmp_path), Method(components())
    blind = range(1, 40, 2)
    queries = tuple(
        replace(query, target=None, positives=()) if number in blind else query
        for number, query in enumerate(split.queries)
    )
    half = evaluate(method, replace(split, queries=queries), CPU)
    rest = evaluate(method, replace(split, queries=split.queries[::2]), CPU)
    assert (half.queries, half.blind, rest.blind) == (20, 20, 0)
    assert half.measures == rest.measures
    assert all(torch.equal(half.values[name], rest.values[name]) for name in MEASURES)
    assert report("set", "original", [half])["blind"] == 20


def test_targets_that_leave_the_ranking_are_counted(tmp_path: Path) -> None:
    split, method = made_up(tmp_path, groups=False, measures=("recall@50",)), Method(components())
    first = split.queries[0]
    same = replace(first, reference=first.target or "")
    split = replace(split, queries=(same, *split.queries[1:]))
    ranked = evaluate(method, split, CPU)
    removed = evaluate(method, replace(split, drop_reference=True), CPU)
    assert (ranked.unreachable, removed.unreachable) == (0, 1)
    assert removed.values["recall@50"][0] == 0
    assert report("set", "original", [removed, removed])["unreachable"] == 2
    assert "unreachable" not in report("set", "original", [ranked])


def test_what_is_left_out_is_reported() -> None:
    """With missing=drop the measures looked like those of the whole split."""
    whole = result("a", 3, recall_at_1=0.2)
    lacking = replace(whole, split="b", left_out={"queries": 2, "gallery images": 3})
    again = replace(whole, split="c", left_out={"queries": 1})
    document = report("set", "original", [whole, lacking, again])
    assert document["protocol"] == "original (images missing)"
    assert document["left_out"] == {
        "splits": {"b": {"queries": 2, "gallery images": 3}, "c": {"queries": 1}},
        "total": {"queries": 3, "gallery images": 3},
    }
    assert report("set", "", [lacking])["protocol"] == "default (images missing)"


def test_the_report_of_an_incomplete_split_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    whole = result("a", 3, recall_at_1=0.2)
    show_report(report("set", "original", [whole]))
    assert "left out" not in capsys.readouterr().out
    odd = replace(whole, left_out={"queries": 2}, blind=4, unreachable=1)
    show_report(report("set", "original", [odd]))
    printed = capsys.readouterr().out
    assert "set, protocol original (images missing), percent" in printed
    assert "left out: 2 queries" in printed
    assert "4 further queries are blind" in printed
    assert "queries with their reference as target: 1;" in printed


@pytest.mark.parametrize("outside", [0, 4])
def test_ids_become_indices_once(tmp_path: Path, outside: int) -> None:
    split = made_up(tmp_path, outside=outside)
    arrays = split.arrays
    assert arrays is split.arrays
    assert arrays.images[:13] == split.gallery
    assert len(set(arrays.images)) == len(arrays.images)
    assert arrays.group is not None
    for row, query in enumerate(split.queries):
        assert arrays.images[arrays.reference[row]] == query.reference
        assert split.gallery[arrays.target[row]] == query.target
        positives = [split.gallery[index] for index in arrays.positives[row]]
        assert tuple(positives) == query.positives
        assert sorted(query.group, key=split.gallery.index) == [
            split.gallery[index] for index in arrays.group[row] if index >= 0
        ]
    assert arrays.counts.tolist() == [3] * 40
    assert not arrays.blind.any()


def test_blind_and_empty_splits_are_errors(tmp_path: Path) -> None:
    split = made_up(tmp_path)
    blind = tuple(replace(query, target=None, positives=()) for query in split.queries)
    with pytest.raises(CIRError, match="split 'val-split' is blind: its targets are not public"):
        evaluate(Method(components()), replace(split, queries=blind), CPU)
    with pytest.raises(CIRError, match="split 'val-split' has no queries"):
        evaluate(Method(components()), replace(split, queries=()), CPU)
    with pytest.raises(CIRError, match="split 'val-split' has no gallery"):
        evaluate(Method(components()), replace(split, gallery=()), CPU)


def test_diverged_weights_are_an_error(tmp_path: Path) -> None:
    method = Method(components())
    with torch.no_grad():
        method.backbone.words.fill_(float("nan"))
    with pytest.raises(CIRError, match="scores that are not numbers"):
        evaluate(method, made_up(tmp_path), CPU)


def test_subset_recall_needs_groups(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match="needs queries with a group"):
        evaluate(Method(components()), made_up(tmp_path, groups=False), CPU)


def test_a_methods_edit_reaches_the_texts(tmp_path: Path) -> None:
    class Tagged(Method):
        caption_edit = staticmethod(lambda text: f"[to] {text}")  # type: ignore[assignment]

    split = made_up(tmp_path, mode="both_orders")
    first, second = split.queries[0].captions
    other = replace(split.queries[0], text=f"{second} and {first}")
    split = replace(split, queries=(split.queries[0], other))
    assert texts_of(Tagged(components()), split) == [
        f"[to] {first} and [to] {second}",
        f"[to] {second} and [to] {first}",
    ]
    assert texts_of(Method(components()), split) == [query.text for query in split.queries]


def result(name: str, queries: int, **measures: float) -> SplitResult:
    of_name = {key.replace("_at_", "@"): value for key, value in measures.items()}
    return SplitResult(name, of_name, {}, queries, 10)


def test_average_is_over_splits_and_report_is_json() -> None:
    results = [result("a", 3, recall_at_1=0.2, map_at_5=0.5), result("b", 1, recall_at_1=0.4)]
    assert average(results) == {"recall@1": pytest.approx(0.3)}
    assert report("set", "original", results) == {
        "dataset": "set",
        "protocol": "original",
        "splits": {"a": {"recall@1": 0.2, "map@5": 0.5}, "b": {"recall@1": 0.4}},
        "average": {"recall@1": pytest.approx(0.3)},
        "queries": 4,
        "gallery": 20,
    }
    assert main_value({"a": 0.25, "b": 0.5, "c": 9.0}, ("a", "b")) == 0.375


def test_autocast_in_bf16_runs_and_gives_single_precision(tmp_path: Path) -> None:
    split = made_up(tmp_path)
    encoded = encode_split(Method(components()), split, replace(CPU, dtype=torch.bfloat16))
    assert encoded.queries.dtype == encoded.targets.dtype == torch.float32
    exact = encode_split(Method(components(FakeBackbone())), split, CPU)
    assert torch.allclose(encoded.queries, exact.queries, atol=0.05)
