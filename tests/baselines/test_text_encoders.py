from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines_plugin.backbones.text_encoders import BertText, LstmText, MaxLstmText, RobertaText
from baselines_plugin.backbones.text_factory import transformer_text
from cir_plugins import WEIGHTS, CIRError, WordPieceTokenizer

WORDS = ("is", "red", "shorter", "sleeves", "with")


@pytest.mark.parametrize("rule", ["tirg", "cosmo"])
def test_the_last_real_word_counts_whatever_the_padding(rule: str) -> None:
    encoder = LstmText(WORDS, rule, word_width=4, state_width=5, width=3).eval()  # type: ignore[arg-type]
    together = encoder(encoder.tokenizer(["red", "is shorter with sleeves"]))
    alone = encoder(encoder.tokenizer(["red"]))
    assert together.shape == (2, 3)
    assert torch.allclose(together[:1], alone, atol=1e-6)


def test_cosmos_padding_has_no_vector() -> None:
    cosmo = LstmText(WORDS, "cosmo", word_width=4, state_width=5, width=3)
    tirg = LstmText(WORDS, "tirg", word_width=4, state_width=5, width=3)
    assert cosmo.embedding.weight.shape == (9, 4)
    assert not cosmo.embedding.weight[0].any()
    assert tirg.embedding.weight.shape == (6, 4)
    assert tirg.embedding.weight[0].any()


def states_of(encoder: MaxLstmText, ids: list[int]) -> torch.Tensor:
    """States (L, S) of one text, gate by gate."""
    lstm: Any = encoder.lstm
    hidden, cell = encoder.start[0], encoder.start[1]
    states = []
    for word in ids:
        gates = lstm.weight_ih_l0 @ encoder.embedding.weight[word] + lstm.bias_ih_l0
        gates = gates + lstm.weight_hh_l0 @ hidden + lstm.bias_hh_l0
        write, forget, new, read = gates.chunk(4)
        cell = forget.sigmoid() * cell + write.sigmoid() * new.tanh()
        hidden = read.sigmoid() * cell.tanh()
        states.append(hidden)
    return torch.stack(states)


def test_vals_maximum_sees_padding_in_training_only() -> None:
    """VAL's maximum includes zeros after a text in training, as in TensorFlow."""
    torch.manual_seed(0)
    encoder = MaxLstmText(WORDS, word_width=4, state_width=6, width=3, dropout=0.0)
    with torch.no_grad():
        encoder.start.normal_()
        encoder.output.weight.copy_(torch.eye(6)[:3])
    tokens = {"ids": torch.tensor([[2, 0, 0], [1, 3, 4]]), "lengths": torch.tensor([1, 3])}
    short, long = states_of(encoder, [2]), states_of(encoder, [1, 3, 4])
    rest = (1 + 1e-5) ** -0.5
    encoder.eval()
    expected = torch.stack([short.amax(dim=0), long.amax(dim=0)])[:, :3]
    assert torch.allclose(encoder(tokens), expected * rest, atol=1e-6)
    encoder.train()
    seen = torch.stack([short.amax(dim=0).clamp(min=0), long.amax(dim=0)])[:, :3]
    normed = (seen - seen.mean(0)) / (seen.var(0, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(encoder(tokens), normed, atol=1e-4)
    assert (short < 0).any()


def test_val_does_not_know_rare_words_outside_training() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"word_width": 4, "state_width": 6, "width": 3, "dropout": 0.0}
    encoder = MaxLstmText(WORDS, once=("red", "strange"), **options)
    plain = MaxLstmText(WORDS, **options)
    plain.load_state_dict(encoder.state_dict())
    tokens = encoder.tokenizer(["is red", "shorter sleeves"])
    unknown = encoder.tokenizer(["is odd", "shorter sleeves"])
    assert torch.equal(encoder(tokens), plain(tokens))
    assert torch.equal(encoder.eval()(tokens), plain.eval()(unknown))
    assert not torch.equal(plain(tokens), plain(unknown))


def test_vals_forget_gates_start_open() -> None:
    lstm: Any = MaxLstmText(WORDS, word_width=4, state_width=2, width=3).lstm
    assert lstm.bias_ih_l0.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert not lstm.bias_hh_l0.any()


def test_vals_words_start_from_their_vectors(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("red 1 2\n")
    encoder = MaxLstmText(WORDS, word_width=2, state_width=2, width=2, vectors=str(file))
    assert encoder.embedding.weight[2].tolist() == [1.0, 2.0]


def test_berts_vector_is_its_second_to_last_mean() -> None:
    """BERT's vector is the mean of the second-to-last layer."""
    torch.manual_seed(0)
    encoder: Any = transformer_text("bert", "tiny", 25)
    assert isinstance(encoder, BertText)
    texts = ["is red", "is shorter with long sleeves"]
    tokens = encoder.tokenizer(texts)
    hidden = encoder.model(
        input_ids=tokens["ids"], attention_mask=tokens["mask"], output_hidden_states=True
    ).hidden_states
    assert len(hidden) == 3
    for row, mask in enumerate(tokens["mask"]):
        expected = hidden[1][row][mask.bool()].mean(dim=0)
        assert torch.allclose(encoder(tokens)[row], expected, atol=1e-6)
    assert torch.allclose(encoder(encoder.tokenizer(texts[:1])), encoder(tokens)[:1], atol=1e-5)


def test_bert_stays_frozen_in_training() -> None:
    """BERT is frozen and in evaluation mode even in training."""
    encoder: Any = transformer_text("bert", "tiny", 25).train()
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(encoder.tokenizer(["red"])).requires_grad


def test_tiny_bert_is_the_same_in_every_build() -> None:
    """Its weights are frozen and not in checkpoints."""
    torch.manual_seed(1)
    first: Any = transformer_text("bert", "tiny", 25)
    after = torch.rand(1)
    second: Any = transformer_text("bert", "tiny", 25)
    tokens = first.tokenizer(["is red"])
    assert torch.equal(first(tokens), second(tokens))
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)


def test_robertas_vector_is_its_first_state() -> None:
    """RoBERTa's vector is the last state of the first token, and it is trained."""
    torch.manual_seed(0)
    encoder = transformer_text("roberta", "tiny", 25).eval()
    assert isinstance(encoder, RobertaText)
    tokens = encoder.tokenizer(["is red", "is shorter with long sleeves"])
    states = encoder.model(input_ids=tokens["ids"], attention_mask=tokens["mask"])
    assert torch.equal(encoder(tokens), states.last_hidden_state[:, 0])
    alone = encoder(encoder.tokenizer(["is red"]))
    assert torch.allclose(alone, encoder(tokens)[:1], atol=1e-5)
    assert encoder(tokens).requires_grad


def test_the_tokenizer_truncates_and_pickles() -> None:
    """Texts are cut at the length, and loader workers can have the tokenizer."""
    tokenizer = WordPieceTokenizer(str(WEIGHTS / "tiny_blip2"), 6)
    assert tokenizer(["long red sleeves " * 20])["ids"].shape == (1, 6)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert torch.equal(again(["red"])["ids"], tokenizer(["red"])["ids"])


def test_a_folder_of_transformers_is_taken(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder: Any = transformer_text("bert", "tiny", 25)
    encoder.model.save_pretrained(tmp_path)
    encoder.tokenizer.pretrained.save_pretrained(tmp_path)
    loaded = transformer_text("bert", str(tmp_path), 25)
    tokens = encoder.tokenizer(["is red"])
    assert torch.allclose(loaded(tokens), encoder(tokens), atol=1e-6)


@pytest.mark.parametrize(("kind", "what"), [("bert", "BERT"), ("roberta", "RoBERTa")])
def test_a_model_that_is_not_there(kind: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=f"{what} '.*' could not be loaded"):
        transformer_text(kind, str(tmp_path / "none"), 25)  # type: ignore[arg-type]
    with pytest.raises(CIRError, match=r"tokenizer '.*' could not be loaded"):
        WordPieceTokenizer(str(tmp_path / "none"), 25)(["red"])
