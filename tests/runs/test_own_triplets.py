"""A run on a table of one's own: trained, evaluated, gone on with, refused on other data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import Call
from tests.layouts import write_triplets

TEXTS = ("the same in black", "with long sleeves", "in denim", "without the print", "shorter")


@pytest.mark.usefixtures("one_thread")
def test_own_triplets_train_evaluate_and_resume(cir: Call, tmp_path: Path) -> None:
    """A table without a split column holds the same rows back in training and evaluation."""
    rows = [(f"{n:02}a.png", TEXTS[n % 5], f"{n:02}b.png", f"p{n}") for n in range(20)]
    root = write_triplets(tmp_path / "shop", rows)
    data = ("--data", "triplets", "--root", root)
    out = tmp_path / "run"
    small = ("--device", "cpu", "--set", "train.batch_size=4", "--set", "run.workers=0")
    train = ("train", "contrastive", *data, "--out", out, *small, "--set", "backbone=tiny_clip")
    done = cir(*train, "--set", "train.epochs=1")
    assert done.code == 0, done.err
    record = json.loads((out / "data.json").read_text())
    assert "triplets" in json.dumps(record)
    report = tmp_path / "report.json"
    done = cir("eval", out, "--json", report, "--device", "cpu")
    assert done.code == 0, done.err
    content = json.loads(report.read_text())
    assert (content["dataset"], content["queries"], content["gallery"]) == ("triplets", 2, 4)
    assert set(content["splits"]) == {"val"}
    done = cir("eval", out, *data, "--protocol", "folder", "--json", report, "--device", "cpu")
    assert done.code == 0, done.err
    assert json.loads(report.read_text())["gallery"] == 40
    done = cir("train", "--out", out, "--resume")
    assert done.code == 0, done.err
    text = (root / "triplets.csv").read_text().replace("in denim", "in linen")
    (root / "triplets.csv").write_text(text)
    assert cir("train", "--out", out, "--resume").complains("other captions")


@pytest.mark.usefixtures("one_thread")
def test_rows_left_out_are_counted(cir: Call, tmp_path: Path) -> None:
    """Rows between two sides of a division are gone from training; nobody must have to guess."""
    rows = [(f"{n}.png", TEXTS[n % 5], f"{(n + 1) % 9}.png", "") for n in range(9)]
    root = write_triplets(tmp_path / "shop", rows)
    out = tmp_path / "run"
    done = cir(
        *("train", "contrastive", "--data", "triplets", "--root", root, "--out", out),
        *("--device", "cpu", "--set", "backbone=tiny_clip", "--set", "train.epochs=1"),
        *("--set", "run.workers=0", "--set", "train.batch_size=4"),
    )
    assert done.code == 0, done.err
    assert "left out of training: 2 rows across train and val" in done.err
    assert json.loads((out / "results.json").read_text())["queries"] == 1
