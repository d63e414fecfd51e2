"""Files for the test servers of CIRR and CIRCO, from rankings, and checks of such files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cir_plugins.data.readers.files import short
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError
from cir_plugins.files import json_bytes, parse_json, read_text, write_atomically


@dataclass(frozen=True)
class Form:
    """The form of a test server's file.

    Attributes:
        name: For messages.
        count: Images per query.
        header: Members of the file beside the queries.
        whole_numbers: Image ids are written as numbers, and query ids count 0, 1, 2, ...
        in_group: The images are members of the query's group.
        max_bytes: Size the server accepts.
        measures: What the server computes from such a file.
    """

    name: str
    count: int
    header: Mapping[str, str] = field(default_factory=dict)
    whole_numbers: bool = False
    in_group: bool = False
    max_bytes: int = 5_000_000
    measures: tuple[str, ...] = ()


_CUTS = (5, 10, 25, 50)
CIRR_RECALL = Form(
    "CIRR recall",
    50,
    {"version": "rc2", "metric": "recall"},
    measures=tuple(f"recall@{k}" for k in (1, 5, 10, 50)),
)
CIRR_SUBSET = Form(
    "CIRR subset recall",
    3,
    {"version": "rc2", "metric": "recall_subset"},
    in_group=True,
    measures=tuple(f"subset_recall@{k}" for k in (1, 2, 3)),
)
CIRCO_RANKING = Form(
    "CIRCO",
    50,
    whole_numbers=True,
    measures=tuple(f"{kind}@{k}" for kind in ("map", "recall") for k in _CUTS),
)


def submission(
    form: Form, rankings: Mapping[str, Sequence[str]], split: Split
) -> dict[str, object]:
    """The members of a submission file, checked.

    Args:
        form: The server's form.
        rankings: Query id -> image ids, best first; the first ``form.count`` are taken. For
            ``in_group`` forms they may be a ranking of the whole gallery: others are passed over.
        split: The queries of the file.

    Raises:
        CIRError: A query is missing or unknown, or a ranking is too short, repeats an image, or
            names one that is not in the gallery.
    """
    _check_queries(form, rankings, split)
    gallery = frozenset(split.gallery)
    table: dict[str, object] = dict(form.header)
    for query in split.queries:
        images: Sequence[str] = rankings[query.id]
        if form.in_group:
            group = frozenset(query.group)
            images = [image for image in images if image in group]
        elif split.drop_reference:
            images = [image for image in images[: form.count + 1] if image != query.reference]
        images = images[: form.count]
        _check_images(form, query, images, gallery)
        table[query.id] = [int(image) for image in images] if form.whole_numbers else list(images)
    return table


def write_submission(
    file: Path, form: Form, rankings: Mapping[str, Sequence[str]], split: Split
) -> None:
    """Write a submission file, whole or not at all; the rest is as in ``submission``.

    Raises:
        CIRError: As in ``submission``; or the file would be larger than the server accepts, or
            cannot be written.
    """
    content = json_bytes(submission(form, rankings, split), compact=True)
    _check_size(form, file, len(content))
    write_atomically(file, content)


def check_submission(file: Path, form: Form, split: Split) -> None:
    """Nothing, if a file is what the server accepts for a split; a ``CIRError`` otherwise."""
    read_submission(file, (form,), split)


def read_submission(
    file: Path, forms: Sequence[Form], split: Split, *, gallery_known: bool = True
) -> tuple[Form, dict[str, list[str]]]:
    """The form of a submission file and its rankings: query id -> image ids, best first.

    Args:
        file: The file.
        forms: The server's forms; their headers tell them apart.
        split: The queries that the server has.
        gallery_known: Whether the split has the whole gallery; otherwise any image id passes.

    Raises:
        CIRError: If the server would refuse the file, with the reason and the query.
    """
    text = read_text(file)
    _check_size(forms[0], file, len(text.encode()))
    table = parse_json(text, str(file))
    if not isinstance(table, dict):
        raise CIRError(f"{file} holds {short(table)}\naccepted: one object, query -> images")
    _check_keys(text, file)
    form = _form(table, forms, file)
    rankings = {
        name: _images(file, form, name, images)
        for name, images in table.items()
        if name not in form.header
    }
    _check_queries(form, rankings, split)
    gallery = frozenset(split.gallery) if gallery_known else None
    for query in split.queries:
        _check_images(form, query, rankings[query.id], gallery)
        if not form.whole_numbers and query.reference in rankings[query.id]:
            raise CIRError(f"{form.name}: the ranking of query '{query.id}' holds its reference")
    return form, rankings


def _check_keys(text: str, file: Path) -> None:
    """Check that no object of a valid JSON text has a member twice: readers keep only the last."""

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in items]
        if len(set(names)) < len(names):
            name = next(name for name in names if names.count(name) > 1)
            raise CIRError(f"{file} has '{name}' twice\naccepted: each query once")
        return dict(items)

    json.loads(text, object_pairs_hook=pairs)


def _form(table: Mapping[str, object], forms: Sequence[Form], file: Path) -> Form:
    """The form whose header a file has."""
    for key in dict.fromkeys(key for form in forms for key in form.header):
        values = list(dict.fromkeys(form.header[key] for form in forms if key in form.header))
        found = table.get(key)
        if found not in values:
            stated = f"'{key}' = {short(found)}" if key in table else f"no '{key}'"
            raise CIRError(
                f"{file} has {stated}\naccepted: {' or '.join(repr(value) for value in values)}"
            )
        forms = [form for form in forms if form.header.get(key) == found]
    return forms[0]


def _images(file: Path, form: Form, name: str, images: object) -> list[str]:
    """Image ids of a query, as text."""
    kind: type = int if form.whole_numbers else str
    if not isinstance(images, list):
        raise CIRError(f"{file}, query '{name}' has {short(images)}\naccepted: a list of images")
    for image in images:
        if type(image) is not kind or (isinstance(image, int) and image < 0):
            what = "whole numbers from 0" if form.whole_numbers else "image names as strings"
            raise CIRError(
                f"{file}, query '{name}' has {short(image)} among its images\n"
                f"accepted: a list of {what}"
            )
    return [str(image) for image in images]


def _check_size(form: Form, file: Path, size: int) -> None:
    if size > form.max_bytes:
        raise CIRError(
            f"{file} has {size:,} bytes\naccepted by the {form.name} server: {form.max_bytes:,}"
        )


def _check_queries(form: Form, rankings: Mapping[str, Sequence[str]], split: Split) -> None:
    ids = [query.id for query in split.queries]
    if form.whole_numbers and ids != [str(number) for number in range(len(ids))]:
        raise CIRError(
            f"{form.name}: the query ids of split '{split.name}' are not 0, 1, 2, ...\n"
            "accepted: all queries of the official file, in its order"
        )
    lacking = [name for name in ids if name not in rankings]
    if lacking:
        raise CIRError(
            f"{form.name}: {len(lacking)} of {len(ids)} queries have no ranking, "
            f"such as '{lacking[0]}'"
        )
    extra = sorted(set(rankings) - set(ids))
    if extra:
        raise CIRError(
            f"{form.name}: query '{extra[0]}' is not in split '{split.name}' "
            f"({len(extra)} such queries)"
        )


def _check_images(
    form: Form, query: Query, images: Sequence[str], gallery: frozenset[str] | None
) -> None:
    where = f"{form.name}: the ranking of query '{query.id}'"
    if len(images) != form.count:
        raise CIRError(f"{where} has {len(images)} images\naccepted: {form.count}")
    if len(set(images)) != len(images):
        raise CIRError(f"{where} names an image twice\naccepted: {form.count} different images")
    allowed = frozenset(query.group) if form.in_group else gallery
    unexpected = [image for image in images if allowed is not None and image not in allowed]
    if unexpected:
        source = "the query's group" if form.in_group else "the gallery"
        raise CIRError(f"{where} names '{unexpected[0]}', which is not in {source}")
