"""Suites: what is compared with what, read from TOML and checked before anything runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cir_plugins.config.toml import SETTINGS_TABLES, Config, as_config, merge
from cir_plugins.errors import CIRError, unknown_name

SUITES = Path(__file__).parent / "suites"
_KEYS = ("name", "description", "seeds", "show", "data", "make", "defaults", "rows")
_DEFAULTS = ("backbone", "loss", "sampler", *SETTINGS_TABLES)
_ROW = ("label", "method", "compare", *_DEFAULTS)


@dataclass(frozen=True)
class SuiteEntry:
    """One line of the comparison.

    Attributes:
        label: Its name in the table, unique in the suite.
        tables: Its configuration, the suite's defaults merged in; no data and no seed.
        compare: Label of the row its difference is taken to; "" for the suite's first row.
    """

    label: str
    tables: Config
    compare: str = ""

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.tables["method"]["name"])

    @property
    def slug(self) -> str:
        """The label as a file name."""
        return slug(self.label)


@dataclass(frozen=True)
class Suite:
    """A comparison of rows on one data set over several seeds.

    Attributes:
        name: Name of the suite.
        source: The file it was read from, for messages.
        rows: What is compared; the first is what the others are compared with.
        data: The reader's name and options, and ``root`` where the suite names a folder.
        description: What the comparison is about, for the page and the README.
        seeds: Each row is run once with each.
        make: What is drawn when no data folder is given: ``{"garments": {"images", "seed", ...}}``.
        show: Measures that the table shows beside the protocol's main ones.
    """

    name: str
    source: str
    rows: tuple[SuiteEntry, ...]
    data: Mapping[str, Any]
    description: str = ""
    seeds: tuple[int, ...] = (0,)
    make: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    show: tuple[str, ...] = ()

    def pointed_at(self, data: str | None, root: str | Path | None) -> Suite:
        """The same comparison on other data; None leaves the suite's own name or folder.

        Reader options of the suite stay only where the data name stays. Nothing is drawn once a
        folder or another reader is named.
        """
        if data is None and root is None:
            return self
        kept = dict(self.data) if data in (None, self.data["name"]) else {"name": data}
        if root is not None:
            kept["root"] = str(root)
        moved = root is not None or kept["name"] != self.data["name"]
        return replace(self, data=kept, make={} if moved else self.make)

    def only(self, methods: Sequence[str] = (), seeds: Sequence[int] = ()) -> Suite:
        """The suite with the rows of these labels or methods, and with these seeds; () for all.

        A label may also be given as its slug, which has no blanks and commas.

        Raises:
            CIRError: If a name is neither a label nor a method of the suite, or a seed is bad.
        """
        names = {name for row in self.rows for name in (row.label, row.method)}
        for name in methods:
            if name not in names | {row.slug for row in self.rows}:
                raise unknown_name(f"row or method in suite '{self.name}'", name, names)
        rows = tuple(
            row
            for row in self.rows
            if not methods or {row.label, row.method, row.slug} & set(methods)
        )
        chosen = _seeds(list(seeds), "--seeds") if seeds else self.seeds
        return replace(self, rows=rows, seeds=chosen)

    def config(self, row: SuiteEntry, seed: int) -> Config:
        """The whole configuration of a row with a seed."""
        return merge(row.tables, {"data": self.data, "run": {"seed": seed}})

    def reference(self, row: SuiteEntry) -> SuiteEntry:
        """The row that a row is compared with: the one it names, or else the first."""
        named = [other for other in self.rows if row.compare and other.label == row.compare]
        return named[0] if named else self.rows[0]


def slug(label: str) -> str:
    """A label as a file name: lower-case letters, digits and dashes; "" if nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def run_name(label: str, seed: int) -> str:
    """Name of the folder and files of a row's run."""
    return f"{slug(label)}-seed{seed}"


def suite_names() -> tuple[str, ...]:
    """Names of the suites that come with the package."""
    return tuple(sorted(file.stem for file in SUITES.glob("*.toml")))


def read_suite(name_or_path: str | Path) -> Suite:
    """A suite by the name it is shipped under, or from any TOML file.

    Raises:
        CIRError: If there is no such suite, or something in it is wrong; names file, row and key.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in suite_names():
            hint = "or the path of a suite file that ends in .toml"
            raise unknown_name("suite", str(name_or_path), suite_names(), hint=hint)
        path = SUITES / f"{name_or_path}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CIRError(f"suite file {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise CIRError(f"suite file {path} is not valid TOML: {error}") from error
    return _suite(content, path)


def _suite(content: Mapping[str, Any], path: Path) -> Suite:
    where = f"suite file {path}"
    _known_keys(content, _KEYS, where)
    defaults = _table(content.get("defaults", {}), f"'defaults' in {where}")
    _known_keys(defaults, _DEFAULTS, f"table [defaults] of {where}")
    shared = as_config(defaults, f"[defaults] of {where}")
    return Suite(
        name=_text(content.get("name", path.stem), f"'name' in {where}"),
        source=str(path),
        rows=_rows(content.get("rows"), shared, where),
        data=_data(content.get("data"), where),
        description=_text(content.get("description", ""), f"'description' in {where}"),
        seeds=_seeds(content.get("seeds", [0]), f"'seeds' in {where}"),
        make=_make(content.get("make", {}), where),
        show=_measures(content.get("show", []), where),
    )


def _rows(given: Any, shared: Config, where: str) -> tuple[SuiteEntry, ...]:
    if not isinstance(given, list) or not given:
        raise CIRError(f"{where} has no rows; accepted: one table [[rows]] or more, with a method")
    rows = tuple(_row(row, number, shared, where) for number, row in enumerate(given, 1))
    slugs: dict[str, str] = {}
    for row in rows:
        if row.slug in slugs:
            raise CIRError(
                f"{where}: row '{row.label}' has the label of row '{slugs[row.slug]}'; labels "
                "must differ in their letters and digits"
            )
        slugs[row.slug] = row.label
    labels = [row.label for row in rows]
    for row in rows:
        if row.compare and row.compare not in labels:
            raise unknown_name(
                f"label in 'compare' of row '{row.label}', {where}", row.compare, labels
            )
    return rows


def _row(given: Any, number: int, shared: Config, where: str) -> SuiteEntry:
    row = _table(given, f"row {number} in {where}")
    named = row.get("label", row.get("method"))
    place = f"row {number} ('{named}') of {where}" if named else f"row {number} of {where}"
    _known_keys(row, _ROW, place)
    method = as_config({"method": row.get("method", {})}, place)["method"]
    name = method.get("name")
    if not name or not isinstance(name, str):
        raise CIRError(f'{place} names no method; accepted: method = "NAME"')
    own = as_config({key: row[key] for key in _DEFAULTS if key in row}, place)
    label = _text(row.get("label", name), f"'label' of {place}")
    if not slug(label):
        raise CIRError(f"label '{label}' of {place} has no letter and no digit")
    tables = merge(shared, {"method": method, **own})
    return SuiteEntry(label, tables, _text(row.get("compare", ""), f"'compare' of {place}"))


def _data(given: Any, where: str) -> Mapping[str, Any]:
    data = as_config({"data": given if given is not None else {}}, where)["data"]
    if not isinstance(data.get("name"), str):
        raise CIRError(f'{where} names no data set; accepted: [data] with name = "READER"')
    return data


def _make(given: Any, where: str) -> Mapping[str, Mapping[str, Any]]:
    make = _table(given, f"'make' in {where}")
    if len(make) > 1:
        raise CIRError(f"table [make] of {where} names {', '.join(make)}; accepted: one generator")
    made: dict[str, Mapping[str, Any]] = {}
    for name, options in make.items():
        made[name] = _table(options, f"'make.{name}' in {where}")
        for key in ("images", "seed"):
            value = made[name].get(key, 0)
            _check(
                _is_whole(value), f"'make.{name}.{key}' in {where}", value, "a whole number from 0"
            )
    return made


def _seeds(given: Any, what: str) -> tuple[int, ...]:
    good = isinstance(given, list) and given and all(_is_whole(seed) for seed in given)
    _check(good and len(set(given)) == len(given), what, given, "different whole numbers from 0")
    return tuple(given)


def _measures(given: Any, where: str) -> tuple[str, ...]:
    from cir_plugins.retrieval.metrics import (
        parse_measure,  # brings torch, which naming a suite needs not
    )

    good = isinstance(given, list) and all(isinstance(name, str) for name in given)
    _check(good, f"'show' in {where}", given, 'a list of measures, as ["recall@10"]')
    for name in given:
        try:
            parse_measure(name)
        except CIRError as error:
            raise CIRError(f"'show' in {where}: {error}") from error
    return tuple(given)


def _known_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise unknown_name(f"key in {where}", key, known)


def _table(given: Any, what: str) -> Mapping[str, Any]:
    _check(isinstance(given, Mapping), what, given, "a table")
    table: Mapping[str, Any] = given
    return table


def _text(given: Any, what: str) -> str:
    _check(isinstance(given, str), what, given, "a text")
    return str(given)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check(good: Any, what: str, given: Any, accepted: str) -> None:
    if not good:
        raise CIRError(f"{what} is {given!r}; accepted: {accepted}")
