"""Tuples of texts, images and dicts of both, through the adapter of sentence-transformers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sentence_transformers", reason="needs the extra sentence-transformers")
pytest.importorskip("datasets", reason="needs the extra sentence-transformers")

from PIL import Image
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from cir_plugins.integrations.items import encoded
from cir_plugins.integrations.sentence_transformers import MinedTuples, RefreshNegatives
from dqe_plugin.sampler import TargetRelative
from tests.integrations.pictures import both, picture
from tests.integrations.small_models import ANCHORS, Fused, clip_model

ZONE = TargetRelative()
pytestmark = pytest.mark.filterwarnings("ignore")


def test_texts_images_and_both_in_one_model(tmp_path: Path) -> None:
    model = clip_model(tmp_path)
    pictures = [picture(shade) for shade in (0, 60, 120, 180, 240)]
    for anchors, positives in (
        (ANCHORS[:5], pictures),
        (pictures, ANCHORS[:5]),
        (pictures, [picture(shade) for shade in (5, 65, 125, 185, 245)]),
    ):
        mined = MinedTuples(model, anchors, positives, sampler=ZONE, count=2)
        table = mined.frozen()
        assert len(table) == 5
        for row in range(5):
            kind = Image.Image if isinstance(positives[0], Image.Image) else str
            assert isinstance(table[row]["negative_2"], kind)
            assert row not in mined.table[row].tolist()


def test_a_corpus_of_texts_and_images_at_once(tmp_path: Path) -> None:
    model = clip_model(tmp_path)
    positives = [picture(0), "w1 w2", picture(120), "w3 w4", picture(240)]
    mined = MinedTuples(
        model, [*ANCHORS[:3], picture(9), picture(99)], positives, sampler=ZONE, count=3
    )
    drawn = [row[f"negative_{k}"] for row in mined.dataset for k in (1, 2, 3)]
    assert {type(item) is str for item in drawn} == {True, False}
    assert mined.refresh() <= 1


def test_equal_pictures_are_one_candidate() -> None:
    class Fake:
        def encode_query(self, items: list[Any], **options: Any) -> torch.Tensor:
            return torch.eye(4)[: len(items)]

        encode_document = encode_query

    pictures = [picture(1), picture(1), picture(2)]
    mined = MinedTuples(Fake(), ["a", "b", "c"], pictures, sampler=ZONE, count=1)
    assert mined.target.tolist() == [0, 0, 1]
    assert mined.table.ids.flatten().tolist() == [1, 1, 0]


def test_texts_with_images_are_mined_and_trained_on(tmp_path: Path) -> None:
    """Scores of text and image together, not of one of them, decide; the trainer sees both."""
    module = Fused()
    model = SentenceTransformer(modules=[module], device="cpu")
    anchors = [both(row, 40 * row) for row in range(6)]
    positives = [both(row + 6, 40 * row + 3) for row in range(6)]
    mined = MinedTuples(model, anchors, positives, count=2, sampler=TargetRelative(lower=0))
    queries, corpus = (
        model.encode(items, convert_to_tensor=True, normalize_embeddings=True)
        for items in (anchors, positives)
    )
    scores = queries @ corpus.T
    for row in range(6):
        score_gaps = scores[row, row] - scores[row]
        expected = {column for column in range(6) if score_gaps[column] > 0} - {row}
        assert set(mined.table[row].tolist()) <= (expected or set(range(6)) - {row})
    module.met.clear()
    before = module.colour.weight.detach().clone(), module.words.weight.detach().clone()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=2, per_device_train_batch_size=3,
        learning_rate=0.1, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=mined.dataset,
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[RefreshNegatives(mined)],
    ).train()
    assert mined.table.version == 1
    assert all(set(item) == {"text", "image"} for item in module.met)
    assert not torch.equal(before[0], module.colour.weight)
    assert not torch.equal(before[1], module.words.weight)


def test_copies_give_images_inside_dicts_back() -> None:
    """Arrow stores an image as a file's bytes; a model that gets those has nothing to look at."""
    model = SentenceTransformer(modules=[Fused()], device="cpu")
    positives = [picture(40 * row + 3) for row in range(4)]
    anchors = [both(row, 40 * row) for row in range(4)]
    copy = MinedTuples(model, anchors, positives, sampler=ZONE, count=1).frozen()
    for row, tuple_ in enumerate(copy):
        assert tuple_["anchor"]["text"] == f"w{row}"
        assert tuple_["anchor"]["image"].tobytes() == anchors[row]["image"].tobytes()
        assert tuple_["negative_1"].tobytes() in {item.tobytes() for item in positives}
    model.encode(copy["anchor"][:])


def test_texts_images_and_dicts_in_one_dataset() -> None:
    model = SentenceTransformer(modules=[Fused()], device="cpu")
    anchors = ["w1", picture(3), both(3, 90), both(4, 120), "w5 w6"]
    positives = [both(6, 10), "w3", picture(9), "w4", both(8, 77)]
    mined = MinedTuples(model, anchors, positives, count=4, sampler=TargetRelative(upper=1))
    drawn = {type(row[f"negative_{k}"]) for row in mined.dataset for k in range(1, 5)}
    assert drawn == {str, dict, Image.Image}
    assert [row["anchor"] for row in mined.dataset] == anchors
    separate = torch.stack([model.encode_query(item, convert_to_tensor=True) for item in anchors])
    together = encoded(partial(model.encode_query, convert_to_tensor=True), anchors)
    assert torch.allclose(together, separate)
    with pytest.raises(ValueError, match=r"column 'anchor' holds items of several kinds \(dict of"):
        mined.frozen()
