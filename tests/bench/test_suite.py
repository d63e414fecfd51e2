from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cir_plugins.bench.suite import read_suite, slug, suite_names
from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import TABLES
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Registry

SUITE = """
description = "two rows"
seeds = [3, 1]
show = ["recall@10"]

[data]
name = "fashioniq"
gallery = "merged"

[make.garments]
images = 60
seed = 5

[defaults]
backbone = { name = "tiny_blip2", start = "random" }

[defaults.train]
epochs = 2
lr = 1e-3

[[rows]]
method = "contrastive"

[[rows]]
label = "DQE, no margin"
method = { name = "dqe", margin_weight = 0.0 }
compare = "third"
sampler = { lower = 0.2 }
train = { epochs = 3 }

[[rows]]
label = "third"
method = "contrastive"
backbone = "tiny_clip"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pair.toml"
    path.write_text(SUITE)
    return path


def assert_error(path: Path, old: str, new: str, message: str) -> None:
    assert old in SUITE
    path.write_text(SUITE.replace(old, new, 1))
    with pytest.raises(CIRError, match=message) as caught:
        read_suite(path)
    assert str(path) in str(caught.value)


def test_entries_take_the_defaults_under_their_own_settings(file: Path) -> None:
    suite = read_suite(file)
    assert (suite.name, suite.seeds, suite.show) == ("pair", (3, 1), ("recall@10",))
    first, second, third = suite.entries
    assert first.config == {
        "backbone": {"name": "tiny_blip2", "start": "random"},
        "train": {"epochs": 2, "lr": 1e-3},
        "method": {"name": "contrastive"},
    }
    assert second.config["train"] == {"epochs": 3, "lr": 1e-3}
    assert second.config["sampler"] == {"lower": 0.2}
    assert second.config["method"] == {"name": "dqe", "margin_weight": 0.0}
    # Options of the default backbone are not those of another one.
    assert third.config["backbone"] == {"name": "tiny_clip"}
    assert [row.slug for row in suite.entries] == ["contrastive", "dqe-no-margin", "third"]


def test_an_entrys_config_has_data_and_seed(file: Path) -> None:
    suite = read_suite(file)
    config = suite.config(suite.entries[0], 1)
    assert config["data"] == {"name": "fashioniq", "gallery": "merged"}
    assert config["run"] == {"seed": 1}


def test_an_entry_is_compared_with_its_reference(file: Path) -> None:
    suite = read_suite(file)
    assert [suite.reference(row).label for row in suite.entries] == [
        "contrastive",
        "third",
        "contrastive",
    ]
    without = suite.only(["dqe", "contrastive"])
    without = without.only(["DQE, no margin"])
    assert without.reference(without.entries[0]).label == "DQE, no margin"


def test_root_alone_keeps_the_reader_options(file: Path) -> None:
    suite = read_suite(file).on_data(None, "some/where")
    assert suite.data == {"name": "fashioniq", "gallery": "merged", "root": "some/where"}
    assert suite.make == {}


def test_another_reader_drops_the_options(file: Path) -> None:
    suite = read_suite(file)
    assert suite.on_data("cirr", Path("x")).data == {"name": "cirr", "root": "x"}
    assert suite.on_data("cirr", None).make == {}
    same = suite.on_data("fashioniq", None)
    assert same.data["gallery"] == "merged"
    assert same.make == {"garments": {"images": 60, "seed": 5}}
    assert suite.on_data(None, None) is suite


def test_only_filters_by_label_or_method(file: Path) -> None:
    suite = read_suite(file)
    assert [row.label for row in suite.only(["contrastive"]).entries] == ["contrastive", "third"]
    assert [row.label for row in suite.only(["third", "dqe"]).entries] == [
        "DQE, no margin",
        "third",
    ]
    assert [row.label for row in suite.only(["dqe-no-margin"]).entries] == ["DQE, no margin"]
    assert suite.only((), [7]).seeds == (7,)
    assert suite.only() == suite
    with pytest.raises(CIRError, match="unknown entry or method in suite 'pair' 'thrid'; nearest"):
        suite.only(["thrid"])
    with pytest.raises(
        CIRError, match=r"--seeds cannot be \[1, 1\]; accepted: different whole numbers"
    ):
        suite.only((), [1, 1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'description = "two rows"',
            "descriptoin = 1",
            "unknown key in suite file .*'descriptoin'",
        ),
        (
            'description = "two rows"',
            "description = 1",
            "'description' of .* cannot be 1; accepted: a string",
        ),
        (
            "seeds = [3, 1]",
            "seeds = []",
            r"'seeds' of .* cannot be \[\]; accepted: different whole",
        ),
        ("seeds = [3, 1]", "seeds = [-1]", r"'seeds' of .* cannot be \[-1\]"),
        ("seeds = [3, 1]", "seeds = [true]", r"'seeds' of .* cannot be \[True\]"),
        ("seeds = [3, 1]", "seeds = [3, 3]", r"'seeds' of .* cannot be \[3, 3\]"),
        ('show = ["recall@10"]', 'show = ["recall10"]', "'show' of .*unknown measure 'recall10'"),
        ('name = "fashioniq"', "", "has no data set"),
        ("[data]", "[data", "is not valid TOML"),
        (
            "images = 60",
            'images = "60"',
            r"'images' of table \[make.garments\] of .* cannot be '60'; accepted: an integer",
        ),
        (
            "[make.garments]",
            "[make.shoes]\n[make.garments]",
            "has shoes, garments",
        ),
        ("[defaults.train]", "[defaults.data]", r"key in 'defaults' of .*'data'"),
        ("[defaults.train]", "[defaults.trian]", r"key in 'defaults' of .*'trian'"),
        ('label = "third"', 'lable = "third"', r"key in entry 3 \('contrastive'\) of .*'lable'"),
        (
            'label = "third"',
            'label = "contrastive"',
            "entry 'contrastive' has the label of entry 'con",
        ),
        ('label = "third"', 'label = "dqe: no MARGIN"', "has the label of entry 'DQE, no margin'"),
        ('label = "third"', 'label = "+"', "label '\\+' of entry 3 .* has no letter"),
        ('compare = "third"', 'compare = "fourth"', "label in 'compare' of entry 'DQE, no margin'"),
        (
            'method = "contrastive"\nbackbone',
            "backbone",
            r"entry 3 \('third'\) of .* has no method",
        ),
        (
            "train = { epochs = 3 }",
            "train = 3",
            "'train' of entry 2 .* cannot be 3; accepted: a table",
        ),
    ],
)
def test_mistakes_name_file_entry_and_key(file: Path, old: str, new: str, message: str) -> None:
    assert_error(file, old, new, message)


def test_a_suite_without_entries_is_an_error(file: Path) -> None:
    file.write_text('data = "fashioniq"\n')
    with pytest.raises(CIRError, match=r"has no entries; accepted: one table \[\[rows\]\] or more"):
        read_suite(file)


def test_an_unknown_name_lists_the_shipped_suites(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match="unknown suite 'quikstart'; nearest: quickstart"):
        read_suite("quikstart")
    with pytest.raises(CIRError, match="does not exist"):
        read_suite(tmp_path / "nothing.toml")


@pytest.mark.parametrize("name", suite_names())
def test_shipped_suites_are_whole(name: str) -> None:
    suite = read_suite(name)
    assert suite.name == name
    assert suite.description
    assert {table for row in suite.entries for table in row.config} <= set(TABLES)
    assert "root" not in suite.data
    for row in suite.entries:  # --methods is split at commas, which a label's slug has none of
        assert row in suite.only([row.slug]).entries
    assert bool(suite.make) == (name in ("all", "dqe", "quickstart"))


def test_all_suites_of_the_documentation_are_shipped() -> None:
    names = {"quickstart", "photos", "fashioniq", "cirr", "dqe", "dqe_ablation", "dqe_filter"}
    assert names <= set(suite_names())


ELEVEN = "dqe tirg val composeae cosmo mgur clip4cir bi_blip4cir covr covr2 sprc qure".split()


@pytest.mark.parametrize("name", ["fashioniq", "cirr", "all"])
def test_every_entry_of_large_suites_can_be_planned(name: str) -> None:
    """Eleven methods, CoVR in both forms; one rule for gallery and reference in every row."""
    suite = read_suite(name).on_data(None, "somewhere")
    registry = Registry.load()
    plans = [make_plan(registry, suite.config(row, 0)) for row in suite.entries]
    assert {plan.method.name for plan in plans} >= set(ELEVEN)
    assert len({protocol_switched(plan) for plan in plans}) == 1


def protocol_switched(plan: Plan) -> tuple[Any, ...]:
    return plan.data.options.get("gallery"), plan.data.options["drop_reference"]


def test_circo_has_the_entries_of_cirr() -> None:
    assert [row.label for row in read_suite("circo").entries] == [
        row.label for row in read_suite("cirr").entries
    ]


def test_slug_keeps_letters_and_digits() -> None:
    assert slug("DQE, zone 0.05–0.5") == "dqe-zone-0-05-0-5"
    assert slug(" + ") == ""
