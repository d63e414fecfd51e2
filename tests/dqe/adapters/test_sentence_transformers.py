from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
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
from sentence_transformers.base.modules import InputModule
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

from dqe_plugin.adapters.items import Answers, encoded, key
from dqe_plugin.adapters.sentence_transformers import MinedTuples, RefreshNegatives
from dqe_plugin.sampler import TargetRelative

WORDS = [f"w{i}" for i in range(20)]
ANCHORS = ["w0 w1", "w2 w3", "w4 w5", "w0 w1", "w6 w7", "w8 w9"]
POSITIVES = ["w1 w0 w2", "w3 w2 w4", "w5 w6", "w0 w7", "w7 w6", "w9 w8 w1"]

pytestmark = pytest.mark.filterwarnings("ignore")


def text_model() -> SentenceTransformer:
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    chance = torch.Generator().manual_seed(0)
    weights = torch.randn(len(vocabulary), 16, generator=chance)
    return SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=weights.numpy())], device="cpu"
    )


def clip_model(folder: Path) -> SentenceTransformer:
    from sentence_transformers.base.modules import Transformer
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        PreTrainedTokenizerFast,
    )

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config={**size, "num_attention_heads": 2, "vocab_size": 24, "eos_token_id": 22},
        vision_config={**size, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    names = ["[UNK]", *WORDS, "[BOS]", "[EOS]", "[PAD]"]
    raw = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", eos_token="[EOS]", pad_token="[PAD]"
    )
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return SentenceTransformer(modules=[Transformer(str(folder))], device="cpu")


class Fused(InputModule):
    """Texts, images, and dicts of both as one: the sum of word vectors and a seen colour."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(len(WORDS), 8)
        self.colour = torch.nn.Linear(3, 8)
        self.met: list[Any] = []

    @property
    def modalities(self) -> list[Any]:
        """What the library's checks let through."""
        return ["text", "image", ("image", "text")]

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **options: Any
    ) -> dict[str, torch.Tensor]:
        """Word counts and the colour of the first pixel; 0 where a part is missing."""
        counts, pixels = torch.zeros(len(inputs), len(WORDS)), torch.zeros(len(inputs), 3)
        self.met += inputs
        for row, item in enumerate(inputs):
            name = "text" if isinstance(item, str) else "image"
            parts = item if isinstance(item, dict) else {name: item}
            for word in parts.get("text", "").split():
                counts[row, WORDS.index(word)] += 1
            if "image" in parts:
                pixels[row] = torch.tensor(parts["image"].getpixel((0, 0))) / 255
        return {"counts": counts, "pixel_values": pixels}

    def forward(self, features: dict[str, torch.Tensor], **options: Any) -> dict[str, torch.Tensor]:
        """The features with their embedding."""
        words = features["counts"] @ self.words.weight
        features["sentence_embedding"] = words + self.colour(features["pixel_values"])
        return features

    def save(self, *args: Any, **options: Any) -> None:
        """Nothing is kept: the trainer of these tests saves no model."""


def both(word: int, shade: int) -> dict[str, Any]:
    return {"text": f"w{word}", "image": picture(shade)}


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (32, 32), (shade, 255 - shade, (shade * 7) % 256))


def test_tuples_hold_what_the_sampler_lets_through_and_no_known_answer() -> None:
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
        drops = [scores[row][row] - score for score in scores[row]]
        barred = twins.get(row, {row})
        zone = {c for c in range(8) if 0.2 <= drops[c] <= 0.8} - barred
        found = {mined.corpus.index(tuple_[f"negative_{k}"]) for k in (1, 2)}
        assert not found & barred
        assert found <= zone or not zone


def test_labels_bar_the_answers_of_other_rows() -> None:
    everything = TargetRelative(lower=0, upper=1)
    mined = MinedTuples(
        text_model(), ANCHORS, POSITIVES, labels=list("aabbcc"), sampler=everything, count=6
    )
    for row, tuple_ in enumerate(mined.frozen()):
        others = {tuple_[f"negative_{k}"] for k in range(1, 7)}
        assert not others & {POSITIVES[row - row % 2], POSITIVES[row - row % 2 + 1]}


def test_wrong_lengths_and_periods_are_named() -> None:
    with pytest.raises(ValueError, match="one item for each row"):
        MinedTuples(text_model(), ANCHORS, POSITIVES[:-1])
    with pytest.raises(ValueError, match="every must be at least 1, not 0"):
        RefreshNegatives(MinedTuples(text_model(), ANCHORS, POSITIVES), every=0)


@pytest.mark.parametrize(
    ("every", "asked", "times"),
    [
        (1, {"num_train_epochs": 4}, 3),
        (2, {"num_train_epochs": 4}, 1),
        (1, {"max_steps": 8}, 3),
        (1, {"max_steps": 7}, 3),
        (1, {"num_train_epochs": 2.5}, 2),
    ],
)
def test_the_trainer_sees_negatives_of_its_current_weights(
    tmp_path: Path, every: int, asked: dict[str, Any], times: int
) -> None:
    """Steps in place of epochs ended the refreshes early; half an epoch left made one too many."""
    model = text_model()
    mined = MinedTuples(model, ANCHORS, POSITIVES, count=2)
    seen: list[dict[str, Any]] = []
    look_up = mined.dataset.format["format_kwargs"]["transform"]

    def watched(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        answer = look_up(batch)
        seen.append({"version": mined.table.version, **answer})
        return answer

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
        **asked,
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
    assert len(callback.kept) == times
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


def test_the_dataset_does_not_hold_the_model_and_is_not_hashed_whole() -> None:
    """``datasets`` pickles a transform to name the dataset: gigabytes of weights and pictures."""
    items = [Hardly(f"w{i}") for i in range(12)]
    mined, other = (MinedTuples(Unpicklable(), items[:6], items[6:], count=2) for _ in range(2))
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
    found = MinedTuples(text_model(), ANCHORS, POSITIVES, labels=made(labels), **options)
    assert torch.equal(found.table.ids, listed.table.ids)
    assert all(row not in found.table[row ^ 1].tolist() for row in range(6))


def test_a_collapsed_sampler_is_told() -> None:
    """Tuples are full whatever the sampler leaves: only a count shows that it left nothing."""
    good = MinedTuples(
        text_model(), ANCHORS, POSITIVES, count=1, sampler=TargetRelative(lower=0, upper=1)
    )
    nothing = TargetRelative(lower=5, upper=6, unit="absolute", fallback=0)
    with pytest.warns(UserWarning, match="left 100% of the rows fewer than 2 negatives"):
        mined = MinedTuples(text_model(), ANCHORS, POSITIVES, count=2, sampler=nothing)
    assert good.filled < 0.5
    assert mined.filled == 1
    mined.sampler = TargetRelative(lower=0, upper=1)
    mined.refresh()
    assert mined.filled < 1


@pytest.mark.parametrize("seed", range(3))
def test_answers_of_groups_equal_a_slow_plain_reference(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 20, (30,), generator=chance)
    groupings = [torch.randint(0, 9, (30,), generator=chance).tolist() for _ in range(2)]
    right = Answers(groupings, target, 22)
    for rows in (slice(0, 30), slice(4, 11), slice(29, 30)):
        wanted = torch.zeros(30, 22, dtype=torch.bool)
        for row in range(30):
            for other in range(30):
                if any(names[row] == names[other] for names in groupings):
                    wanted[row, target[other]] = True
        assert torch.equal(right(rows), wanted[rows])


def test_answers_take_memory_for_rows_not_for_pairs_of_them() -> None:
    """A mask of 100 000 rows by as many items is 10 GB."""
    rows = 100_000
    right = Answers([range(rows), [row // 2 for row in range(rows)]], torch.arange(rows), rows)
    held = [part for group in right._groups for part in group]
    assert sum(part.numel() for part in held) <= 8 * rows
    assert right(slice(500, 503)).nonzero().tolist() == [
        [0, 500], [0, 501], [1, 500], [1, 501], [2, 502], [2, 503]
    ]  # fmt: skip


def test_texts_images_and_both_in_one_model(tmp_path: Path) -> None:
    model = clip_model(tmp_path)
    pictures = [picture(shade) for shade in (0, 60, 120, 180, 240)]
    for anchors, positives in (
        (ANCHORS[:5], pictures),
        (pictures, ANCHORS[:5]),
        (pictures, [picture(shade) for shade in (5, 65, 125, 185, 245)]),
    ):
        mined = MinedTuples(model, anchors, positives, count=2)
        table = mined.frozen()
        assert len(table) == 5
        for row in range(5):
            kind = Image.Image if isinstance(positives[0], Image.Image) else str
            assert isinstance(table[row]["negative_2"], kind)
            assert row not in mined.table[row].tolist()


def test_a_corpus_of_texts_and_images_at_once(tmp_path: Path) -> None:
    model = clip_model(tmp_path)
    positives = [picture(0), "w1 w2", picture(120), "w3 w4", picture(240)]
    mined = MinedTuples(model, [*ANCHORS[:3], picture(9), picture(99)], positives, count=3)
    drawn = [row[f"negative_{k}"] for row in mined.dataset for k in (1, 2, 3)]
    assert {type(item) is str for item in drawn} == {True, False}
    assert mined.refresh() <= 1


def test_equal_pictures_are_one_candidate() -> None:
    class Fake:
        def encode_query(self, items: list[Any], **options: Any) -> torch.Tensor:
            return torch.eye(4)[: len(items)]

        encode_document = encode_query

    pictures = [picture(1), picture(1), picture(2)]
    mined = MinedTuples(Fake(), ["a", "b", "c"], pictures, count=1)
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
        drop = scores[row, row] - scores[row]
        wanted = {column for column in range(6) if drop[column] > 0} - {row}
        assert set(mined.table[row].tolist()) <= (wanted or set(range(6)) - {row})
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


def test_a_copy_gives_the_images_inside_of_dicts_back() -> None:
    """Arrow stores an image as a file's bytes; a model that gets those has nothing to look at."""
    model = SentenceTransformer(modules=[Fused()], device="cpu")
    positives = [picture(40 * row + 3) for row in range(4)]
    anchors = [both(row, 40 * row) for row in range(4)]
    copy = MinedTuples(model, anchors, positives, count=1).frozen()
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


def test_what_makes_two_items_the_same() -> None:
    assert key(both(1, 5)) == key(both(1, 5)) != key(both(1, 6))
    assert len(str(key(Image.new("RGB", (500, 500))))) < 1000, "a copy of the bytes is kept"
    assert key(Image.new("RGB", (4, 6))) != key(Image.new("RGB", (6, 4)))
    assert key([1, "a"]) == key([1, "a"]) != key([1, "b"])
    first, second = torch.zeros(2, 3).numpy(), torch.zeros(3, 2).numpy()
    assert key(first) == key(first.copy()) != key(second)
