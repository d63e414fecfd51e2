from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cir_plugins.bench.records import RunRecord
from cir_plugins.bench.tables import (
    END,
    START,
    Table,
    conditions,
    main,
    markdown,
    measure_name,
    print_table,
    readme_block,
    summary,
    with_block,
)
from cir_plugins.errors import CIRError
from tests.bench.toy import record, result, suite, val_split


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


def test_rows_under_several_protocols_are_told(tmp_path: Path) -> None:
    made = suite("first", "second", "third")

    def told(*dropped: bool) -> tuple[str, ...]:
        records = [
            record(label, 0, {"s": [0.0, 1.0]}, config={"data": {"drop_reference": drop}})
            for label, drop in zip(("first", "second", "third"), dropped, strict=True)
        ]
        return summary(result(made, records, (val_split(tmp_path),)).document).notes

    assert not told(True, True, True)
    assert told(False, True, False) == (
        "not one protocol, data.drop_reference differs: false: first, third; true: second",
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


def test_a_difference_to_another_row_says_to_which(tmp_path: Path) -> None:
    made = [
        record(label, 0, {"s": [value]}) for label, value in zip("abc", (0, 1, 0.5), strict=True)
    ]
    found = summary(result(suite("a", "b", "c", c="b"), made, (val_split(tmp_path),)).document)
    assert found.rows[2][3] == "+100.0 [+100.0, +100.0]"
    assert found.rows[3][3] == "−50.0 [−50.0, −50.0] to b"


def test_a_suite_in_which_all_failed_has_reasons_only() -> None:
    found = summary(result(suite("a"), [record("a", 0, {"s": [1.0]}, error="why")], ()).document)
    assert found.rows == ()
    assert found.notes == ("failed: a, seed 0: why",)


def test_markdown_by_hand() -> None:
    found = markdown(Table(("method", "R@1"), (("a | b", "1.0"),), ("failed: <x>",)))
    assert found == "| method | R@1 |\n| --- | ---: |\n| a \\| b | 1.0 |\n\n- failed: &lt;x>\n"


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
        "fashioniq (merged); 4 queries; 9 images; seeds 0; A CPU, 2 threads; torch 2.6.0; "
        "commit abc123; 2026-01-02"
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    made = suite("first", "second", "third", seeds=(0, 1))
    content = result(made, runs(), (val_split(tmp_path),)).document
    for name in ("made_up", "other"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "results.json").write_text(json.dumps(content))
    return tmp_path / "results"


def test_readme_block_has_every_result(results: Path) -> None:
    block = readme_block(results)
    assert block.startswith("### `made_up`\n\nA <made-up> comparison.\n\n| method |")
    assert "\n\n### `made_up` (other)\n\n" in block
    assert block.count("| second | 75.0 ± 35.4 |") == 2
    assert readme_block(results / "made_up" / "none") == "No results yet."


def test_readme_is_checked_and_written(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n\n{START}\nold\n{END}\n\nafter\n")
    assert main([str(readme), str(results), "--check"]) == 1
    assert "out of date: run with --write" in capsys.readouterr().err
    assert main([str(readme), str(results), "--write"]) == 0
    assert main([str(readme), str(results)]) == 0
    text = readme.read_text()
    assert text.startswith(f"# Before\n\n{START}\n\n### `made_up`")
    assert text.endswith(f"\n\n{END}\n\nafter\n")
    (results / "made_up" / "results.json").write_text("{")
    assert main([str(readme), str(results), "--check"]) == 2
    assert "is no result of a suite: JSONDecodeError" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", START, f"{END}{START}", f"{START}{END}{START}{END}"])
def test_readme_needs_both_markers(text: str) -> None:
    with pytest.raises(CIRError, match="X must hold the lines"):
        with_block(text, "block", "X")
