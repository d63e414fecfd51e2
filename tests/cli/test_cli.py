from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from cir_plugins import cli
from tests.command import Call
from tests.layouts import small_fashioniq
from tests.plugin_folder import run_cir, write_plugins


def test_list_shows_kind_name_plugin_and_place(cir: Call) -> None:
    output = cir("list", "sampler")
    assert output.code == 0
    lines = [line.split() for line in output.out.splitlines()]
    assert lines[0] == ["kind", "name", "plugin", "from"]
    assert ["sampler", "hardest", "builtin", "cir_plugins.builtin.samplers:Hardest"] in lines
    assert ["sampler", "target_relative", "dqe", "dqe_plugin.sampler:TargetRelative"] in lines
    assert all(line[0] == "sampler" for line in lines[1:])


def test_show_prints_options_recipe_and_source(cir: Call) -> None:
    output = cir("show", "method", "dqe")
    assert output.code == 0
    assert "method dqe, plugin dqe, dqe_plugin.method:DQE" in output.out
    assert "Source: Park, Park, Lee, DQE-CIR, arXiv 2603.04037" in output.out
    assert "method.margin_weight" in output.out
    assert "  sampler = target_relative" in output.out
    assert '  mining.filter = "corpus"' in output.out
    assert "train.batch_size" not in output.out  # as in the defaults
    assert "needs: query_tokens" in output.out
    assert "Args:" not in output.out


def test_show_prints_brackets_as_they_are(cir: Call) -> None:
    """Text in square brackets must not vanish as if it were the terminal's markup."""
    output = cir("show", "train")
    assert output.out.startswith("[train]  How a method is trained: length")
    assert "[0.9, 0.999]" in output.out
    assert "gallery" in cir("show", "dataset", "fashioniq").out
    assert "protocols" in cir("show", "dataset", "fashioniq").out


@pytest.mark.parametrize("kind", ["backbone", "loss", "method", "dataset", "generator"])
def test_kinds_may_be_in_the_plural(cir: Call, kind: str) -> None:
    plural = "losses" if kind == "loss" else f"{kind}s"
    assert cir("list", plural).out == cir("list", kind).out
    assert cir("show", "methods", "dqe").out == cir("show", "method", "dqe").out


@pytest.mark.parametrize(
    ("table", "option"),
    [
        ("train", "train.batch_size"),
        ("schedule", "schedule.milestones"),
        ("mining", "mining.per_query"),
        ("memory", "memory.feature_cache_mb"),
        ("run", "run.warm_start"),
    ],
)
def test_show_prints_every_table_of_settings(cir: Call, table: str, option: str) -> None:
    out = cir("show", table).out
    assert out.startswith(f"[{table}]  ")
    assert option in out
    assert "or more" in out or table == "run"


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (
            ["trian"],
            [
                "unknown command 'trian'; nearest: train",
                "accepted: audit, bench, check, compare, convert, encode, eval",
            ],
        ),
        (["list", "samplrs"], ["unknown kind 'samplrs'; nearest: sampler"]),
        (["show", "methds"], ["unknown kind 'methds'; nearest: method"]),
        (["show", "methods"], ["cir show methods needs a name; accepted: ", "contrastive, cosmo"]),
        (["show", "method"], ["cir show method needs a name; accepted: ", "contrastive, cosmo"]),
        (["show", "sampler", "hardst"], ["unknown sampler 'hardst'; nearest: hardest"]),
        (["show", "train", "x"], ["'train' takes no name"]),
        (["make-data", "shoes", "--out", "x"], ["unknown generator 'shoes'", "accepted: garments"]),
        (["check", "--data", "cirr"], ["--root DIR is missing"]),
        (["check", "--root", "/x"], ["--data NAME is missing"]),
        (["check", "--data", "cirrr", "--root", "x"], ["unknown dataset 'cirrr'; nearest: cirr"]),
        (["train"], ["no method is named", "no data set is named", "no data folder is named"]),
        (["train", "dqe", "--data", "cirr", "--root", "x"], ["--out RUN is missing"]),
        (["train", "--config", "no.toml"], ["config file no.toml does not exist"]),
        (["eval", "x", "--data", "cirr"], ["x is no run folder"]),
        (["bench", "quikstart"], ["unknown suite 'quikstart'; nearest: quickstart"]),
        (["bench", "quickstart", "--seeds", "0,a"], ["--seeds cannot be '0,a'; accepted: whole"]),
    ],
)
def test_wrong_input_ends_in_one_message(
    cir: Call, arguments: list[str], fragments: list[str]
) -> None:
    output = cir(*arguments)
    assert output.complains(*fragments), output
    assert output.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--foo"], "No such option"),
        (["train", "dqe", "--seed", "x"], "'--seed'"),
        (["eval"], "Missing argument"),
        (["list", "sampler", "more"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_ends_with_code_2(cir: Call, arguments: list[str], message: str) -> None:
    output = cir(*arguments)
    assert output.code == 2
    assert message in output.err
    assert "Traceback" not in output.err


def test_dry_run_prints_a_valid_config(cir: Call, tmp_path: Path) -> None:
    sets = ["--set", "train.epochs=3", "--set", "sampler=hardest", "--set", "sampler.count=2"]
    first = cir("train", "contrastive", "--data", "cirr", "--root", "/d", "--dry-run", *sets)
    assert first.code == 0
    assert "epochs = 3" in first.out
    assert 'name = "hardest"\ncount = 2' in first.out
    file = tmp_path / "config.toml"
    file.write_text(first.out)
    assert cir("train", "--config", file, "--dry-run").out == first.out
    assert cir("train", "contrastive", "--config", file, "--dry-run").out == first.out


@pytest.mark.parametrize("setting", ["loss=info_nce", "loss.margin=0.1", "sampler=hardest"])
def test_loss_of_an_untrained_method_is_an_error(cir: Call, setting: str) -> None:
    """It would train nothing, use no loss and end with code 0, as if the two had been compared."""
    sets = ["--set", "loss=margin"] if setting.startswith("loss.") else []
    arguments = ("train", "image_only", "--data", "cirr", "--root", "/d", "--dry-run")
    output = cir(*arguments, *sets, "--set", setting)
    assert output.code == 2
    kind = setting.partition("=")[0].partition(".")[0]
    assert f"'image_only' is not trained, so that it has no use for a {kind}" in output.err
    assert cir(*arguments).code == 0


def test_config_of_an_untrained_run_is_valid(cir: Call, tmp_path: Path) -> None:
    first = cir("train", "image_only", "--data", "cirr", "--root", "/d", "--dry-run")
    file = tmp_path / "config.toml"
    file.write_text(first.out)
    assert "[loss]" in first.out
    assert cir("train", "--config", file, "--dry-run").out == first.out


def test_set_beats_arguments_which_beat_the_file(cir: Call, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[train]\nepochs = 3\nlr = 0.5\n[run]\nseed = 1\n[data]\nname = "circo"\n')
    arguments = ["train", "contrastive", "--config", str(file), "--data", "cirr", "--root", "/d"]
    output = cir(*arguments, "--seed", "2", "--set", "train.lr=0.25", "--dry-run")
    assert "epochs = 3\n" in output.out
    assert "lr = 0.25\n" in output.out
    assert "seed = 2\n" in output.out
    assert '[data]\nname = "cirr"\nroot = "/d"\n' in output.out
    assert "seed = 3\n" in cir(*arguments, "--seed", "2", "--set", "run.seed=3", "--dry-run").out


def test_every_error_of_a_plan_is_printed(cir: Call, tmp_path: Path) -> None:
    out = tmp_path / "run"
    output = cir(
        *("train", "dqe", "--data", "cirr", "--root", tmp_path, "--out", out),
        *("--set", "backbone=clip", "--set", "train.epoch=3", "--set", "loss=margins"),
    )
    assert output.complains("unknown [train] option 'epoch'", "unknown loss 'margins'")
    assert not out.exists()


def test_check_prints_counts_and_errors(cir: Call, tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path / "set")
    arguments = ("check", "--data", "fashioniq", "--root", root)
    good = cir(*arguments)
    assert good.code == 0
    assert ["dress.val", "2", "5", "1", "0", "0", "0"] in [
        line.split() for line in good.out.splitlines()
    ]
    (root / "images" / "d1.png").unlink()
    bad = cir(*arguments, "--no-decode")
    assert bad.code == 1
    assert "error: dress.val: 1 images are missing" in bad.out
    assert "not opened" in bad.out
    others = cir(*arguments, "--set", 'data.categories=["shirt"]')
    assert others.code == 0


def test_check_takes_options_of_the_reader_only(cir: Call, tmp_path: Path) -> None:
    arguments = ("check", "--data", "cirr", "--root", tmp_path, "--set")
    assert cir(*arguments, "train.epochs=3").complains("--set train", "accepted: data.OPTION=value")
    assert cir(*arguments, "data.root=/x").complains("--set data.root", "accepted: --root")
    assert cir(*arguments, "data.galery=1").complains("unknown dataset 'cirr' option 'galery'")


def test_make_data_draws_a_set_that_check_accepts(cir: Call, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    options = ["--images", "60", "--set", "size=32", "--workers", "1", "--seed", "5"]
    made = cir("make-data", "garments", "--out", out, *options)
    assert made.code == 0
    assert f"--data fashioniq --root {out}" in made.out
    assert cir("check", "--data", "fashioniq", "--root", out).code == 0
    assert cir("make-data", "garments", "--out", out, *options).complains("is not empty")


def test_interrupting_ends_with_code_130(cir: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("cir_plugins.plugins.registry.Registry.load", interrupt)
    output = cir("list")
    assert output.code == 130
    assert output.err == "interrupted; begin again with: cir list\n"


def test_full_disk_is_a_message_other_errors_pass(
    cir: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> Callable[[], NoReturn]:
        def raise_it() -> NoReturn:
            raise OSError(number, "as the system reports", "/some/file")

        return raise_it

    monkeypatch.setattr("cir_plugins.plugins.registry.Registry.load", fail(errno.ENOSPC))
    assert cir("list").complains("cannot read or write /some/file: as the system reports")
    monkeypatch.setattr("cir_plugins.plugins.registry.Registry.load", fail(errno.EBADF))
    with pytest.raises(OSError, match="as the system reports"):
        cli.main(["list"])


def test_broken_plugin_is_named_and_training_works(tmp_path: Path, garments_root: Path) -> None:
    plugins = write_plugins(tmp_path / "site", {"bad": "raise RuntimeError('no')\n"})
    arguments = ("train", "image_only", "--data", "fashioniq", "--root", str(garments_root))
    done = run_cir(*arguments, "--dry-run", plugins=plugins)
    assert done.returncode == 0, done.stderr
    wrong = run_cir(*arguments, "--set", "sampler=from_bad", plugins=plugins)
    assert wrong.returncode == 2
    assert "unknown sampler 'from_bad'" in wrong.stderr
    assert "plugins that did not load: bad (RuntimeError: no" in wrong.stderr
