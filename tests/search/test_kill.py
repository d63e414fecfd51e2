"""A process that is killed while it indexes loses nothing and leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cir_plugins as cir
from tests.places import ROOT
from tests.search.shop import draw_pictures

# Each attempt is a fork, so that what takes long, the imports and the model, is there already.
SCRIPT = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
import cir_plugins as cir
from pathlib import Path
from cir_plugins.search import build
from cir_plugins.search.index import Index
build.SHARD_SIZE = 8
images, out, backend, kills = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
retriever = cir.build("image_text_sum", backbone="tiny_clip", progress=False, device="cpu")
metadata = {f"p{n:03d}.png": {"price": n} for n in range(60)}

def attempt(folder):
    child = os.fork()
    if child:
        return child
    try:
        Index.build(
            retriever, images, folder, metadata=metadata, backend=backend, batch_size=4
        )
        os._exit(0)
    except BaseException as error:
        print(error, file=sys.stderr)
        os._exit(1)

began = time.perf_counter()
assert os.waitpid(attempt(out / "whole"), 0)[1] == 0
seconds, rng, killed = time.perf_counter() - began, random.Random(0), 0
for number in range(5):
    for _ in range(kills // 5):
        child = attempt(out / f"killed{number}")
        time.sleep(rng.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL
    assert os.waitpid(attempt(out / f"killed{number}"), 0)[1] == 0
print(killed)
"""


def content(folder: Path) -> dict[str, object]:
    """What an index holds."""
    index = cir.Index.open(folder)
    (vectors,) = folder.glob("vectors-*")
    return {
        "files": sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")),
        "ids": index.ids,
        "metadata": [index.metadata(name) for name in index.ids],
        "vectors": np.load(vectors).tobytes(),
        "record": json.loads((folder / "index.json").read_text()),
    }


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["exact", "faiss"])
def test_a_killed_index_ends_as_an_undisturbed_one(backend: str, tmp_path: Path) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss", reason="needs faiss")
    draw_pictures(tmp_path / "images", 60)
    command = [sys.executable, "-c", SCRIPT, tmp_path / "images", tmp_path, backend, "50"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 10
    expected = content(tmp_path / "whole")
    for number in range(5):
        assert content(tmp_path / f"killed{number}") == expected
