from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch

from cir_plugins.builtin.blip2 import WEIGHTS, Blip2
from cir_plugins.data.images import Preprocess
from garments_plugin.pretrain.__main__ import cross_entropy, save, train
from garments_plugin.pretrain.configurations import vocabulary, write_configurations
from garments_plugin.pretrain.phrases import steps, wording
from garments_plugin.pretrain.pictures import ATTRIBUTES, Drawn, draw, vary


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(60, seed=1, workers=1)


def test_drawing_repeats_with_its_seed(drawn: Drawn) -> None:
    again = draw(60, seed=1, workers=2)
    assert torch.equal(drawn.pixels, again.pixels)
    assert drawn.looks == again.looks
    assert not torch.equal(drawn.pixels, draw(60, seed=2, workers=1).pixels)
    assert drawn.pixels.shape[0] == len(drawn.looks) == 60
    assert all(len(look) == len(ATTRIBUTES) for look in drawn.looks)


@pytest.mark.parametrize(
    ("values", "phrase"),
    [
        (
            {"garment": "dress", "colour": "red", "sleeve": "none", "length": "long"},
            "long red dress is sleeveless",
        ),
        ({"garment": "shirt", "sleeve": "short"}, "shirt with short sleeves"),
        ({"colour": "blue", "pattern": "striped"}, "blue striped"),
        ({"colour": "blue", "sleeve": "long"}, "blue and with long sleeves"),
        ({"sleeve": "none"}, "is sleeveless"),
    ],
)
def test_phrases_name_their_attributes(values: dict[str, str], phrase: str) -> None:
    phrases = {wording(values, random.Random(seed)) for seed in range(20)}
    openings = ("is a ", "a ", "shows a ", "is more ", "is ", "in ", "")
    assert phrases <= {opening + phrase for opening in openings}


def test_steps_are_consistent_and_repeat(drawn: Drawn) -> None:
    batches = list(steps(drawn, 12, epoch=0, seed=3))
    assert len(batches) == 5
    again = list(steps(drawn, 12, epoch=0, seed=3))
    other = list(steps(drawn, 12, epoch=1, seed=3))
    assert [step.phrases for step in batches] == [step.phrases for step in again]
    assert [step.changes for step in batches] != [step.changes for step in other]
    for step in batches:
        assert all(step.phrases)
        assert all(step.changes)
        assert step.fits.diagonal().all()
        looks = [drawn.looks[row] for row in step.target.tolist()]
        expected = [[one == two for two in looks] for one in looks]
        assert step.results.tolist() == expected
        for row, target in zip(step.reference.tolist(), looks, strict=True):
            assert drawn.looks[row] != target
        # the result of a change fits every description of its target
        assert not (step.results & ~step.fits).any()


def test_varied_pictures_have_the_networks_size(drawn: Drawn) -> None:
    preprocess = Preprocess(size=32)
    first, second = (
        vary(drawn.pixels[:5], preprocess, torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert first.shape == (5, 3, 32, 32)
    assert torch.equal(first, second)
    assert torch.isfinite(first).all()


def test_cross_entropy_by_hand() -> None:
    scores = torch.tensor([[0.07, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    positive = torch.tensor([[True, True, False], [False] * 3, [True, False, False]])
    # over the temperature 0.07: logits 1, 0, 0; two positives share, one row has none
    first = math.log(math.e + 2) - 0.5
    assert cross_entropy(scores, positive).item() == pytest.approx(
        (first + math.log(3)) / 2, rel=1e-5
    )


def test_training_and_saving_give_a_folder_that_loads(drawn: Drawn, tmp_path: Path) -> None:
    write_configurations(tmp_path)
    folder = tmp_path / "tiny_blip2"
    torch.manual_seed(0)
    model = Blip2(model=str(folder), weights="random", vision="trained")
    before = model.model.text_projection.weight.detach().clone()
    train(model, drawn, epochs=1, batch=20, lr=1e-3, seed=0)
    assert not torch.equal(model.model.text_projection.weight, before)
    save(model, folder)
    again = Blip2(model=str(folder), vision="trained")
    parameters = dict(model.model.named_parameters())
    for name, value in again.model.named_parameters():
        assert torch.equal(value, parameters[name].half().float()), name


def test_vocabulary_spells_any_word_once() -> None:
    pieces = vocabulary()
    assert len(set(pieces)) == len(pieces)
    assert {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##z", "sleeveless"} <= set(pieces)


@pytest.mark.parametrize("name", ["tiny_blip2/config.json", "tiny_clip/open_clip_config.json"])
def test_shipped_configurations_are_what_the_script_writes(name: str, tmp_path: Path) -> None:
    """Weights and configuration change together or not at all."""
    if not (WEIGHTS / name).with_name("model.safetensors").is_file():
        pytest.skip(f"needs {name.partition('/')[0]}/model.safetensors, the small weights")
    write_configurations(tmp_path)
    assert (tmp_path / name).read_text() == (WEIGHTS / name).read_text()
    assert (tmp_path / "tiny_clip" / "vocab.txt").read_text() == (
        WEIGHTS / "tiny_clip" / "vocab.txt"
    ).read_text()
