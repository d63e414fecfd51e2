"""Pictures of several tokens: best-token scores, alone and in a batch, exact and by candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

import cir_plugins as cir
from tests.search.shop import draw_pictures


def test_token_galleries(tmp_path: Path, one_thread: None) -> None:
    images = tmp_path / "images"
    names = draw_pictures(images, 20)
    retriever = cir.build("contrastive", backbone="tiny_blip2", progress=False, device="cpu")
    index = cir.Index.build(retriever, images, tmp_path / "index")
    assert index.summary()["tokens"] > 1
    queries = [
        cir.SearchQuery(image=images / names[1], text="is red", k=6),
        cir.SearchQuery(image=images / names[2], text="has long sleeves and a floral print", k=6),
        cir.SearchQuery(image=images / names[3], k=6),
        cir.SearchQuery(reference=names[3:5], text="is red", k=6),
    ]
    many = index.search_many(queries)
    assert many == [index.search_many([query])[0] for query in queries]
    files = {name: images / name for name in names}
    gallery = retriever.encode_images(files)
    vectors = retriever.encode_query([images / name for name in names[1:5]], ["is red"] * 4)
    expected = list(retriever.search(vectors, gallery, 6)[0])
    assert [(hit.id, hit.score) for hit in many[0]] == expected
    pytest.importorskip("faiss", reason="needs faiss")
    other = cir.Index.build(retriever, images, tmp_path / "faiss", backend="faiss")
    for hits, exact in zip(other.search_many(queries), many, strict=True):
        assert [hit.id for hit in hits] == [hit.id for hit in exact]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in exact], abs=1e-6)
