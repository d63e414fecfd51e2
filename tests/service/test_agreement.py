"""One ranking: evaluation, the command line, Python and the service give the same scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cir_plugins as cir_python
from cir_plugins.retrieval.evaluate import encode_split, score_blocks
from cir_plugins.retrieval.ranking import top_k
from tests.command import Call
from tests.service.conftest import serving

pytest.importorskip("fastapi", reason="needs the extra: pip install 'cir-plugins[serve]'")
httpx = pytest.importorskip("httpx")

K = 10
BY_COMMAND = 4  # queries that are searched for on the command line too


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("method", ["image_text_sum", "contrastive"])
def test_four_ways_give_one_ranking(
    method: str, cir: Call, garments_root: Path, tmp_path: Path
) -> None:
    """What a shop measured with ``cir eval`` is, bit for bit, what its customers get."""
    data = ("--data", "fashioniq", "--root", garments_root, "--set", "data.gallery=merged")
    options = ("--set", "backbone=tiny_clip", "--set", "run.workers=0", "--device", "cpu")
    short = ("--set", "train.epochs=1") if method == "contrastive" else ()
    trained = cir("train", method, *data, *options, *short, "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    retriever = cir_python.load(tmp_path / "run", progress=False)
    ((split, rankings),) = retriever.rank(split="val", k=K)
    files = {name: split.paths[name] for name in split.gallery}
    index = cir_python.Index.build(retriever, files, tmp_path / "index")

    evaluated = evaluated_hits(retriever, split)
    assert [[name for name, _ in hits] for hits in evaluated] == rankings
    with serving(index) as running, httpx.Client(base_url=running.address) as client:
        for number, query in enumerate(split.queries):
            picture = split.paths[query.reference]
            excluded = {"exclude": query.reference} if split.drop_reference else {}
            found = index.search(picture, query.text, k=K, **excluded)
            assert [(hit.id, hit.score) for hit in found] == evaluated[number]
            expected = json.loads(json.dumps([hit.to_dict() for hit in found]))
            fields = {"text": query.text, "k": K, **excluded}
            upload = {"image": picture.read_bytes()}
            for request in (
                {"data": fields, "files": upload},
                {"json": {**fields, "reference": query.reference}},
            ):
                assert client.post("/api/search", **request).json() == {"hits": expected}
            if number < BY_COMMAND:
                chosen = ("--image", picture, "--text", query.text, "-k", str(K))
                left_out = [word for pair in excluded.items() for word in (f"--{pair[0]}", pair[1])]
                out = tmp_path / "hits.json"
                done = cir("search", index.folder, *chosen, *left_out, "--json", out)
                assert done.code == 0, done.err
                assert json.loads(out.read_text()) == {"hits": expected}


def evaluated_hits(retriever: Any, split: Any) -> list[list[tuple[str, float]]]:
    """Ids and scores that an evaluation ranks, without those that it removes."""
    encoded = encode_split(retriever.method, split, retriever.encoding)
    lists = []
    for _, scores in score_blocks(retriever.method, encoded):
        values, columns = top_k(scores, K)
        for row in zip(columns.tolist(), values.tolist(), strict=True):
            pairs = zip(*row, strict=True)
            lists.append([(split.gallery[c], v) for c, v in pairs if v > -float("inf")])
    return lists
