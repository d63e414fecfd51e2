from __future__ import annotations

import collections
import contextlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from baselines_plugin.checkpoints.vocabulary import read_words, words_of_texts
from cir_plugins.config.toml import read_config
from cir_plugins.errors import CIRError
from cir_plugins.training.checkpoint import load_state
from cir_plugins.training.trainer import BEST
from tests.baselines import cosmo_files
from tests.command import Call

TOKENS = ("<p>", "<u>", "<b>", "<e>", "red", "longer", "sleeves")


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """The class that official files name, there while they are written and gone afterwards."""
    package, module = ModuleType("language"), ModuleType("language.vocabulary")
    output: type = type("SimpleVocabulary", (), {"__module__": "language.vocabulary"})
    setattr(module, output.__name__, output)
    with monkeypatch.context() as during:
        during.setitem(sys.modules, "language", package)
        during.setitem(sys.modules, "language.vocabulary", module)
        yield output


def write(path: Path, kind: type, **attributes: Any) -> Path:
    """The pickle of an object with these attributes; the class is not there when it is read."""
    thing = kind()
    vars(thing).update(attributes)
    path.write_bytes(pickle.dumps(thing))
    del sys.modules["language"], sys.modules["language.vocabulary"]
    return path


def numbered(*tokens: str) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


class Runs:
    """A pickle that would write a file when it is read the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("counts", [dict, collections.Counter, collections.OrderedDict])
def test_words_are_in_the_order_of_ids(tmp_path: Path, official: type, counts: type) -> None:
    """Words are in the order of their ids, without special tokens."""
    table = dict(reversed(numbered(*TOKENS).items()))
    path = write(
        tmp_path / "v.pkl",
        official,
        _token2id=table,
        _id2token=dict(enumerate(TOKENS)),
        _token_count=counts(red=3),
        tokenizer=None,
    )
    assert read_words(path) == ("red", "longer", "sleeves")


def test_counts_with_a_default_are_read(tmp_path: Path, official: type) -> None:
    counts = collections.defaultdict(int, red=3)
    path = write(tmp_path / "v.pkl", official, _token2id=numbered(*TOKENS), _token_count=counts)
    assert read_words(path) == ("red", "longer", "sleeves")


def test_the_pickles_tokeniser_is_never_imported(
    tmp_path: Path, official: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither imported nor called."""
    called: list[Any] = []
    module = ModuleType("nltk")

    class Tokenizer:
        def __reduce__(self) -> Any:
            return split, ("a b",)

    def split(text: str) -> list[str]:
        called.append(text)
        return text.split()

    split.__module__, split.__qualname__ = "nltk", "split"
    module.split = split  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nltk", module)
    path = write(tmp_path / "v.pkl", official, _token2id=numbered(*TOKENS), tokenizer=Tokenizer())
    assert read_words(path) == ("red", "longer", "sleeves")
    assert called == []


def test_a_hostile_pickle_runs_nothing(tmp_path: Path, official: type) -> None:
    """A pickle with code is an error, and none of its code runs."""
    left = tmp_path / "ran"
    path = write(tmp_path / "v.pkl", official, _token2id=numbered(*TOKENS), tokenizer=Runs(left))
    with pytest.raises(
        CIRError, match=r"not read, since it names pathlib.*\naccepted: a pickle of lang"
    ):
        read_words(path)
    assert not left.exists()


@pytest.mark.parametrize(
    "code", [b"cos\nsystem\n.", b"cbuiltins\neval\n.", b"cbuiltins\ngetattr\n."]
)
def test_other_names_are_errors(tmp_path: Path, code: bytes) -> None:
    path = tmp_path / "v.pkl"
    path.write_bytes(code)
    with pytest.raises(CIRError, match=r"not read, since it names (os|builtins)\."):
        read_words(path)


def test_stand_ins_share_no_state(tmp_path: Path, official: type) -> None:
    """Attributes that a pickle gives to a class would otherwise reach what is read later."""
    hostile = tmp_path / "h.pkl"
    table = pickle.dumps(numbered(*TOKENS), protocol=2)[2:-1]
    hostile.write_bytes(
        b"\x80\x02clanguage.vocabulary\nSimpleVocabulary\nN}X\x09\x00\x00\x00_token2id"
        + table
        + b"s\x86b."
    )
    with pytest.raises(CIRError, match="holds no table of tokens"):
        read_words(hostile)
    path = write(tmp_path / "v.pkl", official, other=1)
    with pytest.raises(CIRError, match="holds no table of tokens"):
        read_words(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_reported(tmp_path: Path, official: type, share: float) -> None:
    path = write(tmp_path / "v.pkl", official, _token2id=numbered(*TOKENS))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CIRError, match=r"v.pkl is (damaged|not read)"):
        read_words(path)


def test_a_flipped_byte_gives_words_or_an_error(tmp_path: Path, official: type) -> None:
    """Any damaged byte gives words or a clear error."""
    path = write(tmp_path / "v.pkl", official, _token2id=numbered(*TOKENS))
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x2A]) + whole[position + 1 :])
        words: tuple[str, ...] = ()
        with contextlib.suppress(CIRError):
            words = read_words(path)
        assert all(isinstance(word, str) for word in words)


@pytest.mark.parametrize(
    "table",
    [
        {"<p>": 0, "<u>": 1, "<b>": 2},
        {**numbered(*TOKENS), "gap": 9},
        {**numbered(*TOKENS), "again": 4},
        {**dict[Any, Any](numbered(*TOKENS)), 7: 7},
        {**numbered(*TOKENS), "list": [1]},
        {"<p>": False, "<u>": 1, "<b>": 2, "<e>": 3},
    ],
)
def test_a_gap_in_the_numbering_is_reported(
    tmp_path: Path, official: type, table: dict[Any, Any]
) -> None:
    path = write(tmp_path / "v.pkl", official, _token2id=table)
    with pytest.raises(CIRError, match=f"does not number its {len(table)} tokens from 0"):
        read_words(path)


def test_unusable_vocabulary_files_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "v.pkl"
    path.write_bytes(pickle.dumps({"_token2id": numbered(*TOKENS)}))
    with pytest.raises(CIRError, match="holds no table of tokens"):
        read_words(path)
    with pytest.raises(CIRError, match="does not exist"):
        read_words(tmp_path / "none.pkl")


SIZES = ("model='resnet18'", "width=16", "word_width=8", "state_width=12", "text_width=16")


def official_folder(folder: Path) -> Path:
    """A ``best.pth`` of a small CoSMo for the tokens, in a new folder."""
    from torchvision.models import resnet18

    torch.manual_seed(2)
    entries = {
        "text_encoder": cosmo_files.lstm_shapes(len(TOKENS), 8, 12, 16),
        "upper_image_encoder": {"fc.weight": (16, 512), "fc.bias": (16,)},
        "layer4": cosmo_files.compositor_shapes(512, 16),
    }
    output: Any = cosmo_files.checkpoint(entries, torch.randn)
    trunk = resnet18(weights=None).state_dict()
    output["model_state_dict"]["lower_image_encoder"] = {
        f"_model.{name}": value for name, value in trunk.items()
    }
    folder.mkdir()
    torch.save(output, folder / "best.pth")
    return folder


def test_cosmo_is_converted_with_its_vocabulary(cir: Call, tmp_path: Path, official: type) -> None:
    folder = official_folder(tmp_path / "cosmo")
    write(folder / "vocab.pkl", official, _token2id=numbered(*TOKENS), tokenizer=None)
    sets = [word for size in SIZES for word in ("--set", f"backbone.{size}")]
    run = tmp_path / "run"
    result = cir("convert", "cosmo", *sorted(folder.iterdir()), "--out", run, *sets)
    assert (result.code, result.err) == (0, "")
    assert read_config(run / "config.toml")["backbone"]["vocabulary"] == list(TOKENS[4:])
    encoder = torch.load(folder / "best.pth")["model_state_dict"]["text_encoder"]
    state = load_state(run / BEST)["method"]
    embedding = state["backbone.text.embedding.weight"]
    assert torch.equal(embedding, encoder["embedding_layer.weight"])


def test_a_hostile_vocabulary_makes_no_run(cir: Call, tmp_path: Path, official: type) -> None:
    folder, left = official_folder(tmp_path / "cosmo"), tmp_path / "ran"
    tokens = numbered(*TOKENS)
    write(folder / "vocab.pkl", official, _token2id=tokens, tokenizer=Runs(left))
    result = cir("convert", "cosmo", *sorted(folder.iterdir()), "--out", tmp_path / "run")
    assert result.complains("vocab.pkl is not read, since it names pathlib")
    assert not left.exists()
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_of_another_size_is_reported(
    cir: Call, tmp_path: Path, official: type
) -> None:
    """With both shapes in the message."""
    folder = official_folder(tmp_path / "cosmo")
    write(folder / "vocab.pkl", official, _token2id=numbered(*TOKENS, "more"))
    sets = [word for size in SIZES for word in ("--set", f"backbone.{size}")]
    result = cir("convert", "cosmo", *sorted(folder.iterdir()), "--out", tmp_path / "run", *sets)
    assert result.complains("shapes: backbone.text.embedding.weight (7, 8) instead of (8, 8)")


def test_tirgs_words_come_from_its_training_texts(tmp_path: Path) -> None:
    """By hand: lower-case, without punctuation, sorted by code point."""
    file = tmp_path / "texts.txt"
    file.write_bytes(b"Zebra-striped dress\r\n\na Red dress, 2 sleeves\n")
    words = ("2", "a", "dress", "red", "sleeves", "zebrastriped")
    assert words_of_texts(file) == {"backbone.vocabulary": words}
    file.write_text("?!\n\n")
    with pytest.raises(CIRError, match=r"texts\.txt hold no word; accepted: one text per line"):
        words_of_texts(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(
        CIRError, match=r"training texts .*texts\.txt (cannot be read|does not exist|is not UTF-8)"
    ):
        words_of_texts(file)
