from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from cir_plugins.builtin.blip2 import TinyBlip2
from cir_plugins.builtin.image_text import ImageTextModel


class Model(nn.Module):
    """The used modules of an image-text model: a ViT, a matching head, one more layer."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(vision_config=SimpleNamespace(image_size=32))
        self.vision_model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.itm_head = nn.Linear(2, 2)
        self.text = nn.Linear(2, 2)


def module_of(**options: Any) -> ImageTextModel:
    tokenizer = TinyBlip2(start="random").tokenizer
    option = {"frozen": True, "image_size": 0, "resize": "squash", **options}
    return ImageTextModel(Model(), tokenizer, **option)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_vit_stays_in_evaluation_mode(frozen: bool) -> None:
    """A frozen ViT gets no gradient and has no dropout."""
    module = module_of(frozen=frozen).train()
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    vision = {"model.vision_model.0.weight", "model.vision_model.0.bias"}
    assert trained == {"model.text.weight", "model.text.bias"} | (set() if frozen else vision)
    assert module.model.vision_model.training is not frozen
    assert module.model.text.training
    assert module.frozen_features is frozen


@pytest.mark.parametrize(
    ("option", "size", "between"), [(0, 32, False), (32, 32, False), (64, 64, True)]
)
def test_the_image_size_overrides_the_models(option: int, size: int, between: bool) -> None:
    module = module_of(image_size=option)
    assert (module.preprocess.size, module.interpolate) == (size, between)


def test_the_score_is_the_best_tokens() -> None:
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert module_of().similarity(torch.tensor([[0.6, 0.8]]), tokens).tolist() == [
        [pytest.approx(0.8)]
    ]
