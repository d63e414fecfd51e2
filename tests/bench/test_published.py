from __future__ import annotations

from pathlib import Path

import pytest

from cir_plugins.bench.published import (
    Published,
    comparable,
    main,
    mismatches,
    read_published,
)
from cir_plugins.errors import CIRError
from tests.places import ROOT

FILE = ROOT / "benchmarks" / "published.toml"
HEAD = """
[[entry]]
id = "{id}"
method = "clip4cir"
dataset = "fashioniq"
split = "val"
gallery = "original"
reference = "kept"
captions = "C1 and c2"
source = "somewhere"
backbone = "CLIP"
verified = true
"""
COLUMNS = """[entry.columns]
"dress.recall@10" = 10.01
"shirt.recall@10" = 20.02
"toptee.recall@10" = 30.00
"""
OF = '["dress.recall@10", "shirt.recall@10", "toptee.recall@10"]'


def written(folder: Path, *sections: str) -> Path:
    path = folder / "published.toml"
    path.write_text("".join(sections), encoding="utf-8")
    return path


def with_average(folder: Path, value: str, digits: int = 2) -> tuple[Published, ...]:
    average = f"averages = [{{ name = 'recall@10', value = {value}, of = {OF} }}]\n"
    head = HEAD.format(id="a") + f"digits = {digits}\n"
    return read_published(written(folder, head, average, COLUMNS))


def test_the_shipped_file_has_known_misprints() -> None:
    """By hand: (71.09 + 74.62 + 79.12) / 3 = 74.943 and (49.18 + 55.64 + 59.35) / 3 = 54.723."""
    entries = read_published(FILE)
    entry_averages = {(wrong.entry.id, wrong.average.name): wrong for wrong in mismatches(entries)}
    assert set(entry_averages) == {
        ("dqe_fashioniq", "recall@50"),
        ("sprc_fashioniq_leaderboard", "recall@10"),
        ("pic2word_l14_fashioniq_by_paracosm", "recall@50"),
        ("lincir_l14_fashioniq_by_paracosm", "recall@50"),
        ("cirevl_l14_fashioniq_by_paracosm", "recall@50"),
        ("paracosm_l14_fashioniq", "recall@10"),
    }
    first = entry_averages["dqe_fashioniq", "recall@50"]
    assert first.average.value == 75.94
    assert first.expected == pytest.approx(74.943, abs=5e-4)
    assert entry_averages["sprc_fashioniq_leaderboard", "recall@10"].expected == pytest.approx(
        54.723, abs=5e-4
    )


def test_the_shipped_file_covers_the_published_methods() -> None:
    entries = read_published(FILE)
    names = "bi_blip4cir clip4cir composeae cosmo covr covr2 dqe mgur qure sprc val"
    newer = "cirevl flowcir ldre lincir magiclens mmret_mllm osrcir paracosm recall searle wiser"
    assert {*names.split(), *newer.split()} <= {entry.method for entry in entries}
    by_others = {entry.id for entry in entries if entry.printed_by == "others"}
    assert {entry.id for entry in entries if "_by_" in entry.id} <= by_others
    assert "dqe_fashioniq" not in by_others
    quoted = {
        entry.method: tuple(part.value for part in entry.averages)
        for entry in entries
        if entry.id.endswith("_by_dqe")
    }
    assert quoted == {
        "cosmo": (22.11, 48.89),
        "mgur": (22.56, 48.35),
        "clip4cir": (43.30, 66.76),
        "bi_blip4cir": (40.90, 64.26),
        "covr": (48.53, 70.25),
        "sprc": (50.86, 73.41),
        "qure": (52.60, 73.48),
    }


@pytest.mark.parametrize(
    ("value", "digits", "follows"),
    [
        # Mean 20.01; half a unit of the average and half a unit of the columns are allowed.
        ("20.01", 2, True),
        ("20.02", 2, True),
        ("20.03", 2, False),
        ("19.99", 2, False),
        ("20.1", 1, True),
        ("20.2", 1, False),
    ],
)
def test_an_average_may_be_off_by_rounding(
    tmp_path: Path, value: str, digits: int, follows: bool
) -> None:
    assert (mismatches(with_average(tmp_path, value, digits)) == ()) is follows


def test_a_mismatch_shows_printed_and_expected(tmp_path: Path) -> None:
    (wrong,) = mismatches(with_average(tmp_path, "21.01"))
    text = "a: recall@10 is printed as 21.01, its 3 columns average 20.01 (+1.00)"
    assert str(wrong) == text


def test_own_columns_come_before_another_entrys(tmp_path: Path) -> None:
    link = (
        'columns_of = "a"\naverages = [{ name = "overall", value = 15.0, '
        'of = ["dress.recall@10", "shirt.recall@10"] }]\n'
        '[entry.columns]\n"dress.recall@10" = 9.98\n'
    )
    path = written(tmp_path, HEAD.format(id="a"), COLUMNS, HEAD.format(id="b"), link)
    assert mismatches(read_published(path)) == ()
    path = written(tmp_path, path.read_text().replace("9.98", "19.98"))
    (wrong,) = mismatches(read_published(path))
    assert wrong.expected == pytest.approx(20.0)


def test_averages_without_columns_are_not_checked(tmp_path: Path) -> None:
    average = "averages = [{ name = 'recall@10', value = 90.0 }]\n"
    assert mismatches(read_published(written(tmp_path, HEAD.format(id="a"), average))) == ()


def test_only_entries_of_one_protocol_are_comparable(tmp_path: Path) -> None:
    def named(entries: tuple[Published, ...]) -> list[str]:
        return [entry.id for entry in entries]

    other = HEAD.format(id="b").replace('"kept"', '"removed"')
    unstated = HEAD.format(id="c").replace('"original"', '"unstated"')
    sections = (HEAD.format(id="a"), COLUMNS, other, COLUMNS, unstated, COLUMNS)
    entries = read_published(written(tmp_path, *sections))
    matching = comparable(entries, "fashioniq", "val", "original", drop_reference=False)
    assert named(matching) == ["a"]
    matching = comparable(entries, "fashioniq", "val", "original", drop_reference=True)
    assert named(matching) == ["b"]
    assert comparable(entries, "fashioniq", "val", "val", drop_reference=True) == ()
    assert comparable(entries, "cirr", "val", "original", drop_reference=False) == ()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('method = "clip4cir"\n', "", r"entry 1 \(a\) of .*published.toml lacks: method"),
        ('method = "clip4cir"', 'method = ""', "needs an id, a method, a source, and columns"),
        (
            'backbone = "CLIP"',
            'backbon = "CLIP"',
            r"unknown key in entry 1 .* 'backbon'; nearest: backbone",
        ),
        ("verified = true", 'verified = "yes"', "'verified' of entry 1 .*accepted: true or false"),
        ('"kept"', '"sometimes"', "'reference' of entry 1 .*one of 'kept', 'removed'"),
        (
            "30.00",
            "300.0",
            r"'columns.toptee.recall@10' of entry 1 .* cannot be 300.0; accepted: a number from 0"
            " to 100",
        ),
        ("30.00", '"30"', "cannot be '30'; accepted: a number from 0 to 100"),
        ("30.00", "nan", "cannot be nan; accepted: a number from 0 to 100"),
        (
            "toptee.recall@10",
            "toptee.R10",
            "'columns.toptee.R10' of entry 1 .* cannot be a key; accepted: a measure such as "
            "recall@10",
        ),
        ("[entry.columns]", 'columns_of = "z"\n[entry.columns]', "a: no entry is called 'z'"),
        (
            "[entry.columns]",
            "digits = -1\n[entry.columns]",
            "'digits' of entry 1 .* cannot be -1; accepted: an integer of 0 or more",
        ),
        (
            "[entry.columns]",
            "averages = 3\n[entry.columns]",
            "'averages' of entry 1 .* cannot be 3; accepted: a list",
        ),
        (
            "[entry.columns]",
            "averages = [{name = 'x', value = 1.0, of = ['recall@5']}]\n[entry.columns]",
            "a: x is printed as the mean of recall@5, which is not printed; "
            "accepted: dress.recall@10",
        ),
        (
            "[entry.columns]",
            "averages = [{name = 'x', value = 101.0}]\n[entry.columns]",
            r"'averages\[0\].value' of entry 1 .* cannot be 101.0; accepted: a number from 0 to"
            " 100",
        ),
        (
            "[[entry]]",
            "[[entries]]",
            r"must hold tables \[\[entry\]\] and nothing else; found: ent",
        ),
        ("[[entry]]", "[[entry", "is not valid TOML"),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    text = (HEAD.format(id="a") + COLUMNS).replace(before, after, 1)
    with pytest.raises(CIRError, match=message):
        read_published(written(tmp_path, text))


def test_ids_are_unique_and_links_stay_comparable(tmp_path: Path) -> None:
    twice = (HEAD.format(id="a") + COLUMNS) * 2
    with pytest.raises(CIRError, match="several entries are called a"):
        read_published(written(tmp_path, twice))
    other = HEAD.format(id="b").replace("fashioniq", "cirr") + 'columns_of = "a"\n' + COLUMNS
    with pytest.raises(CIRError, match="b takes columns of a, another comparison"):
        read_published(written(tmp_path, HEAD.format(id="a"), COLUMNS, other))


def test_the_command_lists_what_does_not_follow(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([str(FILE)]) == 0
    out = capsys.readouterr().out
    assert "6 of 45 printed averages do not follow from their columns" in out
    assert "dqe_fashioniq: recall@50 is printed as 75.94, its 3 columns average 74.94" in out
    assert main([str(tmp_path / "none.toml")]) == 2
    assert "none.toml does not exist" in capsys.readouterr().err
