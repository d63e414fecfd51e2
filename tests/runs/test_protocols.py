"""Every protocol of a reader from one encoding, and the record of what a number depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import cir_plugins as cir
from cir_plugins.plugins.declarations import PROTOCOLS
from cir_plugins.plugins.registry import Registry
from cir_plugins.retrieval import fixed
from cir_plugins.runs.evaluation import Evaluation
from cir_plugins.runs.protocol_record import not_comparable
from cir_plugins.runs.protocols import CAUTION
from tests.layouts import small_circo, small_cirr

PRESETS = tuple(PROTOCOLS.of(Registry.load().factory("dataset", "fashioniq")))
TINY: dict[str, Any] = {"device": "cpu", "progress": False}


def same(one: Evaluation, other: Evaluation) -> bool:
    """Whether two evaluations are equal to the bit, query by query."""
    return all(
        first.faults == second.faults
        and first.measures == second.measures
        and all(torch.equal(first.values[name], second.values[name]) for name in first.values)
        for first, second in zip(one.results, other.results, strict=True)
    )


@pytest.mark.parametrize(
    ("method", "backbone", "names"),
    [
        ("image_text_sum", "tiny_clip", PRESETS),
        ("contrastive", "tiny_blip2", ("original", "val", "mgur")),
    ],
)
def test_all_protocols_equal_single_calls(
    garments_root: Path, method: str, backbone: str, names: tuple[str, ...], one_thread: None
) -> None:
    """Kernels round by batch shape: what is encoded together was another number than alone."""
    retriever = cir.build(method, backbone=backbone, **TINY)
    table = retriever.evaluate_protocols("fashioniq", garments_root)
    assert tuple(table) == PRESETS
    for name in names:
        single = retriever.evaluate("fashioniq", garments_root, protocol=name)
        assert same(table[name], single), name
        assert table[name].report == single.report
    assert not same(table["merged"], table["composeae"])


def test_each_image_and_query_is_encoded_once(
    garments_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = cir.build("image_text_sum", backbone="tiny_clip", **TINY)
    images: list[str] = []
    queries: list[tuple[int, str]] = []

    def embed(*arguments: Any, references: list[int], texts: list[str], **rest: Any) -> Any:
        queries.extend(zip(references, texts, strict=True))
        return fixed.embed_fixed(*arguments, references=references, texts=texts, **rest)

    def batches(backbone: Any, paths: list[Path], *rest: Any) -> Any:
        images.extend(map(str, paths))
        return feature_batches(backbone, paths, *rest)

    from cir_plugins.retrieval import evaluate
    from cir_plugins.retrieval.evaluate import feature_batches

    monkeypatch.setattr(evaluate, "embed_fixed", embed)
    monkeypatch.setattr(evaluate, "feature_batches", batches)
    retriever.evaluate_protocols("fashioniq", garments_root)
    assert len(images) == len(set(images))
    assert len(queries) == len(set(queries))


def test_the_table_names_gallery_reference_and_text(garments_root: Path) -> None:
    retriever = cir.build("image_text_sum", backbone="tiny_clip", **TINY)
    table = retriever.evaluate_protocols("fashioniq", garments_root)
    rows = {row[0]: row for row in table.rows}
    assert rows["covr"][1:4] == (
        f"original, {table['covr'].gallery}",
        "removed",
        "and, lower, symbols=blank, max_words=30",
    )
    assert rows["composeae"][1].startswith("merged, ")
    assert str(table).endswith(CAUTION)
    assert table.header[:5] == ("protocol", "gallery", "reference", "text", "map@10")
    assert set(table.report["protocols"]) == set(PRESETS)


def test_the_table_marks_protocols_whose_options_changed(garments_root: Path) -> None:
    """An option over every protocol kept the presets' names in the rows."""
    retriever = cir.build("image_text_sum", backbone="tiny_clip", **TINY)
    table = retriever.evaluate_protocols("fashioniq", garments_root, lower=True)
    names = [row[0] for row in table.rows]
    assert names[0] == "original (options changed)"
    assert "sprc" in names  # has the option itself
    assert [table[name].protocol for name in ("original", "sprc")] == ["custom", "sprc"]


def test_the_record_says_what_chose_the_checkpoint(garments_root: Path, tmp_path: Path) -> None:
    """A checkpoint chosen on the test split is a point or two better than one that was not."""
    run = cir.train(
        "contrastive",
        data={"name": "fashioniq", "categories": ["dress", "shirt"]},
        root=garments_root,
        out=tmp_path / "run",
        backbone="tiny_clip",
        epochs=1,
        batch_size=8,
        workers=0,
        loss="info_nce",
        **TINY,
    )
    record = run.evaluation.record
    assert record is not None
    assert record.checkpoint == "chosen on this very split"
    assert record.models == "a model of dress, shirt alone"
    loaded = cir.load(run.folder, progress=False)
    again = loaded.evaluate().record
    assert again == record
    other = loaded.evaluate(categories=()).record
    assert other is not None
    assert other.checkpoint.startswith("chosen on ")
    assert " triplets of this very split" in other.checkpoint
    assert other.weights == record.weights
    trained = loaded.evaluate(split="train").record
    assert trained is not None
    assert trained.checkpoint == "chosen on other triplets"
    circo = loaded.evaluate("circo", small_circo(tmp_path / "circo")).record
    assert circo is not None
    assert (circo.checkpoint, circo.shared_concept) == ("chosen on other data", "without")
    assert circo.gallery == "the pictures there are"


def test_the_record_of_cirr(tmp_path: Path) -> None:
    retriever = cir.build("image_text_sum", backbone="tiny_clip", **TINY)
    evaluation = retriever.evaluate("cirr", small_cirr(tmp_path))
    record = evaluation.record
    assert record is not None
    assert record.gallery == "the images of the split file; subset: the query's group"
    assert (record.reference, record.checkpoint) == ("removed", "none was chosen")
    assert record.gallery_images == {"val": 8}
    assert evaluation.report["record"] == record.document
    assert record.data == evaluation.data_fingerprint


def test_what_differs_between_records_is_named(tmp_path: Path) -> None:
    retriever = cir.build("image_text_sum", backbone="tiny_clip", **TINY)
    record = retriever.evaluate("cirr", small_cirr(tmp_path)).record
    assert record is not None
    one = record.document
    other = replace(record, text="single", reference="kept", weights="0", data="1").document
    assert not_comparable({"a": one, "b": one}) == []
    assert not_comparable({"a": one, "b": other, "c": one}) == [
        "references differ: removed: a, c; kept: b",
        "texts differ: and: a, c; single: b",
    ]
    assert not_comparable({"a": one, "b": other}, ("text",)) == ["texts differ: and: a; single: b"]
