"""Configuration files, suites and ``--set`` with anything in them: a plan or one message."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.conftest import Folders
from tests.fuzz.profiles import explore, profiles
from tests.fuzz.sandbox import holds, run
from tests.fuzz.test_run_files import SUITE, as_toml, damaged, text_damages
from tests.fuzz.values import NUMBERS, STRINGS, ByteDamage, TreeDamage, is_half

_TABLES = ("method", "backbone", "loss", "sampler", "data", "train", "schedule", "mining")
_MORE_TABLES = ("memory", "run", "version", "", "METHOD", "__class__", "data.name")
_KEYS = (
    *("name", "root", "lr", "epochs", "batch_size", "seed", "device", "workers", "every", "start"),
    *("targets", "dropout", "frozen", "upper", "lower", "temperature", "known_positives", "betas"),
    *("negatives", "per_query", "milestones", "micro_batch", "feature_cache", "", "x", "a.b"),
    *("warm_start", "gallery", "splits", "categories", "feature_cache_mb", "compile", "dtype"),
)
_WORDS = (
    *("[]", "[1]", "[[]]", "{}", "{a=1}", '"x"', "''", "'''", '"', "[", "true", "+inf", "-nan"),
    *("1_000", "0x10", "1e400", "1979-05-27", "1979-05-27T07:32:00Z", "#", "1 #", "1\nx = 2"),
    *("1" * 5000, "[" * 3000, "[" * 100_000, "{a=" * 3000, "-" * 100, "1e-400", "9" * 400),
    *("a.b=1", "=", "==", "mined", "batch", "cosine", "cpu", "fp16", "../..", "/dev/zero"),
)
_TEXTS = tuple(text for text in STRINGS if not any(map(is_half, text)) and "\0" not in text)
values = st.sampled_from([*_WORDS, *_TEXTS, *map(repr, NUMBERS[:11]), *map(repr, NUMBERS[13:])])


@profiles
def test_assignments_of_anything(times: int, data: Mapping[str, Path], folders: Folders) -> None:
    """``--set`` of any table, key and value: planned, or one message."""

    def property_holds(sets: list[tuple[str, str, str]], dotted: bool) -> None:
        words = []
        for table, key, value in sets:
            name = f"{table}.{key}" if dotted or key else table
            words += ["--set", f"{name}={value}"]
        out = folders() / "run"
        holds(
            run(
                *("train", "dqe", "--data", "fashioniq", "--root", data["fashioniq"]),
                *("--out", out, "--set", "backbone=fake", *words, "--dry-run"),
            )
        )

    entry = st.tuples(st.sampled_from((*_TABLES, *_MORE_TABLES)), st.sampled_from(_KEYS), values)
    explore(50 * times, property_holds, st.lists(entry, min_size=1, max_size=3), st.booleans())


@pytest.fixture(scope="module")
def config(trained: Path) -> bytes:
    """A resolved configuration."""
    return (trained / "config.toml").read_bytes()


@profiles
def test_damaged_configuration_files(times: int, config: bytes, folders: Folders) -> None:
    """``cir train --config``: what is planned is planned again from what is printed."""

    def property_holds(damages: list[TreeDamage | ByteDamage]) -> None:
        folder = folders()
        file, content = folder / "config.toml", config
        for damage in damages:
            try:
                content = damaged(content, "config.toml", damage)
            except (ValueError, RecursionError):  # it is no TOML any more
                break
        file.write_bytes(content)
        output = holds(run("train", "--config", file, "--dry-run"))
        if output.code == 0:
            file.write_text(output.out)
            again = run("train", "--config", file, "--dry-run")
            assert again.out == output.out

    explore(40 * times, property_holds, st.lists(text_damages, min_size=1, max_size=2))


@profiles
def test_damaged_suite_files(
    times: int, data: Mapping[str, Path], folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``cir bench FILE`` up to the first row: no row can run, or each has its reason."""
    from cir_plugins.bench import runner
    from cir_plugins.errors import CIRError

    def stop(*arguments: object, **options: object) -> None:
        raise CIRError("planned")

    monkeypatch.setattr(runner, "write_record", stop)

    def property_holds(damages: list[TreeDamage | ByteDamage], rooted: bool) -> None:
        folder = folders()
        file, content = folder / "suite.toml", SUITE.encode()
        for damage in damages:
            try:
                content = damaged(content, "suite.toml", damage)
            except (ValueError, RecursionError):
                break
        file.write_bytes(content)
        out = folder / "out"
        words = ("--root", data["fashioniq"]) if rooted else ()
        holds(run("bench", file, "--out", out, *words, writes=[out]))

    explore(
        40 * times,
        property_holds,
        st.lists(text_damages, min_size=1, max_size=2),
        st.sampled_from([True, True, True, False]),
    )


@profiles
def test_commands_of_any_words(times: int, folders: Folders) -> None:
    """Names of commands, kinds, components, seeds and folders that are anything."""
    texts = st.sampled_from([*_TEXTS, *_WORDS])
    folder = folders()

    def property_holds(kind: int, word: str, other: str) -> None:
        commands = (
            ("list", word),
            ("show", word, other),
            ("show", "method", word),
            ("eval", folder / "x", "--split", word),
            ("bench", word),
            (
                *("bench", "quickstart", "--seeds", word, "--root", folder / "x"),
                *("--methods", other, "--out", folder / "out"),
            ),
            ("check", "--data", word, "--root", other),
            ("report", word),
            ("convert", word, folder / "x", "--out", folder / "out"),
            ("make-data", word, "--out", folder / "out", "--images", "-1"),
            ("encode", word, "--images", folder, "--out", folder / "out", "--what", other),
        )
        output = run(*commands[kind % len(commands)], writes=[folder])
        assert "Traceback" not in output.err
        assert output.code in (0, 1, 2)

    explore(40 * times, property_holds, st.integers(0, 10), texts, texts)


def test_toml_of_the_suite_is_what_is_damaged() -> None:
    """The suite that is damaged is whole, and damage leaves TOML."""
    tree = tomllib.loads(SUITE)
    assert tomllib.loads(as_toml(tree).decode()) == tree
