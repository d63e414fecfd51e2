from __future__ import annotations

from pathlib import Path

from tests.command import Call
from tests.layouts import small_fashioniq


def test_check_prints_a_table_of_splits(cir: Call, tmp_path: Path) -> None:
    done = cir("check", "--data", "fashioniq", "--root", small_fashioniq(tmp_path))
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert lines == [
        ["split", "queries", "gallery", "references", "missing", "broken", "queries", "lost"],
        ["dress.train", "2", "4", "2", "0", "0", "0"],
        ["dress.val", "2", "5", "1", "0", "0", "0"],
        ["shirt.val", "1", "2", "1", "0", "0", "0"],
        ["dress.test", "1", "2", "1", "0", "0", "0"],
        ["all", "val", "3", "0"],
    ]


def test_check_lists_every_unusable_image(cir: Call, tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path / "data")
    (root / "images" / "d2.png").unlink()
    (root / "images" / "s2.png").write_bytes(b"")
    done = cir("check", "--data", "fashioniq", "--root", root, "--list", tmp_path / "list.tsv")
    assert done.code == 1
    assert "error: dress.val: missing: d2" in done.out
    assert "2 (66.7%)" in done.out
    missing, broken = (tmp_path / "list.tsv").read_text().splitlines()
    assert missing == "d2\tmissing"
    assert broken.startswith("s2\timage ")


def test_check_without_decoding_admits_it(cir: Call, tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    done = cir("check", "--data", "fashioniq", "--root", root, "--no-decode")
    assert "pictures were looked for but not opened" in done.out
