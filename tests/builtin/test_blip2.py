from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from cir_plugins.builtin.blip2 import Blip2, TinyBlip2
from cir_plugins.errors import CIRError
from cir_plugins.testing import check_backbone

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] is red blue long sleeve and more ##s . the dress".split()
EVA = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
EVA |= {"image_size": 28, "patch_size": 14}
CLIP = {**EVA, "model_type": "clip_vision_model"}
RESNET = {
    "model_type": "timm_resnet",
    "stem": 4,
    "channels": [8, 8, 16, 24],
    "layers": [1, 1, 1, 1],
    "groups": 4,
    "output_stride": 8,
    "hidden_size": 24,
    "image_size": 32,
}


def write_folder(folder: Path, vision: dict[str, Any], **other: Any) -> Path:
    """Configuration and tokenizer of a very small model, without weights."""
    from transformers import BertTokenizer

    folder.mkdir(parents=True)
    config = {
        "model_type": "blip-2",
        "num_query_tokens": 4,
        "image_text_hidden_size": 12,
        "vision_config": vision,
        "qformer_config": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "max_position_embeddings": 40,
            "vocab_size": len(WORDS),
            "encoder_hidden_size": 24,
        },
        **other,
    }
    (folder / "config.json").write_text(json.dumps(config))
    BertTokenizer(vocab={word: n for n, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


@pytest.fixture(params=["eva", "clip", "resnet"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Blip2]:
    """A folder with weights, written by ``save``, and the model that it was written from."""
    towers: dict[str, dict[str, Any]] = {"eva": EVA, "clip": CLIP, "resnet": RESNET}
    vision = towers[request.param]
    torch.manual_seed(0)
    model = Blip2(model=str(write_folder(tmp_path / "bare", vision)), weights="random").eval()
    with torch.no_grad():  # nothing that must be read may stand at its start value
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save(tmp_path / "saved")
    return tmp_path / "saved", model


def pixels(side: int, count: int = 3) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def embeddings(model: Blip2, side: int) -> dict[str, Tensor]:
    texts = ["is red", "more blue sleeves and long", "the dress is red."]
    with torch.no_grad():
        features, tokens = model.features(pixels(side)), model.tokenize(texts)
        return {
            "query": model.encode_query(features, tokens),
            "target": model.encode_gallery(features),
            "image": model.image(features),
            "text": model.text(tokens),
        }


def test_a_saved_folder_loads_the_same_model(saved: tuple[Path, Blip2]) -> None:
    folder, model = saved
    side = int(model.preprocess.size)
    again = Blip2(model=str(folder)).eval()
    expected, result = embeddings(model, side), embeddings(again, side)
    assert result["query"].shape == (3, 12)
    assert result["target"].shape == (3, 4, 12)
    for name, value in expected.items():
        assert torch.equal(result[name], value), name


def test_keeps_the_contract_of_backbones(saved: tuple[Path, Blip2]) -> None:
    check_backbone(saved[1])


def test_embeddings_are_those_of_transformers_own_model(tmp_path: Path) -> None:
    """The scores of Blip2ForImageTextRetrieval's contrastive head, text by text."""
    from transformers import Blip2ForImageTextRetrieval

    torch.manual_seed(0)
    folder = write_folder(tmp_path / "bare", EVA)
    model = Blip2(model=str(folder), weights="random").eval()
    theirs: Any = model.model
    assert isinstance(theirs, Blip2ForImageTextRetrieval)
    tokens = model.tokenize(["is red", "the dress"])
    with torch.no_grad():
        output = theirs(
            pixel_values=pixels(28, 2),
            input_ids=tokens["ids"],
            attention_mask=tokens["mask"],
            use_image_text_matching_head=False,
        )
        features = model.features(pixels(28, 2))
        assert torch.allclose(output.image_embeds, model.encode_gallery(features), atol=1e-5)
        assert torch.allclose(output.text_embeds, model.text(tokens), atol=1e-5)
        scores = model.similarity(model.text(tokens), model.encode_gallery(features))
    assert torch.allclose(output.logits_per_image, scores.T, atol=1e-5)


def test_padding_does_not_change_embeddings(saved: tuple[Path, Blip2]) -> None:
    _, model = saved
    long = "more blue sleeves and long and more and more and red and blue"
    with torch.no_grad():
        features = model.features(pixels(model.preprocess.size, 2))
        together, alone = model.tokenize(["is red", long]), model.tokenize(["is red"])
        assert together["ids"].shape[1] > alone["ids"].shape[1]
        pairs = [
            (model.encode_query(features, together)[0], model.encode_query(features[:1], alone)[0]),
            (model.text(together)[0], model.text(alone)[0]),
        ]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_long_texts_are_cut(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "bare", EVA)
    model = Blip2(model=str(folder), weights="random", text_length=6)
    tokens = model.tokenize(["is red and blue and long and more", "red"])
    # [CLS] is red and blue [SEP]; [CLS] red [SEP] and padding
    names = [[WORDS[i] for i in row] for row in tokens["ids"].tolist()]
    assert names[0] == ["[CLS]", "is", "red", "and", "blue", "[SEP]"]
    assert names[1] == ["[CLS]", "red", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert tokens["mask"].tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize("vision", [EVA, CLIP])
def test_another_image_size_interpolates_positions(tmp_path: Path, vision: dict[str, Any]) -> None:
    folder = str(write_folder(tmp_path / "bare", vision))
    torch.manual_seed(0)
    default = Blip2(model=folder, weights="random").eval()
    torch.manual_seed(0)
    large = Blip2(model=folder, weights="random", image_size=56).eval()
    assert (default.preprocess.size, large.preprocess.size) == (28, 56)
    with torch.no_grad():
        assert default.features(pixels(28)).shape == (3, 5, 24)
        assert large.features(pixels(56)).shape == (3, 17, 24)
        torch.manual_seed(0)
        same = Blip2(model=folder, weights="random", image_size=28).eval()
        assert torch.equal(same.features(pixels(28)), default.features(pixels(28)))


def test_a_frozen_tower_stays_in_evaluation_mode(tmp_path: Path) -> None:
    """A frozen tower gets no gradient and has no dropout."""
    folder = str(write_folder(tmp_path / "bare", EVA))
    frozen = Blip2(model=folder, weights="random")
    frozen.train()
    assert frozen.frozen_features
    assert frozen.model.qformer.training
    assert not frozen.model.vision_model.training
    tower = {
        name: parameter.requires_grad
        for name, parameter in frozen.model.vision_model.named_parameters()
    }
    assert {name for name, trained in tower.items() if trained} == {
        "post_layernorm.weight",
        "post_layernorm.bias",
    }
    tuned = Blip2(model=folder, weights="random", vision="trained", vision_norm="frozen").train()
    assert not tuned.frozen_features
    assert tuned.model.vision_model.training
    still = [n for n, p in tuned.model.vision_model.named_parameters() if not p.requires_grad]
    assert still == ["post_layernorm.weight", "post_layernorm.bias"]
    assert not any(parameter.requires_grad for parameter in tuned.model.itm_head.parameters())


def test_dropout_option_overrides_the_models(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "bare", EVA)
    for option, expected in ((-1.0, 0.1), (0.0, 0.0), (0.3, 0.3)):
        model = Blip2(model=str(folder), weights="random", dropout=option)
        rates = {m.p for m in model.model.qformer.modules() if isinstance(m, torch.nn.Dropout)}
        assert rates == {expected}


def test_embedded_words_are_the_means_of_their_pieces(tmp_path: Path) -> None:
    model = Blip2(model=str(write_folder(tmp_path / "bare", EVA)), weights="random")
    table = model.model.embeddings.word_embeddings.weight
    words = model.embed_words(["red", "sleeves"])
    assert torch.equal(words[0], table[WORDS.index("red")])
    pieces = table[[WORDS.index("sleeve"), WORDS.index("##s")]]
    assert torch.allclose(words[1], pieces.mean(dim=0))
    assert not words.requires_grad


def test_query_tokens_differ_from_one_another(tmp_path: Path) -> None:
    model = Blip2(model=str(write_folder(tmp_path / "bare", EVA)), weights="random")
    tokens = model.model.query_tokens[0].detach()
    assert torch.cdist(tokens, tokens).fill_diagonal_(1).min() > 0


def test_weights_in_several_files_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Blip2(model=str(write_folder(tmp_path / "bare", EVA)), weights="random").eval()
    model.save(tmp_path / "saved")
    state = load_file(tmp_path / "saved" / "model.safetensors")
    names = sorted(state)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, keys in shards.items():
        save_file({key: state[key] for key in keys}, tmp_path / "saved" / file)
    weight_map = {key: file for file, keys in shards.items() for key in keys}
    index = tmp_path / "saved" / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (tmp_path / "saved" / "model.safetensors").unlink()
    again = Blip2(model=str(tmp_path / "saved")).eval()
    assert torch.equal(embeddings(again, 28)["query"], embeddings(model, 28)["query"])


def test_missing_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"no BLIP-2 model '.*nowhere'"):
        Blip2(model=str(tmp_path / "nowhere"))
    with pytest.raises(CIRError, match="no BLIP-2 model 'someone/no-such-model'"):
        Blip2(model="someone/no-such-model")
    message = "'vit_g' has no weights of its own; accepted: weights=random"
    with pytest.raises(CIRError, match=message), torch.device("meta"):
        Blip2(model="vit_g")
    folder = write_folder(tmp_path / "bare", EVA)
    with pytest.raises(CIRError, match="could not be loaded"):
        Blip2(model=str(folder))


def test_unfitting_weights_are_reported(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "bare", EVA)
    model = Blip2(model=str(folder), weights="random")
    model.save(tmp_path / "saved")
    path = tmp_path / "saved" / "model.safetensors"
    whole = load_file(path)
    key = "text_projection.weight"
    save_file({name: value for name, value in whole.items() if name != key}, path)
    with pytest.raises(CIRError, match=rf"do not fit.*missing \['{key}'\]"):
        Blip2(model=str(tmp_path / "saved"))
    save_file({**whole, key: torch.ones(3, 3)}, path)
    with pytest.raises(CIRError, match="could not be loaded"):
        Blip2(model=str(tmp_path / "saved"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CIRError, match="could not be loaded"):
        Blip2(model=str(tmp_path / "saved"))


def test_another_models_configuration_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for text in ('{"model_type": "clip"}', "{broken", "[1]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(CIRError, match=r"BLIP-2 model .* could not be loaded|is not"):
            Blip2(model=str(folder), weights="random", dropout=0.1)


def test_the_tiny_model_can_start_random(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny = TinyBlip2(start="random")
    assert not tiny.frozen_features
    assert sum(parameter.numel() for parameter in tiny.parameters()) < 3_000_000
    image = Image.new("RGB", (90, 120), (200, 30, 30))
    tiny.eval()
    with torch.no_grad():
        features = tiny.features(tiny.preprocess(image)[None])
        query = tiny.encode_query(features, tiny.tokenize(["is blue with long sleeves"]))
    assert torch.allclose(query.norm(dim=1), torch.ones(1), atol=1e-5)
    assert pickle.loads(pickle.dumps(tiny.tokenizer))(["red"])["ids"].shape[0] == 1
