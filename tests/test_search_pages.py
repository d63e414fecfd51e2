"""The pages on search and on the service: from a table to hits, as they stand, at a small size."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cir_plugins import Index
from tests.command import Call
from tests.places import ROOT
from tests.service.conftest import serving

ADDRESS = "http://127.0.0.1:8000/"
PAGES = ("search.md", "serve.md")


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and code of each block, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(code: str) -> list[list[str]]:
    return [shlex.split(line) for line in code.replace("\\\n", " ").splitlines()]


def run(cir: Call, words: list[str]) -> None:
    small = [word.replace("400", "80").replace("epochs=3", "epochs=1") for word in words]
    if small[1] in ("train", "index", "search"):
        small += ["--device", "cpu"]
    if small[1] == "train":
        small += ["--set", "run.workers=0"]
    done = cir(*small[1:])
    assert done.code == 0, (words, done.err)


def send(words: list[str], address: str) -> None:
    """Run a request of the page against a service elsewhere."""
    request = [word.replace(ADDRESS, address) for word in words]
    done = subprocess.run([*request, "-sS"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["hits"], (words, done.stdout)


def runs_here(words: list[str]) -> bool:
    if "faiss" in words and importlib.util.find_spec("faiss") is None:
        return False
    return words[0] == "cir" and words[1] != "serve"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")
def test_the_blocks_of_the_pages_run(
    cir: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shop's engineer copies them one after another, and stops at the first that fails."""
    pytest.importorskip("fastapi", reason="needs the extra: pip install 'cir-plugins[serve]'")
    monkeypatch.chdir(tmp_path)
    printed = ""
    lines = []
    for page in PAGES:
        for language, code in blocks(page):
            if language == "python":
                exec(code, {})
                printed += capsys.readouterr().out
                continue
            lines += commands(code)
            for words in filter(runs_here, commands(code)):
                run(cir, words)
    assert len(re.findall(r"^DG0000\d\d\.jpg 0\.\d+ \d\d$", printed, re.MULTILINE)) == 5
    requests = [words for words in lines if words[0] == "curl"]
    served = [words[2] for words in lines if words[:2] == ["cir", "serve"]]
    assert (len(requests), served) == (2, ["shop.index", "untuned.index"])
    for folder in served:
        with serving(Index.open(folder)) as running:
            for words in requests:
                send(words, running.address)


@pytest.mark.parametrize("page", PAGES)
def test_the_pictures_of_the_pages_are_there(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    files = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert files
    for file in files:
        assert (ROOT / "docs" / file).stat().st_size < 150_000
