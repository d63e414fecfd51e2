from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.readers.fashioniq import FashionIQ
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError
from tests.layouts import (
    small_circo,
    small_cirr,
    small_fashioniq,
    triplet,
    write_fashioniq,
    write_json,
    write_picture,
)
from tests.places import SharedData


def by_name(splits: list[Split]) -> dict[str, Split]:
    of_name = {split.name: split for split in splits}
    assert len(of_name) == len(splits)
    return of_name


def protocol(name: str) -> FashionIQ:
    options: dict[str, Any] = dict(FashionIQ.protocols[name])
    return FashionIQ(**options)


def test_splits_of_the_original_protocol(tmp_path: Path) -> None:
    splits = by_name(FashionIQ()(small_fashioniq(tmp_path)))
    assert list(splits) == ["dress.train", "dress.val", "shirt.val", "dress.test"]
    val = splits["dress.val"]
    assert val.gallery == ("d1", "d2", "d3", "s1", "d4")
    assert val.paths["d2"] == tmp_path / "images" / "d2.png"
    assert (val.role, val.drop_reference) == ("val", False)
    assert val.measures == ("recall@1", "recall@5", "recall@10", "recall@50")
    assert val.main == ("recall@10", "recall@50")
    first = val.queries[0]
    assert (first.id, first.reference, first.target) == ("dress.val.0", "d1", "d2")
    assert (first.positives, first.category) == (("d2",), "dress")
    assert first.captions == (" Is BLUE. ", "no sleeves; short")
    assert first.text == "Is blue and no sleeves; short"


def test_an_empty_caption_leaves_the_other(tmp_path: Path) -> None:
    train = by_name(FashionIQ()(small_fashioniq(tmp_path)))["dress.train"]
    assert [query.text for query in train.queries] == ["Is red and has sleeves", "Is long"]


def test_test_queries_are_blind(tmp_path: Path) -> None:
    test = by_name(FashionIQ()(small_fashioniq(tmp_path)))["dress.test"]
    assert (test.role, test.queries[0].target, test.queries[0].positives) == ("test", None, ())


def test_val_gallery_is_what_the_triplets_name(tmp_path: Path) -> None:
    splits = by_name(protocol("val")(small_fashioniq(tmp_path)))
    assert splits["dress.val"].gallery == ("d1", "d2", "d3")
    assert splits["dress.train"].gallery == ("t1", "t2", "t3")
    assert splits["dress.val"].drop_reference
    assert splits["dress.test"].gallery == ("e1", "e2")


def test_merged_gallery_has_every_image_once(tmp_path: Path) -> None:
    splits = by_name(protocol("merged")(small_fashioniq(tmp_path)))
    assert list(splits) == ["merged.train", "merged.val", "merged.test"]
    val = splits["merged.val"]
    assert val.gallery == ("d1", "d2", "d3", "s1", "d4", "s2")
    assert [query.id for query in val.queries] == ["dress.val.0", "dress.val.1", "shirt.val.0"]
    assert [query.category for query in val.queries] == ["dress", "dress", "shirt"]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("clip4cir", ["Is blue and no sleeves; short"]),
        ("bi_blip4cir", ["Is blue and no sleeves; short"]),
        ("sprc", ["is blue and no sleeves short"]),
        ("qure", ["is blue and no sleeves short"]),
        ("covr", ["is blue and no sleeves short"]),
        ("cosmo_repo", [" Is BLUE.  and no sleeves; short", "no sleeves; short and  Is BLUE. "]),
        ("cosmo", [" Is BLUE.  and no sleeves; short", "no sleeves; short and  Is BLUE. "]),
        (
            "mgur",
            [" Is BLUEdotmark  and no sleeves; short", "no sleeves; short and  Is BLUEdotmark "],
        ),
        ("val_repo", [" Is BLUEdotmark ", "no sleeves; short"]),
        ("composeae", ["dress  is blue.  and it no sleeves; short"]),
    ],
)
def test_each_repository_joins_captions_its_way(
    tmp_path: Path, name: str, texts: list[str]
) -> None:
    splits = by_name(protocol(name)(small_fashioniq(tmp_path)))
    val = splits["merged.val" if name == "composeae" else "dress.val"]
    first = [query for query in val.queries if re.match(r"dress\.val\.0(\.|$)", query.id)]
    assert [query.text for query in first] == texts
    ids = ["dress.val.0.0", "dress.val.0.1"] if len(texts) == 2 else ["dress.val.0"]
    assert [query.id for query in first] == ids


def test_each_repository_has_its_gallery(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    rows = {}
    for name in FashionIQ.protocols:
        val = next(split for split in protocol(name)(root) if split.role == "val")
        rows[name] = (len(val.gallery), val.drop_reference)
    assert rows == {
        "original": (5, False),
        "val": (3, True),
        "merged": (6, False),
        "clip4cir": (5, False),
        "bi_blip4cir": (5, False),
        "sprc": (5, False),
        "qure": (5, False),
        "covr": (5, True),
        "cosmo": (3, True),
        "cosmo_repo": (5, True),
        "mgur": (3, True),
        "val_repo": (3, True),
        "composeae": (6, False),
    }


def test_splits_and_categories_can_be_chosen(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    assert [s.name for s in FashionIQ(splits=("val",))(root)] == ["dress.val", "shirt.val"]
    assert [s.name for s in FashionIQ(categories=("shirt",))(root)] == ["shirt.val"]
    with pytest.raises(
        CIRError, match="unknown category 'shirts'; nearest: shirt\naccepted: dress"
    ):
        FashionIQ(categories=("shirts",))(root)


def test_attributes_add_positives_of_the_split(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    red, blue = {"colour": "red", "kind": "dress"}, {"colour": "blue", "kind": "dress"}
    write_json(
        root / "attributes.json",
        {"d1": red, "d2": blue, "d4": blue, "s1": blue, "s2": {**blue, "sleeve": "long"}},
    )
    val = by_name(FashionIQ()(root))["dress.val"]
    assert val.queries[0].positives == ("d2", "s1", "d4")
    assert val.queries[0].changed == ("colour",)
    assert val.queries[1].positives == ("d3",)
    assert val.queries[1].changed == ()
    assert val.main == ("map@10",)
    assert val.measures[4:] == ("any_recall@1", "any_recall@5", "any_recall@10", "map@5", "map@10")
    merged = by_name(FashionIQ(gallery="merged")(root))["merged.val"]
    assert merged.queries[2].positives == ("s1", "d2", "d4")


def test_the_reference_is_never_a_positive(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    write_json(root / "attributes.json", {name: {"colour": "red"} for name in ("d1", "d2", "d3")})
    val = by_name(FashionIQ()(root))["dress.val"]
    assert val.queries[0].positives == ("d2", "d3")


def test_kinds_state_what_changes(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    red, blue = {"colour": "red", "kind": "a"}, {"colour": "blue", "kind": "b"}
    write_json(root / "attributes.json", {"d1": red, "d2": blue, "d3": blue})
    write_json(root / "meta" / "kinds.dress.val.json", ["both", "colour+sleeve"])
    val = by_name(FashionIQ()(root))["dress.val"]
    assert [query.changed for query in val.queries] == [("colour", "kind"), ("colour", "sleeve")]


@pytest.mark.parametrize("missing", ["d2", "d1"])
def test_a_triplet_without_its_picture_is_an_error(tmp_path: Path, missing: str) -> None:
    root = small_fashioniq(tmp_path)
    (root / "images" / f"{missing}.png").unlink()
    lost = {"d2": 1, "d1": 2}[missing]
    message = (
        rf"dress\.val: query dress\.val\.0 needs image '{missing}', but .*images/{missing}"
        rf"\.\(jpg\|jpeg\|png\|.*\) is missing\n1 images are missing, {lost} of 2 queries "
        r".*data\.missing=drop"
    )
    with pytest.raises(CIRError, match=message):
        FashionIQ()(root)
    assert len(FashionIQ(splits=("train",))(root)) == 1


def test_missing_pictures_can_be_dropped(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    (root / "images" / "d2.png").unlink()
    (root / "images" / "d4.png").unlink()
    val = by_name(FashionIQ(missing="drop")(root))["dress.val"]
    assert [query.id for query in val.queries] == ["dress.val.1"]
    assert val.gallery == ("d1", "d3", "s1")
    assert val.absent == {"queries": 1, "gallery images": 2}


def test_missing_gallery_pictures_are_errors_outside_training(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    (root / "images" / "t4.png").unlink()
    train = by_name(FashionIQ()(root))["dress.train"]
    assert train.gallery == ("t1", "t2", "t3")
    assert train.absent == {"gallery images": 1}
    (root / "images" / "d4.png").unlink()
    with pytest.raises(CIRError, match=r"dress\.val: image 'd4' is missing: .*d4\.\(jpg"):
        FashionIQ()(root)


@pytest.mark.parametrize("missing", ["error", "drop"])
def test_no_pictures_at_all_is_an_error(tmp_path: Path, missing: Any) -> None:
    root = small_fashioniq(tmp_path, pictures=False)
    with pytest.raises(CIRError, match=r"not one picture was found|no picture was found"):
        FashionIQ(missing=missing)(root)
    assert [len(split.paths) for split in FashionIQ().annotations(root)] == [0, 0, 0, 0]


def test_pictures_may_lie_deeper_and_end_differently(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path, pictures=False)
    for name in ("d1", "d2", "d3", "d4", "s1"):
        write_picture(root / "pics" / name[0] / f"{name}.jpeg")
    reader = FashionIQ(images="pics", splits=("val",), categories=("dress",))
    assert reader(root)[0].paths["s1"] == root / "pics/s/s1.jpeg"


def test_an_empty_folder_names_the_expected_files(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"looked for: .*cap\.<category>\.<train\|val\|test>\.json"):
        FashionIQ()(tmp_path)
    with pytest.raises(CIRError, match="does not exist"):
        FashionIQ()(tmp_path / "gone")


def test_the_layout_of_another_data_set_is_recognised(tmp_path: Path) -> None:
    """CIRR's folder as fashioniq ended in a complaint about the fields of its entries."""
    with pytest.raises(
        CIRError, match=r"nothing to read in .*\n.*\nthis looks like CIRR: --data c"
    ):
        FashionIQ()(small_cirr(tmp_path / "cirr"))
    with pytest.raises(CIRError, match=r"this looks like CIRCO: --data circo"):
        FashionIQ()(small_circo(tmp_path / "circo"))


def test_a_name_with_two_files_is_noted(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    assert FashionIQ().notes(root) == []
    write_picture(root / "images" / "thumbs" / "d1.jpg")
    write_picture(root / "images" / "thumbs" / "stranger.jpg")
    (note,) = FashionIQ().notes(root)
    assert "1 image names are ambiguous" in note
    assert f"'d1' is {root / 'images' / 'd1.png'} (this one counts)" in note
    assert "data.images=FOLDER" in note


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"candidate": "d1", "target": "d2"}, "entry 1 has no 'captions'\naccepted: a list of"),
        ({"candidate": "d1", "captions": ["a", "b"]}, "entry 1 has no 'target'"),
        (triplet("", "d2", "a"), "entry 1 has 'candidate' = ''"),
        ({"candidate": 3, "target": "d2", "captions": ["a"]}, "entry 1 has 'candidate' = 3"),
        ({"candidate": "d1", "target": "d2", "captions": "red"}, "entry 1 has 'captions' = 'red'"),
        ({"candidate": "d1", "target": "d2", "captions": [1]}, r"entry 1 has 'captions' = \[1\]"),
    ],
)
def test_malformed_entries_are_named(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    write_fashioniq(tmp_path, "dress.val", [triplet("d1", "d2", "a"), entry], ["d1", "d2"])
    with pytest.raises(CIRError, match=rf"cap\.dress\.val\.json, {message}"):
        FashionIQ()(tmp_path)


def test_a_target_outside_the_gallery_is_named(tmp_path: Path) -> None:
    write_fashioniq(tmp_path, "dress.val", [triplet("d1", "d2", "a")], ["d1"])
    message = r"split\.dress\.val\.json lacks image 'd2', the target of query dress\.val\.0"
    with pytest.raises(CIRError, match=message):
        FashionIQ()(tmp_path)


def test_a_missing_split_file_is_named(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    (root / "image_splits" / "split.dress.val.json").unlink()
    with pytest.raises(CIRError, match=r"split\.dress\.val\.json does not exist"):
        FashionIQ()(root)
    assert len(FashionIQ(gallery="val", splits=("val",))(root)) == 2


def test_malformed_attributes_and_kinds_are_named(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    write_json(root / "meta" / "kinds.dress.val.json", ["colour"])
    with pytest.raises(CIRError, match=r"kinds\.dress\.val\.json has 1 entries, but .* has 2"):
        FashionIQ()(root)
    write_json(root / "attributes.json", {"d1": {"colour": 3}})
    with pytest.raises(CIRError, match=r"attributes\.json, image 'd1' has \{'colour': 3\}"):
        FashionIQ()(root)


@pytest.mark.parametrize("prefix", ["no place", "{} {}", "{0}", "{x}", "{", "{!r}"])
def test_a_prefix_needs_one_place_for_the_text(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(CIRError, match=r"prefix is .*\naccepted: one {} for the text"):
        FashionIQ(prefix=prefix)(small_fashioniq(tmp_path))


def test_max_words_is_not_negative(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match="max_words is -1\naccepted: 0 for all words"):
        FashionIQ(max_words=-1)(small_fashioniq(tmp_path))


def test_counts_of_the_official_annotations(shared_data: SharedData) -> None:
    root = shared_data("fashioniq")
    splits = by_name(FashionIQ().annotations(root))
    counts = {name: (len(split.queries), len(split.gallery)) for name, split in splits.items()}
    assert counts == {
        "dress.train": (5985, 11452),
        "shirt.train": (5988, 19036),
        "toptee.train": (6027, 16121),
        "dress.val": (2017, 3817),
        "shirt.val": (2038, 6346),
        "toptee.val": (1961, 5373),
        "dress.test": (2024, 3818),
        "shirt.test": (2038, 6346),
        "toptee.test": (2056, 5374),
    }
    merged = by_name(protocol("merged").annotations(root))["merged.val"]
    assert (len(merged.queries), len(merged.gallery)) == (6016, 15415)


def test_val_counts_of_the_official_annotations(shared_data: SharedData) -> None:
    root = shared_data("fashioniq")
    splits = by_name(protocol("val_repo").annotations(root))
    # Two queries per triplet, but one where the other caption is empty: shirt 1, toptee 2.
    counts = {name: (len(s.queries), len(s.gallery)) for name, s in splits.items() if "val" in name}
    assert counts == {
        "dress.val": (2 * 2017, 2628),
        "shirt.val": (2 * 2038 - 1, 3089),
        "toptee.val": (2 * 1961 - 2, 2902),
    }


@pytest.mark.parametrize(("name", "mean"), [("photos", 7.58), ("catalogue", 5.69)])
@pytest.mark.parametrize("gallery", ["original", "merged"])
def test_positives_of_real_photographs(
    name: str, mean: float, gallery: Any, shared_data: SharedData
) -> None:
    splits = FashionIQ(gallery=gallery)(shared_data(name))
    for split in splits:
        inside = frozenset(split.gallery)
        for query in split.queries:
            assert query.target is not None
            assert query.positives[0] == query.target
            assert query.reference not in query.positives
            assert len(set(query.positives)) == len(query.positives)
            assert inside.issuperset(query.positives)
            assert query.changed
        assert split.absent == {}
    for split in splits:
        if split.name == "toptee.val":
            counts = [len(query.positives) for query in split.queries]
            assert sum(counts) / len(counts) == pytest.approx(mean, abs=0.05)
