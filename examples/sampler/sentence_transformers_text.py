"""sentence-transformers: its mined negatives against target-relative ones, refreshed or not.

Questions use other words than positives, and every word of a positive has a synonym. Ten
positives mean the same and one of them is marked: the other nine are false negatives. All ways
start from the same model, which has learned from the batch alone.
"""

from __future__ import annotations

import logging
import random
import tempfile
import warnings
from typing import Any

import torch
from datasets import Dataset
from measured import compare, precision
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import mine_hard_negatives
from tokenizers import Tokenizer, models, pre_tokenizers

from cir_plugins.integrations.sentence_transformers import MinedTuples, RefreshNegatives
from dqe_plugin.sampler import TargetRelative

TOPICS, DETAILS, FILLERS = 40, 12, 60
COPIES, COUNT = 10, 4
# Of 480 positives 9 are right and unmarked: the mid-zone is behind the nearest 10, up to 29.
SAMPLER = TargetRelative(lower=0.02, upper=0.06)


def texts(seed: int, *, split: int, families: int) -> tuple[list[str], list[str], list[int]]:
    """Questions, positives, and what each is about: a family's three topics and a detail."""
    rng = random.Random(2 * seed + split)
    questions, positives, about = [], [], []
    for family in range(families):
        topics = rng.sample(range(TOPICS), 3)
        for number, detail in enumerate(rng.sample(range(DETAILS), 4)):
            names = [*(str(topic) for topic in topics), f"d{detail}"]
            for _ in range(COPIES):
                question = [f"q{name}" for name in names]
                positive = [f"{rng.choice('ab')}{name}" for name in names]
                for words in (question, positive):
                    words += [f"f{rng.randrange(FILLERS)}" for _ in range(2)]
                    rng.shuffle(words)
                questions.append(" ".join(question))
                positives.append(" ".join(positive))
                about.append(4 * family + number)
    return questions, positives, about


def encoder(seed: int) -> SentenceTransformer:
    """A mean of word vectors drawn from the seed."""
    names = [*(str(topic) for topic in range(TOPICS)), *(f"d{i}" for i in range(DETAILS))]
    words = [f"{kind}{name}" for kind in "qab" for name in names]
    words += [f"f{i}" for i in range(FILLERS)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(seed)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=64)], device="cpu")


def mined(way: str, model: SentenceTransformer, pairs: Dataset, seed: int) -> tuple[Any, list[Any]]:
    """The training rows and the callbacks that belong to them."""
    if way == "in-batch alone":
        return pairs, []
    if way == "its own miner":
        options = {"output_format": "n-tuple", "num_negatives": COUNT, "verbose": False}
        return mine_hard_negatives(pairs, model, **options), []
    rows = MinedTuples(
        model, pairs["anchor"][:], pairs["positive"][:], sampler=SAMPLER, count=COUNT, seed=seed
    )
    return rows.dataset, [RefreshNegatives(rows)] if way == "refreshed" else []


def fit(
    model: SentenceTransformer, rows: Any, callbacks: list[Any], epochs: int, seed: int
) -> None:
    """Train the model for some epochs."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=10,
            learning_rate=0.02,
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        loss = MultipleNegativesRankingLoss(model)
        SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=rows, loss=loss, callbacks=callbacks
        ).train()


def train(way: str, seed: int, quick: bool) -> float:
    """Precision on new combinations after 8 epochs on the batch alone and 8 on what was mined."""
    model = encoder(seed)
    questions, positives, _ = texts(seed, split=0, families=2 if quick else 12)
    pairs = Dataset.from_dict({"anchor": questions, "positive": positives})
    fit(model, pairs, [], 1 if quick else 8, seed)
    rows, callbacks = mined(way, model, pairs, seed)
    fit(model, rows, callbacks, 2 if quick else 8, seed + 1)
    questions, positives, about = texts(seed, split=1, families=4 if quick else 36)
    queries, items = (model.encode(each, convert_to_tensor=True) for each in (questions, positives))
    return precision(queries, items, torch.tensor(about), torch.tensor(about))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    ways = ("in-batch alone", "its own miner", "mined once", "refreshed")
    compare("R-precision on new combinations", train, ways)
