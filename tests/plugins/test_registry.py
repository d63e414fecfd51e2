from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cir_plugins import hookimpl
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import KINDS, Registry
from tests.plugin_folder import run_cir, write_plugins

GOOD = """
from cir_plugins import hookimpl
from cir_plugins.builtin.samplers import InBatch

@hookimpl
def cir_samplers():
    return {"good_sampler": "cir_plugins.builtin.samplers:InBatch"}
"""
RAISES = "\nraise RuntimeError('no such luck')\n"
EXITS = "import sys\nsys.exit('leaving')\n"
MISSPELT = GOOD.replace("def cir_samplers", "def cir_samplrs")
UNMARKED = GOOD.replace("@hookimpl\n", "")
TAKEN = GOOD.replace("good_sampler", "hardest")
NO_MAPPING = GOOD.replace("return {", "return [").replace('": "', '", "').replace('"}', '"]')


def offering(**components: Any) -> SimpleNamespace:
    """A plugin object with a sampler hook."""

    @hookimpl
    def cir_samplers() -> Any:
        return components

    return SimpleNamespace(cir_samplers=cir_samplers)


def test_the_hosts_components_lead_to_their_factories() -> None:
    registry = Registry.load({})
    assert registry.failures == ()
    for kind in KINDS:
        assert registry.offers(kind) or kind == "generator"
    for offer in registry.offers():
        assert callable(registry.factory(offer.kind, offer.name))
        assert offer.plugin == "builtin"


def test_broken_plugins_harm_only_themselves(tmp_path: Path) -> None:
    """One plugin that fails must not take every command down, nor fail in silence."""
    sources = {
        "a_good": GOOD,
        "b_raises": RAISES,
        "c_exits": EXITS,
        "d_misspelt": MISSPELT,
        "e_unmarked": UNMARKED,
        "f_taken": TAKEN,
        "g_no_mapping": NO_MAPPING,
    }
    done = run_cir("list", plugins=write_plugins(tmp_path / "site", sources))
    assert done.returncode == 0, done.stderr
    listing, failed = done.stdout.split("plugins that did not load, and why:")
    names = [line.split()[1:3] for line in listing.splitlines()[1:]]
    assert ["good_sampler", "a_good"] in names
    assert ["hardest", "builtin"] in names
    assert ["target_relative", "dqe"] in names
    assert not any(owner[2:] in ("misspelt", "unmarked", "taken") for _, owner in names)
    reasons = [line.strip() for line in failed.strip().splitlines()]
    assert reasons[0].startswith("b_raises: RuntimeError: no such luck (")
    assert reasons[0].endswith("plugin_b_raises.py:2)")
    assert reasons[1].startswith("c_exits: SystemExit: leaving (")
    assert reasons[2].startswith("d_misspelt: unknown hook 'cir_samplrs'; nearest: cir_samplers")
    assert reasons[4] == "e_unmarked: 'cir_samplers' lacks the marker: put @hookimpl above it"
    assert reasons[5] == (
        "f_taken: sampler 'hardest' is taken by plugin 'builtin' "
        "(cir_plugins.builtin.samplers:Hardest)"
    )
    assert reasons[6] == "g_no_mapping: cir_samplers must return a mapping, not list"


def test_a_folder_hiding_a_package_is_named(tmp_path: Path) -> None:
    """Beside a project its folder is found first: "no hook" would send people to their hooks."""
    site = write_plugins(tmp_path / "site", {"whole": GOOD})
    for name in ("bare", "deep", "named"):
        (site / f"plugin_{name}").mkdir()
    with (site / "outside_plugins-1.0.dist-info" / "entry_points.txt").open("a") as points:
        points.write("bare = plugin_bare\ndeep = plugin_deep.hooks\nnamed = plugin_named:hooks\n")
    done = run_cir("list", plugins=site)
    assert done.returncode == 0, done.stderr
    for name in ("bare", "deep", "named"):
        folder = site / f"plugin_{name}"
        assert (
            f"{name}: folder {folder} hides the package 'plugin_{name}'; start from another folder"
        ) in " ".join(done.stdout.split())
    assert "good_sampler" in done.stdout


def test_a_syntax_error_is_reported_where_it_is(tmp_path: Path) -> None:
    """The innermost frame is the importer's: its line is of no use to the plugin's author."""
    site = write_plugins(tmp_path / "site", {"typo": "x = 1\n\ndef broken(:\n    pass\n"})
    done = run_cir("list", plugins=site)
    assert done.returncode == 0, done.stderr
    failed = " ".join(done.stdout.split())
    assert f"typo: SyntaxError: invalid syntax ({site / 'plugin_typo.py'}:3)" in failed


def test_a_built_sampler_is_no_factory() -> None:
    """Its options could not be read, and ``cir show`` would end in a traceback."""
    (failure,) = Registry.load({"mine": offering(x=InBatch())}).failures
    assert "'x' must be a factory or a string, not <" in failure.reason
    assert "a factory is a class or a function" in failure.reason


def test_an_unknown_name_lists_plugins_not_loaded() -> None:
    registry = Registry.load({"mine": offering(Bad="a:b")})
    with pytest.raises(CIRError, match=r"unknown sampler 'hardst'; nearest: hardest"):
        registry.offer("sampler", "hardst")
    with pytest.raises(CIRError, match=r"plugins that did not load: mine \(cir_samplers: 'Bad'"):
        registry.offer("sampler", "mine")


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (offering(x="no_colon"), "'x' must lead to 'module:attribute', not 'no_colon'"),
        (offering(x=3), "'x' must be a factory or a string, not 3"),
        (offering(**{"has space": "a:b"}), "'has space' is no name; accepted: lower-case letters"),
        (SimpleNamespace(), "it implements no hook; accepted: cir_backbones, cir_samplers"),
    ],
)
def test_a_bad_mapping_leaves_the_plugin_out(plugin: Any, reason: str) -> None:
    registry = Registry.load({"bad": plugin})
    (failure,) = registry.failures
    assert failure.plugin == "bad"
    assert reason in failure.reason
    assert {offer.plugin for offer in registry.offers()} == {"builtin"}


def test_a_raising_hook_leaves_nothing_behind() -> None:
    """A plugin is in whole or not at all: its earlier hooks must not stay."""
    good = offering(early="cir_plugins.builtin.samplers:InBatch")

    @hookimpl
    def cir_methods() -> Any:
        raise KeyError("lost")

    good.cir_methods = cir_methods
    registry = Registry.load({"bad": good, "next": offering(late="a:b")})
    (failure,) = registry.failures
    assert failure.reason.startswith("KeyError: 'lost' (")
    names = [offer.name for offer in registry.offers("sampler")]
    assert "early" not in names
    assert "late" in names


def test_of_two_namesakes_the_first_stays() -> None:
    registry = Registry.load({"builtin": offering(x="a:b")})
    (failure,) = registry.failures
    assert "another plugin is called 'builtin' too" in failure.reason
    assert "hardest" in [offer.name for offer in registry.offers("sampler")]


def test_a_hook_under_another_function_name_counts() -> None:
    @hookimpl(specname="cir_losses")
    def my_losses() -> Any:
        return {"mine": "a:b"}

    registry = Registry.load({"mine": SimpleNamespace(my_losses=my_losses)})
    assert registry.failures == ()
    assert registry.offer("loss", "mine").where == "a:b"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_module_here:X", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("cir_plugins.errors:Nothing", "has no attribute 'Nothing'"),
        ("cir_plugins.config.toml:VERSION", "is int, not a factory"),
    ],
)
def test_a_failed_import_names_the_plugin(target: str, reason: str) -> None:
    registry = Registry.load({"mine": offering(broken=target)})
    with pytest.raises(CIRError, match="sampler 'broken' of plugin 'mine'") as raised:
        registry.factory("sampler", "broken")
    assert reason in str(raised.value)
