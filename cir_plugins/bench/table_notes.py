"""Notes below the table of a suite: what keeps its rows from being compared, and what failed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cir_plugins.data.split import counts_in_words
from cir_plugins.runs.caveats import names_of_lines
from cir_plugins.runs.protocol_record import COMPARED, not_comparable

_NOTED = ("gallery", "reference")  # members of a record that ``_mixed`` is about
RANKED = ("gallery", "drop_reference")  # options of a reader that decide what is ranked


def table_notes(document: Mapping[str, Any]) -> list[str]:
    """Lines below a table: rows that are not comparable, what they lack, and what failed."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for row in document["rows"]:
        if "error" in row:
            seeds.setdefault((row["label"], row["error"]), []).append(str(row["seed"]))
    failed = [
        f"failed: {label}, seed{'s' * (len(which) > 1)} {', '.join(which)}: {reason}"
        for (label, reason), which in seeds.items()
    ]
    mixed = [*_mixed(document), *_mixed_data(document), *_mixed_records(document)]
    return [*mixed, *_lacks(document), *failed]


def _mixed(document: Mapping[str, Any]) -> list[str]:
    """A line for each option that decides what is ranked and differs between rows."""
    notes = []
    for option in RANKED:
        values: dict[str, dict[str, None]] = {}
        for row in document["rows"]:
            options = row.get("config", {}).get("data", {})
            if option in options:
                values.setdefault(json.dumps(options[option]), {})[row["label"]] = None
        if len(values) > 1:
            notes.append(f"not one protocol, data.{option} differs: {_groups(values)}")
    return notes


def _mixed_records(document: Mapping[str, Any]) -> list[str]:
    """A line for each member in which the records of the rows' protocols differ.

    Gallery and reference have lines of their own.
    """
    records = {row["label"]: row["record"] for row in document["rows"] if row.get("record")}
    return not_comparable(records, [name for name in COMPARED if name not in _NOTED])


def _mixed_data(document: Mapping[str, Any]) -> list[str]:
    """Lines on rows of different data, and on rows that were trained on other data."""
    # What is ranked has a line of its own, and makes another gallery: compared within it.
    evaluated: dict[str, dict[str, dict[str, None]]] = {}
    trained: dict[str, dict[str, dict[str, None]]] = {}
    changed: dict[str, dict[str, None]] = {}
    for row in document["rows"]:
        label = row["label"]
        options = row.get("config", {}).get("data", {})
        ranked = json.dumps([options.get(name) for name in RANKED])
        if "data" in row:
            groups = evaluated.setdefault(ranked, {})
            groups.setdefault(row["data"]["fingerprint"], {})[label] = None
        source = row.get("trained_on") or row.get("training", {}).get("data")
        if source:
            groups = trained.setdefault(ranked, {})
            groups.setdefault(source["fingerprint"], {})[label] = None
        for change in row.get("trained_on", {}).get("changes", ()):
            changed.setdefault(change, {})[label] = None
    notes = [
        f"{what}, fingerprints differ: {_groups(groups)}"
        for what, compared in (
            ("not one data set", evaluated),
            ("not trained on one data set", trained),
        )
        for groups in compared.values()
        if len(groups) > 1
    ]
    notes += [
        f"other data than of training, {change}: {', '.join(labels)}"
        for change, labels in changed.items()
    ]
    return notes


def _groups(groups: Mapping[str, Iterable[str]]) -> str:
    return "; ".join(f"{name}: {', '.join(labels)}" for name, labels in groups.items())


def _lacks(document: Mapping[str, Any]) -> list[str]:
    """A line for each thing that rows are not about, with the rows where not all have it."""
    pairs = ((row["label"], line) for row in document["rows"] for line in _counted(row))
    every = {row["label"] for row in document["rows"] if "error" not in row}
    return [
        f"{text} (all rows)" if every <= set(labels) else f"{text} ({', '.join(labels)})"
        for text, labels in names_of_lines(pairs).items()
    ]


def _counted(row: Mapping[str, Any]) -> Iterator[str]:
    """Lines on what was left out of a row, and on what its measures are not about."""
    for where, content in (("evaluation", row), ("training", row.get("training", {}))):
        if "left_out" in content:
            counts = counts_in_words(content["left_out"]["total"])
            yield f"left out of {where}, as cir check shows: {counts}"
        if content.get("positives_across"):
            yield f"positives known only across triplets, {where}: {content['positives_across']:,}"
    if row.get("blind"):
        yield f"further queries without a target: {row['blind']:,}"
    if row.get("unreachable"):
        yield f"queries whose target is the removed reference, never hit: {row['unreachable']:,}"
