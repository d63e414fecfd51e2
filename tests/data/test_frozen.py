from __future__ import annotations

import json
from pathlib import Path

import pytest

from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.frozen import freeze, read_frozen
from cir_plugins.data.readers.fashioniq import FashionIQ
from cir_plugins.errors import CIRError
from tests.layouts import small_fashioniq, write_json, write_picture


def test_the_same_data_elsewhere_is_the_frozen_one(tmp_path: Path) -> None:
    frozen = freeze(tmp_path / "f.json", "fashioniq", FashionIQ()(small_fashioniq(tmp_path / "a")))
    splits = FashionIQ(caption_mode="space")(small_fashioniq(tmp_path / "b"))
    again = read_frozen(tmp_path / "f.json")
    assert (again.id, len(again.id)) == (frozen.id, 16)
    again.require(DataFingerprint.of("fashioniq", splits))
    again.require(DataFingerprint.of("fashioniq", [s for s in splits if s.role == "val"]))


def test_other_data_is_refused_with_what_differs(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path / "a")
    frozen = freeze(tmp_path / "f.json", "fashioniq", FashionIQ()(root))
    write_picture(root / "images" / "d3.png", 99)
    (root / "images" / "s2.png").unlink()
    splits = FashionIQ(missing="drop")(root)
    with pytest.raises(CIRError) as caught:
        frozen.require(DataFingerprint.of("fashioniq", splits))
    assert "f.json" in str(caught.value)
    assert "split 'shirt.val' is gone" in str(caught.value)
    assert "split 'dress.val': other contents of the images" in str(caught.value)


def test_changed_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    freeze(file, "fashioniq", FashionIQ()(small_fashioniq(tmp_path / "a")))
    content = json.loads(file.read_text())
    write_json(file, {**content, "id": "0" * 16})
    with pytest.raises(CIRError, match="its id is not that of its fingerprint"):
        read_frozen(file)
    write_json(file, {**content, "fingerprint": {}})
    with pytest.raises(CIRError, match="holds no fingerprint of data"):
        read_frozen(file)
    write_json(file, [])
    with pytest.raises(CIRError, match="is no frozen data; accepted: what cir check --freeze"):
        read_frozen(file)
