from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines_plugin.parts.compositor import (
    Compositor,
    EqualisedLinear,
    StyleModulator,
    TextGuidedAttention,
    instance_normalise,
)


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).relu() + 0.1


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_maps_are_standardised_per_channel() -> None:
    """By the biased variance."""
    # Mean 3, squared deviations 4, 0, 0, 4: variance 2.
    inputs = torch.tensor([1.0, 3.0, 3.0, 5.0]).view(1, 1, 2, 2)
    lead = 2 / math.sqrt(2 + 1e-5)
    expected = torch.tensor([-lead, 0.0, 0.0, lead]).view(1, 1, 2, 2)
    assert torch.allclose(instance_normalise(inputs), expected, atol=1e-6)


def test_standardising_equals_torchs_on_maps_and_on_vectors() -> None:
    inputs = maps(3, 5, 2, 7)
    assert torch.allclose(instance_normalise(inputs), F.instance_norm(inputs), atol=1e-5)
    vectors = maps(4, 9)
    assert torch.allclose(instance_normalise(vectors), F.instance_norm(vectors[None])[0], atol=1e-5)


def test_a_map_of_one_position_is_zero() -> None:
    """An error in torch's norm, but the map of a ResNet on small pictures."""
    assert torch.equal(instance_normalise(torch.full((2, 3, 1, 1), 7.0)), torch.zeros(2, 3, 1, 1))


def test_equalised_weights_are_scaled_in_use() -> None:
    """The stored weights are not scaled."""
    layer = EqualisedLinear(512, 3)
    assert layer.scale == pytest.approx(0.0625)
    assert layer.weight.std().item() == pytest.approx(1.0, abs=0.1)
    small = EqualisedLinear(8, 2)
    with torch.no_grad():
        small.weight.copy_(torch.tensor([[2.0] + [0.0] * 7, [1.0] * 8]))
        small.bias.copy_(torch.tensor([0.5, 0.0]))
    # sqrt(2 / 8) = 0.5: 2 · 0.5 · 3 + 0.5 and 0.5 · (3 + 7).
    inputs = torch.tensor([[3.0, 1, 1, 1, 1, 1, 1, 1]])
    assert small(inputs).tolist() == [[3.5, 5.0]]


def test_attention_rows_sum_to_two() -> None:
    attention = TextGuidedAttention(12, 5, heads=3)
    output = attention(maps(2, 12, 3, 4), torch.randn(2, 5))
    assert output.self_attention.shape == (2, 3, 12, 12)
    assert output.text_attention.shape == (2, 3, 12)
    assert torch.allclose(output.self_attention.sum(-1), torch.ones(2, 3, 12), atol=1e-5)
    assert torch.allclose(output.text_attention.sum(-1), torch.ones(2, 3), atol=1e-5)
    assert torch.allclose(output.weights.sum(-1), torch.full((2, 3, 12), 2.0), atol=1e-5)


def slow_attention(layer: TextGuidedAttention, inputs: Tensor, text: Tensor, heads: int) -> Tensor:
    """The attention of one map (C, H, W) under one text (S,), position by position."""
    channels, height, width = inputs.shape
    positions = [inputs[:, y, x] for y in range(height) for x in range(width)]
    size = channels // heads
    fused = [layer.fuse.weight[:, :, 0, 0] @ torch.cat([position, text]) for position in positions]
    values = [layer.value.weight[:, :, 0, 0] @ position for position in fused]
    queries = [layer.query.weight[:, :, 0, 0] @ position for position in positions]
    keys = [layer.key.weight[:, :, 0, 0] @ position for position in positions]
    wish = layer.text.weight @ text + layer.text.bias
    out, bias = torch.empty(channels, height, width), layer.out.bias
    assert bias is not None
    for number in range(len(positions)):
        gathered = torch.zeros(channels)
        for head in range(heads):
            channels_of_head = slice(head * size, (head + 1) * size)
            among = torch.tensor(
                [float(queries[number][channels_of_head] @ key[channels_of_head]) for key in keys]
            )
            by_text = torch.tensor(
                [
                    float(wish[channels_of_head] @ position[channels_of_head])
                    for position in positions
                ]
            )
            shares = (among / size**0.5).softmax(0) + (by_text / size**0.5).softmax(0)
            for share, value in zip(shares, values, strict=True):
                gathered[channels_of_head] += share * value[channels_of_head]
        row = layer.out.weight[:, :, 0, 0] @ gathered + bias
        out[:, number // width, number % width] = row
    return out


@pytest.mark.parametrize(("heads", "height", "width"), [(1, 2, 2), (2, 1, 3), (4, 3, 2)])
def test_attention_equals_a_plain_one(heads: int, height: int, width: int) -> None:
    layer = TextGuidedAttention(8, 3, heads)
    inputs, text = maps(2, 8, height, width, seed=heads), torch.randn(2, 3)
    with torch.no_grad():
        output = layer(inputs, text).out
        for row in range(2):
            slow = slow_attention(layer, inputs[row], text[row], heads)
            assert torch.allclose(output[row], slow, atol=1e-5)


def test_style_is_gated_reference_statistics() -> None:
    """Gated statistics of the reference, plus a shift."""
    style = StyleModulator(1, 2)
    with torch.no_grad():
        for layer in (style.gate, style.shift):
            layer.weight.zero_()
        style.gate.bias.copy_(torch.tensor([0.0, math.log(3.0)]))  # gates 1/2 and 3/4
        style.shift.bias.copy_(torch.tensor([2.0, -1.0]))
    reference = torch.tensor([1.0, 3.0, 3.0, 5.0]).view(1, 1, 2, 2)  # mean 3, deviation sqrt(2)
    content = torch.tensor([0.0, 1.0, -1.0, 2.0]).view(1, 1, 2, 2)
    output = style(content, reference, torch.randn(1, 2))
    factor, offset = 0.5 * math.sqrt(2) + 2, 0.75 * 3 - 1
    assert torch.allclose(output.out, factor * content + offset, atol=1e-6)
    assert torch.allclose(output.gates, torch.tensor([[0.5, 0.75]]))
    assert output.shifts.tolist() == [[2.0, -1.0]]


def test_style_starts_as_the_identity() -> None:
    """The shift starts from a scale of one and an offset of zero."""
    style = StyleModulator(3, 4)
    assert style.shift.bias.tolist() == [1.0, 1, 1, 0, 0, 0]
    assert not style.gate.bias.any()


def test_no_gradient_reaches_the_reference_through_its_statistics() -> None:
    style = StyleModulator(3, 4)
    reference = maps(2, 3, 2, 2).requires_grad_()
    content = maps(2, 3, 2, 2, seed=1).requires_grad_()
    out = style(content, reference, torch.randn(2, 4)).out.square().sum()
    inputs = torch.autograd.grad(out, (reference, content), allow_unused=True)
    assert [gradient is not None and bool(gradient.any()) for gradient in inputs] == [False, True]


def test_the_attentions_follow_one_another_under_learned_weights() -> None:
    compositor = Compositor(8, 3, heads=2)
    inputs, text = maps(2, 8, 3, 2), torch.randn(2, 3)
    assert compositor.weights.tolist() == [1.0, 1.0]
    with torch.no_grad():
        compositor.weights.copy_(torch.tensor([0.5, -2.0]))
        output = compositor(inputs, text)
        plain = instance_normalise(inputs)
        middle = plain + 0.5 * compositor.first(plain, text).out
        content = middle - 2 * compositor.second(middle, text).out
        out = compositor.style(content, inputs, text).out
    assert torch.allclose(output.content, content, atol=1e-5)
    assert torch.allclose(output.out, out, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (7, 7)])
def test_any_height_and_width_will_do(shape: tuple[int, int]) -> None:
    compositor = Compositor(8, 3, heads=4)
    output = compositor(maps(2, 8, *shape), torch.randn(2, 3))
    assert output.out.shape == (2, 8, *shape)
    assert output.out.isfinite().all()


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="heads must divide the map's 10 channels, not be 4"):
        Compositor(10, 3, heads=4)
