"""The index against the plain retriever: same scores to the bit, incremental, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import cir_plugins as cir
from tests.search.shop import draw_pictures, sum_retriever

COUNT = 70  # more than a batch of 64


@pytest.fixture(scope="module")
def retriever() -> cir.Retriever:
    return sum_retriever()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop") / "images"
    draw_pictures(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def index(retriever: cir.Retriever, images: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    metadata = {
        f"p{number:03d}.png": {
            "price": number if number % 5 else None,
            "brand": "ab"[number % 2],
            "product": f"product {number // 2}",
        }
        for number in range(COUNT)
    }
    out = tmp_path_factory.mktemp("index") / "index"
    return cir.Index.build(retriever, images, out, metadata=metadata)


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None:
    return


def pairs(hits: list[cir.Hit]) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in hits]


def reference_pairs(
    retriever: cir.Retriever, images: Path, image: Path, text: str, k: int
) -> list[tuple[str, float]]:
    files = {path.name: path for path in sorted(images.iterdir())}
    gallery = retriever.encode_images(files)
    # With fifteen other pictures: a CPU sums a batch of fewer in another order, some below 4, some
    # below 16.
    others = [path for path in files.values() if path != image][:15]
    query = retriever.encode_query([image, *others], [text] * 16)
    return list(retriever.search(query, gallery, k)[0])


def test_the_scores_are_those_of_the_retriever_to_the_bit(
    retriever: cir.Retriever, images: Path, index: cir.Index
) -> None:
    query = images / "p007.png"
    found = pairs(index.search(query, "is red", k=COUNT))
    assert found == reference_pairs(retriever, images, query, "is red", COUNT)
    assert len(found) == COUNT


def test_the_rankings_are_those_of_an_evaluation_to_the_bit(
    retriever: cir.Retriever, garments_root: Path, tmp_path: Path
) -> None:
    """Every query of a data set, through ``rank`` as ``cir eval`` does it and through the index."""
    for split, rankings in retriever.rank(
        "fashioniq", garments_root, split="val", k=10, progress=False
    ):
        files = {name: split.paths[name] for name in split.gallery}
        index = cir.Index.build(retriever, files, tmp_path / split.name)
        queries = [
            cir.SearchQuery(image=split.paths[query.reference], text=query.text)
            for query in split.queries
        ]
        found = [[hit.id for hit in hits] for hits in index.search_many(queries)]
        assert found == [list(ranking[:10]) for ranking in rankings]


def test_many_queries_give_what_single_ones_give_to_the_bit(images: Path, index: cir.Index) -> None:
    queries = [
        cir.SearchQuery(image=images / "p001.png", text="is red"),
        cir.SearchQuery(image=images / "p001.png", text="has longer sleeves and is blue", k=3),
        cir.SearchQuery(text="a red dress"),
        cir.SearchQuery(image=images / "p002.png"),
        cir.SearchQuery(reference=("p003.png", "p004.png"), text="shorter"),
        cir.SearchQuery(image=images / "p005.png", text="is red", weight=0.9),
        cir.SearchQuery(image=images / "p005.png", text="is red", filter="price > 30"),
        cir.SearchQuery(image=images / "p006.png", text="is red", exclude="p006.png"),
    ]
    many = index.search_many(queries)
    assert many == [index.search_many([query])[0] for query in queries]
    assert len({tuple(hit.id for hit in hits) for hits in many}) == len(queries)


def test_a_picture_alone_finds_itself_and_a_weight_goes_from_picture_to_text(
    images: Path, index: cir.Index
) -> None:
    query = images / "p009.png"
    alone = index.search(query)
    assert alone[0].id == "p009.png"
    assert alone[0].score == pytest.approx(1, abs=1e-5)
    assert [hit.id for hit in index.search(query, "is red", weight=0)] == [h.id for h in alone]
    text = index.search(text="is red")
    assert [hit.id for hit in index.search(query, "is red", weight=1)] == [h.id for h in text]
    with Image.open(query) as picture:
        assert pairs(index.search(picture)) == pairs(alone)


def test_a_filter_leaves_the_ranking_of_what_it_admits(images: Path, index: cir.Index) -> None:
    every = index.search(images / "p010.png", "is red", k=COUNT)
    found = index.search(
        images / "p010.png", "is red", k=COUNT, filter="price < 20 and brand == 'a'"
    )
    expected = [h for h in every if h.metadata["price"] and h.metadata["price"] < 20]  # type: ignore[operator]
    assert found == [hit for hit in expected if hit.metadata["brand"] == "a"]
    assert found
    assert index.search(text="red", filter="price > 1000") == []


def test_what_an_index_tells_of_itself(images: Path, index: cir.Index) -> None:
    assert len(index) == COUNT
    assert index.ids == tuple(sorted(path.name for path in images.iterdir()))
    assert index.picture("p003.png") == images / "p003.png"
    assert index.metadata("p005.png") == {"price": None, "brand": "b", "product": "product 2"}
    assert index.fields["brand"] == cir.Field("brand", "text", ("a", "b"))
    price = index.fields["price"]
    assert (price.kind, price.low, price.high) == ("number", 1.0, 69.0)
    assert index.summary()["pictures"] == COUNT
    hit = index.search(images / "p003.png", k=1)[0]
    assert hit.to_dict() == {
        "id": "p003.png",
        "score": hit.score,
        "path": str(images / "p003.png"),
        "price": 3,
        "brand": "b",
        "product": "product 1",
    }


def test_views_of_a_product_are_one_hit(
    retriever: cir.Retriever, images: Path, index: cir.Index, tmp_path: Path
) -> None:
    metadata = {name: index.metadata(name) for name in index.ids}
    grouped = cir.Index.build(retriever, images, tmp_path / "i", metadata=metadata, group="product")
    every = index.search(images / "p020.png", "is red", k=COUNT)
    best = {}
    for hit in every:
        best.setdefault(hit.metadata["product"], hit)
    assert grouped.search(images / "p020.png", "is red", k=12) == list(best.values())[:12]
    assert len(grouped.search(images / "p020.png", "is red", k=COUNT)) == COUNT // 2


def test_only_new_and_changed_pictures_are_encoded(
    retriever: cir.Retriever, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    (folder / "p000.png").unlink()
    cir.Index.build(retriever, folder, tmp_path / "index")
    draw_pictures(folder, 2, first=200)
    (folder / "p001.png").unlink()
    shutil.copy(folder / "p200.png", folder / "p002.png")
    seen: list[int] = []
    features = retriever.method.backbone.features
    monkeypatch.setattr(
        type(retriever.method.backbone),
        "features",
        lambda self, pixels: seen.append(len(pixels)) or features(pixels),
    )
    index = cir.Index.build(retriever, folder, tmp_path / "index")
    assert sum(seen) == 3
    changes = index.changes
    assert changes is not None
    assert (changes.added, changes.changed, changes.removed) == (2, 1, 1)
    whole = cir.Index.build(retriever, folder, tmp_path / "whole")
    assert index.ids == whole.ids
    assert index.search(folder / "p200.png", k=2)[0].id == "p002.png"  # equal scores: in order
    again = cir.Index.build(retriever, folder, tmp_path / "index")
    assert again.changes is not None
    assert again.changes.added == again.changes.changed == again.changes.removed == 0


def test_broken_pictures_are_left_out_and_named(retriever: cir.Retriever, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    draw_pictures(folder, 5)
    (folder / "p002.png").write_bytes((folder / "p002.png").read_bytes()[:200])
    (folder / "empty.jpg").touch()
    index = cir.Index.build(retriever, folder, tmp_path / "index")
    assert set(index.left_out) == {"p002.png", "empty.jpg"}
    assert "0 bytes" in index.left_out["empty.jpg"]
    assert len(index) == 4
    draw_pictures(folder, 5)
    mended = cir.Index.build(retriever, folder, tmp_path / "index")
    assert len(mended) == 5
    assert set(mended.left_out) == {"empty.jpg"}


def test_an_index_refuses_another_model(
    retriever: cir.Retriever, images: Path, index: cir.Index
) -> None:
    other = sum_retriever(seed=1, text_weight=0.25)
    with pytest.raises(cir.CIRError, match="another model"):
        cir.Index.open(index.folder, retriever=other)
    with pytest.raises(cir.CIRError, match="another model"):
        cir.Index.build(other, images, index.folder)
    assert len(cir.Index.open(index.folder)) == COUNT


@pytest.mark.parametrize("name", ["index.json", "vectors", "table"])
def test_a_damaged_index_is_refused(index: cir.Index, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "index"
    shutil.copytree(index.folder, folder)
    (file,) = folder.glob(f"{name}*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(cir.CIRError):
        cir.Index.open(folder)
    file.unlink()
    with pytest.raises(cir.CIRError):
        cir.Index.open(folder)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "nothing to search for"),
        ({"text": "  "}, "nothing to search for"),
        ({"text": 3}, "a text cannot be int"),
        ({"text": "x", "k": 0}, "k cannot be 0"),
        ({"text": "x", "weight": 0.5}, "with both of them"),
        ({"reference": "nowhere.png"}, "unknown picture 'nowhere.png'"),
        ({"text": "x", "filter": "pric < 5"}, "nearest: price"),
        ({"text": "x", "filter": "price <"}, "its end"),
        ({"text": "x", "exclude": "nowhere.png"}, "unknown picture"),
        ({"image": "nowhere.png"}, "does not exist"),
    ],
)
def test_queries_that_make_no_sense(
    index: cir.Index, query: dict[str, object], message: str
) -> None:
    with pytest.raises(cir.CIRError, match=message):
        index.search(**query)  # type: ignore[arg-type]


def test_a_weight_needs_a_sum(images: Path, tmp_path: Path) -> None:
    product = cir.build("image_text_product", backbone="tiny_clip", progress=False)
    index = cir.Index.build(product, images, tmp_path / "index")
    with pytest.raises(cir.CIRError, match="no weighted sum"):
        index.search(images / "p001.png", "is red", weight=0.5)
    assert index.search(images / "p001.png")[0].id == "p001.png"
    assert len(index.search(text="is red", k=3)) == 3


def test_the_record_holds_plain_json(index: cir.Index) -> None:
    content = json.loads((index.folder / "index.json").read_text())
    assert content["method"] == "image_text_sum"
    assert content["config"]["backbone"]["name"] == "tiny_clip"
