from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cir_plugins.runs.folder import CONFIG, write_record
from cir_plugins.training.trainer import METRICS
from tests.command import Call

MINING: dict[str, Any] = {
    "negative_pool": {"mean": 9.0, "quartiles": [8.0, 9.0, 10.0]},
    "empty": 0.0,
    "false_negatives": 0.0,
    "fallback": 0.0,
    "ranks": {"target": 3.0, "nearest": 27.0, "farthest": 1171.5},
    "ambiguous": {"mean": 12.34, "unmarked": 0.75, "covered": 0.5},
    "score_gap": {"span": [-2.0, 2.0], "counts": [0, 0, 3, 1]},
}


def made_run(folder: Path, *minings: dict[str, Any]) -> Path:
    """A run folder with a line per epoch."""
    folder.mkdir()
    others = 'backbone = "tiny_clip"\nloss = "contrastive"\nsampler = "random"\ndata = "cirr"\n'
    config = f'method = "dqe"\n{others}[mining]\nper_query = 2\n'
    (folder / CONFIG).write_text(config)
    write_record(folder, "dqe", config)
    lines = [{"epoch": i, "loss": 1.0, "mining": mining} for i, mining in enumerate(minings)]
    (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_report_prints_and_writes_the_sampler(cir: Call, tmp_path: Path) -> None:
    run, out = made_run(tmp_path / "run", MINING, MINING), tmp_path / "new" / "folder"
    output = cir("report", run, "--out", out)
    assert output.code == 0
    assert "8 / 9 / 10" in output.out
    assert re.search(r"27–1,17[12] .* 12\.3 +75\.0 % +50\.0 %", output.out)
    numbers = json.loads((out / "sampler.json").read_text())
    assert [line["epoch"] for line in numbers["refreshes"]] == [0, 1]
    assert numbers["alarms"] == []
    with Image.open(out / "sampler.png") as picture:
        assert picture.format == "PNG"
    assert "Mined negatives" in (out / "report.html").read_text()


def test_report_ends_with_code_1_on_an_alarm(cir: Call, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", {**MINING, "empty": 0.75})
    output = cir("report", run)
    assert output.code == 1
    assert "alarm: epoch 1: 75.0 % of the queries have no negative" in output.err
    assert "75.0 %" in (run / "report.html").read_text()


def test_report_of_a_run_that_mined_nothing(cir: Call, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    output = cir("report", run)
    assert output.code == 0
    assert "no negatives were mined" in output.out
    assert not (run / "sampler.png").exists()


@pytest.mark.parametrize("text", ["{", '{"epoch": 0}\n{"ep'])
def test_report_of_a_damaged_run_is_an_error(cir: Call, tmp_path: Path, text: str) -> None:
    run = made_run(tmp_path / "run")
    (run / METRICS).write_text(text)
    assert cir("report", run).complains("metrics.jsonl is not valid JSON")


def test_report_of_another_folder_is_an_error(cir: Call, tmp_path: Path) -> None:
    assert cir("report", tmp_path).complains("is no run folder")
