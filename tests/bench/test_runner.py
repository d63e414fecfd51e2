from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cir_plugins.bench.grids import grids, triplet_of
from cir_plugins.bench.page import write_page
from cir_plugins.bench.records import SuiteResult
from cir_plugins.bench.runner import run_suite
from cir_plugins.bench.suite import Suite, read_suite
from cir_plugins.errors import CIRError
from tests.bench.toy import RUN, SUITE, registry


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
    text = SUITE.partition("[[rows]]")[0].replace("[0, 1]", "[0]")
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


def test_entry_starts_from_the_run_it_names(
    result: SuiteResult, tmp_path: Path, garments_root: Path
) -> None:
    start = result.out / "runs" / "dqe-seed0"
    text = (
        SUITE.partition("[[rows]]")[0].replace("[0, 1]", "[0]").replace("epochs = 2", "epochs = 1")
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
    text = SUITE.replace('method = "dqe"', 'method = "interrupted"')
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
    (tmp_path / "s.toml").write_text(SUITE + "\n[make.garments]\nimages = 60\nsize = 32\n")
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
    (tmp_path / "s.toml").write_text(SUITE + "\n[make.garments]\nimages = 61\nsize = 32\n")
    other = read_suite(tmp_path / "s.toml").only(["image only"], [0])
    with pytest.raises(CIRError, match="was not drawn by this suite; accepted: another --out"):
        run_suite(other, registry(), out, resume=True, progress=False, run=RUN)


def test_suite_without_data_is_an_error(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SUITE)
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
