from __future__ import annotations

import json
from pathlib import Path

import pytest

import cir_plugins as cir_package
from tests.command import Call


@pytest.fixture(scope="module")
def run(garments_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run on drawn garments."""
    folder = tmp_path_factory.mktemp("runs") / "sum"
    cir_package.train(
        "image_text_sum",
        data="fashioniq",
        root=garments_root,
        out=folder,
        backbone="tiny_clip",
        device="cpu",
        workers=0,
        progress=False,
    )
    return folder


@pytest.mark.usefixtures("one_thread")
def test_an_audit_has_the_numbers_of_an_evaluation(
    cir: Call, run: Path, garments_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "audit"
    output = cir("audit", run, "--data", "fashioniq", "--root", garments_root, "--out", out)
    assert output.code == 0, output.err
    report = json.loads((out / "audit.json").read_text())
    marks = json.loads((out / "queries.json").read_text())
    retriever = cir_package.load(run, progress=False)
    result = retriever.evaluate()
    values = [v for each in result.values.values() for v in each["recall@10"].tolist()]
    tables = report["tables"]
    assert report["data"] == marks["data"] == result.data_fingerprint
    assert report["queries"] == len(values) == len(marks["queries"])
    mean = tables["rankings"]["rows"][0]["measures"]["recall@10"]
    assert mean == pytest.approx(sum(values) / len(values))
    assert [float(0 < each["rank"] <= 10) for each in marks["queries"]] == values
    # The run is the sum itself.
    by_name = {row["name"]: row["measures"] for row in tables["rankings"]["rows"]}
    assert by_name["sum"] == pytest.approx(by_name["the run"])
    page = (out / "index.html").read_text()
    assert "Paraphrase by rule" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    again = cir_package.audit(retriever)
    assert json.loads(json.dumps(again.report)) == report
    assert again["order"].changes[0].queries > 0
    with pytest.raises(cir_package.CIRError, match="unknown table 'ordre'"):
        again["ordre"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "0"], "k is 0; accepted: a rank from 1"),
        (["--near", "1.5"], "near is 1.5; accepted"),
        (["--duplicates", "hash"], "unknown kind of likeness 'hash'"),
        (["--split", "dev"], "unknown role of splits 'dev'"),
        (["--set", "train.epochs=3"], "--set train... has no effect here"),
    ],
)
def test_wrong_settings_are_messages(
    cir: Call, tmp_path: Path, options: list[str], message: str
) -> None:
    output = cir("audit", tmp_path / "no-run", "--out", tmp_path / "out", *options)
    assert output.code == 2
    assert message in output.err
    assert "Traceback" not in output.err
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_a_message(cir: Call, tmp_path: Path) -> None:
    assert "--out is missing" in cir("audit", tmp_path).err
