from __future__ import annotations

import shutil
from pathlib import Path

from cir_plugins.cli.doctor import rows_of_other_data
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.readers.fashioniq import FashionIQ
from tests.command import Call
from tests.layouts import small_fashioniq, write_picture


def test_check_finds_copies_and_freezes(cir: Call, tmp_path: Path) -> None:
    root, file = small_fashioniq(tmp_path / "data"), tmp_path / "frozen.json"
    for shade, picture in enumerate(sorted((root / "images").iterdir())):
        write_picture(picture, 100 + shade)
    for name in ("d1", "e1", "s1"):
        shutil.copy(root / "images" / "t1.png", root / "images" / f"{name}.png")
    words = ("check", "--data", "fashioniq", "--root", root)
    output = cir(*words, "--duplicates", "--near", "-1", "--freeze", file)
    assert output.code == 0
    assert "dress.val: 2 images have the bytes of a training picture" in output.out
    assert f"written: {file}, id " in output.out
    assert cir(*words, "--subset", file).code == 0
    write_picture(root / "images" / "d4.png", 77)
    output = cir(*words, "--subset", file)
    assert output.code == 2
    assert "split 'dress.val': other contents of the images" in output.err


def test_rows_of_other_data_are_named(tmp_path: Path) -> None:
    """A suite's row over other images would stand under the frozen id."""
    from cir_plugins.data.frozen import freeze

    splits = FashionIQ()(small_fashioniq(tmp_path / "data"))
    frozen = freeze(tmp_path / "f.json", "fashioniq", splits)
    val = DataFingerprint.of("fashioniq", [s for s in splits if s.role == "val"])
    rows = [
        {"label": "a", "data": {"fingerprint": val.short}},
        {"label": "b", "data": {"fingerprint": "0" * 16}},
        {"label": "c", "error": "died"},
        {"method": "d"},
    ]
    assert rows_of_other_data(tmp_path / "f.json", rows) == [
        f"b: not the data of {tmp_path / 'f.json'} ({frozen.id}), but {'0' * 16}",
        f"d: not the data of {tmp_path / 'f.json'} ({frozen.id}), but unknown",
    ]
