"""SPRC: the reference image as a sentence-level prompt before the text.

An independent implementation from the paper; no code of its repository, which has no licence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from baselines_plugin.checkpoints.lavis_keys import blip2_state
from baselines_plugin.licences import LICENCES
from baselines_plugin.ranges import Temperature, Weight
from cir_plugins import (
    TEMPERATURE,
    Batch,
    CIRError,
    Components,
    Features,
    Fused,
    Ledger,
    Method,
    Official,
    Recipe,
    ScheduleSettings,
    Tokens,
    TrainSettings,
    entry,
    unit,
)

ENTRY = "Blip2QformerCirAlignPrompt"
_LAVIS = {"data.lower": True, "data.symbols": "blank", "data.max_words": 50}


def official_state(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``SPRC`` from an official ``sprc_*.pt``.

    Raises:
        CIRError: If the entry or a key is missing, or a key is left over.
    """
    tensors = entry(checkpoints, ENTRY)
    if tensors is None:
        raise CIRError(f"no SPRC checkpoint: it has no entry '{ENTRY}'")
    ledger = Ledger(tensors, f"entry '{ENTRY}'")
    state = blip2_state(ledger, "backbone.model.")
    for key in ("temp", "prompt_tokens"):
        value = ledger.take(key)
        if value is not None:
            state[key] = value.float()
    ledger.finish()
    return state


class QueryEmbeddings(NamedTuple):
    """Embeddings of B queries for the three loss terms.

    Attributes:
        query: (B, D) the composed query, of unit length.
        text: (B, D) the text-only query, of unit length; ``query`` where its term has weight 0.
        prompt: (B, H) the mean of the prompt's states.
    """

    query: Tensor
    text: Tensor
    prompt: Tensor


class SPRC(Method):
    """SPRC: the reference's query tokens, fused with the text, as a prompt before the text.

    Two passes of the Q-Former: the first, over query tokens, text and image, gives the prompt P
    (its states at the query tokens); the second, over [P; text] without an image, gives the query,
    the projected [CLS]. Every position of the second goes through the text feed-forward layers.

    Terms: ``contrast``, the loss of the queries; ``text``, ``text_weight`` times the same loss of
    queries from learned prompts and the text alone, with the negatives of the first; ``align``,
    ``align_weight`` times the mean squared difference of the mean of P and the mean of the learned
    prompts, which gets no gradient from it.

    Args:
        components: A ``blip2`` backbone, loss and sampler.
        text_weight: Weight of the text-only term, 0 to leave it out.
        align_weight: Weight of the alignment, 0 to leave it out.
        temperature: Start value of the temperature; BLIP-2 start files may bring their own.
        learn_temperature: Whether the temperature is trained.

    Source: Bai et al., Sentence-level Prompts Benefit Composed Image Retrieval, ICLR 2024, arXiv
    2310.05473. The paper aligns P with a prompt optimised for each sample; the released code, and
    so this class, with one learned prompt for all. Weights: 0.4 and 0.4 on CIRR; the released
    FashionIQ loop always uses 1 and 1.
    Differs: targets that a batch holds twice are one column; there the second copy is a negative.
    """

    licences = LICENCES["sprc"]
    recipe = Recipe(
        source="Bai et al., Sentence-level Prompts Benefit Composed Image Retrieval, ICLR 2024, "
        "arXiv 2310.05473",
        train=TrainSettings(
            epochs=50,
            batch_size=128,
            drop_last=True,
            lr=1e-5,
            weight_decay=0.05,
            betas=(0.9, 0.98),
            eps=1e-7,
            known_positives="target",
        ),
        schedule=ScheduleSettings(name="one_cycle", epochs=80, warmup=1 / 50, start_factor=1 / 25),
        datasets={
            "cirr": _LAVIS,
            "fashioniq": {
                **_LAVIS,
                "data.caption_mode": "four_way",
                "method.text_weight": 1.0,
                "method.align_weight": 1.0,
                "train.epochs": 30,
                "train.lr": 2e-5,
                "schedule.epochs": 30,
                "schedule.warmup": 1.5 / 30,
                "schedule.start_factor": 1 / 100,
            },
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"query_tokens"})
    official: ClassVar[Official] = official_state

    def __init__(
        self,
        components: Components,
        *,
        text_weight: Weight = 0.4,
        align_weight: Weight = 0.4,
        temperature: Temperature = TEMPERATURE,
        learn_temperature: bool = True,
    ) -> None:
        super().__init__(components, temperature=temperature, learn_temperature=learn_temperature)
        if min(text_weight, align_weight) < 0:
            raise ValueError("text_weight and align_weight must be at least 0")
        self.text_weight, self.align_weight = text_weight, align_weight
        # The official parameter is the temperature itself, which decays and steps as such.
        del self.log_temperature
        self.temp = nn.Parameter(torch.tensor(temperature), requires_grad=learn_temperature)
        self.prompt_tokens = nn.Parameter(torch.empty_like(self.backbone.model.query_tokens))
        nn.init.normal_(self.prompt_tokens, std=0.02)

    @property
    def temperature(self) -> Tensor:
        """The temperature, a scalar; nothing keeps it above 0."""
        return self.temp

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed queries (B, D) of unit length."""
        fused: Fused = self.backbone.fuse(features, tokens)
        return self.read_prompt(fused.tokens, tokens)

    def prompted_states(self, prompt: Tensor, tokens: Tokens) -> Tensor:
        """Second pass (B, T + L, H) over a prompt (B, T, H) and the text, without an image."""
        embedded = self.backbone.model.embeddings(input_ids=tokens["ids"], query_embeds=prompt)
        return self._states(embedded, prompt, tokens)

    def read_prompt(self, prompt: Tensor, tokens: Tokens) -> Tensor:
        """Queries (B, D) of unit length: the [CLS] after the prompt, projected."""
        states = self.prompted_states(prompt, tokens)
        return unit(self.backbone.project_text(states[:, prompt.shape[1]]))

    def text_only_states(self, tokens: Tokens) -> Tensor:
        """States (B, T + L, H) of [CLS], the learned prompts, and the rest of the text."""
        embeddings = self.backbone.model.embeddings
        words = embeddings.word_embeddings(tokens["ids"])
        prompt = self.prompt_tokens.expand(len(words), -1, -1)
        sequence = torch.cat([words[:, :1], prompt, words[:, 1:]], dim=1)
        # Prompts have position embeddings here; in the other passes the text alone has.
        positions = torch.arange(sequence.shape[1], device=sequence.device)
        return self._states(sequence + embeddings.position_embeddings(positions), prompt, tokens)

    def read_text(self, tokens: Tokens) -> Tensor:
        """Text-only queries (B, D) of unit length."""
        return unit(self.backbone.project_text(self.text_only_states(tokens)[:, 0]))

    def _states(self, embedded: Tensor, prompt: Tensor, tokens: Tokens) -> Tensor:
        # The first text token is never padding, so one mask fits both orders.
        ones = tokens["mask"].new_ones(prompt.shape[:2])
        hidden: Tensor = self.backbone.model.qformer(
            query_embeds=embedded,
            query_length=0,
            attention_mask=torch.cat([ones, tokens["mask"]], dim=1),
        ).last_hidden_state
        return hidden

    def embed_queries(self, features: Features, batch: Batch) -> QueryEmbeddings:
        """Embeddings of B queries for the three loss terms."""
        fused: Fused = self.backbone.fuse(features, batch.tokens)
        query = self.read_prompt(fused.tokens, batch.tokens)
        text = self.read_text(batch.tokens) if self.text_weight else query
        return QueryEmbeddings(query, text, fused.tokens.mean(dim=1))

    def loss_terms_from(
        self, queries: QueryEmbeddings, targets: Features, batch: Batch
    ) -> dict[str, Tensor]:
        """``contrast``, ``text`` and ``align``, weighted; those of weight 0 are left out."""
        scores = self.similarity(queries.query, targets)
        negatives = self.negatives(scores, batch)
        terms = {"contrast": self.reduce_loss(self.loss, scores, batch.target, negatives)}
        if self.text_weight:
            alone = self.similarity(queries.text, targets)
            value = self.reduce_loss(self.loss, alone, batch.target, negatives)
            terms["text"] = self.text_weight * value
        if self.align_weight:
            terms["align"] = self.align_weight * self.alignment(queries.prompt)
        return terms

    def alignment(self, prompt: Tensor) -> Tensor:
        """Mean squared difference of mean prompts (B, H) and the mean learned prompt, a scalar."""
        learned = self.prompt_tokens.detach().mean(dim=1).expand(len(prompt), -1)
        return nn.functional.mse_loss(prompt, learned)
