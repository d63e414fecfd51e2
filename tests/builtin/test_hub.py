"""Models of the hub without a network, and names that are none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from transformers import BertModel

from baselines_plugin.backbones.resnet import ResNet
from cir_plugins.builtin import hub
from cir_plugins.builtin.blip2 import WEIGHTS, Blip2
from cir_plugins.builtin.clip import Clip
from cir_plugins.builtin.hub import from_hub
from cir_plugins.builtin.tokenizers import WordPieceTokenizer
from cir_plugins.errors import CIRError


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests made of a hub that cannot be reached."""
    requests: list[str] = []

    class Session:
        def head(self, url: str, **_: Any) -> None:
            requests.append(url)
            raise ConnectionError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    hub._is_reachable.cache_clear()
    yield requests
    hub._is_reachable.cache_clear()


def test_without_a_network_one_request_is_made(attempts: list[str]) -> None:
    """Five retries took half a minute."""
    for _ in range(2):
        with pytest.raises(CIRError, match="the hub cannot be reached") as caught:
            Blip2()
    assert "without a network also backbone=tiny_blip2" in str(caught.value)
    assert len(attempts) == 1
    with pytest.raises(CIRError, match="tokenizer 'nobody/none' could not be loaded"):
        _ = WordPieceTokenizer("nobody/none", 8).pretrained
    assert len(attempts) == 1


def test_every_library_asks_the_hub_once(
    attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip, timm and transformers repeated their requests, each for half a minute."""
    monkeypatch.setenv("HF_HOME", "/nonexistent")
    with pytest.raises(CIRError, match="without a network also backbone=tiny_clip"):
        Clip(pretrained="openai")
    with pytest.raises(CIRError, match="without a network also backbone=tiny_resnet"):
        ResNet(weights="pretrained", text="lstm")
    with pytest.raises(CIRError, match=r"BERT 'nobody/none' .*: it is not on this machine, and"):
        from_hub(BertModel.from_pretrained, "BERT", "nobody/none")
    assert len(attempts) == 1
    assert not constants.HF_HUB_OFFLINE


def test_a_folder_makes_no_request(attempts: list[str]) -> None:
    assert hub.hub_file(str(WEIGHTS / "tiny_blip2"), "config.json").is_file()
    assert hub.find_hub_file(str(WEIGHTS / "tiny_blip2"), "none.json") is None
    with pytest.raises(CIRError, match=r"it has no none\.json"):
        hub.hub_file(str(WEIGHTS / "tiny_blip2"), "none.json")
    assert attempts == []


@pytest.mark.parametrize("name", ["/nope", "./nope", "../a/b", "~/models", "a/b/c"])
def test_a_path_that_is_no_folder_is_named(name: str, attempts: list[str]) -> None:
    """The message was of "repo ids"."""
    with pytest.raises(CIRError, match=f"no such folder: {name}"):
        Blip2(model=name)
    if name != "a/b/c":
        with pytest.raises(CIRError, match=f"no such folder: {name}"):
            Clip(model=name)
    assert attempts == []


@pytest.mark.parametrize("text", ["[]", '{"model_cfg": 3}', "[" * 100_000, "{"])
def test_an_odd_configuration_is_named(tmp_path: Path, text: str) -> None:
    for name in ("config.json", "open_clip_config.json"):
        (tmp_path / name).write_text(text)
    with pytest.raises(CIRError, match=r"config\.json"):
        Blip2(model=str(tmp_path))
    with pytest.raises(CIRError, match=r"open_clip_config\.json"):
        Clip(model=str(tmp_path))
