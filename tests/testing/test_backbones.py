from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins import unit
from cir_plugins.testing import ContractError, check_backbone
from tests.testing.toy import Toy


def changed(**members: Any) -> Toy:
    toy = Toy()
    for name, member in members.items():
        object.__setattr__(toy, name, member)
    return toy


def test_a_minimal_backbone_keeps_the_contract() -> None:
    check_backbone(Toy())


def centred(features: Tensor) -> Tensor:
    return unit(features - features.mean(dim=0))


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (object(), "a backbone is an nn.Module"),
        (changed(offers=["image_embedding"]), "'offers' must be a frozenset"),
        (changed(frozen_features="yes"), "'frozen_features' must be a bool"),
        (changed(frozen_features=True), "frozen_features is True but a gradient reaches"),
        (changed(encode_gallery=lambda f: f), "target must have unit length"),
        (changed(encode_query=lambda f, t: f), "query must have unit length"),
        (changed(encode_gallery=centred), "target of image 0 alone and in a batch of 3: off by"),
        (
            changed(encode_gallery=lambda f: unit(f)[:, :4]),
            r"must have shape \(3, 8\), found \(3, 4\)",
        ),
        (
            changed(similarity=lambda q, t: (q * t).sum(-1)),
            r"similarity raises RuntimeError on query \(2, 8\)",
        ),
        (changed(features=lambda x: x[:1].flatten(1)), "features must have the 3 images first"),
        (changed(features=lambda x: [x]), "features are list, not a tensor or a named tuple"),
        (changed(tokenize=lambda t: {"n": torch.ones(1)}), "'tokenize' runs in loader workers"),
        (changed(preprocess=lambda i: i), "'preprocess' runs in loader workers"),
        (Toy, r"the backbone must be built: give the check Toy\(\), not the class Toy"),
        (changed(similarity=lambda q, t: t @ q.T), r"similarity of .* must have shape \(2, 3\)"),
        (
            changed(encode_query=None),
            "the backbone lacks encode_query; a backbone has preprocess, tokenize",
        ),
        (
            changed(encode_query=lambda f: f),
            r"encode_query raises TypeError on the features and tokens of 3",
        ),
        (changed(offers=frozenset({"image_embeding"})), "did you mean 'image_embedding'"),
        (changed(offers=frozenset({"raw_embeddings"})), "'raw_embeddings' .* no method 'raw_text'"),
        (changed(offers=frozenset({"text_features"})), "'text_features' .* no method 'describe'"),
        (changed(offers=frozenset({"feature_map"})), "'feature_map' .* no method 'project'"),
        (
            changed(offers=frozenset({"feature_map"}), project=lambda f: f),
            r"where 'feature_map' is offered, must have shape \(3, 'any', .*, found \(3, 8\)",
        ),
        (changed(offers=frozenset({"feature_levels"})), "features are not several maps"),
        (
            changed(offers=frozenset({"raw_embeddings"}), raw_text=lambda t: torch.ones(3, 5)),
            r"as there is no raw_image, must have shape \(3, 5\), found \(3, 8\)",
        ),
        (changed(image=lambda f: f.gone), "the offer 'image_embedding' raises AttributeError on"),
        (changed(text=lambda t: 2 * torch.ones(3, 8)), "text must have unit length"),
    ],
)
def test_a_broken_backbone_contract_is_named(backbone: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_backbone(backbone)


def test_a_plugin_may_have_offers_of_its_own() -> None:
    check_backbone(changed(offers=frozenset({"grounded_text", "audio_embedding"})))
