from __future__ import annotations

import pytest

from cir_plugins.bench.changes import changed_options, changed_suite
from cir_plugins.bench.tables import caption
from cir_plugins.config.toml import Config, parse_set
from cir_plugins.errors import CIRError
from tests.bench.toy import record, result, suite


def test_options_change_all_entries_and_the_data() -> None:
    changes = parse_set(["train.epochs=1", "sampler=hardest", "data.gallery=original"])
    changed = changed_suite(suite("a", "b"), changes)
    assert [row.config["train"] for row in changed.entries] == [{"epochs": 1}] * 2
    assert [row.config["sampler"] for row in changed.entries] == [{"name": "hardest"}] * 2
    assert changed.data == {"name": "fashioniq", "gallery": "original"}
    assert all(row.config["method"] == {"name": "contrastive"} for row in changed.entries)
    assert changed_options(changes) == {
        "train.epochs": 1,
        "sampler.name": "hardest",
        "data.gallery": "original",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"root": "x"}}, "--set data.root=... cannot change a suite; accepted: --root"),
        ({"run": {"seed": 3}}, "accepted: --seeds"),
        ({"method": {"name": "dqe"}}, "accepted: --methods"),
        ({"method": {"margin": 1}}, "--set method.margin=... cannot change a suite"),
    ],
)
def test_options_with_a_flag_cannot_be_set(changes: Config, message: str) -> None:
    with pytest.raises(CIRError, match=message):
        changed_suite(suite("a"), changes)


def test_training_options_have_no_effect_on_trained_runs() -> None:
    with pytest.raises(CIRError, match=r"train\.epochs=\.\.\. has no effect with --runs"):
        changed_suite(suite("a"), {"train": {"epochs": 1}}, trains=False)
    changed_suite(suite("a"), {"data": {"gallery": "val"}}, trains=False)


def test_caption_names_the_changes() -> None:
    made = result(suite("a"), [record("a", 0, {"s": [1.0]})], ())
    assert "changed" not in caption(made.document)
    changed = {**made.document, "changed": {"train.epochs": 1}}
    assert caption(changed).startswith("The suite was changed for all rows: train.epochs=1.")
