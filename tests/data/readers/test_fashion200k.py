from __future__ import annotations

from pathlib import Path

import pytest

from cir_plugins.data.readers.fashion200k import Fashion200k
from cir_plugins.errors import CIRError
from tests.layouts import small_fashion200k, write_lines


def name(role: str, number: int) -> str:
    return f"women/dresses/{role}/{number}.jpeg"


def test_queries_of_the_test_file(tmp_path: Path) -> None:
    """The gallery's images with the target's caption are all right, as TIRG counts them."""
    train, val = Fashion200k()(small_fashion200k(tmp_path))
    assert (train.role, val.role, val.drop_reference) == ("train", "val", True)
    assert val.gallery == tuple(name("test", number) for number in range(4))
    first, second = val.queries
    assert (first.reference, first.target) == (name("test", 0), name("test", 1))
    assert first.positives == (name("test", 1), name("test", 2))
    assert first.text == "replace black with white"
    # No word of "white coat" is missing in "long white coat": the last one stands for it.
    assert second.text == "replace coat with long"
    assert second.positives == (name("test", 3),)
    assert val.measures == ("any_recall@1", "any_recall@10", "any_recall@50") == val.main
    assert val.paths[name("test", 3)] == tmp_path / name("test", 3)


def test_training_pairs_share_a_parent(tmp_path: Path) -> None:
    """A reference and a target of unrelated captions.

    By hand: red and blue lace dress share "lace dress", blue lace and silk share "blue dress"; the
    hat's only parent is the empty caption, which no other has.
    """
    train = Fashion200k(pairs_per_image=8)(small_fashion200k(tmp_path))[0]
    assert len(train.queries) == 4 * 8
    pairs = {(query.reference[-6], (query.target or "")[-6], query.text) for query in train.queries}
    red, blue, silk = "replace red with blue", "replace blue with red", "replace lace with silk"
    assert pairs <= {
        *(("0", "1", red), ("2", "1", red), ("1", "0", blue), ("1", "2", blue)),
        *(("1", "3", silk), ("3", "1", "replace silk with lace")),
    }
    assert {reference for reference, *_ in pairs} == {"0", "1", "2", "3"}


def test_the_seed_draws_the_training_pairs(tmp_path: Path) -> None:
    root = small_fashion200k(tmp_path)
    drawn = [Fashion200k(pairs_per_image=9, seed=seed)(root)[0].queries for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_symbols_become_words(tmp_path: Path) -> None:
    root = small_fashion200k(tmp_path)
    lines = [f"{name('test', n)}\t1\t{text}" for n, text in enumerate(["a. b", "c* b", "d", "e"])]
    write_lines(root / "labels" / "dress_test_detect_all.txt", *lines)
    val = Fashion200k(splits=("val",))(root)[0]
    assert val.queries[0].text == "replace adotmark with cstarmark"


def test_pictures_may_lie_below_images(tmp_path: Path) -> None:
    root = small_fashion200k(tmp_path)
    (root / "images").mkdir()
    (root / "women").rename(root / "images" / "women")
    assert Fashion200k()(root)[1].paths[name("test", 0)] == root / "images" / name("test", 0)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("labels/dress_test_detect_all.txt", "a.jpeg\tred", "line 1 is 'a.jpeg.*\naccepted: an im"),
        ("labels/dress_test_detect_all.txt", "a.jpeg\t1\t ", "line 1 is 'a.jpeg"),
        ("labels/x_test.txt", f"{name('test', 0)}\t1\that", "has another caption for image 'women"),
        ("test_queries.txt", "a b c", "line 1 is 'a b c'\naccepted: two image paths"),
        ("test_queries.txt", f"{name('test', 0)} b", "line 1: 'b' is in no label file"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, file: str, line: str, message: str) -> None:
    root = small_fashion200k(tmp_path)
    write_lines(root / file, line)
    with pytest.raises(CIRError, match=message):
        Fashion200k()(root)
