from __future__ import annotations

from typing import Any

import pytest
import torch

from cir_plugins.builtin.methods import ImageOnly, ImageTextProduct, ImageTextSum, TextOnly
from tests.fakes import FakeBackbone, components, number_words


@pytest.fixture(name="inputs")
def features_and_tokens() -> tuple[torch.Tensor, Any]:
    features = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    return features, number_words(["is red", "is long and blue", "plain"])


def test_each_alone(inputs: Any) -> None:
    features, tokens = inputs
    backbone = FakeBackbone()
    assert torch.equal(
        ImageOnly(components(backbone)).encode_query(*inputs), backbone.image(features)
    )
    assert torch.equal(TextOnly(components(backbone)).encode_query(*inputs), backbone.text(tokens))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_sum_is_weighted_and_of_unit_length(inputs: Any, weight: float) -> None:
    features, tokens = inputs
    backbone = FakeBackbone()
    result = ImageTextSum(components(backbone), text_weight=weight).encode_query(*inputs)
    mixed = (1 - weight) * backbone.image(features) + weight * backbone.text(tokens)
    assert torch.allclose(result, mixed / mixed.norm(dim=1, keepdim=True), atol=1e-6)


def test_product_of_scores_by_hand() -> None:
    method = ImageTextProduct(components())
    image, text = [1.0, 0.0], [0.0, 1.0]
    query = torch.tensor([[image, text]])
    target = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    # (1 + 1) / 2 * (1 + 0) / 2; 0.8 * 0.9; nothing where one of them is at its worst
    assert method.similarity(query, target)[0].tolist() == pytest.approx([0.5, 0.72, 0.0])


def test_product_takes_the_best_token_of_each(inputs: Any) -> None:
    features, _ = inputs
    backbone = FakeBackbone(targets=3)
    method = ImageTextProduct(components(backbone))
    query, target = method.encode_query(*inputs), method.encode_gallery(features)
    result = method.similarity(query, target)
    for b in range(3):
        for c in range(3):
            image = max((token @ query[b, 0]).item() for token in target[c])
            text = max((token @ query[b, 1]).item() for token in target[c])
            assert result[b, c].item() == pytest.approx((1 + image) * (1 + text) / 4, abs=1e-5)


@pytest.mark.parametrize("method", [ImageOnly, TextOnly, ImageTextSum, ImageTextProduct])
def test_none_of_them_is_trained(method: Any) -> None:
    assert not method.trained
    assert method.recipe.train.epochs == 0
    assert method.needs <= {"image_embedding", "text_embedding"}
    assert not any(parameter.grad is not None for parameter in method(components()).parameters())


def test_text_weight_out_of_range_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"text_weight must lie in \[0, 1\], not 2"):
        ImageTextSum(components(), text_weight=2)
