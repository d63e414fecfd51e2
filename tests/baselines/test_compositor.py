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


def test_a_map_is_standardised_per_channel_by_its_biased_variance() -> None:
    # Mean 3, squared deviations 4, 0, 0, 4: variance 2.
    given = torch.tensor([1.0, 3.0, 3.0, 5.0]).view(1, 1, 2, 2)
    lead = 2 / math.sqrt(2 + 1e-5)
    expected = torch.tensor([-lead, 0.0, 0.0, lead]).view(1, 1, 2, 2)
    assert torch.allclose(instance_normalise(given), expected, atol=1e-6)


def test_standardising_equals_torchs_on_maps_and_on_vectors() -> None:
    given = maps(3, 5, 2, 7)
    assert torch.allclose(instance_normalise(given), F.instance_norm(given), atol=1e-5)
    vectors = maps(4, 9)
    assert torch.allclose(instance_normalise(vectors), F.instance_norm(vectors[None])[0], atol=1e-5)


def test_a_map_of_one_place_has_no_content() -> None:
    """The norm of torch refuses it; a ResNet on small pictures gives it."""
    assert torch.equal(instance_normalise(torch.full((2, 3, 1, 1), 7.0)), torch.zeros(2, 3, 1, 1))


def test_equalised_weights_are_scaled_in_use_and_not_in_store() -> None:
    layer = EqualisedLinear(512, 3)
    assert layer.scale == pytest.approx(0.0625)
    assert layer.weight.std().item() == pytest.approx(1.0, abs=0.1)
    small = EqualisedLinear(8, 2)
    with torch.no_grad():
        small.weight.copy_(torch.tensor([[2.0] + [0.0] * 7, [1.0] * 8]))
        small.bias.copy_(torch.tensor([0.5, 0.0]))
    # sqrt(2 / 8) = 0.5: 2 · 0.5 · 3 + 0.5 and 0.5 · (3 + 7).
    given = torch.tensor([[3.0, 1, 1, 1, 1, 1, 1, 1]])
    assert small(given).tolist() == [[3.5, 5.0]]


def test_attention_rows_sum_to_two() -> None:
    attention = TextGuidedAttention(12, 5, heads=3)
    made = attention(maps(2, 12, 3, 4), torch.randn(2, 5))
    assert made.places.shape == (2, 3, 12, 12)
    assert made.asked.shape == (2, 3, 12)
    assert torch.allclose(made.places.sum(-1), torch.ones(2, 3, 12), atol=1e-5)
    assert torch.allclose(made.asked.sum(-1), torch.ones(2, 3), atol=1e-5)
    assert torch.allclose(made.weights.sum(-1), torch.full((2, 3, 12), 2.0), atol=1e-5)


def slow_attention(layer: TextGuidedAttention, given: Tensor, text: Tensor, heads: int) -> Tensor:
    """The attention of one map (C, H, W) under one text (S,), place by place."""
    channels, height, width = given.shape
    places = [given[:, y, x] for y in range(height) for x in range(width)]
    size = channels // heads
    fused = [layer.fuse.weight[:, :, 0, 0] @ torch.cat([place, text]) for place in places]
    values = [layer.value.weight[:, :, 0, 0] @ place for place in fused]
    asks = [layer.query.weight[:, :, 0, 0] @ place for place in places]
    keys = [layer.key.weight[:, :, 0, 0] @ place for place in places]
    wish = layer.text.weight @ text + layer.text.bias
    out, bias = torch.empty(channels, height, width), layer.out.bias
    assert bias is not None
    for number in range(len(places)):
        gathered = torch.zeros(channels)
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            looked = torch.tensor([float(asks[number][own] @ key[own]) for key in keys])
            wanted = torch.tensor([float(wish[own] @ place[own]) for place in places])
            shares = (looked / size**0.5).softmax(0) + (wanted / size**0.5).softmax(0)
            for share, value in zip(shares, values, strict=True):
                gathered[own] += share * value[own]
        row = layer.out.weight[:, :, 0, 0] @ gathered + bias
        out[:, number // width, number % width] = row
    return out


@pytest.mark.parametrize(("heads", "height", "width"), [(1, 2, 2), (2, 1, 3), (4, 3, 2)])
def test_attention_equals_a_plain_one(heads: int, height: int, width: int) -> None:
    layer = TextGuidedAttention(8, 3, heads)
    given, text = maps(2, 8, height, width, seed=heads), torch.randn(2, 3)
    with torch.no_grad():
        made = layer(given, text).out
        for row in range(2):
            slow = slow_attention(layer, given[row], text[row], heads)
            assert torch.allclose(made[row], slow, atol=1e-5)


def test_style_is_gated_statistics_of_the_reference_plus_a_shift() -> None:
    style = StyleModulator(1, 2)
    with torch.no_grad():
        for layer in (style.gate, style.shift):
            layer.weight.zero_()
        style.gate.bias.copy_(torch.tensor([0.0, math.log(3.0)]))  # gates 1/2 and 3/4
        style.shift.bias.copy_(torch.tensor([2.0, -1.0]))
    reference = torch.tensor([1.0, 3.0, 3.0, 5.0]).view(1, 1, 2, 2)  # mean 3, deviation sqrt(2)
    content = torch.tensor([0.0, 1.0, -1.0, 2.0]).view(1, 1, 2, 2)
    made = style(content, reference, torch.randn(1, 2))
    factor, offset = 0.5 * math.sqrt(2) + 2, 0.75 * 3 - 1
    assert torch.allclose(made.out, factor * content + offset, atol=1e-6)
    assert torch.allclose(made.gates, torch.tensor([[0.5, 0.75]]))
    assert made.shifts.tolist() == [[2.0, -1.0]]


def test_style_starts_from_a_scale_of_one_and_a_shift_of_zero() -> None:
    style = StyleModulator(3, 4)
    assert style.shift.bias.tolist() == [1.0, 1, 1, 0, 0, 0]
    assert not style.gate.bias.any()


def test_no_gradient_reaches_the_reference_through_its_statistics() -> None:
    style = StyleModulator(3, 4)
    reference = maps(2, 3, 2, 2).requires_grad_()
    content = maps(2, 3, 2, 2, seed=1).requires_grad_()
    out = style(content, reference, torch.randn(2, 4)).out.square().sum()
    given = torch.autograd.grad(out, (reference, content), allow_unused=True)
    assert [gradient is not None and bool(gradient.any()) for gradient in given] == [False, True]


def test_the_attentions_follow_one_another_under_learned_weights() -> None:
    compositor = Compositor(8, 3, heads=2)
    given, text = maps(2, 8, 3, 2), torch.randn(2, 3)
    assert compositor.weights.tolist() == [1.0, 1.0]
    with torch.no_grad():
        compositor.weights.copy_(torch.tensor([0.5, -2.0]))
        made = compositor(given, text)
        plain = instance_normalise(given)
        middle = plain + 0.5 * compositor.first(plain, text).out
        content = middle - 2 * compositor.second(middle, text).out
        out = compositor.style(content, given, text).out
    assert torch.allclose(made.content, content, atol=1e-5)
    assert torch.allclose(made.out, out, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (7, 7)])
def test_any_height_and_width_will_do(shape: tuple[int, int]) -> None:
    compositor = Compositor(8, 3, heads=4)
    made = compositor(maps(2, 8, *shape), torch.randn(2, 3))
    assert made.out.shape == (2, 8, *shape)
    assert made.out.isfinite().all()


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="heads must divide the map's 10 channels, 4 do not"):
        Compositor(10, 3, heads=4)
