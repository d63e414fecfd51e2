"""JSON Lines, and JSON files that hold a list of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from cir_plugins.data.tables.delimited import Encoding, decode
from cir_plugins.data.tables.table import Table, table_of_objects
from cir_plugins.errors import CIRError
from cir_plugins.files import parse_json, read_bytes

_SURROGATE = re.compile("[\ud800-\udfff]")
_ACCEPTED = 'accepted: one object a row, such as {"reference": "a.jpg", "text": "in red", ...}'


def read_json_lines(path: Path, encoding: Encoding = "auto") -> Table:
    """The table of a JSON Lines file; rows count from 1, as an editor counts lines.

    Raises:
        CIRError: If the file cannot be read, or a line is no object.
    """
    where = str(path)
    text = decode(read_bytes(path), where, encoding)
    rows: list[str] = []
    objects: list[Mapping[str, object]] = []
    # Texts may hold the other characters that end a line.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            objects.append(_object(parse_json(line, f"{where}, row {number}"), where, number))
            rows.append(str(number))
    return table_of_objects(where, rows, objects)


def read_json_list(path: Path, encoding: Encoding = "auto") -> Table:
    """The table of a JSON file that holds a list of objects; rows count from 1.

    Raises:
        CIRError: If the file cannot be read, or holds anything else.
    """
    where = str(path)
    value = parse_json(decode(read_bytes(path), where, encoding), where)
    if not isinstance(value, list):
        raise CIRError(f"{where} holds no list\naccepted: a list of objects, one for each row")
    objects = [_object(item, where, number) for number, item in enumerate(value, start=1)]
    return table_of_objects(where, [str(n) for n in range(1, len(objects) + 1)], objects)


def _object(value: object, where: str, number: int) -> Mapping[str, object]:
    """The members of a row.

    Raises:
        CIRError: If it is no object, or has half of a character, which no file name can hold.
    """
    if not isinstance(value, dict):
        raise CIRError(f"{where}, row {number} is no object\n{_ACCEPTED}")
    if _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise CIRError(
            f"{where}, row {number} has half of a character (a lone surrogate)\n"
            "accepted: whole characters"
        )
    return value
