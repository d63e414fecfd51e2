from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cir_plugins.builtin.clip import Clip, TinyClip, WordPieces
from cir_plugins.errors import CIRError
from cir_plugins.testing import check_backbone

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] is red blue long sleeve ##s and more".split()
CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {
        "context_length": 8,
        "vocab_size": len(WORDS),
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}


def write_folder(folder: Path) -> Path:
    """A folder with configuration, vocabulary and random weights."""
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    torch.manual_seed(0)
    model = Clip(model=str(folder), pretrained="random")
    save_file(model.model.state_dict(), folder / "model.safetensors")
    return folder


def pixels(side: int, count: int = 3) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_a_local_folder_gives_its_weights(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "clip")
    model = Clip(model=str(folder), pretrained="folder")
    state = load_file(folder / "model.safetensors")
    loaded = model.model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    other = Clip(model=str(folder), pretrained="random").model.state_dict()
    assert not torch.equal(other["visual.proj"], state["visual.proj"])
    assert model.preprocess.size == 16


def test_half_precision_weights_become_single(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "clip")
    state = load_file(folder / "model.safetensors")
    save_file({name: value.half() for name, value in state.items()}, folder / "model.safetensors")
    model = Clip(model=str(folder))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_query_sums_open_clips_embeddings(tmp_path: Path) -> None:
    model = Clip(model=str(write_folder(tmp_path / "clip")))
    tokens = model.tokenize(["is red", "more blue sleeves", "long"])
    with torch.no_grad():
        image = model.model.encode_image(pixels(16))
        text = model.model.encode_text(tokens["ids"])
        features = model.features(pixels(16))
        assert torch.equal(features, image)
        whole = image + text
        expected = whole / whole.norm(dim=1, keepdim=True)
        assert torch.allclose(model.encode_query(features, tokens), expected, atol=1e-6)
        unit = model.model.encode_image(pixels(16), normalize=True)
        assert torch.allclose(model.encode_gallery(features), unit, atol=1e-6)
        assert torch.allclose(model.image(features), unit, atol=1e-6)
        words = model.model.encode_text(tokens["ids"], normalize=True)
        assert torch.allclose(model.text(tokens), words, atol=1e-6)


def test_keeps_the_contract_of_backbones(tmp_path: Path) -> None:
    check_backbone(Clip(model=str(write_folder(tmp_path / "clip"))))


@pytest.mark.parametrize("tower", ["trained", "frozen", "text"])
def test_towers_are_trained_by_option(tmp_path: Path, tower: Any) -> None:
    model = Clip(model=str(write_folder(tmp_path / "clip")), tower=tower)
    vision = {parameter.requires_grad for parameter in model.model.visual.parameters()}
    assert vision == {tower == "trained"}
    assert model.frozen_features == (tower != "trained")
    assert model.model.token_embedding.weight.requires_grad == (tower != "frozen")
    assert not model.model.logit_scale.requires_grad
    model.train()
    assert not model.model.training


def test_word_pieces_by_hand(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "clip")
    pieces = WordPieces(folder / "vocab.txt", 6)
    ids = pieces(["Is RED", "more blue sleeves and long and red"])
    names = [[WORDS[i] for i in row] for row in ids.tolist()]
    assert names[0] == ["[CLS]", "is", "red", "[SEP]", "[PAD]", "[PAD]"]
    assert names[1] == ["[CLS]", "more", "blue", "sleeve", "##s", "[SEP]"]


def test_without_vocabulary_clips_tokenizer_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    config = json.loads(json.dumps(CONFIG))
    config["text_cfg"] |= {"vocab_size": 49408, "context_length": 10}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    model = Clip(model=str(folder), pretrained="random")
    ids = model.tokenize(["is red", "x"])["ids"]
    assert ids.shape == (2, 10)
    assert ids[0, 0] == 49406
    assert ids.max() == 49407


def test_a_published_architecture_builds_without_weights() -> None:
    model = Clip(model="ViT-S-32-alt", pretrained="random")
    assert model.preprocess.size == 224
    assert model.tokenize(["is red"])["ids"].shape == (1, 77)
    with torch.no_grad():
        assert model.encode_gallery(model.features(pixels(224, 1))).shape == (1, 256)


def test_unknown_models_and_tags_are_reported() -> None:
    with pytest.raises(CIRError, match="unknown open_clip model 'ViT-B-23'; nearest: ViT-B-32"):
        Clip(model="ViT-B-23")
    with pytest.raises(CIRError, match=r"weights 'no_such_tag' could not be loaded(?s:.)*laion2b"):
        Clip(model="ViT-B-32", pretrained="no_such_tag")


def test_an_incomplete_folder_is_reported(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CIRError, match=r"no open_clip model in .*open_clip_config.json is missing"):
        Clip(model=str(empty))
    folder = write_folder(tmp_path / "clip")
    weights = folder / "model.safetensors"
    whole = load_file(weights)
    save_file({name: whole[name] for name in list(whole)[1:]}, weights)
    with pytest.raises(
        CIRError, match=r"open_clip model in .* could not be loaded: .*(?s:.)*issing"
    ):
        Clip(model=str(folder))
    weights.write_bytes(b"broken")
    with pytest.raises(CIRError, match=r"open_clip model in .* could not be loaded"):
        Clip(model=str(folder))
    weights.unlink()
    with pytest.raises(CIRError, match=r"open_clip model in .* could not be loaded"):
        Clip(model=str(folder))
    for text in ("{broken", "{}", '{"model_cfg": {"embed_dim": 3}}'):
        (folder / "open_clip_config.json").write_text(text)
        with pytest.raises(CIRError, match=r"open_clip model in .* could not be loaded"):
            Clip(model=str(folder), pretrained="random")


def test_the_tiny_model_can_start_random() -> None:
    tiny = TinyClip(start="random")
    assert sum(parameter.numel() for parameter in tiny.parameters()) < 3_000_000
    with torch.no_grad():
        features = tiny.features(pixels(tiny.preprocess.size, 2))
        query = tiny.encode_query(features, tiny.tokenize(["is blue", "has long sleeves"]))
    assert query.shape == (2, 64)
