from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cir_plugins.config.toml import (
    VERSION,
    Config,
    as_config,
    computed,
    layer,
    merge,
    parse_set,
    read_config,
    write_config,
)
from cir_plugins.errors import CIRError


def test_set_reads_toml_values_and_plain_text() -> None:
    config = parse_set(
        [
            *("train.epochs=3", "train.lr = 5e-6", "train.milestones=[1, 2]"),
            *("sampler=hardest", "data.prefix=a photo of {}", "train.drop_last=true", "data.x="),
        ]
    )
    assert config == {
        "train": {"epochs": 3, "lr": 5e-6, "milestones": [1, 2], "drop_last": True},
        "sampler": {"name": "hardest"},
        "data": {"prefix": "a photo of {}", "x": ""},
    }


def test_set_takes_options_before_the_name() -> None:
    """An option given before the name of its component must not be dropped."""
    forward = parse_set(["sampler=hardest", "sampler.count=2"])
    assert forward == {"sampler": {"name": "hardest", "count": 2}}
    assert parse_set(["sampler.count=2", "sampler=hardest"]) == forward


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "--set 'epochs'; accepted: key=value, such as train.epochs=3"),
        ("lr=1", "--set 'lr=1' names no table; did you mean train.lr?"),
        ("epochs=1", "names no table; did you mean train.epochs or schedule.epochs?"),
        ("size=1", "--set 'size=1' names no table; accepted: TABLE.OPTION=value"),
        ("foo=2", "names no table; accepted: TABLE.OPTION=value with a table of method, "),
        ("=3", "--set '=3'; accepted: key=value"),
        ("train=3", "--set 'train=3' names no option; accepted: train.OPTION=value"),
        ("trian.epochs=3", "unknown table in --set 'trian'; nearest: train"),
    ],
)
def test_set_names_what_it_cannot_place(text: str, message: str) -> None:
    with pytest.raises(CIRError) as raised:
        parse_set([text])
    assert message in str(raised.value)


def test_the_upper_table_counts_when_merging() -> None:
    lower: Config = {
        "sampler": {"name": "semi_hard", "margin": 0.1},
        "train": {"epochs": 3, "lr": 1.0},
        "data": {"name": "fashioniq", "root": "/d", "gallery": "val"},
    }
    upper: Config = {
        "sampler": {"name": "hardest"},
        "train": {"lr": 2.0},
        "data": {"name": "cirr"},
        "run": {"seed": 1},
    }
    before = {name: dict(table) for name, table in lower.items()}
    assert merge(lower, upper) == {
        "sampler": {"name": "hardest"},
        "train": {"epochs": 3, "lr": 2.0},
        "data": {"name": "cirr", "root": "/d"},
        "run": {"seed": 1},
    }
    assert lower == before
    same = merge(lower, {"sampler": {"name": "semi_hard", "margin": 0.3}})
    assert same["sampler"] == {"name": "semi_hard", "margin": 0.3}


def test_the_recipes_component_gets_its_options_back() -> None:
    recipe: Config = {"sampler": {"name": "semi_hard", "margin": 0.1}}
    away: Config = {"sampler": {"name": "hardest", "count": 3}}
    back: Config = {"sampler": {"name": "semi_hard"}}
    assert layer(recipe, [away])["sampler"] == {"name": "hardest", "count": 3}
    assert layer(recipe, [away, back])["sampler"] == {"name": "semi_hard", "margin": 0.1}
    options: Config = {"sampler": {"margin": 0.5}}
    assert layer(recipe, [options])["sampler"] == {"name": "semi_hard", "margin": 0.5}
    assert layer(recipe, [options, {"sampler": {"name": "hardest"}}])["sampler"] == {
        "name": "hardest"
    }


def test_written_text_reads_back(tmp_path: Path) -> None:
    config: Config = {
        "sampler": {"name": "x", "bounds": (0.1, 0.2), "text": 'quo"te\n', "nothing": None},
        "data": {"name": "d", "root": Path("/a b")},
    }
    file = tmp_path / "config.toml"
    file.write_text(write_config(config), encoding="utf-8")
    assert read_config(file) == {
        "sampler": {"name": "x", "bounds": [0.1, 0.2], "text": 'quo"te\n'},
        "data": {"name": "d", "root": "/a b"},
    }
    assert file.read_text(encoding="utf-8").startswith(f"version = {VERSION}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train\nepochs = 3", "is not valid TOML"),
        ("version = 99", f"has version 99; this version of cir-plugins reads {VERSION}"),
        ("[trian]\nepochs = 3", "unknown table in .*config.toml 'trian'; nearest: train"),
        ("train = 3", "'train' in .*config.toml must be a table, not 3"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(CIRError, match=message):
        read_config(file)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"config file .*gone.toml does not exist"):
        read_config(tmp_path / "gone.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CIRError, match=r"config file .*bytes.toml is not UTF-8"):
        read_config(tmp_path / "bytes.toml")


def test_a_name_alone_is_short_for_a_table() -> None:
    assert as_config({"sampler": "hardest"}, "here") == {"sampler": {"name": "hardest"}}


def test_the_feature_cache_changes_no_number_unless_rounded() -> None:
    """--resume failed when a cache was added, moved or given more memory."""

    def run(memory: dict[str, Any] | None = None, **settings: Any) -> Any:
        return computed(
            {"run": {"seed": 1, "feature_cache": "", **settings}, "memory": memory or {}}
        )

    plain = run(feature_cache_dtype="same")
    assert run({"feature_cache_mb": 3}, feature_cache_dtype="same", feature_cache="a") == plain
    assert run(feature_cache_dtype="same", workers=3) == plain
    assert run(feature_cache_dtype="same", seed=2) != plain
    rounded = run(feature_cache_dtype="fp16", feature_cache="a")
    assert rounded == run({"feature_cache_mb": 3}, feature_cache_dtype="fp16", feature_cache="b")
    assert rounded != run(feature_cache_dtype="fp16")
    assert rounded != plain
