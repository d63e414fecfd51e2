from __future__ import annotations

from pathlib import Path

import pytest

import cir_plugins as cir_package
from cir_plugins.cli.view import _names
from tests.command import Call


@pytest.mark.usefixtures("one_thread")
def test_view_writes_a_page_of_runs(cir: Call, garments_root: Path, tmp_path: Path) -> None:
    runs = [tmp_path / name / "run" for name in ("a", "b")]
    for run in runs:
        cir_package.train(
            "text_only",
            data="fashioniq",
            root=garments_root,
            out=run,
            backbone="tiny_clip",
            device="cpu",
            workers=0,
            progress=False,
        )
    out = tmp_path / "new" / "view"
    output = cir("view", *runs, "--data", "fashioniq", "--root", garments_root, "--out", out)
    assert output.code == 0, output.err
    assert f"written: {out / 'index.html'}" in output.out
    assert {path.name for path in out.iterdir()} == {
        *("index.html", "view.js", "data.js", "pictures"),
    }
    assert '"runs":["a/run","b/run"]' in (out / "data.js").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--side", "4"], "side is 4; accepted: 32 to 1024 pixels"),
        (["--split", "dev"], "unknown role of splits 'dev'"),
        (["--set", "train.epochs=3"], "--set train... has no effect here"),
    ],
)
def test_wrong_settings_are_messages(
    cir: Call, tmp_path: Path, options: list[str], message: str
) -> None:
    output = cir("view", tmp_path / "no-run", "--out", tmp_path / "out", *options)
    assert output.code == 2
    assert message in output.err
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_a_message(cir: Call, tmp_path: Path) -> None:
    assert "--out is missing" in cir("view", tmp_path).err


def test_names_of_runs_tell_them_apart() -> None:
    assert _names([Path("/r/dqe"), Path("/r/sprc")]) == ["dqe", "sprc"]
    assert _names([Path("/r/a/run"), Path("/r/b/run")]) == ["a/run", "b/run"]
    assert _names([Path("/r/a"), Path("/r/a")]) == ["a (1)", "a (2)"]
