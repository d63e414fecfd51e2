from __future__ import annotations

import pytest

from cir_plugins.config.notes import notes
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import parse_set
from cir_plugins.plugins.registry import Registry
from tests.command import Call


def notes_on(method: str, *sets: str) -> list[str]:
    config = {"method": {"name": method}, "data": {"name": "fashioniq", "root": "x"}}
    return notes(make_plan(Registry.load(), config, parse_set(sets)))


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        (("train.epochs=1",), "starts after 1 epoch and training has 1 epoch; to use it: --set"),
        (("train.epochs=6", "mining.start=6"), "starts after 6 epochs and training has 6"),
        (("train.epochs=6",), ""),
        (("train.epochs=1", "mining.start=0"), ""),
        (("train.epochs=1", "sampler=random"), ""),
        (("train.epochs=1", "mining.negatives=both"), ""),
    ],
)
def test_sampler_that_is_never_used_is_noted(sets: tuple[str, ...], text: str) -> None:
    """Two trials with other sampler bounds gave the same weights to the bit, without a word."""
    messages = notes_on("dqe_published", "train.warm_start=0", *sets)
    assert len(messages) == bool(text)
    if text:
        assert "sampler 'target_relative' is never used" in messages[0]
        assert text in messages[0]


def test_published_rate_with_a_small_backbone_is_noted() -> None:
    (note,) = notes_on("contrastive", "backbone=tiny_blip2")
    assert note.startswith("train.lr 5e-06 was published for backbone 'blip2'; with 'tiny_blip2'")
    assert note.endswith("try --set train.lr=0.001")
    assert notes_on("contrastive") == []
    assert notes_on("contrastive", "backbone=tiny_blip2", "train.lr=1e-4") == []
    assert notes_on("image_only", "backbone=tiny_blip2") == []


def test_notes_are_printed_at_plan_time(cir: Call) -> None:
    arguments = ("train", "contrastive", "--data", "cirr", "--root", "/d", "--dry-run")
    output = cir(*arguments, "--set", "backbone=tiny_clip")
    assert output.code == 0
    assert output.err.startswith("note: train.lr 5e-06 was published")
    assert cir(*arguments).err == ""
