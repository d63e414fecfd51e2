"""Data folders of every reader, damaged: an output or one message."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz.conftest import Folders
from tests.fuzz.profiles import explore, profiles
from tests.fuzz.sandbox import holds, run
from tests.fuzz.values import (
    STRINGS,
    ByteDamage,
    TreeDamage,
    as_json,
    byte_damages,
    is_half,
    tree_damages,
)
from tests.layouts import write_circo_info, write_json

_ATTRIBUTES = {
    f"d{number}": {"colour": "red", "sleeves": str(number % 2)} for number in range(1, 5)
}
_KINDS = ["colour", "colour+sleeves"]
_NAMES = (
    *("x.json", "cap.dress.val.json", "cap..val.json", "cap.rc2.val.json", "cap.\udce9.val.json"),
    *(
        "cap.[b]x[/b].val.json",
        "cap. .val.json",
        "split.dress.val.json",
        "d1.jpg",
        "d1.PNG",
        "0.jpg",
    ),
    *("000000000001.png", "²².jpg", "é.jpg", "dev-0.webp", "a\nb.png", "\x1b[31m.png", "1.jpg"),
    *("0.jpg", "train_im_names.txt", "a_test.txt", "lasco_val_corpus.json", "query_files.csv"),
)


@dataclass(frozen=True)
class FileDamage:
    """What happens to a file, rather than to its content.

    Attributes:
        kind: ``remove``, ``folder``, ``pipe``, ``link`` (to itself), ``move``, ``copy``, ``other``
            (the content of another file), ``all`` (removes every file beside it).
        name: The new name, where there is one.
        other: Number of another file.
    """

    kind: str
    name: str
    other: int

    def apply(self, file: Path, files: Sequence[Path]) -> None:
        """Damage a file; ``files`` are all of its folder and the folders beside it."""
        content = file.read_bytes()
        if self.kind == "copy":
            (file.parent / self.name).write_bytes(content)
            return
        file.unlink()
        if self.kind == "folder":
            file.mkdir()
        elif self.kind == "pipe":
            os.mkfifo(file)
        elif self.kind == "link":
            file.symlink_to(file)
        elif self.kind == "move":
            (file.parent / self.name).write_bytes(content)
        elif self.kind == "other":
            others = [other for other in files if other.is_file()]
            file.write_bytes(others[self.other % len(others)].read_bytes() if others else b"")
        elif self.kind == "all":
            for beside in file.parent.iterdir():
                if not beside.is_dir():
                    beside.unlink()


Damage = FileDamage | ByteDamage | TreeDamage
file_damages = st.builds(
    FileDamage,
    st.sampled_from(["remove", "folder", "pipe", "link", "move", "copy", "other", "all"]),
    st.sampled_from(_NAMES),
    st.integers(0, 30),
)
Damages = Sequence[tuple[int, Damage]]
damages: st.SearchStrategy[Damages] = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.one_of(tree_damages, tree_damages, tree_damages, byte_damages, file_damages),
    ),
    min_size=1,
    max_size=3,
)


_OPTIONS = {
    "fashioniq": (
        *("data.gallery=val", "data.gallery=merged", "data.caption_mode=both_orders"),
        *('data.categories=["dress"]', 'data.splits=["val"]', "data.drop_reference=true"),
        *("data.caption_mode=category_and_it", "data.symbols=words", "data.max_words=2"),
    ),
    "cirr": ('data.splits=["val"]', "data.drop_reference=false", "data.lower=true"),
    "circo": ('data.splits=["val"]', "data.drop_reference=true", "data.symbols=blank"),
    "shoes": ("data.listed_only=true", "data.drop_reference=false", "data.max_words=1"),
    "fashion200k": ("data.pairs_per_image=3", "data.seed=1", "data.symbols=keep"),
    "genecis": ('data.tasks=["change_object"]', "data.lower=true"),
    "lasco": ('data.splits=["train"]', "data.drop_reference=true"),
    "icir": ('data.instances=["mug"]', "data.prefix=a photo of $ that {}"),
}
READERS = tuple(_OPTIONS)


def options(reader: str, missing: str, number: int) -> list[str]:
    """Words that set options of a reader which change what is read."""
    choices = ["", *_OPTIONS[reader]]
    sets = [f"data.missing={missing}", choices[number % len(choices)]]
    return [word for option in sets if option for word in ("--set", option)]


def copy_damaged(source: Path, root: Path, damaged: Damages) -> None:
    """A copy of a data folder with some of its files damaged, annotations before pictures."""
    annotations = (".json", ".txt", ".csv")
    files = sorted(source.rglob("*"), key=lambda file: (file.suffix not in annotations, file))
    copies = []
    for file in files:
        copy = root / file.relative_to(source)
        if file.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
            copies.append(copy)
    for number, damage in damaged:
        file = copies[number % len(copies)]
        if not file.is_file():
            continue
        if isinstance(damage, FileDamage):
            damage.apply(file, copies)
        elif isinstance(damage, ByteDamage):
            file.write_bytes(damage.of(file.read_bytes()))
        elif file.suffix == ".json":
            try:
                tree = json.loads(file.read_bytes())
            except (ValueError, RecursionError):
                continue
            file.write_bytes(as_json(damage.of(tree)))


@pytest.fixture(scope="module")
def sources(data: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The miniature folders with all optional files: attributes, kinds, the list of COCO."""
    root = tmp_path_factory.mktemp("sources")
    folders = {}
    for name, folder in data.items():
        folders[name] = root / name
        copy_damaged(folder, root / name, [])
    write_json(folders["fashioniq"] / "attributes.json", _ATTRIBUTES)
    write_json(folders["fashioniq"] / "meta" / "kinds.dress.val.json", _KINDS)
    write_circo_info(folders["circo"], range(1, 10))
    return folders


@profiles
@pytest.mark.parametrize("reader", READERS)
def test_check_of_damaged_folders(
    reader: str, times: int, sources: Mapping[str, Path], folders: Folders
) -> None:
    """``cir check`` names what is wrong, and ``--list`` writes its file alone."""

    def property_holds(damaged: Damages, missing: str, number: int) -> None:
        folder = folders()
        copy_damaged(sources[reader], folder / "data", damaged)
        words = options(reader, missing, number)
        listing = folder / "list.tsv"
        output = run(
            *("check", "--data", reader, "--root", folder / "data", *words, "--list", listing),
            writes=[listing.parent],
        )
        holds(output, 1)
        if output.code == 1:
            assert "error: " in output.out

    explore(
        35 * times,
        property_holds,
        damages,
        st.sampled_from(["error", "drop"]),
        st.integers(0, 20),
    )


@profiles
@pytest.mark.parametrize("reader", READERS)
def test_eval_on_damaged_folders(
    reader: str, times: int, sources: Mapping[str, Path], trained: Path, folders: Folders
) -> None:
    """``cir eval`` gives finite measures in [0, 1] or one message."""

    def property_holds(damaged: Damages, missing: str, number: int, split: str) -> None:
        folder = folders()
        copy_damaged(sources[reader], folder / "data", damaged)
        words = options(reader, missing, number)
        report = folder / "out" / "report.json"
        output = run(
            *("eval", trained, "--data", reader, "--root", folder / "data", *words),
            *("--split", split, "--json", report),
            writes=[report.parent],
        )
        holds(output)
        if output.code == 0:
            check_report(json.loads(report.read_text()))

    explore(
        15 * times,
        property_holds,
        damages,
        st.sampled_from(["error", "drop"]),
        st.integers(0, 20),
        st.sampled_from(["val", "val", "train", "test"]),
    )


def check_report(report: Mapping[str, Any]) -> None:
    assert report["queries"] >= 0
    assert report["gallery"] >= 0
    for measures in report["splits"].values():
        assert all(0 <= value <= 1 for value in measures.values())


@profiles
def test_training_on_damaged_folders(
    times: int, sources: Mapping[str, Path], folders: Folders
) -> None:
    def property_holds(damaged: Damages, missing: str, number: int) -> None:
        folder = folders()
        copy_damaged(sources["fashioniq"], folder / "data", damaged)
        out = folder / "run"
        words = options("fashioniq", missing, number)
        output = run(
            *("train", "contrastive", "--data", "fashioniq", "--root", folder / "data"),
            *("--out", out, "--set", "backbone=fake", "--set", "train.epochs=1", *words),
            *("--set", "train.batch_size=2", "--set", "run.workers=0", "--device", "cpu"),
            writes=[out],
        )
        holds(output)

    explore(
        15 * times, property_holds, damages, st.sampled_from(["error", "drop"]), st.integers(0, 20)
    )


def test_submissions_of_strange_ids(
    sources: Mapping[str, Path], trained: Path, folders: Folders
) -> None:
    """Image ids and pair ids of a test split end in the files for the server."""

    def property_holds(damaged: Sequence[TreeDamage]) -> None:
        folder = folders()
        copy_damaged(sources["cirr"], folder / "data", [(1, damage) for damage in damaged])
        out = folder / "submission"
        holds(
            run(
                *("eval", trained, "--data", "cirr", "--root", folder / "data"),
                *("--submission", out),
                writes=[out],
            )
        )

    explore(15, property_holds, st.lists(tree_damages, min_size=1, max_size=3))


@profiles
def test_reader_options_of_any_text(
    times: int, sources: Mapping[str, Path], folders: Folders
) -> None:
    """Options of readers, among them the folder of the pictures, hold any text."""
    keys = ("images", "gallery", "categories", "splits", "missing", "prefix", "max_words", "strip")

    def property_holds(key: str, value: str) -> None:
        holds(
            run(
                *("check", "--data", "fashioniq", "--root", sources["fashioniq"]),
                *("--set", f"data.{key}={value}"),
            ),
            1,
        )

    # No terminal and no TOML can give half of a character.
    texts = st.sampled_from([text for text in STRINGS if not any(map(is_half, text))])
    values = st.one_of(texts, texts.map(json.dumps), st.lists(texts, max_size=2).map(json.dumps))
    explore(40 * times, property_holds, st.sampled_from(keys), values)


@pytest.mark.parametrize("images", ["/", "..", "images/../../..", "a\\u0000b"])
def test_pictures_lie_below_the_data_folder(images: str, sources: Mapping[str, Path]) -> None:
    """Found here: ``/`` searched the whole disk for pictures."""
    output = run(
        *("check", "--data", "fashioniq", "--root", sources["fashioniq"]),
        *("--set", f'data.images="{images}"'),
    )
    assert output.code == 1
    assert "error: data.images is" in output.out
    assert "accepted: a folder below the data folder" in output.out
