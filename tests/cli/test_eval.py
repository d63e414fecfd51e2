from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cir_plugins import cli
from tests.command import Call
from tests.layouts import small_cirr


@pytest.fixture(scope="module")
def run(garments_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a method that is not trained, on random weights."""
    out = tmp_path_factory.mktemp("runs") / "sum"
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [
                *("train", "image_text_sum", "--data", "fashioniq", "--root", str(garments_root)),
                *("--out", str(out), "--device", "cpu", "--set", "backbone=tiny_clip"),
                *("--set", "backbone.start=random", "--set", "run.workers=0"),
                *("--set", 'data.categories=["dress", "shirt"]'),
            ]
        )
    assert not ended.value.code
    return out


def test_eval_prints_and_writes_the_report(
    cir: Call, run: Path, garments_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "new folder" / "report.json"
    arguments = ("eval", run, "--data", "fashioniq", "--root", garments_root)
    output = cir(*arguments, "--protocol", "merged", "--json", file)
    assert output.code == 0
    report = json.loads(file.read_text())
    assert set(report) == {
        *("dataset", "protocol", "splits", "average", "queries", "gallery", "data", "record")
    }
    assert f"data: fingerprint {report['data']['fingerprint']}" in output.out
    assert (report["dataset"], report["protocol"]) == ("fashioniq", "merged")
    assert list(report["splits"]) == ["merged.val"]
    assert 0 < report["splits"]["merged.val"]["recall@50"] <= 1
    assert "fashioniq, protocol merged" in output.out
    assert list(file.parent.iterdir()) == [file]


def test_eval_of_all_protocols_prints_a_table(
    cir: Call, run: Path, garments_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "all.json"
    arguments = ("eval", run, "--data", "fashioniq", "--root", garments_root)
    output = cir(*arguments, "--protocol", "all", "--json", file)
    assert output.code == 0, output.err
    document = json.loads(file.read_text())
    assert document["protocol"] == "all"
    assert document["protocols"]["covr"]["record"]["reference"] == "removed"
    names = [line.split()[0] for line in output.out.splitlines() if line.strip()]
    assert {"original", "val", "merged", "covr", "composeae"} <= set(names)
    assert "are not comparable with one another" in output.out
    assert cir(*arguments, "--protocol", "covr", "--json", tmp_path / "one.json").code == 0
    assert json.loads((tmp_path / "one.json").read_text()) == document["protocols"]["covr"]
    both = cir("eval", run, "--protocol", "all", "--submission", tmp_path / "s")
    assert both.complains("--submission is of one protocol")


def test_options_beat_the_protocols_preset(
    cir: Call, run: Path, garments_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    output = cir(
        *("eval", run, "--data", "fashioniq", "--root", garments_root, "--protocol", "merged"),
        *("--set", "data.gallery=original", "--set", 'data.categories=["dress"]', "--json", file),
    )
    assert output.code == 0
    assert list(json.loads(file.read_text())["splits"]) == ["dress.val"]


@pytest.mark.parametrize(
    ("extra", "fragments"),
    [
        (["--protocol", "mergd"], ["unknown protocol 'mergd'; nearest: merged"]),
        (["--set", "data.galery=val"], ["option 'galery'; nearest: gallery"]),
        (["--set", "run.seed=1"], ["--set run", "accepted: data.OPTION=value"]),
        (["--split", "vall"], ["unknown role of splits 'vall'; nearest: val"]),
        (["--submission", "s"], ["'fashioniq' has no test server", "accepts: cirr, circo"]),
    ],
)
def test_unknown_options_of_eval_are_errors(
    cir: Call, run: Path, garments_root: Path, extra: list[str], fragments: list[str]
) -> None:
    output = cir("eval", run, "--data", "fashioniq", "--root", garments_root, *extra)
    assert output.complains(*fragments), output


def test_eval_of_no_run_is_an_error(cir: Call, tmp_path: Path, garments_root: Path) -> None:
    arguments = ("--data", "fashioniq", "--root", garments_root)
    assert cir("eval", tmp_path / "gone", *arguments).complains("is no run folder")


def test_a_submission_holds_every_blind_query(cir: Call, run: Path, tmp_path: Path) -> None:
    root = small_cirr(tmp_path / "cirr")
    out = tmp_path / "sent"
    output = cir("eval", run, "--data", "cirr", "--root", root, "--submission", out)
    # The gallery of this small set is below the 50 images the server requires of each query.
    assert output.complains("CIRR recall: the ranking of query '40' has 5 images", "accepted: 50")
    assert not out.exists()
    root = small_cirr(tmp_path / "larger", blind=60)
    assert cir("eval", run, "--data", "cirr", "--root", root, "--submission", out).code == 0
    recall = json.loads((out / "recall.json").read_text())
    subset = json.loads((out / "recall_subset.json").read_text())
    assert recall["metric"] == "recall"
    assert len(recall["40"]) == 50
    assert len(subset["41"]) == 3
    assert "test1-0" not in recall["40"]  # its reference


def test_bench_with_a_failed_entry_ends_with_1(
    cir: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}

    def run_suite(suite: Any, registry: Any, out: Path, **rest: Any) -> Any:
        seen.update(suite=suite, out=out, **rest)
        return SimpleNamespace(failed=("row",), show=lambda console: None)

    monkeypatch.setattr("cir_plugins.bench.runner.run_suite", run_suite)
    monkeypatch.setattr(
        "cir_plugins.bench.page.write_page", lambda result, published=(): tmp_path / "index.html"
    )
    monkeypatch.chdir(tmp_path)
    output = cir("bench", "quickstart", "--seeds", "3,4", "--device", "cpu", "--resume")
    assert output.code == 1
    assert seen["suite"].seeds == (3, 4)
    assert seen["out"] == Path("runs/quickstart")
    assert (seen["resume"], seen["run"]) == (True, {"device": "cpu"})
    assert "index.html" in output.out


def test_eval_with_a_feature_cache_is_the_same(
    cir: Call, run: Path, garments_root: Path, tmp_path: Path
) -> None:
    arguments = ("eval", run, "--data", "fashioniq", "--root", garments_root)
    reports = []
    for number, extra in enumerate([(), *[("--feature-cache", tmp_path / "c")] * 2]):
        file = tmp_path / f"{number}.json"
        assert cir(*arguments, *extra, "--json", file).code == 0
        reports.append(file.read_text())
    assert reports[0] == reports[1] == reports[2]
    assert list((tmp_path / "c").rglob("*.safetensors"))


def test_encode_takes_a_folder_or_a_data_set(
    cir: Call, run: Path, garments_root: Path, tmp_path: Path
) -> None:
    source = ("--data", "fashioniq", "--root", garments_root)
    assert cir("encode", run, *source, "--out", tmp_path / "a").code == 0
    content = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert content["images"] > 0
    output = cir("encode", run, "--images", garments_root, "--out", tmp_path / "b")
    assert output.code == 0
    assert "manifest.json" in output.out
    assert cir("encode", run, "--out", tmp_path / "c").complains("accepted: --images DIR, or")
    wrong = cir("encode", run, "--images", garments_root, "--out", tmp_path / "c", "--what", "x")
    assert wrong.complains("unknown value of --what 'x'")
