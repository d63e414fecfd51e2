"""sentence-transformers: its mined negatives against target-relative ones, refreshed or not.

Questions use other words than answers; four answers say the same, and one of them is marked.
"""

from __future__ import annotations

import logging
import random
import tempfile
import warnings
from typing import Any

import torch
from datasets import Dataset
from measured import compare, recall
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import mine_hard_negatives
from tokenizers import Tokenizer, models, pre_tokenizers

from dqe_plugin.adapters.sentence_transformers import MinedTuples, RefreshNegatives

TOPICS, FILLERS, COUNT = 40, 60, 4


def texts(seed: int, *, split: int) -> tuple[list[str], list[str], list[int]]:
    """Questions, answers, and what each is about: three of 40 topics."""
    chance = random.Random(2 * seed + split)
    questions, answers, about = [], [], []
    for meaning in range(100):
        topics = chance.sample(range(TOPICS), 3)
        for _ in range(4):
            asked = [f"q{topic}" for topic in topics]
            said = [f"a{topic}" for topic in topics]
            for words in (asked, said):
                words += [f"f{chance.randrange(FILLERS)}" for _ in range(3)]
                chance.shuffle(words)
            questions.append(" ".join(asked))
            answers.append(" ".join(said))
            about.append(meaning)
    return questions, answers, about


def encoder(seed: int) -> SentenceTransformer:
    """A mean of word vectors drawn from the seed."""
    words = [f"{kind}{i}" for kind in "qa" for i in range(TOPICS)]
    words += [f"f{i}" for i in range(FILLERS)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(seed)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=64)], device="cpu")


def data(way: str, model: SentenceTransformer, seed: int) -> tuple[Dataset, list[Any]]:
    """The training rows and the callbacks that belong to them."""
    questions, answers, _ = texts(seed, split=0)
    if way == "in-batch alone":
        return Dataset.from_dict({"anchor": questions, "positive": answers}), []
    if way == "its own miner":
        pairs = Dataset.from_dict({"anchor": questions, "positive": answers})
        options = {"output_format": "n-tuple", "num_negatives": COUNT, "verbose": False}
        return mine_hard_negatives(pairs, model, **options), []
    mined = MinedTuples(model, questions, answers, count=COUNT, seed=seed)
    return mined.dataset, [RefreshNegatives(mined)] if way == "refreshed" else []


def train(way: str, seed: int) -> float:
    """Recall of new combinations after 8 epochs."""
    model = encoder(seed)
    rows, callbacks = data(way, model, seed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=8,
            per_device_train_batch_size=20,
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
    questions, answers, about = texts(seed, split=1)
    found = [model.encode(part, convert_to_tensor=True) for part in (questions, answers)]
    return recall(*found, torch.tensor(about), torch.tensor(about))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    ways = ("in-batch alone", "its own miner", "mined once", "refreshed")
    compare("recall@1 of new combinations", train, ways)
