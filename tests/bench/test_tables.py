from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cir_plugins.bench.records import RunRecord
from cir_plugins.bench.tables import (
    END,
    Table,
    caption,
    conditions,
    main,
    markdown,
    measure_name,
    print_table,
    summary,
    tables_of,
    with_tables,
)
from cir_plugins.errors import CIRError
from tests.bench.toy import record, result, suite, val_split
from tests.places import ROOT

START = "<!-- results:start -->"


def runs() -> list[RunRecord]:
    return [
        record("first", 0, {"s": [0.0, 1.0]}),
        record("first", 1, {"s": [0.0, 0.0]}),
        record("second", 0, {"s": [1.0, 1.0]}),
        record("second", 1, {"s": [1.0, 0.0]}),
        record("third", 0, {"s": [1.0]}, error="no room"),
        record("third", 1, {"s": [1.0]}, error="no room"),
    ]


def table(tmp_path: Path) -> Table:
    made = suite("first", "second", "third", seeds=(0, 1))
    return summary(result(made, runs(), (val_split(tmp_path),)).document)


def test_summary_by_hand(tmp_path: Path) -> None:
    found = table(tmp_path)
    assert found.header == (
        "method",
        "R@10",
        "R@5",
        "Δ R@10 [95 %]",
        "seconds",
        "trained parameters",
    )
    # 10 and 5 of 12 images; then means of 0.5 and 0, of 1 and 0.5: deviation sqrt(0.125).
    assert found.rows == (
        ("random ranking", "83.3", "41.7", "–", "–", "–"),
        ("first", "25.0 ± 35.4", "25.0 ± 0.0", "–", "12", "1,234"),
        ("second", "75.0 ± 35.4", "25.0 ± 0.0", "+50.0 [0.0, +100.0]", "12", "1,234"),
    )
    assert found.notes == ("failed: third, seeds 0, 1: no room",)


def test_rows_under_several_protocols_have_a_note(tmp_path: Path) -> None:
    made = suite("first", "second", "third")

    def notes(*dropped: bool) -> tuple[str, ...]:
        records = [
            record(label, 0, {"s": [0.0, 1.0]}, config={"data": {"drop_reference": drop}})
            for label, drop in zip(("first", "second", "third"), dropped, strict=True)
        ]
        return summary(result(made, records, (val_split(tmp_path),)).document).notes

    assert not notes(True, True, True)
    assert notes(False, True, False) == (
        "not one protocol, data.drop_reference differs: false: first, third; true: second",
    )


def test_rows_with_other_records_have_a_note(tmp_path: Path) -> None:
    """A row whose checkpoint was chosen on the very split stood beside one that saw none of it."""
    made = suite("first", "second", "third")
    plain = {"text": "and", "checkpoint": "none was chosen", "reference": "kept", "weights": "1"}

    def notes(**changed: str) -> list[str]:
        records = []
        for label in ("first", "second", "third"):
            one = record(label, 0, {"s": [0.0, 1.0]})
            own = {**plain, **changed, "weights": label} if label == "second" else plain
            records.append(replace(one, report={**one.report, "record": own}))
        document = result(made, records, (val_split(tmp_path),)).document
        return list(summary(document).notes)

    assert notes() == []
    assert notes(text="single", checkpoint="chosen on this very split") == [
        "texts differ: and: first, third; single: second",
        "choices of the checkpoint differ: none was chosen: first, third; "
        "chosen on this very split: second",
    ]


def test_rows_of_different_data_have_a_note(tmp_path: Path) -> None:
    """Two numbers of different data do not belong in one table, unless it says so."""
    made = suite("first", "second", "third")

    def notes(*pairs: tuple[str, str], galleries: tuple[str, ...] = ("a", "a", "a")) -> list[str]:
        records = []
        labels = ("first", "second", "third")
        for label, (digits, trained), gallery in zip(labels, pairs, galleries, strict=True):
            one = record(label, 0, {"s": [0.0, 1.0]}, config={"data": {"gallery": gallery}})
            report = {**one.report, "data": {"fingerprint": digits}}
            training = {"data": {"fingerprint": trained}}
            records.append(replace(one, report=report, training=training))
        document = result(made, records, (val_split(tmp_path),)).document
        assert f"; data {pairs[0][0]}; " in conditions(document)
        return [note for note in summary(document).notes if "protocol" not in note]

    assert not notes(("1", "t"), ("1", "t"), ("1", "t"))
    assert notes(("1", "t"), ("2", "t"), ("1", "u")) == [
        "not one data set, fingerprints differ: 1: first, third; 2: second",
        "not trained on one data set, fingerprints differ: t: first, second; u: third",
    ]
    # Another gallery is another protocol, which has a line of its own.
    assert not notes(("1", "t"), ("2", "u"), ("1", "t"), galleries=("a", "b", "a"))


def test_what_rows_are_not_about_has_a_note(tmp_path: Path) -> None:
    counts = {"blind": 4, "unreachable": 1_200, "positives_across": 28}
    first, second = (record(label, 0, {"s": [0.0, 1.0]}) for label in ("first", "second"))
    first = replace(first, report={**first.report, **counts}, training={"positives_across": 224})
    second = replace(second, report={**second.report, "blind": 4})
    split = (val_split(tmp_path),)
    assert summary(result(suite("first", "second"), [first, second], split).document).notes == (
        "positives known only across triplets, evaluation: 28 (first)",
        "positives known only across triplets, training: 224 (first)",
        "further queries without a target: 4 (all rows)",
        "queries whose target is the removed reference, never hit: 1,200 (first)",
    )


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    made = result(suite("first"), [record("first", 0, {"s": [0.0, 1.0]})], (val_split(tmp_path),))
    assert summary(made.document).rows[1][1] == "50.0"


def test_several_splits_have_columns_of_their_own(tmp_path: Path) -> None:
    made = [record("first", 0, {"dress.val": [0.0, 1.0], "shirt.val": [1.0]})]
    found = summary(result(suite("first"), made, (val_split(tmp_path),)).document)
    gap = "Δ R@10 [95 %]"
    assert found.header[1:6] == ("R@10", "R@5", gap, "dress.val R@10", "shirt.val R@10")
    assert found.rows[0][1:6] == ("83.3", "41.7", "–", "–", "–")
    assert found.rows[1][1:6] == ("75.0", "25.0", "–", "50.0", "100.0")
    assert {len(row) for row in found.rows} == {len(found.header)}


def test_a_difference_names_its_reference_row(tmp_path: Path) -> None:
    made = [
        record(label, 0, {"s": [value]}) for label, value in zip("abc", (0, 1, 0.5), strict=True)
    ]
    found = summary(result(suite("a", "b", "c", c="b"), made, (val_split(tmp_path),)).document)
    assert found.rows[2][3] == "+100.0 [+100.0, +100.0]"
    assert found.rows[3][3] == "−50.0 [−50.0, −50.0] to b"


def test_failed_suite_has_reasons_only() -> None:
    found = summary(result(suite("a"), [record("a", 0, {"s": [1.0]}, error="why")], ()).document)
    assert found.rows == ()
    assert found.notes == ("failed: a, seed 0: why",)


def test_markdown_by_hand() -> None:
    found = markdown(Table(("method", "R@1"), (("a | b", "1.0"),), ("failed: <x>",)))
    assert found == "| method | R@1 |\n| --- | ---: |\n| a \\| b | 1.0 |\n\n- failed: &lt;x>\n"


def test_a_label_is_shown_as_it_is_in_markdown() -> None:
    """A backtick or a star in a label made the rest of a row code or italic."""
    found = markdown(Table(("method",), (("`a` *b* _c_ d_e [0, 1] [f](g)",),), ()))
    assert found.splitlines()[2] == r"| \`a\` \*b\* \_c\_ d_e [0, 1] [f\](g) |"


def test_terminal_table_takes_brackets_as_they_are() -> None:
    text = io.StringIO()
    made = Table(("method", "Δ [95 %]"), (("[bold]a", "+1.0 [0.0, 2.0]"),), ("failed: [/x]",))
    print_table(made, Console(file=text, width=80))
    for part in ("[bold]a", "+1.0 [0.0, 2.0]", "Δ [95 %]", "failed: [/x]"):
        assert part in text.getvalue()


def test_measure_names() -> None:
    assert [measure_name(name) for name in ("recall@1", "any_recall@5", "map@10")] == [
        "R@1",
        "any R@5",
        "mAP@10",
    ]
    assert measure_name("subset_recall@2") == "subset R@2"


def test_conditions_are_one_line(tmp_path: Path) -> None:
    made = result(suite("first"), [record("first", 0, {"s": [1.0]})], (val_split(tmp_path),))
    line = conditions({**made.document, "created": "2026-01-02T03:04:05+00:00"})
    assert line == (
        "reader fashioniq, protocol merged; 4 queries; 9 images; seeds 0; A CPU, 2 threads; "
        "torch 2.6.0; commit abc123; 2026-01-02"
    )


def test_notes_of_some_rows_name_no_others(tmp_path: Path) -> None:
    records = []
    for label, text in (("first", "and"), ("second", "single"), ("third", "and")):
        one = record(label, 0, {"s": [0.0, 1.0]})
        records.append(replace(one, report={**one.report, "record": {"text": text}}))
    content = result(suite("first", "second", "third"), records, (val_split(tmp_path),)).document
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / "results.json").write_text(json.dumps(content))
    assert "- texts differ: and: first, third; single: second\n" in tables_of(tmp_path, "made_up")
    some = tables_of(tmp_path, "made_up", ["first", "second"])
    assert "- texts differ: and: first; single: second\n" in some
    assert "differ" not in tables_of(tmp_path, "made_up", ["first", "third"])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    made = suite("first", "second", "third", seeds=(0, 1))
    content = result(made, runs(), (val_split(tmp_path),)).document
    for name in ("made_up", "other"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "results.json").write_text(json.dumps(content))
    return tmp_path / "results"


def test_a_document_has_every_result(results: Path) -> None:
    block = tables_of(results)
    assert block.startswith("### `made_up`\n\nA <made-up> comparison.\n\n| method |")
    assert "\n\n### `made_up` (other)\n\n" in block
    assert block.count("| second | 75.0 ± 35.4 |") == 2
    assert tables_of(results / "made_up" / "none") == "No results yet."


def test_one_result_and_some_of_its_rows(results: Path) -> None:
    block = tables_of(results, "other", ["second"])
    assert block.startswith("| method |")
    assert "| second | 75.0 ± 35.4 |" in block
    assert "| first |" not in block
    with pytest.raises(CIRError, match=r"secnd.*second"):
        tables_of(results, "other", ["secnd"])
    with pytest.raises(CIRError, match=r"none.results\.json is no result of a suite"):
        tables_of(results, "none")


def test_a_file_of_tables_is_taken_as_it_is(results: Path) -> None:
    (results / "other" / "audits.md").write_text("| a |\n| --- |\n| 1 |\n\nPercent.\n")
    text = "before\n<!-- results:start other/audits.md -->\nold\n<!-- results:end -->\nafter\n"
    written = with_tables(text, results, "X")
    assert "-->\n\n| a |\n| --- |\n| 1 |\n\nPercent.\n\n<!-- results:end" in written
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old" not in written


def test_caption_names_the_row_compared_with(tmp_path: Path) -> None:
    """A difference without its reference was read as one to another method."""
    made = result(suite("first", "second"), runs()[:3], (val_split(tmp_path),)).document
    assert caption({**made, "show": ["any_recall@1"]}) == (
        "Percent. R@k: the annotated target is among the first k. any R@k: any positive is. "
        "Δ: points of R@10 against the row `first` of this table, paired bootstrap over queries."
    )
    others = [{**entry, "reference": "second"} for entry in made["differences"]] * 2
    both = caption({**made, "differences": [*made["differences"], *others]})
    assert "against the row `first` of this table or the row that is named beside it" in both
    named = caption({**made, "differences": others})
    assert "R@10 against the row that is named beside it, paired" in named
    assert caption({**made, "main": ["map@10"], "show": [], "differences": []}) == (
        "Percent. mAP@k: average precision over all positives."
    )


def test_documents_are_checked_and_written(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme, page = tmp_path / "README.md", tmp_path / "results.md"
    readme.write_text(f"# Before\n\n{START}\nold\n{END}\n\nafter\n")
    page.write_text(
        f"<!-- results:start other: first -->\n{END}\n\n## B\n\n"
        f"<!-- results:start made_up -->\n{END}\n"
    )
    files = [str(readme), str(page), str(results)]
    assert main([*files, "--check"]) == 1
    message = capsys.readouterr().err
    assert f"{readme} are out of date: run with --write" in message
    assert f"{page} are out of date: run with --write" in message
    assert main([*files, "--write"]) == 0
    assert main(files) == 0
    text = readme.read_text()
    assert text.startswith(f"# Before\n\n{START}\n\n### `made_up`")
    assert text.endswith(f"\n\n{END}\n\nafter\n")
    first, second = page.read_text().split("## B")
    assert "| second |" not in first
    assert "| second |" in second
    (results / "made_up" / "results.json").write_text("{")
    assert main([*files, "--check"]) == 2
    assert "results.json is not valid JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["", START, f"{END}{START}", f"{START}{START}{END}", f"{START}{END}{END}", f"{START}{END}" * 2],
)
def test_markers_must_be_pairs(text: str, tmp_path: Path) -> None:
    """A table without its end marker would be written over the rest of the page."""
    with pytest.raises(CIRError, match=f"X.*{END}"):
        with_tables(text, tmp_path, "X")


def test_every_result_is_in_the_documentation() -> None:
    """A result that no page shows is a result that nobody can weigh."""
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    folder = ROOT / "benchmarks" / "results"
    names = {file.parent.relative_to(folder).as_posix() for file in folder.rglob("results.json")}
    names |= {f.relative_to(folder).as_posix() for f in folder.rglob("audits.md")}
    assert set(re.findall(r"<!-- results:start ([^:>]*) -->", page)) == names
