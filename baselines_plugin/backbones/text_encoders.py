"""Text encoders for image networks: LSTMs over learned words, BERT and RoBERTa.

Each is an ``nn.Module`` with ``tokenizer`` (texts -> token tensors, for loader workers), ``width``
(size of a text vector) and a forward on the token tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines_plugin.backbones.vocabulary import WordIds, word_vectors
from cir_plugins import Tokens, WordPieceTokenizer


class LstmText(nn.Module):
    """The last state of an LSTM over a text, through dropout and a linear layer (B, width).

    Args:
        words: Vocabulary in the order of the ids.
        rule: ``tirg``, or ``cosmo`` (begin and end ids, padding without a vector).
        word_width: Size of a word's vector.
        state_width: Size of the LSTM's state.
        width: Size of a text vector.
        dropout: Before the linear layer, in [0, 1).

    Source: Vo et al., TIRG, CVPR 2019, arXiv 1812.07119; Lee et al., CoSMo, CVPR 2021.
    """

    def __init__(
        self,
        words: Sequence[str],
        rule: Literal["tirg", "cosmo"],
        *,
        word_width: int = 512,
        state_width: int = 512,
        width: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.tokenizer = WordIds(words, rule)
        self.width = width
        padding = 0 if rule == "cosmo" else None
        self.embedding = nn.Embedding(len(self.tokenizer), word_width, padding_idx=padding)
        self.lstm = nn.LSTM(word_width, state_width, batch_first=True)
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(state_width, width))

    def forward(self, tokens: Tokens) -> Tensor:
        """Text vectors (B, width), not normalised, of ``ids`` (B, L) and ``lengths`` (B,)."""
        states, _ = self.lstm(self.embedding(tokens["ids"]))  # (B, L, S)
        rows = torch.arange(len(states), device=states.device)
        result: Tensor = self.output(states[rows, tokens["lengths"] - 1])
        return result


class MaxLstmText(nn.Module):
    """The maximum over time of an LSTM's states, through dropout and a linear layer with norm.

    Args:
        words: Vocabulary in the order of the ids.
        once: Words that are unknown outside training: officially those seen once in it.
        word_width: Size of a word's vector (300 with GloVe).
        state_width: Size of the LSTM's state.
        width: Size of a text vector.
        dropout: Before the linear layer, in [0, 1).
        vectors: GloVe text file with start values of words; empty for a Xavier draw. Missing
            words are drawn with standard deviation 0.09.
        seed: Of that draw.
        norm_momentum: Weight of a batch in the running statistics of the norm.

    In training the states after a text's end are 0, as in TensorFlow, so that for all but the
    longest text of a batch a maximum is at least 0. Outside training they do not count: the
    official test encodes one text at a time.

    Source: Chen, Gong, Bazzani, VAL, CVPR 2020, section 3.1, and the released settings.
    Differs: the initial state starts at zero.
    """

    test_ids: Tensor  # id -> id outside training, where rare words are unknown

    def __init__(
        self,
        words: Sequence[str],
        *,
        once: Sequence[str] = (),
        word_width: int = 512,
        state_width: int = 1024,
        width: int = 512,
        dropout: float = 0.1,
        vectors: str = "",
        seed: int = 0,
        norm_momentum: float = 0.003,
    ) -> None:
        super().__init__()
        self.tokenizer = WordIds(words, "val")
        rare = frozenset(once)
        test_ids = [0, *(0 if word in rare else i for word, i in self.tokenizer.index.items())]
        self.register_buffer("test_ids", torch.tensor(test_ids), persistent=False)
        self.width = width
        self.embedding = nn.Embedding(len(self.tokenizer), word_width)
        nn.init.xavier_uniform_(self.embedding.weight)
        if vectors:
            start = word_vectors(Path(vectors), words, word_width, seed)
            self.embedding.weight.data.copy_(start)
        self.lstm = nn.LSTM(word_width, state_width, batch_first=True)
        self.start = nn.Parameter(torch.zeros(2, state_width))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(state_width, width, bias=False)
        self.norm = nn.BatchNorm1d(width, momentum=norm_momentum)
        self._start_gates(state_width)

    def _start_gates(self, size: int) -> None:
        """Xavier weights, zero bias but a forget bias of 1, as in TensorFlow's basic cell."""
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("weight"):
                nn.init.xavier_uniform_(parameter)
                continue
            nn.init.zeros_(parameter)
            if name == "bias_ih_l0":
                nn.init.ones_(parameter.data[size : 2 * size])

    def forward(self, tokens: Tokens) -> Tensor:
        """Text vectors (B, width), not normalised, of ``ids`` (B, L) and ``lengths`` (B,)."""
        ids, lengths = tokens["ids"], tokens["lengths"]
        if not self.training:
            ids = self.test_ids[ids]
        hidden, cell = (state.expand(1, len(ids), -1).contiguous() for state in self.start[:, None])
        states, _ = self.lstm(self.embedding(ids), (hidden, cell))  # (B, L, S)
        after = torch.arange(ids.shape[1], device=ids.device) >= lengths[:, None]
        value = 0.0 if self.training else -torch.inf
        best = states.masked_fill(after[..., None], value).amax(dim=1)
        result: Tensor = self.norm(self.output(self.dropout(best)))
        return result


class BertText(nn.Module):
    """A frozen sentence vector: the mean over a text's tokens of BERT's second-to-last layer.

    Args:
        model: A ``BertModel`` of transformers.
        tokenizer: Its tokenizer.

    Source: bert-as-service's default pooling, as ComposeAE uses it (arXiv 2006.11149).
    """

    def __init__(self, model: Any, tokenizer: WordPieceTokenizer) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.width = int(model.config.hidden_size)

    def train(self, mode: bool = True) -> BertText:
        """This module; BERT stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    @torch.no_grad()
    def forward(self, tokens: Tokens) -> Tensor:
        """Sentence vectors (B, width), [CLS] and [SEP] in the mean, without gradient."""
        output = self.model(
            input_ids=tokens["ids"], attention_mask=tokens["mask"], output_hidden_states=True
        )
        mask = tokens["mask"][..., None].to(output.hidden_states[-2].dtype)
        total: Tensor = (output.hidden_states[-2] * mask).sum(dim=1)
        return total / mask.sum(dim=1)


class RobertaText(nn.Module):
    """The last hidden state of a text's first token, from a RoBERTa that is trained too.

    Args:
        model: A ``RobertaModel`` of transformers.
        tokenizer: Its tokenizer.

    Source: Chen et al., MGUR, ICLR 2024, arXiv 2211.07394.
    """

    def __init__(self, model: Any, tokenizer: WordPieceTokenizer) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.width = int(model.config.hidden_size)

    def forward(self, tokens: Tokens) -> Tensor:
        """First states (B, width), not normalised."""
        output = self.model(input_ids=tokens["ids"], attention_mask=tokens["mask"])
        states: Tensor = output.last_hidden_state
        return states[:, 0]
