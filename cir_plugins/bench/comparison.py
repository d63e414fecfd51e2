"""A comparison of methods as a table: text, Markdown, LaTeX, CSV, JSON, pandas."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cir_plugins.bench.statistics import LEVEL, Interval
from cir_plugins.data.percent import percent
from cir_plugins.errors import CIRError, unknown_name

FORMATS = ("text", "markdown", "latex", "csv", "json")
_COLUMNS = ("difference", "low", "high", "p", "p (Holm)", "wins", "ties", "losses")
_LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}"})


@dataclass(frozen=True)
class Compared:
    """A method in a comparison; the baseline has no difference.

    Attributes:
        name: Its name.
        measures: Mean of each measure over splits and seeds, a fraction.
        seeds: Number of runs.
        interval: Difference to the baseline with its bootstrap interval, or None.
        p_value: Of the paired randomisation test, or None.
        p_holm: The same, corrected for the number of methods compared, or None.
        counts: Triplets on which it is above, equal to and below the baseline, or None.
        differences: Measure -> difference to the baseline with its interval, where asked for.
    """

    name: str
    measures: Mapping[str, float]
    seeds: int
    interval: Interval | None = None
    p_value: float | None = None
    p_holm: float | None = None
    counts: tuple[int, int, int] | None = None
    differences: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Methods side by side on the same queries.

    Attributes:
        rows: The methods, the baseline among them, in the order of the argument.
        baseline: Name of the method that differences refer to.
        measure: What differences are of: a measure, or the mean of the main measures.
        dataset: Name of the data set.
        protocol: Name of the protocol.
        triplets: Number of paired triplets.
        level: Share of the resamples between the bounds of an interval.
        data: Fingerprint of the data -> names of the methods evaluated on it.
        notes: What keeps the numbers from being of one protocol, a line each.
    """

    rows: tuple[Compared, ...]
    baseline: str
    measure: str
    dataset: str
    protocol: str
    triplets: int
    level: float = LEVEL
    data: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """One dict for each method: fractions, p-values and counts; None where there is none."""
        records = []
        for row in self.rows:
            bounds = row.interval
            values = (
                *((None,) * 3 if bounds is None else (bounds.difference, bounds.low, bounds.high)),
                *(row.p_value, row.p_holm),
                *(row.counts or (None,) * 3),
            )
            cells = dict(zip(_COLUMNS, values, strict=True))
            each = {
                f"{measure} {name}": value
                for measure, bounds in row.differences.items()
                for name, value in asdict(bounds).items()
            }
            records.append({"method": row.name, **row.measures, **cells, **each})
        return records

    def to_pandas(self) -> Any:
        """The table as a ``pandas.DataFrame``, one line for each method.

        Raises:
            CIRError: If pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped, unused-ignore]
        except ImportError as error:
            raise CIRError("to_pandas needs pandas; install it with: pip install pandas") from error
        return pandas.DataFrame(self.records()).set_index("method")

    def to_markdown(self) -> str:
        """The table in Markdown, in percent."""
        head, lines = self._cells()
        rule = ["---", *["---:"] * (len(head) - 1)]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"{table}\n\n{self.caption()}" + (f"\n{notes}" if notes else "")

    def to_latex(self) -> str:
        """The table as a LaTeX ``tabular``, in percent."""
        head, lines = self._cells()
        body = [" & ".join(cell.translate(_LATEX) for cell in cells) + r" \\" for cells in lines]
        top = " & ".join(cell.translate(_LATEX) for cell in head) + r" \\ \hline"
        columns = "l" + "r" * (len(head) - 1)
        comments = [f"% {line}" for line in (self.caption(), *self.notes)]
        return "\n".join(
            [*comments, rf"\begin{{tabular}}{{{columns}}}", top, *body, r"\end{tabular}"]
        )

    def to_csv(self) -> str:
        """The table as CSV: fractions, p-values and counts, empty where there is none.

        Lines that begin with ``#`` before the head have the caption and the notes.
        """
        records = self.records()
        heads = list(dict.fromkeys(name for record in records for name in record))
        stream = io.StringIO()
        stream.writelines(f"# {line}\n" for line in (self.caption(), *self.notes))
        writer = csv.DictWriter(stream, heads, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return stream.getvalue().rstrip("\n")

    @property
    def document(self) -> dict[str, Any]:
        """The table as plain values: what ``cir compare --format json`` writes."""
        facts = ("dataset", "protocol", "baseline", "measure", "triplets", "level")
        return {
            **{name: getattr(self, name) for name in facts},
            "data": {digits: list(names) for digits, names in self.data.items()},
            "notes": list(self.notes),
            "rows": [
                {**record, "seeds": row.seeds}
                for record, row in zip(self.records(), self.rows, strict=True)
            ],
        }

    def to_json(self) -> str:
        """The document as JSON."""
        return json.dumps(self.document, indent=2, ensure_ascii=False)

    def text_in(self, form: str) -> str:
        """The table in one of ``FORMATS``.

        Raises:
            CIRError: If the format is unknown.
        """
        if form not in FORMATS:
            raise unknown_name("format", form, FORMATS)
        writers: dict[str, Callable[[], str]] = {
            "text": self.__str__,
            "markdown": self.to_markdown,
            "latex": self.to_latex,
            "csv": self.to_csv,
            "json": self.to_json,
        }
        return writers[form]()

    def caption(self) -> str:
        """What the numbers are, in one line; says where they are not of one data set."""
        groups = "; ".join(f"{digits}: {', '.join(names)}" for digits, names in self.data.items())
        mixed = f"; not one data set, fingerprints differ: {groups}" if len(self.data) > 1 else ""
        return (
            f"{self.dataset}, protocol {self.protocol}, percent; differences of {self.measure} to "
            f"{self.baseline} over {self.triplets:,} triplets, {100 * self.level:g} % paired "
            f"bootstrap interval, paired randomisation test, wins/ties/losses per triplet{mixed}"
        )

    def __str__(self) -> str:
        head, lines = self._cells()
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        text = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
            for cells in (head, *lines)
        ]
        return "\n".join([*text, "", self.caption(), *self.notes])

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Head and lines as text; fractions in percent."""
        names = list(self.rows[0].measures)
        head = ["method", *names, "difference", "interval", "p", "p (Holm)", "wins/ties/losses"]
        lines = []
        for row in self.rows:
            cells = [row.name, *(percent(row.measures[name]) for name in names)]
            if row.interval is None or row.p_value is None or row.p_holm is None:
                cells += ["baseline", "", "", "", ""]
            else:
                low, high = (
                    percent(bound, signed=True) for bound in (row.interval.low, row.interval.high)
                )
                bounds = f"{low} to {high}"
                cells += [percent(row.interval.difference, signed=True), bounds]
                cells += [f"{row.p_value:.4f}", f"{row.p_holm:.4f}"]
                cells.append("/".join(str(count) for count in row.counts or ()))
            lines.append(cells)
        return head, lines
