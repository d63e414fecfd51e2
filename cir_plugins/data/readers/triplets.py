"""Reads triplets of one's own: a table with reference, text and target, and a folder of pictures.

The table is CSV, TSV, JSON Lines, JSON, Parquet, or a folder that ``datasets`` saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from cir_plugins.data.captions import Captions, CaptionSwitches, JoinMode
from cir_plugins.data.readers.missing import Missing, settle_all
from cir_plugins.data.readers.picture_names import PictureNames
from cir_plugins.data.readers.pictures import ENDINGS
from cir_plugins.data.readers.products import divide, groups_of, products_of
from cir_plugins.data.readers.triplet_files import find_table, picture_folder
from cir_plugins.data.readers.triplet_rows import (
    Columns,
    Reason,
    Role,
    Row,
    Rows,
    faulty_rows,
    read_rows,
)
from cir_plugins.data.split import Query, Split
from cir_plugins.data.tables import Encoding, Table
from cir_plugins.data.tables.rows import row_list
from cir_plugins.errors import CIRError
from cir_plugins.plugins.ranges import CountOrNone, Share

ROLES: tuple[Role, ...] = ("train", "val", "test")
_RECALLS = ("recall@1", "recall@5", "recall@10", "recall@50")
_ALL_POSITIVES = ("any_recall@1", "any_recall@5", "any_recall@10", "map@5", "map@10")
_NEEDED = ("reference", "text", "target")
_OPTIONAL = ("group", "reference_group", "split", "category")
_ACROSS = "rows across train and val"
_FAULTY = "faulty rows"
_SHOWN = 10


@dataclass(frozen=True)
class Triplets(CaptionSwitches):
    """Reader of triplets of one's own; calling it with a folder gives its splits.

    A picture is named by its path below the picture folder, or by its file name where that is the
    only one, with or without its ending. Pictures of one product are positives of one another.

    Attributes:
        file: The table, seen from the data folder: a .csv, .tsv, .jsonl, .json or .parquet file,
            or a folder that ``datasets`` saved. Empty: ``triplets.*``, else ``train.*`` and
            ``val.*``, else the only table there.
        images: Folder of the pictures, below the data folder.
        encoding: Of a text file; ``auto``: by its byte order mark, without one UTF-8.
        reference: Column of the reference picture.
        text: Column of the text that says what to change; further ones end in ``_2``, ``_3``.
        target: Column of the target picture; may be empty in the test split.
        group: Column of the target's product, if there is one.
        reference_group: Column of the reference's product, if there is one.
        split: Column that says ``train``, ``val`` or ``test``, if there is one; without it products
            are divided between train and val.
        category: Column of the category, if there is one.
        val_share: Share of the rows held back as val, where the table has no split column.
        split_seed: Another number holds back other products.
        by_category: Whether each category is a split with a gallery of its own.
        gallery: What val and test rank: ``rows``: the pictures of the split's rows; ``folder``: all
            in the picture folder.
        drop_reference: Whether a query's reference leaves its ranking.
        faulty: What to do about rows without a picture's name or a text, and those there twice.
        missing: What to do about rows whose picture is not there.
        caption_mode: How the texts of a row are joined (``cir_plugins.Captions``).
    """

    file: str = ""
    images: str = "images"
    encoding: Encoding = "auto"
    reference: str = "reference"
    text: str = "text"
    target: str = "target"
    group: str = "group"
    reference_group: str = "reference_group"
    split: str = "split"
    category: str = "category"
    val_share: Share = 0.1
    split_seed: CountOrNone = 0
    by_category: bool = False
    gallery: Literal["rows", "folder"] = "rows"
    drop_reference: bool = True
    faulty: Literal["error", "drop"] = "error"
    missing: Missing = "error"
    caption_mode: JoinMode = "and"

    protocols: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType(
        {"default": {}, "folder": {"gallery": "folder"}}
    )

    def __call__(self, root: Path) -> list[Split]:
        """The splits of a data folder, train before val before test, all pictures in place.

        Raises:
            CIRError: The table is not as it should be, or a picture is missing.
        """
        read = self._read(Path(root))
        if self.missing == "error" and read.rows.unknown:
            raise self._error(read)
        folder = read.pictures.folder
        splits = settle_all(
            self._splits(read), self.missing, lambda name: str(folder / name), self.looked_for(root)
        )
        return _with_counts(splits, read.left_out)

    def annotations(self, root: Path) -> list[Split]:
        """The same splits, whole, with ``paths`` of no more than the pictures that are there."""
        return self._splits(self._read(Path(root)))

    def notes(self, root: Path) -> list[str]:
        """Facts about the table that are no errors, and rows whose pictures are missing."""
        read = self._read(Path(root))
        unknown = read.rows.unknown[:_SHOWN]
        notes = [f"{read.table.where}: {reason}: {row_list(of)}" for reason, of in unknown]
        columns = read.table.columns()
        if read.rows.metadata:
            names = (f"{name} ({columns[name].kind})" for name in read.rows.metadata)
            notes.append(f"columns without a use in training and evaluation: {', '.join(names)}")
        if read.divided:
            held, total = len(read.of_role["val"]), len(read.rows.rows)
            notes.append(
                f"no split column: {held:,} of {total:,} rows are held back as val "
                f"(data.val_share={self.val_share:g}), no product is in both splits"
            )
            if read.across:
                notes.append(
                    f"{_ACROSS}: {len(read.across):,}, left out, as their products hang together; "
                    "a split column of your own may do better"
                )
        elif across := _products_across(read.of_role):
            notes.append(f"products in train and in val or test, by the split column: {across:,}")
        lost = read.left_out.get(_FAULTY, 0)
        return notes + ([f"{_FAULTY}, left out: {lost:,}"] if lost else [])

    def looked_for(self, root: Path) -> str:
        """Where pictures are looked for."""
        return f"{self._picture_folder(Path(root))}/**/<image>.{ENDINGS}"

    def _picture_folder(self, root: Path) -> Path:
        return picture_folder(root, self.images)

    def _columns(self) -> Columns:
        defaults = {name: type(self).__dataclass_fields__[name].default for name in _OPTIONAL}
        named = {name: getattr(self, name) for name in _OPTIONAL}
        return Columns(
            {name: getattr(self, name) for name in _NEEDED},
            {name: (column, column != defaults[name]) for name, column in named.items()},
        )

    def _read(self, root: Path) -> _Read:
        table = find_table(root, self.file, self.encoding)
        pictures = PictureNames.below(self._picture_folder(root), Path(self.images).as_posix())
        rows = read_rows(table, self._columns(), pictures)
        read = _Read(table, pictures, rows, _by_role(rows.rows))
        if rows.faulty and self.faulty == "error":
            raise self._error(read)
        if not rows.rows:
            raise CIRError(f"{table.where} has no row to use\naccepted: one or more triplets")
        if any(row.role for row in rows.rows):
            return read
        division = divide(rows.rows, self.val_share, self.split_seed)
        parts: dict[Role, Sequence[int]] = {"train": division.train, "val": division.val}
        of_role = {role: tuple(rows.rows[i] for i in part) for role, part in parts.items()}
        return replace(read, of_role=of_role, across=division.across, divided=True)

    def _error(self, read: _Read) -> CIRError:
        """The message on all rows that cannot be used."""
        reasons: list[Reason] = []
        ways = []
        if read.rows.faulty and self.faulty == "error":
            reasons += read.rows.faulty
            ways.append("--set data.faulty=drop")
        if read.rows.unknown and self.missing == "error":
            reasons += read.rows.unknown
            ways.append("--set data.missing=drop for those without a picture")
        way_out = f"mend them, or leave them out with {' and '.join(ways)}"
        if read.rows.unknown and self.missing == "error":
            way_out += f"\nlooked for: {read.pictures.folder}/**/<image>.{ENDINGS}"
        return faulty_rows(read.table.where, reasons, len(read.table), way_out)

    def _splits(self, read: _Read) -> list[Split]:
        rules = self.caption_rules(self.caption_mode)
        groups = groups_of(read.rows.rows)
        splits: list[Split] = []
        for role in ROLES:
            rows = read.of_role.get(role, ())
            parts = _by_category(rows) if self.by_category else {"": rows}
            for category, part in parts.items():
                if part:
                    name = f"{category}.{role}" if category else role
                    splits.append(self._split(name, role, part, groups, read.pictures, rules))
        return splits

    def _split(
        self,
        name: str,
        role: Role,
        rows: Sequence[Row],
        groups: Mapping[str, Sequence[str]],
        pictures: PictureNames,
        rules: Captions,
    ) -> Split:
        gallery = {picture for row in rows for picture, _ in row.pictures()}
        if self.gallery == "folder" and role != "train":
            gallery |= pictures.files.keys()
        members = {group: [p for p in of if p in gallery] for group, of in groups.items()}
        queries = tuple(query for row in rows for query in _queries(row, members, rules))
        grouped = any(len(query.positives) > 1 for query in queries)
        return Split(
            name=name,
            role=role,
            queries=queries,
            gallery=tuple(sorted(gallery)),
            paths={p: pictures.files[p] for p in sorted(gallery) if p in pictures.files},
            drop_reference=self.drop_reference,
            measures=_RECALLS + _ALL_POSITIVES if grouped else _RECALLS,
            main=("any_recall@10",) if grouped else ("recall@10",),
            captions=rules,
        )


@dataclass(frozen=True)
class _Read:
    """A table with its rows, divided into splits.

    Attributes:
        table: The table.
        pictures: The pictures of its folder.
        rows: Its rows, checked.
        of_role: The rows of each split.
        across: Rows in no split, as their products are in different ones.
        divided: Whether the reader divided them, for want of a split column.
    """

    table: Table
    pictures: PictureNames
    rows: Rows
    of_role: Mapping[Role, Sequence[Row]]
    across: Sequence[int] = ()
    divided: bool = False

    @property
    def left_out(self) -> dict[str, int]:
        """Numbers of rows that are in no split, by the reason."""
        faulty = {row for _, of in self.rows.faulty for row in of}
        counts = {_FAULTY: len(faulty), _ACROSS: len(self.across)}
        return {reason: count for reason, count in counts.items() if count}


def _by_role(rows: Sequence[Row]) -> dict[Role, Sequence[Row]]:
    return {role: tuple(row for row in rows if row.role == role) for role in ROLES}


def _by_category(rows: Sequence[Row]) -> dict[str, Sequence[Row]]:
    names = sorted({row.category for row in rows})
    return {name: tuple(row for row in rows if row.category == name) for name in names}


def _queries(row: Row, members: Mapping[str, Sequence[str]], rules: Captions) -> Iterator[Query]:
    """The query of a row, or one for each of its texts in the modes with several."""
    own = (row.target, row.reference)
    others = [picture for picture in members.get(row.group, ()) if picture not in own]
    numbered = rules.mode in ("both_orders", "single")
    for order, text in enumerate(rules.texts(row.captions, row.category)):
        yield Query(
            id=f"{row.name}.{order}" if numbered else row.name,
            reference=row.reference,
            captions=row.captions,
            text=text,
            target=row.target or None,
            positives=(row.target, *others) if row.target else (),
            category=row.category,
        )


def _products_across(of_role: Mapping[Role, Sequence[Row]]) -> int:
    """Number of products with pictures in train and in another split."""
    products = products_of([row for rows in of_role.values() for row in rows])
    names = {
        role: {products[picture] for row in rows for picture, _ in row.pictures()}
        for role, rows in of_role.items()
    }
    others = names.get("val", set()) | names.get("test", set())
    return len(names.get("train", set()) & others)


def _with_counts(splits: Sequence[Split], counts: Mapping[str, int]) -> list[Split]:
    """The splits, the first of training with the numbers of rows in no split."""
    done = False
    counted: list[Split] = []
    for split in splits:
        first = split.role == "train" and not done
        done = done or first
        counted.append(replace(split, absent={**split.absent, **counts}) if first else split)
    return counted
