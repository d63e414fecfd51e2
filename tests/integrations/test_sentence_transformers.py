from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sentence_transformers", reason="needs the extra sentence-transformers")
pytest.importorskip("datasets", reason="needs the extra sentence-transformers")

from sentence_transformers import (
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from cir_plugins.integrations.sentence_transformers import MinedTuples, RefreshNegatives
from dqe_plugin.sampler import TargetRelative
from tests.integrations.small_models import ANCHORS, POSITIVES, text_model

ZONE = TargetRelative()
pytestmark = pytest.mark.filterwarnings("ignore")


def test_tuples_hold_mid_zone_negatives_and_no_positive() -> None:
    model = text_model()
    sampler = TargetRelative(lower=0.2, upper=0.8, unit="absolute", fallback=2)
    mined = MinedTuples(model, ANCHORS, POSITIVES, sampler=sampler, count=2, corpus=["w15", "w16"])
    table = mined.frozen()
    assert table.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    assert list(table["anchor"]) == ANCHORS
    assert mined.corpus == [*POSITIVES, "w15", "w16"]
    queries = model.encode(ANCHORS, convert_to_tensor=True, normalize_embeddings=True)
    corpus = model.encode(mined.corpus, convert_to_tensor=True, normalize_embeddings=True)
    scores = (queries @ corpus.T).tolist()
    twins = {0: {0, 3}, 3: {0, 3}}  # rows 0 and 3 ask the same
    for row, tuple_ in enumerate(table):
        score_gaps = [scores[row][row] - score for score in scores[row]]
        barred = twins.get(row, {row})
        mid_zone = {c for c in range(8) if 0.2 <= score_gaps[c] <= 0.8} - barred
        negatives = {mined.corpus.index(tuple_[f"negative_{k}"]) for k in (1, 2)}
        assert not negatives & barred
        assert negatives <= mid_zone or not mid_zone


def test_labels_exclude_the_positives_of_other_rows() -> None:
    everything = TargetRelative(lower=0, upper=1)
    mined = MinedTuples(
        text_model(), ANCHORS, POSITIVES, labels=list("aabbcc"), sampler=everything, count=6
    )
    for row, tuple_ in enumerate(mined.frozen()):
        others = {tuple_[f"negative_{k}"] for k in range(1, 7)}
        assert not others & {POSITIVES[row - row % 2], POSITIVES[row - row % 2 + 1]}


def test_wrong_lengths_and_periods_are_named() -> None:
    with pytest.raises(ValueError, match="one item for each row"):
        MinedTuples(text_model(), ANCHORS, POSITIVES[:-1], sampler=ZONE)
    with pytest.raises(ValueError, match="anchors is empty; accepted: one or more"):
        MinedTuples(text_model(), [], [], sampler=ZONE)
    with pytest.raises(ValueError, match="every must be at least 1, not 0"):
        RefreshNegatives(MinedTuples(text_model(), ANCHORS, POSITIVES, sampler=ZONE), every=0)


@pytest.mark.parametrize(
    ("every", "settings", "times"),
    [
        (1, {"num_train_epochs": 4}, 3),
        (2, {"num_train_epochs": 4}, 1),
        (1, {"max_steps": 8}, 3),
        (1, {"max_steps": 7}, 3),
        (1, {"num_train_epochs": 2.5}, 2),
    ],
)
def test_the_trainer_sees_negatives_of_its_current_weights(
    tmp_path: Path, every: int, settings: dict[str, Any], times: int
) -> None:
    """Steps in place of epochs ended the refreshes early; half an epoch left made one too many."""
    model = text_model()
    mined = MinedTuples(model, ANCHORS, POSITIVES, sampler=ZONE, count=2)
    seen: list[dict[str, Any]] = []
    look_up = mined.dataset.format["format_kwargs"]["transform"]

    def watched(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        columns = look_up(batch)
        seen.append({"version": mined.table.version, **columns})
        return columns

    mined.dataset.set_transform(watched)
    before = model.encode("w0")
    versions: list[torch.Tensor] = []
    refresh = mined.refresh

    def noted() -> float:
        versions.append(torch.tensor(model.encode("w0")))
        return refresh()

    mined.refresh = noted  # type: ignore[method-assign]
    callback = RefreshNegatives(mined, every=every)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path),
        **settings,
        per_device_train_batch_size=3,
        learning_rate=0.1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=mined.dataset,
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[callback],
    ).train()
    assert len(callback.overlaps) == times
    assert mined.table.version == times
    assert {batch["version"] for batch in seen} == set(range(times + 1))
    stages = [torch.tensor(before), *versions, torch.tensor(model.encode("w0"))]
    assert all(not torch.allclose(a, b) for a, b in pairwise(stages))


class Hardly(str):
    """A text that notes when it is pickled."""

    pickled = 0

    def __reduce__(self) -> Any:
        Hardly.pickled += 1
        return (str, (str(self),))


class Unpicklable:
    """A model whose first vectors are the axes; nobody may hash or send it."""

    def encode_query(self, items: list[Any], **options: Any) -> torch.Tensor:
        """Vectors of unit length but for a part that all share."""
        return torch.eye(64)[: len(items)] + 0.1

    encode_document = encode_query

    def __reduce__(self) -> Any:
        raise AssertionError("the model is pickled")


def test_dataset_without_model_is_not_hashed_whole() -> None:
    """``datasets`` pickles a transform to name the dataset: gigabytes of weights and pictures."""
    items = [Hardly(f"w{i}") for i in range(12)]
    mined, other = (
        MinedTuples(Unpicklable(), items[:6], items[6:], sampler=ZONE, count=2) for _ in range(2)
    )
    assert Hardly.pickled == 0
    assert mined.dataset._fingerprint != other.dataset._fingerprint
    sent = pickle.loads(pickle.dumps(mined.dataset))
    assert sent[3] == mined.dataset[3]
    copied = mined.dataset.select_columns(["anchor", "negative_1"]).select(range(4))
    mined.table.refresh(torch.full((6, 2), 5))
    assert {row["negative_1"] for row in mined.dataset} == {"w11"}
    assert copied[3] == {"anchor": "w3", "negative_1": "w11"}
    assert copied.format["format_kwargs"]["transform"].table is mined.table


@pytest.mark.parametrize("made", [torch.tensor, np.array])
def test_labels_of_a_tensor_or_an_array(made: Any) -> None:
    """A tensor of labels has no truth value, and its elements are not equal to one another."""
    labels, everything = [0, 0, 1, 1, 2, 2], TargetRelative(lower=0, upper=1)
    options: dict[str, Any] = {"sampler": everything, "count": 4}
    listed = MinedTuples(text_model(), ANCHORS, POSITIVES, labels=labels, **options)
    tuples = MinedTuples(text_model(), ANCHORS, POSITIVES, labels=made(labels), **options)
    assert torch.equal(tuples.table.ids, listed.table.ids)
    assert all(row not in tuples.table[row ^ 1].tolist() for row in range(6))


def test_a_collapsed_sampler_raises_a_warning() -> None:
    """Tuples are full whatever the sampler leaves: only a count shows that it left nothing."""
    good = MinedTuples(
        text_model(), ANCHORS, POSITIVES, count=1, sampler=TargetRelative(lower=0, upper=1)
    )
    nothing = TargetRelative(lower=5, upper=6, unit="absolute", fallback=0)
    with pytest.warns(UserWarning, match="left 100% of the rows fewer than 2 negatives"):
        mined = MinedTuples(text_model(), ANCHORS, POSITIVES, count=2, sampler=nothing)
    assert good.filled < 0.5
    assert good.report["empty"] == 0
    assert mined.filled == 1
    mined.sampler = TargetRelative(lower=0, upper=1)
    mined.refresh()
    assert mined.filled < 1
