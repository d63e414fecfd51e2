from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cir_plugins import CIRError, Split
from cir_plugins.data.readers.cirr import CIRR
from cir_plugins.testing import ContractError, check_reader
from tests.layouts import small_cirr


@dataclass
class _Altered:
    """The CIRR reader with every split changed."""

    change: Callable[[Split], Split]

    def __call__(self, root: Path) -> list[Split]:
        return [self.change(split) for split in CIRR(splits=("val",))(root)]


def first_query(**values: Any) -> Callable[[Split], Split]:
    return lambda split: replace(
        split, queries=(replace(split.queries[0], **values), *split.queries[1:])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: replace(s, gallery=(*s.gallery, s.gallery[0])), "gallery has repeats: dev-0"),
        (lambda s: replace(s, queries=s.queries * 2), "query ids has repeats: 40"),
        (lambda s: replace(s, paths={}), "no file for 8 images, such as"),
        (
            lambda s: replace(s, paths={name: str(path) for name, path in s.paths.items()}),  # type: ignore[misc]
            "the files of 'paths' must be pathlib.Path, not str",
        ),
        (lambda s: replace(s, measures=(3,)), "measure '3'"),  # type: ignore[arg-type]
        (lambda s: replace(s, captions=None), "joining the captions raises AttributeError"),  # type: ignore[arg-type]
        (lambda s: replace(s, measures=("recal@1",)), "measure 'recal@1'"),
        (lambda s: replace(s, main=("map@3",)), r"main measures \['map@3'\] are not among"),
        (lambda s: replace(s, main=()), "has no main measure"),
        (lambda s: replace(s, role="dev"), "has role 'dev'; accepted"),
        (first_query(target=None), "query '40' has no target, though its split is val"),
        (first_query(positives=("dev-3", "dev-1")), "positives must begin with the target"),
        (first_query(positives=("dev-1", "gone")), r"positives \['gone'\] are not in the gallery"),
        (first_query(text="else"), "text 'else' is none of its captions'"),
        (first_query(group=("dev-0", "dev-1")), "the group holds the reference"),
        (first_query(group=("dev-2",)), "the group lacks the target"),
        (first_query(reference="dev-1"), "the target is the reference"),
        (lambda s: replace(s, name=str(random.random())), "a second reading gives other splits"),
    ],
)
def test_a_broken_reader_contract_is_named(
    change: Callable[[Split], Split], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ContractError, match=message):
        check_reader(_Altered(change), small_cirr(tmp_path / "set"))


def test_a_reader_must_report_a_missing_folder(tmp_path: Path) -> None:
    whole = small_cirr(tmp_path / "set")

    def forgiving(root: Path) -> list[Split]:
        try:
            return CIRR()(root)
        except CIRError:
            return []

    with pytest.raises(ContractError, match="a folder that is not there must raise CIRError"):
        check_reader(forgiving, whole)
    with pytest.raises(ContractError, match="must raise CIRError, not FileNotFoundError: "):
        check_reader(lambda root: list(root.iterdir()) and CIRR()(root), whole)
    with pytest.raises(ContractError, match=r"the reader raises KeyError on the folder .*'gone'"):
        check_reader(lambda root: {}["gone"], whole)
    with pytest.raises(ContractError, match=r"the reader must be built: give the check CIRR\(\)"):
        check_reader(CIRR, whole)
    with pytest.raises(ContractError, match="a reader gives a list of Splits"):
        check_reader(lambda root: [], whole)
