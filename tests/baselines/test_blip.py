from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines_plugin.backbones.blip import Blip, TinyBlip
from baselines_plugin.backbones.blip_files import (
    POSITIONS,
    fit_positions,
    from_salesforce,
    to_salesforce,
)
from baselines_plugin.backbones.blip_tower import from_tiny_blip2
from cir_plugins import CIRError
from cir_plugins.builtin.blip2 import TinyBlip2
from cir_plugins.testing import check_backbone
from tests.baselines.blip_shapes import blip_image, blip_text, drawn, on_meta

SMALL = {
    "image_text_hidden_size": 10,
    "vision_config": {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.1,
    },
    "text_config": {
        "vocab_size": 40,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 64,
        "is_decoder": True,
        "initializer_range": 0.1,
    },
}
OFFICIAL = blip_image(16, 2, 24, 17, 8, 10) | blip_text(12, 2, 20, 40, 16, 10, positions=64)
MATCHING = {"itm_head.weight": (2, 12), "itm_head.bias": (2,)}


def folder_of(path: Path) -> str:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(SMALL))
    return str(path)


def small(path: Path, **options: Any) -> Blip:
    torch.manual_seed(0)
    return Blip(model=folder_of(path), **{"weights": "random", **options}).eval()


def some_tokens() -> dict[str, Tensor]:
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
    return {"ids": ids, "mask": (ids > 0).long()}


def test_the_small_one_keeps_the_contract() -> None:
    torch.manual_seed(0)
    for vision in ("trained", "frozen"):
        check_backbone(TinyBlip(vision=vision, start="random", dropout=0.0))


def test_text_attention_is_bidirectional_without_padding(tmp_path: Path) -> None:
    """Texts are read in both directions, and padding is not read."""
    blip = small(tmp_path)
    tokens = some_tokens()
    states = blip.text_states(tokens)
    changed = {**tokens, "ids": tokens["ids"].clone()}
    changed["ids"][0, 3] = 9
    changed["ids"][1, 4] = 9  # padding
    result = blip.text_states(changed)
    assert not torch.allclose(states[0, 0], result[0, 0], atol=1e-4)
    assert torch.allclose(states[1, :3], result[1, :3], atol=1e-6)


def test_grounded_texts_read_all_patches(tmp_path: Path) -> None:
    blip = small(tmp_path)
    tokens = blip.grounded_tokens(some_tokens())
    features = torch.randn(2, 17, 16)
    alone, seen = blip.text_states(tokens), blip.text_states(tokens, features)
    assert not torch.allclose(alone, seen, atol=1e-4)
    features[:, 16] += 1
    assert not torch.allclose(blip.text_states(tokens, features), seen, atol=1e-5)


def test_grounded_tokens_begin_with_enc(tmp_path: Path) -> None:
    """[ENC] is the last word of the vocabulary."""
    blip = small(tmp_path)
    plain_tokens = some_tokens()
    tokens = blip.grounded_tokens(plain_tokens)
    assert tokens["ids"][:, 0].tolist() == [39, 39]
    assert plain_tokens["ids"][:, 0].tolist() == [2, 2]
    projected = blip.model.text_proj(blip.text_states(tokens, torch.ones(2, 17, 16))[:, 0])
    assert torch.equal(blip.raw_grounded(torch.ones(2, 17, 16), plain_tokens), projected)


def test_the_class_token_alone_gives_the_same_vectors(tmp_path: Path) -> None:
    images = torch.randn(3, 3, 32, 32)
    whole, alone = small(tmp_path), small(tmp_path, patches=False)
    features = alone.features(images)
    assert features.shape == (3, 1, 16)
    assert torch.equal(alone.encode_gallery(features), whole.encode_gallery(whole.features(images)))


def test_another_image_size_interpolates_positions(tmp_path: Path) -> None:
    blip = small(tmp_path, image_size=48)
    assert blip.preprocess.size == 48
    assert blip.features(torch.randn(1, 3, 48, 48)).shape == (1, 37, 16)


def test_frozen_and_trained_weights(tmp_path: Path) -> None:
    frozen = {n for n, p in small(tmp_path).named_parameters() if not p.requires_grad}
    assert any(name.startswith("model.vision_model") for name in frozen)
    assert {"model.vision_proj.weight", "model.itm_head.weight"} <= frozen
    assert not any("text" in name for name in frozen)
    trained = small(tmp_path, vision="trained")
    untrained = {n for n, p in trained.named_parameters() if not p.requires_grad}
    assert untrained == {"model.itm_head.weight", "model.itm_head.bias"}
    assert not small(tmp_path).train().model.vision_model.training
    assert trained.train().model.vision_model.training


def test_published_architectures_are_those_of_the_original_code() -> None:
    """Twelve heads, dropout 0.1 and epsilon 1e-6, which transformers would not set."""
    with torch.device("meta"):
        blip = Blip(model="blip_base", weights="random", tokenizer="none")
    text, vision = blip.model.config.text_config, blip.model.config.vision_config
    assert (text.num_attention_heads, text.hidden_dropout_prob) == (12, 0.1)
    assert text.attention_probs_dropout_prob == 0.1
    assert (vision.layer_norm_eps, vision.image_size) == (1e-6, 384)
    assert blip.model.vision_model.post_layernorm.eps == 1e-6
    assert blip.encode_token == 30523


@pytest.mark.parametrize(
    ("name", "shape"), [("blip_base", (768, 12, 3072)), ("blip_large", (1024, 24, 4096))]
)
def test_every_key_and_shape_of_the_full_size(name: str, shape: tuple[int, int, int]) -> None:
    official = on_meta(
        blip_image(*shape, 577, 16, 256) | blip_text(768, 12, 3072, 30524, shape[0], 256)
    )
    with torch.device("meta"):
        model = Blip(model=name, weights="random").model
    result = from_salesforce(official)
    expected = {k: v for k, v in model.state_dict().items() if not k.startswith("itm_head")}
    assert {k: v.shape for k, v in result.items()} == {k: v.shape for k, v in expected.items()}
    again = {key: value.shape for key, value in to_salesforce(result).items()}
    del official["text_encoder.embeddings.position_ids"]
    assert again == {key: value.shape for key, value in official.items()}


def test_official_files_load_without_extras(tmp_path: Path) -> None:
    state = drawn(OFFICIAL | MATCHING)
    extras = {"temp": torch.ones(()), "visual_encoder_m.cls_token": torch.ones(1)}
    extras |= {"text_decoder.cls.bias": torch.ones(1), "image_queue": torch.ones(1)}
    torch.save({"model": state | extras, "epoch": 3}, tmp_path / "model_base.pth")
    blip = small(tmp_path / "small", weights=str(tmp_path / "model_base.pth"))
    assert torch.equal(blip.model.vision_proj.weight, state["vision_proj.weight"])
    result = blip.model.vision_model.encoder.layers[1].self_attn.projection.weight
    assert torch.equal(result, state["visual_encoder.blocks.1.attn.proj.weight"])
    without = {key: value for key, value in state.items() if not key.startswith("itm_head")}
    torch.save(without, tmp_path / "retrieval.pth")
    again = small(tmp_path / "small", weights=str(tmp_path / "retrieval.pth"))
    tokens = some_tokens()
    assert torch.equal(again.raw_text(tokens), blip.raw_text(tokens))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strange.weight": torch.ones(1)}, "the BLIP checkpoint does not fit; unexpected: str"),
        ({"vision_proj.bias": torch.ones(3)}, r"of other shape \['vision_proj.bias'\]"),
        ({"vision_proj.bias": None}, r"missing \['vision_proj.bias'\]"),
    ],
)
def test_unfitting_official_files_are_errors(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    state = {k: v for k, v in {**drawn(OFFICIAL), **change}.items() if v is not None}
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(CIRError, match=message):
        small(tmp_path / "small", weights=str(tmp_path / "model.pth"))


def test_an_architecture_has_no_weights() -> None:
    with pytest.raises(CIRError, match="'blip_base' has no weights of its own"):
        Blip(model="blip_base")


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"no BLIP model '[^\n]*\naccepted: blip_base"):
        Blip(model=str(tmp_path / "gone"))


def test_a_convolutional_tower_has_its_mean_first(tmp_path: Path) -> None:
    config = {"model_type": "timm_resnet", "stem": 4, "channels": [8, 8, 16, 16], "groups": 4}
    config |= {"layers": [1, 1, 1, 1], "output_stride": 8, "hidden_size": 16, "image_size": 32}
    (tmp_path / "config.json").write_text(json.dumps({**SMALL, "vision_config": config}))
    blip = Blip(model=str(tmp_path), weights="random").eval()
    images = torch.randn(2, 3, 32, 32)
    states = blip.features(images)
    assert states.shape == (2, 17, 16)
    tower = blip.model.vision_model.tower
    below = tower.states(images, False)
    cells = below[:, 1:] - tower.position_embedding
    assert torch.allclose(below[:, 0], cells.mean(dim=1), atol=1e-6)
    assert torch.allclose(states, tower.post_layernorm(below), atol=1e-6)
    assert blip.raw_grounded(states, some_tokens()).shape == (2, 10)
    assert not any(p.requires_grad for p in blip.model.vision_model.parameters())


def test_a_saved_folder_loads_the_same(tmp_path: Path) -> None:
    torch.manual_seed(1)
    blip = small(tmp_path / "one")
    blip.model.save_pretrained(tmp_path / "two")
    again = Blip(model=str(tmp_path / "two")).eval()
    images, tokens = torch.randn(2, 3, 32, 32), some_tokens()
    query = blip.encode_query(blip.features(images), tokens)
    assert torch.equal(again.encode_query(again.features(images), tokens), query)


def test_position_embeddings_are_interpolated(
    tmp_path: Path,
) -> None:
    """At load as at run time: a constant stays, [CLS] stays, and both ways agree."""
    table = torch.randn(1, 17, 4)
    fitted = fit_positions(table, 37)
    assert fitted.shape == (1, 37, 4)
    assert torch.equal(fitted[:, 0], table[:, 0])
    assert torch.allclose(fit_positions(torch.ones(1, 17, 4), 37), torch.ones(1, 37, 4))
    assert fit_positions(table, 17) is table
    blip = small(tmp_path, image_size=48)
    images = torch.randn(1, 3, 48, 48)
    expected = blip.features(images)
    default = blip.model.state_dict()[POSITIONS]
    embeddings = blip.model.vision_model.embeddings
    embeddings.position_embedding = torch.nn.Parameter(fit_positions(default, 37))
    blip.interpolate = False
    assert torch.allclose(blip.features(images), expected, atol=1e-5)


def test_tiny_blip_starts_from_tiny_blip2() -> None:
    """Its text encoder then computes what the Q-Former's text path does."""
    torch.manual_seed(0)
    source = TinyBlip2(start="random", dropout=0.0).eval()
    blip = TinyBlip(start="random", dropout=0.0).eval()
    plain_tokens = {k: v for k, v in source.model.state_dict().items() if "vision_model" not in k}
    state = from_tiny_blip2(plain_tokens)
    words = "text_encoder.embeddings.word_embeddings.weight"
    whole = blip.model.state_dict()
    assert set(state) <= set(whole)
    state[words] = torch.cat([state[words], whole[words][len(state[words]) :]])
    blip.model.load_state_dict({**whole, **state})
    tokens = blip.tokenize(["is red", "has longer sleeves and no buttons"])
    embedded = source.model.embeddings(input_ids=tokens["ids"])
    hidden = source.model.qformer(
        query_embeds=embedded, query_length=0, attention_mask=tokens["mask"]
    ).last_hidden_state
    keep = tokens["mask"].bool()
    assert torch.allclose(blip.text_states(tokens)[keep], hidden[keep], atol=1e-5)
