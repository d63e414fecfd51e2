from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cir_plugins.bench import runner
from cir_plugins.bench.grids import grids, triplet_of
from cir_plugins.bench.page import write_page
from cir_plugins.bench.records import SuiteResult
from cir_plugins.bench.runner import run_suite
from cir_plugins.bench.suite import Suite, read_suite
from cir_plugins.errors import CIRError
from cir_plugins.runs.data_record import DATA, read_data
from tests.bench.toy import registry

RUN = {"device": "cpu", "workers": 0}
TEXT = """
seeds = [0, 1]
show = ["any_recall@1"]

[data]
name = "fashioniq"
gallery = "merged"

[defaults]
backbone = "fake"
train = { epochs = 2, lr = 0.01, batch_size = 16 }

[[rows]]
method = "contrastive"

[[rows]]
method = "dqe"

[[rows]]
method = "broken"

[[rows]]
label = "no such option"
method = "contrastive"
train = { epoch = 3 }

[[rows]]
label = "image only"
method = "image_only"
"""


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory, garments_root: Path) -> Suite:
    file = tmp_path_factory.mktemp("suite") / "small.toml"
    file.write_text(TEXT)
    return read_suite(file).on_data(None, garments_root)


@pytest.fixture(scope="session")
def result(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> SuiteResult:
    return run_suite(suite, registry(), tmp_path_factory.mktemp("out"), progress=False, run=RUN)


def test_failed_rows_do_not_stop_the_others(result: SuiteResult) -> None:
    assert [(r.label, r.seed) for r in result.finished] == [
        (label, seed) for label in ("contrastive", "dqe", "image only") for seed in (0, 1)
    ]
    reasons = {r.label: r.error for r in result.failed}
    assert reasons["broken"] == "RuntimeError: out of memory in plugin.py"
    assert (
        "unknown option 'epoch'" in reasons["no such option"]
        or "'epoch'" in (reasons["no such option"])
    )
    trace = (result.out / "errors" / "broken-seed1.txt").read_text()
    assert trace.startswith("Traceback")
    assert "second line" in trace
    assert not (result.out / "errors" / "no-such-option-seed0.txt").exists()


def test_results_hold_every_run(result: SuiteResult, garments_root: Path) -> None:
    content = json.loads((result.out / "results.json").read_text())
    assert content == result.document
    assert len(content["rows"]) == 10
    row = content["rows"][0]
    assert (row["label"], row["method"], row["seed"]) == ("contrastive", "contrastive", 0)
    assert (row["dataset"], row["protocol"]) == ("fashioniq", "merged")
    assert set(row["splits"]) == {"merged.val"}
    assert 0 <= row["average"]["map@10"] <= 1
    assert row["config"]["data"]["root"] == garments_root.name
    assert row["config"]["train"]["epochs"] == 2
    assert row["updates"] > 0
    assert content["main"] == ["map@10"]
    assert {one["label"] for one in content["differences"]} == {"dqe", "image only"}
    assert (result.out / "results.md").read_text().startswith("| method | mAP@10 | any R@1 |")


def test_untrained_methods_have_no_epochs(result: SuiteResult) -> None:
    row = next(row for row in result.document["rows"] if row["label"] == "image only")
    assert (row["updates"], row["parameters"]["trained"]) == (0, 0)
    assert row["config"]["train"]["epochs"] == 0


def test_results_name_no_folder_of_this_machine(result: SuiteResult) -> None:
    files = [*result.out.glob("*.json"), *result.out.glob("rows/*"), *result.out.glob("*.md")]
    assert len(files) == 2 + 10
    for file in files:
        assert str(result.out.parent) not in file.read_text()
        assert "/home/somebody" not in file.read_text()


def test_values_of_each_query_average_to_the_measure(result: SuiteResult) -> None:
    for record in result.finished:
        with np.load(result.out / "values" / f"{record.name}.npz") as arrays:
            values = arrays["merged.val/map@10"]
        assert len(values) == record.report["queries"]
        assert values.mean() == pytest.approx(record.report["average"]["map@10"])


def test_records_of_first_seed_have_rankings(result: SuiteResult) -> None:
    for record in result.finished:
        if record.seed:
            assert not record.rankings
            continue
        (rankings,) = record.rankings.values()
        assert len(rankings) == 6
        assert all(len(set(images)) == 10 for images in rankings.values())
    same = [set(r.rankings["merged.val"]) for r in result.finished if r.rankings]
    assert same[0] == same[1] == same[2]


def test_rankings_of_the_grid_are_those_of_evaluation(result: SuiteResult) -> None:
    (split,) = result.splits
    place = {triplet_of(query): row for row, query in enumerate(split.queries)}
    for record in result.finished:
        values = record.values["map@10"]["merged.val"]
        for name, images in record.rankings.get("merged.val", {}).items():
            positives = set(split.queries[place[name]].positives)
            hits, total = 0, 0.0
            for rank, image in enumerate(images, 1):
                if image in positives:
                    hits += 1
                    total += hits / rank
            assert values[place[name]] == pytest.approx(total / min(len(positives), 10))


def test_row_of_both_orders_shares_the_grids(tmp_path: Path, garments_root: Path) -> None:
    text = TEXT.partition("[[rows]]")[0].replace("[0, 1]", "[0]")
    rows = "".join(f'\n[[rows]]\nmethod = "{name}"\n' for name in ("image_only", "two_texts"))
    (tmp_path / "s.toml").write_text(text + rows)
    made = read_suite(tmp_path / "s.toml").on_data(None, garments_root)
    result = run_suite(made, registry(), tmp_path / "out", progress=False, run=RUN)
    assert [r.report["queries"] for r in result.finished][1] == 2 * len(result.splits[0].queries)
    shown = grids(result.finished, result.splits)
    assert len(shown) == 6
    assert all([r.label for r in one.rankings] == ["image_only", "two_texts"] for one in shown)
    assert all(one.rankings[0].cells == one.rankings[1].cells for one in shown)


def test_page_and_table_show_all_rows(result: SuiteResult, tmp_path: Path) -> None:
    text = write_page(result, tmp_path).read_text()
    assert len(text) < 3_000_000
    assert "Mined negatives" in text
    assert text.count('class="query"') == 6
    shown = io.StringIO()
    result.show(Console(file=shown, width=200))
    assert "failed: broken, seeds 0, 1: RuntimeError" in shown.getvalue()


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


def test_entry_starts_from_the_run_it_names(
    result: SuiteResult, tmp_path: Path, garments_root: Path
) -> None:
    start = result.out / "runs" / "dqe-seed0"
    text = (
        TEXT.partition("[[rows]]")[0].replace("[0, 1]", "[0]").replace("epochs = 2", "epochs = 1")
    )
    row = f'method = "dqe"\nrun = {{ warm_start = "{start}" }}\n'
    (tmp_path / "s.toml").write_text(
        f'{text}[[rows]]\n{row}[[rows]]\nmethod = "contrastive"\n{row.splitlines()[1]}'
    )
    made = read_suite(tmp_path / "s.toml").on_data(None, garments_root)
    other = run_suite(made, registry(), tmp_path / "out", progress=False, run=RUN)
    (record,) = other.finished
    (whole,) = [r for r in result.finished if (r.label, r.seed) == ("dqe", 0)]
    assert record.curve[0]["loss"] < whole.curve[0]["loss"]
    assert record.config["run"]["warm_start"] == "dqe-seed0"
    assert "it has method 'dqe', not 'contrastive'" in other.failed[0].error


def test_interrupt_passes_and_earlier_rows_are_written(suite: Suite, tmp_path: Path) -> None:
    text = TEXT.replace('method = "dqe"', 'method = "interrupted"')
    (tmp_path / "s.toml").write_text(text)
    stopped = read_suite(tmp_path / "s.toml").on_data(None, suite.data["root"])
    with pytest.raises(KeyboardInterrupt):
        run_suite(stopped, registry(), tmp_path / "out", progress=False, run=RUN)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["contrastive", "contrastive"]


def test_changed_suite_is_noted_in_its_results(suite: Suite, tmp_path: Path) -> None:
    small = suite.only(["contrastive"], [0])
    changes = {"train": {"epochs": 1}, "run": {"feature_cache": str(tmp_path / "cache")}}
    result = run_suite(
        small, registry(), tmp_path / "out", progress=False, run=RUN, changes=changes
    )
    assert result.document["rows"][0]["config"]["train"]["epochs"] == 1
    assert result.document["changed"] == {"train.epochs": 1, "run.feature_cache": "cache"}
    line = "The suite was changed for all rows: train.epochs=1, run.feature_cache=cache."
    assert line in (tmp_path / "out" / "results.md").read_text()
    assert line in write_page(result).read_text()


def test_drawn_data_is_made_once(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(TEXT + "\n[make.garments]\nimages = 60\nsize = 32\n")
    drawn = read_suite(tmp_path / "s.toml").only(["image only"], [0])
    out = tmp_path / "out"
    result = run_suite(drawn, registry(), out, progress=False, run=RUN)
    assert result.document["rows"][0]["config"]["data"]["root"] == "data"
    pictures = sorted((out / "data" / "images").iterdir())
    assert len(pictures) == 60
    pictures[0].touch()
    before = pictures[0].stat().st_mtime_ns
    run_suite(drawn, registry(), out, resume=True, progress=False, run=RUN)
    assert pictures[0].stat().st_mtime_ns == before
    (tmp_path / "s.toml").write_text(TEXT + "\n[make.garments]\nimages = 61\nsize = 32\n")
    other = read_suite(tmp_path / "s.toml").only(["image only"], [0])
    with pytest.raises(CIRError, match="was not drawn by this suite; accepted: another --out"):
        run_suite(other, registry(), out, resume=True, progress=False, run=RUN)


def test_suite_without_data_is_an_error(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(TEXT)
    bare = read_suite(tmp_path / "s.toml")
    with pytest.raises(CIRError, match="'s' has no data folder; accepted: --root DIR"):
        run_suite(bare, registry(), tmp_path / "out", progress=False)
    with pytest.raises(CIRError, match=r"data folder .*nothing of suite 's' is not there"):
        run_suite(bare.on_data(None, tmp_path / "nothing"), registry(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_suite_without_runnable_entry_is_error(suite: Suite, tmp_path: Path) -> None:
    hopeless = suite.only(["no such option"])
    with pytest.raises(CIRError, match=r"no row of suite 'small' can run; the first: .*'epoch'"):
        run_suite(hopeless, registry(), tmp_path / "out", progress=False)
    with pytest.raises(CIRError, match="unknown dataset 'fashionique'; nearest: fashioniq"):
        run_suite(suite.on_data("fashionique", tmp_path), registry(), tmp_path / "out")


def test_runs_of_another_suite_are_evaluated_without_training(
    result: SuiteResult, suite: Suite, tmp_path: Path
) -> None:
    moved = replace(suite, data={**suite.data, "gallery": "original"})
    other = run_suite(moved, registry(), tmp_path / "out", progress=False, run=RUN, runs=result.out)
    assert not (tmp_path / "out" / "runs" / "dqe-seed0").exists()
    assert {(r.label, r.seed) for r in other.finished} == {
        (label, seed) for label in ("contrastive", "dqe", "image only") for seed in (0, 1)
    }
    row = next(r for r in other.finished if (r.label, r.seed) == ("dqe", 1))
    trained = next(r for r in result.finished if (r.label, r.seed) == ("dqe", 1))
    assert row.updates == 0
    assert row.report["protocol"] == "original"
    assert row.config["train"] == trained.config["train"]
    assert set(row.report["splits"]) > {"dress.val"}
    same = run_suite(suite, registry(), tmp_path / "same", progress=False, run=RUN, runs=result.out)
    assert {r.name: r.report["average"] for r in same.finished} == {
        r.name: r.report["average"] for r in result.finished
    }
    reasons = {r.label: r.error for r in other.failed}
    assert "has no trained run of this entry" in reasons["broken"]


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
