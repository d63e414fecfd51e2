"""Suites: what is compared with what, read from TOML and checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from cir_plugins.config.records import Record, read_record
from cir_plugins.config.toml import SETTINGS_TABLES, Config, as_config, merge
from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.files import read_toml
from cir_plugins.plugins.options import Accepted, accepted_by

SUITES = Path(__file__).parent / "suites"
_DEFAULTS = ("backbone", "loss", "sampler", *SETTINGS_TABLES)


def _different(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) != len(seeds):
        raise ValueError("a seed comes twice")
    return seeds


Table: TypeAlias = dict[str, Any]
Component: TypeAlias = str | Table
_NONE: Table = {}  # pydantic gives each record a copy
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Field(min_length=1),
    AfterValidator(_different),
    Accepted("different whole numbers from 0"),
]


class _Defaults(Record):
    """The config that entries share, or one entry alone has."""

    backbone: Component = _NONE
    loss: Component = _NONE
    sampler: Component = _NONE
    train: Table = _NONE
    schedule: Table = _NONE
    mining: Table = _NONE
    memory: Table = _NONE
    run: Table = _NONE


class _Entry(_Defaults):
    """A table [[rows]]."""

    method: Component = _NONE
    label: str | None = None
    compare: str = ""


class _Generator(Record):
    """A table [make.NAME]; the generator's own options are checked when it draws."""

    model_config = ConfigDict(extra="allow")

    images: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    workers: Annotated[int, Field(ge=1, le=256)] = 1


class _File(Record):
    """A suite file; what its entries hold is read one by one."""

    name: str = ""
    description: str = ""
    seeds: Seeds = (0,)
    show: Annotated[tuple[str, ...], Accepted('a list of measures, as ["recall@10"]')] = ()
    data: Component = _NONE
    make: dict[str, Table] = _NONE
    defaults: _Defaults = _Defaults()
    rows: tuple[Any, ...] = ()


@dataclass(frozen=True)
class SuiteEntry:
    """One entry of the comparison, a row of the results table.

    Attributes:
        label: Its name in the table, unique in the suite.
        config: Its configuration, the suite's defaults merged in; no data and no seed.
        compare: Label of the entry its difference is taken to; "" for the suite's first.
    """

    label: str
    config: Config
    compare: str = ""

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.config["method"]["name"])

    @property
    def slug(self) -> str:
        """The label as a file name."""
        return slug(self.label)


@dataclass(frozen=True)
class Suite:
    """A comparison of entries on one data set over several seeds.

    Attributes:
        name: Name of the suite.
        source: The file it was read from, for messages.
        entries: The entries; the others are compared with the first.
        data: The reader's name and options, and ``root`` where the suite names a folder.
        description: What the comparison is about, for the page and the README.
        seeds: Each entry is run once with each.
        make: What is drawn when there is no data folder: ``{"garments": {"images", "seed", ...}}``.
        show: Measures that the table shows beside the protocol's main ones.
    """

    name: str
    source: str
    entries: tuple[SuiteEntry, ...]
    data: Mapping[str, Any]
    description: str = ""
    seeds: tuple[int, ...] = (0,)
    make: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    show: tuple[str, ...] = ()

    def on_data(self, data: str | None, root: str | Path | None) -> Suite:
        """The same comparison on other data; None leaves the suite's own name or folder.

        Reader options of the suite stay only where the data name stays. For another folder or
        reader nothing is drawn.
        """
        if data is None and root is None:
            return self
        table = dict(self.data) if data in (None, self.data["name"]) else {"name": data}
        if root is not None:
            table["root"] = str(root)
        moved = root is not None or table["name"] != self.data["name"]
        return replace(self, data=table, make={} if moved else self.make)

    def only(self, methods: Sequence[str] = (), seeds: Sequence[int] = ()) -> Suite:
        """The suite with the entries of these labels or methods, and these seeds; () for all.

        A label's slug, which has no blanks and commas, may stand for it.

        Raises:
            CIRError: If a name is neither a label nor a method of the suite, or a seed is bad.
        """
        names = {name for entry in self.entries for name in (entry.label, entry.method)}
        for name in methods:
            if name not in names | {entry.slug for entry in self.entries}:
                raise unknown_name(f"entry or method in suite '{self.name}'", name, names)
        entries = tuple(
            entry
            for entry in self.entries
            if not methods or {entry.label, entry.method, entry.slug} & set(methods)
        )
        try:
            numbers = TypeAdapter(Seeds).validate_python(tuple(seeds)) if seeds else self.seeds
        except ValidationError as error:
            raise CIRError(
                f"--seeds cannot be {list(seeds)}; accepted: {accepted_by(Seeds)}"
            ) from error
        return replace(self, entries=entries, seeds=numbers)

    def config(self, entry: SuiteEntry, seed: int) -> Config:
        """The whole configuration of an entry with a seed."""
        return merge(entry.config, {"data": self.data, "run": {"seed": seed}})

    def reference(self, entry: SuiteEntry) -> SuiteEntry:
        """The entry that an entry is compared with: the one it names, or else the first."""
        same = [other for other in self.entries if entry.compare and other.label == entry.compare]
        return same[0] if same else self.entries[0]


def slug(label: str) -> str:
    """A label as a file name: lower-case letters, digits and dashes; "" if nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def run_name(label: str, seed: int) -> str:
    """Name of the folder and files of an entry's run."""
    return f"{slug(label)}-seed{seed}"


def suite_names() -> tuple[str, ...]:
    """Names of the suites that come with the package."""
    return tuple(sorted(file.stem for file in SUITES.glob("*.toml")))


def read_suite(name_or_path: str | Path) -> Suite:
    """A suite by the name it is shipped under, or from any TOML file.

    Raises:
        CIRError: If there is no such suite, or an error in it; with file, entry and key.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in suite_names():
            hint = "or the path of a suite file that ends in .toml"
            raise unknown_name("suite", str(name_or_path), suite_names(), hint=hint)
        path = SUITES / f"{name_or_path}.toml"
    return _suite(read_toml(path, "suite file"), path)


def _suite(content: Mapping[str, Any], path: Path) -> Suite:
    where = f"suite file {path}"
    file = read_record(_File, content, where)
    if not file.rows:
        raise CIRError(
            f"{where} has no entries; accepted: one table [[rows]] or more, with a method"
        )
    shared = as_config(content.get("defaults", {}), f"[defaults] of {where}")
    entries = tuple(_entry(row, number, shared, where) for number, row in enumerate(file.rows, 1))
    _check_labels(entries, where)
    _check_measures(file.show, where)
    return Suite(
        name=file.name or path.stem,
        source=str(path),
        entries=entries,
        data=_data(file.data, where),
        description=file.description,
        seeds=file.seeds,
        make=_make(file.make, where),
        show=file.show,
    )


def _entry(row: Any, number: int, shared: Config, where: str) -> SuiteEntry:
    if not isinstance(row, Mapping):
        raise CIRError(f"entry {number} of {where} cannot be {row!r}; accepted: a table [[rows]]")
    name = row.get("label", row.get("method"))
    here = f"entry {number} ('{name}') of {where}" if name else f"entry {number} of {where}"
    entry = read_record(_Entry, row, here)
    method = as_config({"method": entry.method}, here)["method"]
    if not method.get("name") or not isinstance(method["name"], str):
        raise CIRError(f'{here} has no method; accepted: method = "NAME"')
    label = method["name"] if entry.label is None else entry.label
    if not slug(label):
        raise CIRError(f"label '{label}' of {here} has no letter and no digit")
    changes = as_config({key: row[key] for key in _DEFAULTS if key in row}, here)
    return SuiteEntry(label, merge(shared, {"method": method, **changes}), entry.compare)


def _check_labels(entries: Sequence[SuiteEntry], where: str) -> None:
    slugs: dict[str, str] = {}
    for entry in entries:
        if entry.slug in slugs:
            raise CIRError(
                f"{where}: entry '{entry.label}' has the label of entry '{slugs[entry.slug]}'; "
                "labels must differ in their letters and digits"
            )
        slugs[entry.slug] = entry.label
    for entry in entries:
        if entry.compare and entry.compare not in slugs.values():
            what = f"label in 'compare' of entry '{entry.label}', {where}"
            raise unknown_name(what, entry.compare, slugs.values())


def _check_measures(names: Sequence[str], where: str) -> None:
    from cir_plugins.retrieval.faults import FRACTIONS  # brings torch, which listing needs not
    from cir_plugins.retrieval.metrics import parse_measure

    for name in [name for name in names if name not in FRACTIONS]:
        try:
            parse_measure(name)
        except CIRError as error:
            raise CIRError(f"'show' of {where}: {error}") from error


def _data(value: Component, where: str) -> Mapping[str, Any]:
    data = as_config({"data": value}, where)["data"]
    if not isinstance(data.get("name"), str):
        raise CIRError(f'{where} has no data set; accepted: [data] with name = "READER"')
    return data


def _make(generators: Mapping[str, Table], where: str) -> Mapping[str, Table]:
    if len(generators) > 1:
        names = ", ".join(generators)
        raise CIRError(f"table [make] of {where} has {names}; accepted: one generator")
    for name, options in generators.items():
        read_record(_Generator, options, f"table [make.{name}] of {where}")
    return generators
