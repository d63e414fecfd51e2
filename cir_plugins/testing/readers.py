"""The contract of readers."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError
from cir_plugins.retrieval.metrics import parse_measure
from cir_plugins.testing.contract import ContractError, calling, require, require_built

_ROLES = ("train", "val", "test")


def check_reader(reader: Any, root: Path) -> None:
    """Check that a reader gives splits as the host relies on.

    Every image of a query or a gallery has a file; positives are in the gallery, the target
    first; ids do not repeat; measures are known; a second reading gives the same; a folder that
    is not there is a ``CIRError``.

    Args:
        reader: The reader, built.
        root: A small data folder in its layout, complete.

    Raises:
        ContractError: With what to fix.
    """
    require_built("reader", reader)
    root = Path(root)
    with calling("the reader", f"the folder {root}"):
        splits = reader(root)
    good = isinstance(splits, list) and all(isinstance(split, Split) for split in splits)
    require(good and bool(splits), f"a reader gives a list of Splits, found {splits!r:.80}")
    names = [split.name for split in splits]
    require(len(set(names)) == len(names), f"two splits have one name: {', '.join(names)}")
    for split in splits:
        _check_split(split)
    with calling("the reader", f"a second reading of {root}"):
        again = reader(root)
    require(again == splits, "a second reading gives other splits")
    with calling("pickling", "the splits, which go to loader workers"):
        copied = pickle.loads(pickle.dumps(splits))
    require(copied == splits, "the splits do not survive pickling")
    _check_missing(reader, root / "no such folder")


def _check_missing(reader: Any, root: Path) -> None:
    must = "a folder that is not there must raise CIRError"
    try:
        reader(root)
    except CIRError:
        return
    except Exception as error:  # a reader of another hand may raise anything
        raise ContractError(f"{must}, not {type(error).__name__}: {error}") from error
    raise ContractError(must)


def _check_split(split: Split) -> None:
    where = f"split '{split.name}'"
    require(split.role in _ROLES, f"{where} has role '{split.role}'; accepted: {_ROLES}")
    _require_distinct(f"{where}: gallery", split.gallery)
    _require_distinct(f"{where}: query ids", [query.id for query in split.queries])
    for measure in split.measures:
        try:
            parse_measure(measure)
        except Exception as error:  # a measure that is no string may raise anything
            raise ContractError(f"{where}: measure '{measure}': {error}") from error
    unexpected = sorted(set(split.main) - set(split.measures))
    require(not unexpected, f"{where}: main measures {unexpected} are not among its measures")
    require(bool(split.main), f"{where} has no main measure to choose checkpoints by")
    images = {*split.gallery, *(query.reference for query in split.queries)}
    lacking = sorted(name for name in images if name not in split.paths)
    require(not lacking, f"{where}: no file for {len(lacking)} images, such as {lacking[:1]}")
    plain = [name for name in sorted(images) if not isinstance(split.paths[name], Path)]
    require(
        not plain,
        f"{where}: the files of 'paths' must be pathlib.Path, not "
        f"{', '.join(sorted({type(split.paths[name]).__name__ for name in plain}))}",
    )
    gone = sorted(str(split.paths[name]) for name in images if not split.paths[name].is_file())
    require(not gone, f"{where}: {len(gone)} files are not there, such as {gone[:1]}")
    gallery = frozenset(split.gallery)
    for query in split.queries:
        _check_query(f"{where}, query '{query.id}'", query, split, gallery)


def _check_query(where: str, query: Query, split: Split, gallery: frozenset[str]) -> None:
    require(bool(query.captions), f"{where} has no caption")
    with calling(f"{where}: joining the captions", f"{query.captions!r:.80}"):
        texts = split.captions.texts(query.captions, query.category)
    require(query.text in texts, f"{where}: text {query.text!r} is none of its captions': {texts}")
    if query.target is None:
        require(split.role == "test", f"{where} has no target, though its split is {split.role}")
        require(not query.positives, f"{where} has positives but no target")
        return
    first = query.positives[:1]
    require(
        first == (query.target,), f"{where}: positives must begin with the target, found {first}"
    )
    _require_distinct(f"{where}: positives", query.positives)
    outside = [name for name in query.positives if name not in gallery]
    require(not outside, f"{where}: positives {outside} are not in the gallery")
    if split.drop_reference:
        same = query.reference == query.target
        require(not same, f"{where}: the target is the reference, which leaves the ranking")
    if query.group:
        _require_distinct(f"{where}: group", query.group)
        require(query.reference not in query.group, f"{where}: the group holds the reference")
        require(query.target in query.group, f"{where}: the group lacks the target")


def _require_distinct(what: str, names: Sequence[str]) -> None:
    repeated = [name for name, number in Counter(names).items() if number > 1]
    require(not repeated, f"{what} has repeats: {', '.join(repeated[:3])}")
