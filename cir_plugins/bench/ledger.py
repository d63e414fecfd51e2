"""The page of published numbers: a table with filters, without anything from another site.

``python -m cir_plugins.bench.ledger [--check]`` writes ``docs/ledger.md`` from
``benchmarks/published.toml``, or says whether it is what would be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from cir_plugins.bench.published import DEFAULT, Mismatch, Published, mismatches, read_published
from cir_plugins.errors import CIRError
from cir_plugins.files import read_text, write_atomically

PAGE = Path("docs/ledger.md")
_HEAD = """# Ledger of published numbers

Numbers that papers and leaderboards print, in percent as printed, never mixed with measured ones.
The page is written by `python -m cir_plugins.bench.ledger` from `benchmarks/published.toml`.

- **printed by others**: the source is not the method's own paper: quoted there, or run again.
- **not read in the source**: noted from memory or from a transcript; look it up before you quote.
- **does not follow**: the printed average is not the mean of the columns printed beside it.
- `unstated`: the source does not say; such a number stands beside nothing.
"""
# Filters are plain script: a select for each column with few values, and a field for any word.
_SCRIPT = """<script>
(function () {
  var rows = Array.from(document.querySelectorAll("#ledger tbody tr"));
  var controls = Array.from(document.querySelectorAll("#ledger-filters [data-key]"));
  function show() {
    var count = 0;
    rows.forEach(function (row) {
      var fits = controls.every(function (control) {
        var wanted = control.value.toLowerCase();
        var key = control.dataset.key;
        if (!wanted) return true;
        if (key === "any") return row.textContent.toLowerCase().includes(wanted);
        return row.dataset[key].toLowerCase() === wanted;
      });
      row.hidden = !fits;
      count += fits;
    });
    document.getElementById("ledger-count").textContent = count + " of " + rows.length + " rows";
  }
  controls.forEach(function (control) { control.addEventListener("input", show); });
  show();
})();
</script>
"""


def ledger_page(entries: Sequence[Published]) -> str:
    """The page in Markdown with a table in HTML, rows by data set and then in the file's order."""
    wrong: dict[str, list[Mismatch]] = {}
    for mismatch in mismatches(entries):
        wrong.setdefault(mismatch.entry.id, []).append(mismatch)
    ordered = sorted(entries, key=lambda entry: entry.dataset)
    rows = "\n".join(_row(entry, wrong.get(entry.id, ())) for entry in ordered)
    names = ("method", "data", "numbers", "protocol", "backbone", "source", "remarks")
    head = "".join(f"<th>{name}</th>" for name in names)
    table = (
        f'<table id="ledger">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>'
    )
    return f"{_HEAD}\n{_filters(entries)}\n\n{table}\n\n{_SCRIPT}"


def _filters(entries: Sequence[Published]) -> str:
    columns = {
        "data set": ("dataset", (entry.dataset for entry in entries)),
        "method": ("method", (entry.method for entry in entries)),
        "printed by": ("by", (entry.printed_by for entry in entries)),
        "read in the source": ("verified", (_yes(entry.verified) for entry in entries)),
        "zero-shot": ("zero", (_yes(entry.zero_shot) for entry in entries)),
        "averages follow": ("follows", ("yes", "no")),
    }
    selects = [_select(label, key, values) for label, (key, values) in columns.items()]
    any_word = '<label>any word <input type="search" data-key="any"></label>'
    count = f'<output id="ledger-count">{len(entries)} rows</output>'
    return "\n".join(['<div id="ledger-filters">', *selects, any_word, count, "</div>"])


def _select(label: str, key: str, values: Iterable[str]) -> str:
    options = "".join(f"<option>{escape(value)}</option>" for value in sorted(set(values)))
    choice = f'<select data-key="{key}"><option value="">all</option>{options}</select>'
    return f"<label>{label} {choice}</label>"


def _row(entry: Published, wrong: Sequence[Mismatch]) -> str:
    data = {
        "dataset": entry.dataset,
        "method": entry.method,
        "by": entry.printed_by,
        "verified": _yes(entry.verified),
        "zero": _yes(entry.zero_shot),
        "follows": _yes(not wrong),
    }
    attributes = "".join(f' data-{key}="{escape(value)}"' for key, value in data.items())
    protocol = f"gallery {entry.gallery}, reference {entry.reference}, captions: {entry.captions}"
    table = f", table {entry.table}" if entry.table else ""
    cells = (
        entry.method,
        f"{entry.dataset} {entry.split}",
        _numbers(entry),
        protocol,
        entry.backbone,
        f"{entry.source}{table}",
        "; ".join(_remarks(entry, wrong)),
    )
    return f"<tr{attributes}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _numbers(entry: Published) -> str:
    columns = [f"{name} {value:.{entry.digits}f}" for name, value in entry.columns.items()]
    averages = [f"mean {one.name} {one.value:.{entry.digits}f}" for one in entry.averages]
    return ", ".join(columns + averages)


def _remarks(entry: Published, wrong: Sequence[Mismatch]) -> list[str]:
    remarks = [] if entry.printed_by == "own" else ["printed by others"]
    remarks += [] if entry.verified else ["not read in the source"]
    remarks += [
        f"{one.average.name} does not follow: the columns average {one.expected:.{entry.digits}f}"
        for one in wrong
    ]
    return remarks + ([entry.note] if entry.note else [])


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or check it; 1 if it is not what would be written, 2 for a wrong file."""
    parser = argparse.ArgumentParser(prog="python -m cir_plugins.bench.ledger")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--check", action="store_true", help="Change nothing; 1 if it would.")
    options = parser.parse_args(arguments)
    try:
        page = ledger_page(read_published(options.file))
        if options.check:
            same = read_text(options.page) == page
            print(f"{options.page} is {'' if same else 'not '}that of {options.file}")
            return int(not same)
        write_atomically(options.page, page.encode())
    except CIRError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"written: {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
