"""The evaluations of a method under every protocol of a reader, and their table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cir_plugins.data.percent import percent
from cir_plugins.retrieval.evaluate import protocol_label
from cir_plugins.runs.caveats import caveats_of_all
from cir_plugins.runs.evaluation import Evaluation

ALL, DEFAULT = "all", "default"  # DEFAULT is the row of a reader without presets
CAUTION = "rows of different galleries, references or texts are not comparable with one another"


CHANGED = "(options changed)"  # what marks the name of a protocol with options over it


def _label(name: str, evaluation: Evaluation) -> str:
    """Name of a protocol, marked where its options are not all that was evaluated."""
    changed = name != DEFAULT and evaluation.protocol != name
    label = f"{name} {CHANGED}" if changed else name
    return protocol_label(label, [result.left_out for result in evaluation.results])


@dataclass(frozen=True)
class ProtocolTable(Mapping[str, Evaluation]):
    """Evaluations by protocol: a mapping, and a table.

    Attributes:
        dataset: Name of the data set.
        evaluations: Name of a protocol -> evaluation.
    """

    dataset: str
    evaluations: Mapping[str, Evaluation]

    def __getitem__(self, name: str) -> Evaluation:
        """The evaluation under a protocol."""
        return self.evaluations[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.evaluations)

    def __len__(self) -> int:
        return len(self.evaluations)

    @property
    def report(self) -> dict[str, Any]:
        """The JSON object that ``cir eval --protocol all --json`` writes."""
        reports = {name: each.report for name, each in self.evaluations.items()}
        return {"dataset": self.dataset, "protocol": ALL, "protocols": reports}

    @property
    def header(self) -> tuple[str, ...]:
        """Heads of the columns."""
        first = next(iter(self.values()))
        main = first.main_measures
        mean = [f"mean of {' and '.join(main)}"] if len(main) > 1 else []
        return ("protocol", "gallery", "reference", "text", *mean, *self._names)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Cells of each protocol, measures in percent."""
        rows = []
        for name, each in self.items():
            record = each.record
            facts = ("", "", "")
            if record is not None:
                gallery = f"{record.gallery.partition(':')[0]}, {each.gallery:,}"
                facts = (gallery, record.reference, record.text)
            mean = [percent(each.main)] if len(each.main_measures) > 1 else []
            measures = [percent(each.measures.get(measure)) for measure in self._names]
            rows.append((_label(name, each), *facts, *mean, *measures))
        return rows

    @property
    def notes(self) -> list[str]:
        """What the measures are not about, with the protocols where not all have it."""
        return caveats_of_all({name: each.report for name, each in self.items()})

    @property
    def _names(self) -> list[str]:
        """Measures, the main ones first."""
        every = [name for each in self.values() for name in (*each.main_measures, *each.measures)]
        return list(dict.fromkeys(every))

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                cell.ljust(width) if number < 4 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([f"{self.dataset}, every protocol, percent", *text, CAUTION, *self.notes])
