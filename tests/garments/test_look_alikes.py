from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.readers.cirr import CIRR
from cir_plugins.errors import CIRError
from garments_plugin import changed_attributes, write_look_alikes
from garments_plugin.kinds import KINDS
from garments_plugin.look_alikes import garment_at
from tests.garments.test_write import digests


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("look_alikes") / "set"
    write_look_alikes(out, images=124, seed=3, size=32, val_share=0.75, workers=1, progress=False)
    return out


def read(root: Path, name: str) -> Any:
    return json.loads((root / name).read_text(encoding="utf-8"))


def test_two_workers_write_the_same_bytes_as_one(root: Path, tmp_path: Path) -> None:
    write_look_alikes(
        tmp_path / "b", images=124, seed=3, size=32, val_share=0.75, workers=2, progress=False
    )
    assert digests(tmp_path / "b") == digests(root)


def test_groups_are_of_one_category_and_all_different(root: Path) -> None:
    """Twenty whole groups of 124 images; each image is in one."""
    attributes = read(root, "attributes.json")
    assert len(attributes) == 120
    seen = set()
    for split in ("train", "val"):
        for entry in read(root, f"captions/cap.rc2.{split}.json"):
            members = entry["img_set"]["members"]
            assert len(members) == 6
            values = [tuple(sorted(attributes[name].items())) for name in members]
            assert len(set(values)) == 6
            assert len({KINDS[attributes[name]["garment"]].category for name in members}) == 1
            seen |= set(members)
    assert seen == set(attributes)


def test_a_text_changes_one_attribute_or_two(root: Path) -> None:
    attributes = read(root, "attributes.json")
    for split in ("train", "val"):
        for number, entry in enumerate(read(root, f"captions/cap.rc2.{split}.json")):
            assert entry["pairid"] == number
            reference, target = entry["reference"], entry["target_hard"]
            changed = changed_attributes(attributes[reference], attributes[target])
            assert 1 <= len(changed) <= 2
            if changed == ("colour",):
                words = entry["caption"].replace("gray", "grey")
                assert attributes[target]["colour"] in words


def test_attributes_are_what_is_drawn(root: Path) -> None:
    attributes = read(root, "attributes.json")
    for name, values in attributes.items():
        _, group, member, _ = name.split("-")
        assert garment_at(3, 6 * int(group) + int(member))[0].attributes() == values


def test_the_reader_knows_every_positive(root: Path) -> None:
    """The images of other groups that have the target's attributes."""
    attributes = read(root, "attributes.json")
    split = CIRR()(root)[1]
    more = 0
    for query in split.queries:
        equals = {
            name
            for name in split.gallery
            if attributes[name] == attributes[query.target] and name != query.reference
        }
        assert set(query.positives) == equals
        assert query.positives[0] == query.target
        assert not set(query.group) & (equals - {query.target})
        more += len(equals) - 1
    assert more > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 59}, "images is 59; accepted: 60 or more"),
        ({"size": 31}, "size is 31; accepted: 32 to 512 pixels"),
        ({"val_share": 1.0}, "val_share is 1.0; accepted: above 0 and below 1"),
    ],
)
def test_bad_options_name_what_is_accepted(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CIRError, match=message):
        write_look_alikes(tmp_path / "set", **{"images": 60, **options})
    assert list(tmp_path.iterdir()) == []
