from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from cir_plugins import Batch, Component, Components, Method, Recipe, TrainSettings, hookimpl
from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan, plan_component, plan_reader
from cir_plugins.config.toml import Config, parse_set, read_config
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Registry


class Small(Method):
    """A method with a recipe of its own."""

    recipe = Recipe(
        source="nobody",
        backbone=Component("clip", {"tower": "frozen"}),
        sampler=Component("semi_hard", {"margin": 0.1}),
        train=TrainSettings(epochs=4, lr=1e-3),
        datasets={"cirr": {"train.epochs": 9, "data.lower": True, "sampler.margin": 0.3}},
    )

    def __init__(self, components: Components, *, depth: int = 2, note: str | None = None) -> None:
        super().__init__(components)
        self.depth, self.note = depth, note


class Picky(Small):
    """Refuses a loss."""

    @staticmethod
    def check_compatibility(plan: Plan) -> str:
        """Why not, or nothing."""
        return "it wants another loss than 'margin'" if plan.loss.name == "margin" else ""


class NeedsTokens(Small):
    """Needs what CLIP has not."""

    needs: ClassVar[frozenset[str]] = frozenset({"query_tokens"})


class Whole(Small):
    """Overrides its terms whole."""

    def loss_terms(self, batch: Batch) -> dict[str, Any]:
        """One term under another name."""
        return {"own": super().loss_terms(batch)["loss"]}


@hookimpl
def cir_methods() -> Any:
    methods = {"small": Small, "picky": Picky, "needs_tokens": NeedsTokens, "whole": Whole}
    return {**methods, "none": dict}


@hookimpl
def cir_samplers() -> Any:
    def faulty(**options: int) -> None:
        del options

    def strict(*, size: int = 3) -> None:
        raise ValueError(f"size must be even, not {size}")

    return {"faulty": faulty, "strict": strict}


@pytest.fixture(scope="module")
def registry() -> Registry:
    plugin = SimpleNamespace(cir_methods=cir_methods, cir_samplers=cir_samplers)
    loaded = Registry.load({"mine": plugin})
    assert loaded.failures == ()
    return loaded


def base(method: str = "small", data: str = "fashioniq") -> Config:
    return {"method": {"name": method}, "data": {"name": data, "root": "/data"}}


def test_the_recipe_gives_what_is_left_open(registry: Registry) -> None:
    plan = make_plan(registry, base())
    assert plan.backbone.name == "clip"
    assert plan.backbone.options["tower"] == "frozen"
    assert plan.backbone.options["resize"] == "target_pad"
    assert (plan.loss.name, plan.sampler.options) == ("info_nce", {"margin": 0.1})
    assert (plan.train.epochs, plan.train.lr) == (4, 1e-3)
    assert plan.method.options == {"depth": 2, "note": None}
    assert plan.root == Path("/data")


def test_options_lie_over_the_recipes_differences(registry: Registry) -> None:
    plan = make_plan(registry, base(data="cirr"))
    assert (plan.train.epochs, plan.data.options["lower"]) == (9, True)
    assert plan.sampler.options == {"margin": 0.3}
    changed = make_plan(
        registry, base(data="cirr"), parse_set(["train.epochs=2", "data.lower=false"])
    )
    assert (changed.train.epochs, changed.data.options["lower"]) == (2, False)


def test_the_resolved_config_gives_the_same_plan(registry: Registry, tmp_path: Path) -> None:
    sets = ["train.betas=[0.8, 0.9]", "sampler=hardest", "sampler.count=3", "data.splits=['val']"]
    for data in ("fashioniq", "cirr"):
        plan = make_plan(registry, base(data=data), parse_set(sets))
        file = tmp_path / "config.toml"
        file.write_text(plan.text(), encoding="utf-8")
        again = make_plan(registry, read_config(file))
        assert again == plan
        assert again.text() == plan.text()


def test_another_component_leaves_the_old_options_out(registry: Registry) -> None:
    plan = make_plan(registry, base(), {"sampler": {"name": "hardest"}})
    assert plan.sampler.options == {"count": 1}
    back = make_plan(
        registry, base(), {"sampler": {"name": "hardest"}}, parse_set(["sampler=semi_hard"])
    )
    assert back.sampler.options == {"margin": 0.1}


def test_a_lower_layers_data_set_keeps_recipe_differences(
    registry: Registry,
) -> None:
    file: Config = {"data": {"name": "circo", "root": "/old", "drop_reference": False}}
    plan = make_plan(registry, file, base(data="cirr"))
    assert plan.data.options["lower"] is True
    assert plan.data.options["drop_reference"] is True
    assert plan.root == Path("/data")


def test_all_errors_come_at_once(registry: Registry) -> None:
    sets = [
        *("sampler=hardst", "loss.margin=1", "train.lr=fast", "train.epochs=-1", "run.seeds=1"),
        *("data.galery=val", "method.depth=2.5"),
    ]
    with pytest.raises(CIRError) as raised:
        make_plan(registry, {**base(), "data": {"name": "fashioniq"}}, parse_set(sets))
    message = str(raised.value)
    for fragment in (
        "option 'depth' of method 'small' cannot be 2.5; accepted: an integer",
        "unknown loss 'info_nce' option 'margin'",
        "unknown sampler 'hardst'; nearest: hardest",
        "unknown dataset 'fashioniq' option 'galery'; nearest: gallery",
        "train.lr cannot be 'fast'; accepted: a number above 0, up to 1000",
        "unknown [run] option 'seeds'; nearest: seed",
        "no data folder is named; accepted: --root DIR",
    ):
        assert fragment in message


def test_an_unknown_method_hides_no_other_error(registry: Registry) -> None:
    with pytest.raises(CIRError) as raised:
        make_plan(registry, {"method": {"name": "smal"}, "data": {"name": "cirrr"}})
    message = str(raised.value)
    assert "unknown method 'smal'; nearest: small" in message
    assert "unknown dataset 'cirrr'; nearest: cirr" in message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no method is named; accepted: contrastive, "),
        ({}, "no data set is named; accepted: circo, cirr, fashion200k, fashioniq"),
        ({"method": {"name": 3}}, "method.name cannot be 3; accepted: contrastive"),
        (
            {"sampler": {"name": ["a"]}},
            "sampler.name cannot be ['a']; accepted: after_target, ",
        ),
        ({"loss": {"name": ""}}, "no loss is named; accepted: info_nce"),
        ({"data": {"root": 3}}, "data.root cannot be 3; accepted: --root DIR"),
        ({"method": {"name": "none"}}, "has no Recipe in its attribute 'recipe'"),
        ({"sampler": {"name": "faulty"}}, "sampler 'faulty' of plugin 'mine' is faulty: "),
    ],
)
def test_bad_config_is_an_error(registry: Registry, config: Config, message: str) -> None:
    layers = (config,) if not config else (base(), config)
    with pytest.raises(CIRError, match=re.escape(message)):
        make_plan(registry, *layers)


@pytest.mark.parametrize(
    ("assignment", "accepted"),
    [
        ("train.epochs=-1", "an integer of 0 or more"),
        ("train.batch_size=0", "an integer of 1 or more"),
        ("train.lr=0.0", "a number above 0, up to 1000"),
        ("train.lr=nan", "a number above 0, up to 1000"),
        ("train.betas=[0.9, 1.0]", "a list of 2, each a number from 0, below 1"),
        ("schedule.warmup=1.0", "a number from 0 to 0.99"),
        ("train.ema=1.0", "a number from 0, below 1"),
        ("schedule.milestones=[2, -1]", "a list, each an integer of 0 or more"),
        ("mining.start=-2", "an integer of -1 or more"),
        ("train.clip=-0.5", "a number of 0 or more"),
        ("train.clip=inf", "a number of 0 or more"),
        ("run.seed=-1", "an integer from 0 to 2147483647"),
        ("run.workers=-2", "an integer from -1 to 256"),
    ],
)
def test_settings_out_of_range_are_errors(
    registry: Registry, assignment: str, accepted: str
) -> None:
    key, _, value = assignment.partition("=")
    with pytest.raises(CIRError) as raised:
        make_plan(registry, base(), parse_set([assignment]))
    assert str(raised.value) == f"{key} cannot be {value}; accepted: {accepted}"


@pytest.mark.parametrize(
    ("method", "sets", "message"),
    [
        (
            "needs_tokens",
            [],
            "method 'needs_tokens' needs query_tokens, which backbone 'clip' does not offer "
            "(it offers: image_embedding",
        ),
        ("picky", ["loss=margin"], "method 'picky': it wants another loss than 'margin'"),
        ("small", ["sampler=random"], "but mining.negatives is 'batch'"),
        ("small", ["train.batch_size=1"], "train.batch_size 1 leaves no negative in a batch"),
        (
            "small",
            ["mining.filter=corpus"],
            "does not mark what is ambiguous; accepted: mining.filter=batch",
        ),
        (
            "small",
            ["mining.filter=corpus", "sampler=after_target", "mining.negatives=mined"],
            "mining.filter is 'corpus', which filters the batch's columns",
        ),
        (
            "small",
            ["mining.filter=none"],
            "mining.filter is 'none', but mining.negatives is 'batch'",
        ),
        ("small", ["mining.with_reference=true"], "mining.with_reference adds to mined negatives"),
        ("small", ["mining.scored_by=queries"], "mining.scored_by is 'queries', but the sampler"),
        (
            "whole",
            ["train.micro_batch=8"],
            "method 'whole' computes its terms on a whole batch, but train.micro_batch is 8; "
            "accepted: train.micro_batch=0",
        ),
    ],
)
def test_plans_that_cannot_work_are_errors(
    registry: Registry, method: str, sets: list[str], message: str
) -> None:
    with pytest.raises(CIRError, match=re.escape(message)):
        make_plan(registry, base(method), parse_set(sets))


def test_the_same_settings_may_work_elsewhere(registry: Registry) -> None:
    mined = parse_set(["mining.negatives=mined", "train.batch_size=1", "sampler=random"])
    assert make_plan(registry, base(), mined).sampler.name == "random"
    assert make_plan(registry, base("picky")).loss.name == "info_nce"
    assert make_plan(registry, base(), parse_set(["train.micro_batch=8"])).train.micro_batch == 8
    assert make_plan(registry, base("whole")).train.micro_batch == 0
    assert make_plan(registry, base("needs_tokens"), parse_set(["backbone=blip2"]))


def test_a_factorys_value_error_names_the_component(registry: Registry) -> None:
    with pytest.raises(CIRError, match="sampler 'strict': size must be even, not 3"):
        plan_component(registry, "sampler", "strict", {}).build()


def test_a_protocol_lies_below_the_given_options(registry: Registry) -> None:
    merged = plan_reader(registry, "fashioniq", {}, "merged")
    assert merged.options["gallery"] == "merged"
    changed = plan_reader(registry, "fashioniq", {"gallery": "val"}, "merged")
    assert changed.options["gallery"] == "val"
    with pytest.raises(CIRError, match="unknown protocol 'mergd'; nearest: merged"):
        plan_reader(registry, "fashioniq", {}, "mergd")


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("train.mine_every=3", "mining.every"),
        ("train.negatives=mined", "mining.negatives"),
        ("train.schedule=cosine", "schedule.name"),
        ("train.schedule_epochs=5", "schedule.epochs"),
        ("train.lr_floor=0.1", "schedule.floor"),
        ("run.feature_cache_mb=64", "memory.feature_cache_mb"),
        ("mining.epochs=3", "train.epochs or schedule.epochs"),
    ],
)
def test_an_option_of_another_table_is_named(
    registry: Registry, assignment: str, meant: str
) -> None:
    key = assignment.partition("=")[0]
    with pytest.raises(CIRError) as raised:
        make_plan(registry, base(), parse_set([assignment]))
    assert str(raised.value) == f"unknown option {key}; did you mean {meant}?"


def test_an_option_of_no_table_names_the_tables(registry: Registry) -> None:
    with pytest.raises(CIRError) as raised:
        make_plan(registry, base(), parse_set(["train.pool=targets"]))
    message = str(raised.value)
    assert message.startswith("unknown [train] option 'pool'")
    assert "other tables of settings: schedule, mining, memory, run" in message
