from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dqe_plugin.attributes import AttributeWeights, mentions


def made_up(
    gate: float = 0.02,
) -> tuple[AttributeWeights, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    weights = AttributeWeights(torch.randn(2, 6), gate=gate)
    return weights, torch.randn(3, 5, 6), torch.randn(3, 6), torch.randn(3, 5, 4)


def test_weights_and_sub_queries_follow_the_formula() -> None:
    """Compared with the formula, one number at a time."""
    module, hidden, text, projected = made_up()
    with torch.no_grad():
        torch.nn.init.normal_(module.gate.weight)
        result = module(hidden, text, projected)
        for b in range(3):
            for a in range(2):
                query = module.ask.weight @ (text[b] + module.embedding[a])
                logits = [float((module.key.weight @ h) @ query) / math.sqrt(6) for h in hidden[b]]
                top = max(logits)
                shares = [math.exp(value - top) for value in logits]
                shares = [share / sum(shares) for share in shares]
                assert result.weights[b, a].tolist() == pytest.approx(shares, abs=1e-5)
                expected = sum(share * p for share, p in zip(shares, projected[b], strict=True))
                assert torch.allclose(result.sub_queries[b, a], expected, atol=1e-5)
                logit = float(module.gate.weight[a] @ text[b] + module.gate.bias[a])
                gate = 1 / (1 + math.exp(-logit))
                assert float(result.gates[b, a]) == pytest.approx(gate, abs=1e-6)


@pytest.mark.parametrize("gate", [0.02, 0.5, 0.9])
def test_every_gate_starts_as_set(gate: float) -> None:
    module, *inputs = made_up(gate)
    gates = module(*inputs).gates.detach()
    assert torch.allclose(gates, torch.full((3, 2), gate))


@pytest.mark.parametrize("gate", [0.0, 1.0, -0.5])
def test_a_gate_at_its_ends_is_an_error(gate: float) -> None:
    with pytest.raises(ValueError, match=rf"gate must lie in \(0, 1\), not {gate}"):
        AttributeWeights(torch.zeros(1, 4), gate=gate)


def test_attribute_embeddings_are_copies() -> None:
    """They start from the argument and do not change it."""
    words = torch.ones(2, 4)
    module = AttributeWeights(words)
    assert torch.equal(module.embedding.detach(), words)
    with torch.no_grad():
        module.embedding.zero_()
    assert words.sum() == 8


def test_gradient_reaches_every_parameter() -> None:
    module, *inputs = made_up()
    output = module(*inputs)
    (output.gates[..., None] * output.sub_queries).pow(2).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ("text", "colour", "shape"),
    [
        ("is blue", True, False),
        ("Is BLUE and has longer sleeves.", True, True),
        ("is bluebird themed", False, False),
        ("the same with two dogs", False, False),
        ("has a v-neck", False, True),
        ("is a t-shirt", False, True),
        ("is long-sleeved and dark-blue", True, True),
        ("multi-colored, knee-length", True, True),
        ("", False, False),
    ],
)
def test_texts_speak_of_what_their_words_name(text: str, colour: bool, shape: bool) -> None:
    """FashionIQ has hyphenated words: long-sleeved, multi-colored."""
    assert mentions([text], ["colour", "shape"]).tolist() == [[colour, shape]]


def test_unlisted_attributes_count_by_name() -> None:
    texts = ["a bigger logo", "pattern of dots", "softer fabric"]
    assert mentions(texts, ["fabric", "pattern"]).tolist() == [
        [False, True],
        [False, True],
        [True, False],
    ]
    assert mentions([], ["fabric"]).shape == (0, 1)
