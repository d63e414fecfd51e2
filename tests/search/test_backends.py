"""Backends are held to the contract, and find what exact search finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import cir_plugins as cir
from cir_plugins.builtin.exact import Exact
from cir_plugins.testing import ContractError, check_index
from tests.search.shop import draw_pictures, sum_retriever


def needed(name: str) -> Any:
    return pytest.importorskip(name, reason=f"needs {name}")


def faiss(**options: Any) -> Callable[[], Any]:
    needed("faiss")
    from cir_plugins.builtin.faiss_index import Faiss

    return lambda: Faiss(**options)


def milvus() -> Callable[[], Any]:
    needed("pymilvus")
    needed("milvus_lite")
    from cir_plugins.builtin.milvus_index import Milvus

    return Milvus


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None:
    return


def test_exact_keeps_the_contract() -> None:
    check_index(Exact)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_faiss_keeps_the_contract(kind: str) -> None:
    check_index(faiss(kind=kind))


@pytest.mark.filterwarnings("ignore")
def test_milvus_in_a_file_keeps_the_contract() -> None:
    check_index(milvus())


def test_a_backend_that_forgets_is_found_out() -> None:
    class Forgetful(Exact):
        def search(self, gallery, queries, k, allowed):  # type: ignore[no-untyped-def]
            return gallery.best(queries, k, None)

    with pytest.raises(ContractError, match="not allowed"):
        check_index(Forgetful)


@pytest.mark.parametrize("backend", ["faiss", "milvus"])
@pytest.mark.filterwarnings("ignore")
def test_the_hits_are_those_of_exact_search(backend: str, tmp_path: Path) -> None:
    """Filters, removals and additions mean the same."""
    faiss() if backend == "faiss" else milvus()
    images = tmp_path / "images"
    names = draw_pictures(images, 24)
    retriever = sum_retriever()

    def check() -> None:
        metadata = {name: {"price": int(name[1:4])} for name in names}
        found, exact = (
            cir.Index.build(retriever, images, tmp_path / name, metadata=metadata, backend=name)
            for name in (backend, "exact")
        )
        query = images / names[5]
        for condition in ("", "price < 12", "price == 3"):
            pairs = [
                [
                    (hit.id, round(hit.score, 5))
                    for hit in index.search(query, "is red", k=7, filter=condition)
                ]
                for index in (found, exact)
            ]
            assert pairs[0] == pairs[1]

    check()
    (images / names.pop(3)).unlink()
    names += draw_pictures(images, 4, first=100)
    check()


def test_candidates_that_are_too_few_are_asked_for_again() -> None:
    """Of many entries the nearest ones may all be barred: then more are asked for, then all."""
    from cir_plugins.builtin.similarity import best_token
    from cir_plugins.retrieval import gallery as module
    from cir_plugins.retrieval.gallery import Gallery

    vectors = torch.nn.functional.normalize(
        torch.randn(300, 8, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    gallery = Gallery(torch.arange(300) * 3, vectors, best_token, torch.device("cpu"))
    asked: list[int] = []

    def find(queries: torch.Tensor, number: int) -> torch.Tensor:
        asked.append(number)
        return gallery.keys[gallery.best(queries, min(number, 300))[1]]

    order = gallery.best(vectors[:1], 300)[1][0]
    allowed = torch.ones(300, dtype=torch.bool)
    allowed[order[:100]] = False
    before, module.FEW = module.FEW, 10
    try:
        scores, rows = gallery.best_of(vectors[:1], 4, allowed, find)
    finally:
        module.FEW = before
    assert rows[0].tolist() == order[100:104].tolist()
    assert asked == [16, 64, 256]
    assert torch.allclose(scores, gallery.best(vectors[:1], 4, allowed)[0])


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    backend = faiss()()
    backend.open(tmp_path, 8)
    backend.add(torch.arange(20), torch.randn(20, 8))
    backend.flush()
    (file,) = tmp_path.glob("*.faiss")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(cir.CIRError, match="damaged"):
        faiss()().open(tmp_path, 8)


def test_what_a_killed_process_left_in_the_store_goes(tmp_path: Path) -> None:
    """Half a file beside the store of faiss stayed for ever."""
    faiss()
    images, out = tmp_path / "images", tmp_path / "index"
    draw_pictures(images, 4)
    cir.Index.build(sum_retriever(), images, out, backend="faiss")
    store = out / "backend-faiss"
    before = sorted(path.name for path in store.iterdir())
    (store / ".store.json.0123456789ab.part").write_text("{")
    cir.Index.build(sum_retriever(), images, out, backend="faiss")
    assert sorted(path.name for path in store.iterdir()) == before
