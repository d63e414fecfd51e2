from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.bench import runner
from cir_plugins.bench.page import write_page
from cir_plugins.bench.runner import run_suite
from cir_plugins.bench.suite import Suite
from cir_plugins.errors import CIRError
from cir_plugins.runs.data_record import DATA, read_data
from tests.bench.toy import RUN, registry


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the run folders that are executed from now on."""
    names: list[str] = []
    execute = runner.execute

    def spy(plan: Any, folder: Path, **options: Any) -> Any:
        names.append(folder.name)
        return execute(plan, folder, **options)

    monkeypatch.setattr(runner, "execute", spy)
    return names


def test_resuming_keeps_finished_runs(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = counted(monkeypatch)
    small = suite.only(["contrastive"], [0])
    first = run_suite(small, registry(), tmp_path, progress=False, run=RUN)
    assert names == ["contrastive-seed0"]
    with pytest.raises(CIRError, match="holds the results of an earlier suite; accepted: --resume"):
        run_suite(small, registry(), tmp_path, progress=False, run=RUN)
    more = suite.only(["contrastive"], [0, 1])
    again = run_suite(more, registry(), tmp_path, resume=True, progress=False, run=RUN)
    assert names == ["contrastive-seed0", "contrastive-seed1"]
    assert again.finished[0].line() == first.finished[0].line()
    assert again.finished[0].rankings == first.finished[0].rankings
    assert again.splits[0].queries == first.splits[0].queries


def test_resuming_with_other_settings_runs_anew(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = counted(monkeypatch)
    small = suite.only(["image only"], [0])
    run_suite(small, registry(), tmp_path, progress=False, run=RUN)
    other = {**RUN, "feature_cache_dtype": "bf16"}
    result = run_suite(small, registry(), tmp_path, resume=True, progress=False, run=other)
    assert not result.failed
    assert names[0] == "image-only-seed0"
    assert names[1].startswith("image-only-seed0-")
    run_suite(small, registry(), tmp_path, resume=True, progress=False, run=other)
    assert len(names) == 2


def test_resuming_with_other_workers_keeps_finished_runs(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They change no number; a run that was cut off goes on in its own folder."""
    names = counted(monkeypatch)
    small = suite.only(["image only"], [0, 1])
    run_suite(small, registry(), tmp_path, progress=False, run=RUN)
    (tmp_path / "rows" / "image-only-seed1.json").unlink()
    other = {**RUN, "workers": 1}
    result = run_suite(small, registry(), tmp_path, resume=True, progress=False, run=other)
    assert not result.failed
    assert names == ["image-only-seed0", "image-only-seed1", "image-only-seed1"]


def change_captions(root: Path) -> None:
    """Other words in a training triplet, the rest as it was."""
    file = sorted((root / "captions").glob("*.train.json"))[0]
    rows = json.loads(file.read_text())
    rows[0]["captions"] = ["is odd", "is even"]
    file.write_text(json.dumps(rows))


def change_pictures(root: Path) -> None:
    """Each picture's bytes under the name of its neighbour."""
    pictures = sorted((root / "images").iterdir())
    contents = [picture.read_bytes() for picture in pictures]
    for picture, content in zip(pictures, [*contents[1:], contents[0]], strict=True):
        picture.write_bytes(content)


@pytest.fixture
def moved(suite: Suite, garments_root: Path, tmp_path: Path) -> tuple[Suite, Path]:
    """A suite of two rows on a copy of the data, to be changed."""
    root = tmp_path / "data"
    shutil.copytree(garments_root, root)
    return suite.only(["dqe", "image only"], [0]).on_data(None, root), root


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        (change_captions, ["dqe"]),
        (change_pictures, ["dqe", "image only"]),
        (lambda root: None, []),
    ],
)
def test_resuming_runs_rows_of_other_data_anew(
    moved: tuple[Suite, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    anew: list[str],
) -> None:
    """Rows of the old data beside rows of the new in one table look comparable."""
    names = counted(monkeypatch)
    small, root = moved
    out = tmp_path / "out"
    first = run_suite(small, registry(), out, progress=False, run=RUN)
    assert [row["data"] for row in first.document["rows"]] == [
        first.document["rows"][0]["data"]
    ] * 2
    names.clear()
    change(root)
    capsys.readouterr()
    second = run_suite(small, registry(), out, resume=True, progress=True, run=RUN)
    assert not second.failed
    assert [name.rpartition("-seed0-")[0].replace("-", " ") for name in names] == anew
    err = capsys.readouterr().err
    assert err.count("run anew, as the data changed: split 'merged.") == len(anew)
    fingerprints = {row["data"]["fingerprint"] for row in second.document["rows"]}
    assert len(fingerprints) == 1
    for row, record in zip(second.document["rows"], second.records, strict=True):
        folder = out / "runs" / record.folder
        assert read_data(folder) == record.data
        assert json.loads((folder / "results.json").read_text())["data"] == row["data"]
    # What was trained anew is what another suite evaluates, and what a third call keeps.
    names.clear()
    third = run_suite(small, registry(), out, resume=True, progress=False, run=RUN)
    assert not names
    assert third.document["rows"] == second.document["rows"]
    other = run_suite(small, registry(), tmp_path / "o", progress=False, run=RUN, runs=out)
    assert not other.failed
    trained_on = other.document["rows"][0]["trained_on"]
    assert trained_on["changes"] == []
    assert other.document["rows"][0]["average"] == second.document["rows"][0]["average"]


def test_runs_on_other_data_name_the_difference(moved: tuple[Suite, Path], tmp_path: Path) -> None:
    small, root = moved
    first = run_suite(small, registry(), tmp_path / "out", progress=False, run=RUN)
    change_pictures(root)
    other = run_suite(
        small, registry(), tmp_path / "o", progress=False, run=RUN, runs=tmp_path / "out"
    )
    (trained, untrained) = other.document["rows"]
    change = "split 'merged.val': other contents of the images"
    assert trained["trained_on"] == {
        "fingerprint": first.document["rows"][0]["training"]["data"]["fingerprint"],
        "changes": [change],
    }
    assert "trained_on" not in untrained
    note = f"other data than of training, {change}: dqe"
    assert note in (tmp_path / "o" / "results.md").read_text()
    assert note.replace("'", "&#39;") in write_page(other).read_text()


def test_a_run_without_its_data_is_not_evaluated(moved: tuple[Suite, Path], tmp_path: Path) -> None:
    small, _ = moved
    run_suite(small, registry(), tmp_path / "out", progress=False, run=RUN)
    (tmp_path / "out" / "runs" / "dqe-seed0" / DATA).unlink()
    other = run_suite(
        small, registry(), tmp_path / "o", progress=False, run=RUN, runs=tmp_path / "out"
    )
    assert "has no data.json" in other.failed[0].error
    again = run_suite(small, registry(), tmp_path / "out", resume=True, progress=False, run=RUN)
    assert not again.failed


def test_rows_say_what_was_left_out(moved: tuple[Suite, Path], tmp_path: Path) -> None:
    small, root = moved
    for name in ("train", "val"):
        file = max((root / "captions").glob(f"*.{name}.json"), key=lambda f: f.stat().st_size)
        image = json.loads(file.read_text())[0]["target"]
        (picture,) = (root / "images").glob(f"{image}.*")
        picture.unlink()
    short = replace(small, data={**small.data, "missing": "drop"})
    result = run_suite(short, registry(), tmp_path / "out", progress=False, run=RUN)
    trained, untrained = result.document["rows"]
    assert trained["left_out"] == untrained["left_out"]
    left_out = trained["left_out"]["total"]["queries"]
    lost = trained["training"]["left_out"]["total"]["queries"]
    text = (tmp_path / "out" / "results.md").read_text()
    for where, count, rows in (
        ("evaluation", left_out, "all rows"),
        ("training", lost, "dqe"),
    ):
        line = re.search(rf"left out of {where}, as cir check shows: (.*) \({rows}\)", text)
        assert line is not None
        assert line.group(1).startswith(f"{count:,} queries, 1 gallery images")
        assert line.group() in write_page(result).read_text()
    again = run_suite(short, registry(), tmp_path / "out", resume=True, progress=False, run=RUN)
    assert again.document["rows"] == result.document["rows"]


def test_what_a_killed_suite_left_goes(suite: Suite, tmp_path: Path) -> None:
    """Half of a ``results.md`` stayed beside the whole one for ever."""
    small = suite.only(["image only"], [0])
    run_suite(small, registry(), tmp_path, progress=False, run=RUN)
    for folder in (tmp_path, tmp_path / "rows", tmp_path / "values"):
        (folder / ".results.md.0123456789ab.part").write_text("| half")
    run_suite(small, registry(), tmp_path, resume=True, progress=False, run=RUN)
    assert not list(tmp_path.rglob("*.part"))
